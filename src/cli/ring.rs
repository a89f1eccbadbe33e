//! `ring`, `locate` and `health`: what the ring tells about itself.

use std::io::Write;
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use super::args::{HealthArgs, LocateArgs, RingArgs};
use super::output::{Done, Outcome};
use super::text::put_bytes;
use super::{Session, connect, draw, lookup, shown_key, typed_bytes};
use crate::{NodeRef, ReadOptions, RingInfo};

/// How often `--watch` draws, and how long Ctrl-C may go unnoticed.
const WATCH: Duration = Duration::from_secs(1);
const SLICE: Duration = Duration::from_millis(50);
/// Clears a terminal and goes to its upper left corner.
const CLEAR: &str = "\x1b[2J\x1b[H";

/// `ringkv ring`
pub(super) fn ring(args: &RingArgs, session: &mut Session) -> Outcome {
    let ring = connect(&args.target)?;
    let interrupted = session.interrupted();
    loop {
        let info = ring.info();
        // Being watched until somebody has seen enough is no error.
        if args.watch && interrupted.is_set() {
            return Ok(Done::Yes);
        }
        let info = info?;
        if session.out.json {
            session.out.json_line(&info_json(&info))?;
        } else {
            if args.watch && session.out.terminal {
                write!(session.out, "{CLEAR}")?;
            }
            write!(session.out, "{}", draw::ring(&info))?;
        }
        session.out.flush()?;
        if !args.watch {
            return Ok(Done::Yes);
        }
        let drawn = Instant::now();
        while drawn.elapsed() < WATCH && !interrupted.is_set() {
            std::thread::sleep(SLICE);
        }
    }
}

/// The whole of `info()`.
pub fn info_json(info: &RingInfo) -> Value {
    let members: Vec<Value> = info
        .members
        .iter()
        .map(|m| {
            let mut object = node_json(&m.node);
            let rest = json!({
                "zone": m.zone, "weight": m.weight, "position": m.position,
                "state": draw::state(m), "reachable": m.reachable, "coordinator": m.coordinator,
                "primaries": m.primaries, "copies": m.copies, "share": m.share,
                "keys": m.keys, "bytes": m.bytes, "keys_held": m.keys_held,
                "bytes_held": m.bytes_held, "memory_bytes": m.memory_bytes,
                "keys_moved_in": m.keys_moved_in, "bytes_moved_in": m.bytes_moved_in,
            });
            if let (Some(object), Value::Object(rest)) = (object.as_object_mut(), rest) {
                object.extend(rest);
            }
            object
        })
        .collect();
    let moving =
        info.moving.map(|p| json!({"copies_done": p.copies_done, "copies_total": p.copies_total}));
    json!({
        "cluster": info.cluster.to_string(),
        "version": info.version,
        "partitions": info.params.partitions,
        "hash": format!("{:?}", info.params.hash).to_lowercase(),
        "placement": format!("{:?}", info.params.placement).to_lowercase(),
        "copies": info.params.copies,
        "min_insync": info.params.min_insync,
        "required": info.required,
        "value_bytes_max": info.params.value_bytes_max,
        "leases": info.params.leases,
        "keys": info.keys,
        "bytes": info.bytes,
        "under_replicated": info.under_replicated,
        "lost": info.lost,
        "moving": moving,
        "warnings": draw::warnings(info),
        "members": members,
    })
}

fn node_json(node: &NodeRef) -> Value {
    json!({"id": node.mid.0, "name": node.name, "address": node.addr})
}

/// `ringkv locate`
pub(super) fn locate(args: &LocateArgs, session: &mut Session) -> Outcome {
    let key = typed_bytes(args.form, &args.key)?;
    let ring = connect(&args.target)?;
    let options = ReadOptions { lookup: lookup(args.mode), timeout: None };
    let location = ring.locate(&key, &options)?;
    if session.out.json {
        let mut object = Map::new();
        put_bytes(&mut object, "key", &key, args.form.hex);
        object.insert("partition".into(), location.partition.0.into());
        object.insert("position".into(), location.position.into());
        let nodes = |refs: &[NodeRef]| Value::Array(refs.iter().map(node_json).collect());
        object.insert("holders".into(), nodes(&location.holders));
        object.insert("hops".into(), nodes(&location.hops));
        session.out.json_line(&Value::Object(object))?;
        return Ok(Done::Yes);
    }
    let out = &mut session.out;
    out.line(format_args!("key        {}", shown_key(args.form, &key)))?;
    out.line(format_args!("position   {:#018x}", location.position))?;
    out.line(format_args!("partition  {}", location.partition))?;
    for (at, node) in location.holders.iter().enumerate() {
        let title = ["primary  ", "copies   ", "         "][at.min(2)];
        out.line(format_args!("{title}  {} {}", node.name, node.addr))?;
    }
    let hops: Vec<&str> = location.hops.iter().map(|node| node.name.as_str()).collect();
    out.line(format_args!("asked      {}", hops.join(" → ")))?;
    Ok(Done::Yes)
}

/// `ringkv health`
pub(super) fn health(args: &HealthArgs, session: &mut Session) -> Outcome {
    let health = connect(&args.target)?.health()?;
    if session.out.json {
        session.out.json_line(&json!({
            "ok": health.ok, "unwritable": health.unwritable, "reasons": health.reasons,
        }))?;
    } else {
        session.out.line(if health.ok { "ok" } else { "not ok" })?;
        for reason in &health.reasons {
            session.out.line(format_args!("  {reason}"))?;
        }
    }
    Ok(if health.ok { Done::Yes } else { Done::No })
}
