//! `ringkv node`: a node in the foreground, for a shell or a service manager.

use std::io::Write;

use serde_json::json;

use super::args::{HashName, NodeArgs, PlacementName};
use super::output::{Done, Failure, Outcome};
use super::{Session, text};
use crate::base::limits::VALUE_BYTES_MAX;
use crate::ring::{HashKind, Params, PlacementKind};
use crate::{NodeConfig, Ring, Start};

/// Redis Cluster has this many slots, and its hash nothing else.
const CRC16_PARTITIONS: u32 = 16_384;

/// Starts the node, says where it listens, and runs it until somebody wants it to stop. Being
/// stopped is what a node is there for in the end, so that is status 0, also on Ctrl-C.
pub(super) fn run(args: &NodeArgs, session: &mut Session) -> Outcome {
    let ring = Ring::start(config(args)?)?;
    announce(args, &ring, session)?;
    let waited = session.signals.wait(args.until_stdin_ends);
    ring.close();
    waited.map_err(|error| Failure::io("cannot wait for a signal", &error))?;
    Ok(Done::Yes)
}

/// The one line that tells a person and a script that the node is there.
fn announce(args: &NodeArgs, ring: &Ring, session: &mut Session) -> Outcome<()> {
    let address = ring.address();
    let name = args.name.as_ref().or(args.advertise.as_ref()).unwrap_or(&address);
    // A node that stands by belongs to no ring, so there is nothing to ask about one.
    let info = match args.standby {
        true => None,
        false => Some(ring.info()?),
    };
    if session.out.json {
        session.out.json_line(&json!({
            "name": name,
            "address": address,
            "cluster": info.as_ref().map(|info| info.cluster.to_string()),
            "members": info.as_ref().map(|info| info.members.len()),
        }))?;
    } else {
        let state = match &info {
            Some(info) => {
                let members = text::counted(info.members.len() as u64, "member");
                format!("ring {}, {members}", info.cluster)
            }
            None => "standing by".into(),
        };
        session.out.line(format_args!("ringkv node {name} listening on {address} ({state})"))?;
    }
    session.out.flush()?;
    Ok(())
}

fn config(args: &NodeArgs) -> Outcome<NodeConfig> {
    let start = match (args.standby, args.join.is_empty()) {
        (true, _) => Start::Standby,
        (false, false) => Start::Join(args.join.clone()),
        (false, true) => Start::Create,
    };
    let creates = start == Start::Create;
    let fixed = [
        ("--partitions", args.partitions.is_some()),
        ("--hash", args.hash.is_some()),
        ("--placement", args.placement.is_some()),
        ("--copies", args.copies.is_some()),
        ("--min-insync", args.min_insync.is_some()),
        ("--value-max", args.value_max.is_some()),
        ("--no-leases", args.no_leases),
    ];
    if let Some((option, _)) = fixed.iter().find(|(_, given)| *given && !creates) {
        return Err(Failure::new(format!(
            "{option} is fixed by the node that creates the ring, so it cannot be given here"
        )));
    }
    Ok(NodeConfig {
        name: args.name.clone(),
        listen: args.listen.clone(),
        also_listen: args.also_listen.clone(),
        advertise: args.advertise.clone(),
        zone: args.zone.clone(),
        weight: args.weight,
        position: args.position,
        start,
        params: params(args)?,
        workers: args.workers.unwrap_or_else(workers_default),
        memory_bytes_max: args.memory_max,
        accept_public: args.accept_public,
        start_timeout: args.start_timeout,
        ..NodeConfig::default()
    })
}

fn params(args: &NodeArgs) -> Outcome<Params> {
    let mut params = Params::default();
    if let Some(hash) = args.hash {
        params.hash = match hash {
            HashName::Murmur3 => HashKind::Murmur3,
            HashName::Crc16 => HashKind::Crc16,
            HashName::Integer => HashKind::Integer,
        };
    }
    if params.hash == HashKind::Crc16 {
        params.partitions = CRC16_PARTITIONS;
    }
    if let Some(partitions) = args.partitions {
        params.partitions = partitions;
    }
    if let Some(placement) = args.placement {
        params.placement = match placement {
            PlacementName::Balanced => PlacementKind::Balanced,
            PlacementName::Successor => PlacementKind::Successor,
        };
    }
    params.leases = !args.no_leases;
    params.copies = args.copies.unwrap_or(params.copies);
    // Fewer copies than the default need no second option to be allowed.
    params.min_insync = args.min_insync.unwrap_or(params.min_insync.min(params.copies));
    if let Some(limit) = args.value_max {
        params.value_bytes_max = match u32::try_from(limit) {
            Ok(limit) if limit as usize <= VALUE_BYTES_MAX => limit,
            _ => {
                let most = VALUE_BYTES_MAX >> 20;
                return Err(Failure::new(format!("--value-max is at most {most} MiB")));
            }
        };
    }
    Ok(params)
}

fn workers_default() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| (cores.get() - 1).max(1))
}
