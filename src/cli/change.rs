//! `add`, `drop` and `plan`: changing who belongs to the ring.

use std::io::Write;
use std::time::{Duration, Instant};

use serde_json::json;

use super::args::{AddArgs, DropArgs, PlanArgs, PlanChange};
use super::draw::bar;
use super::output::{Done, Failure, Outcome};
use super::signals::Interrupted;
use super::text::{bytes, count, counted, duration};
use super::{Session, connect, progress};
use crate::base::{Error, MemberId, Status};
use crate::ring::{Plan, Share};
use crate::{ChangeOptions, Dropped, Progress, Ring};

/// A change of the ring's members.
#[derive(Clone, Copy, Debug)]
pub enum Change<'a> {
    /// The standby node at this address comes.
    Add(&'a str),
    /// The member of this name or address goes.
    Drop(&'a str),
    /// It goes although copies get fewer, and at once if it is dead.
    DropByForce(&'a str),
}

impl Change<'_> {
    /// Present participle, for a progress bar.
    fn doing(&self) -> String {
        match self {
            Change::Add(address) => format!("adding {address}"),
            Change::Drop(member) | Change::DropByForce(member) => format!("dropping {member}"),
        }
    }
}

/// What a change moved, as far as the members tell.
#[derive(Clone, Copy, Debug, Default)]
pub struct Moved {
    /// Keys that members received in it.
    pub keys: u64,
    /// Bytes that members received in it.
    pub bytes: u64,
    /// Partitions that lost their last copy.
    pub partitions_lost: u32,
    /// From the call to its return.
    pub took: Duration,
}

/// Makes the change, with a progress bar on a terminal, and tells what it moved.
pub fn make(
    ring: &Ring,
    change: Change<'_>,
    wait: bool,
    quiet: bool,
    interrupted: &Interrupted,
) -> Outcome<Moved> {
    let before = received(ring)?;
    let started = Instant::now();
    let bar = progress::counted(change.doing(), 0, quiet);
    let mut watch = |progress: &Progress| {
        progress::show(&bar, progress);
        !interrupted.is_set()
    };
    let force = matches!(change, Change::DropByForce(_));
    let options =
        ChangeOptions { wait, force, on_progress: Some(&mut watch), ..Default::default() };
    let result = match change {
        Change::Add(address) => ring.add_node(address, options).map(|()| Dropped::default()),
        Change::Drop(member) | Change::DropByForce(member) => ring.drop_node(member, options),
    };
    bar.finish_and_clear();
    let took = started.elapsed();
    let dropped = result.map_err(|error| explain(error, interrupted))?;
    let after = received(ring)?;
    Ok(Moved {
        // Members that left took their counts with them, hence no plain subtraction of sums.
        keys: grown(&before, &after, |counts| counts.0),
        bytes: grown(&before, &after, |counts| counts.1),
        partitions_lost: dropped.partitions_lost,
        took,
    })
}

fn explain(error: Error, interrupted: &Interrupted) -> Failure {
    match error.status() {
        Status::Aborted if interrupted.is_set() => {
            Failure::new("the movement goes on without being watched; see 'ringkv ring'")
        }
        _ => error.into(),
    }
}

type Received = Vec<(u64, (u64, u64))>;

/// Keys and bytes that each member received in movements since it started.
fn received(ring: &Ring) -> Outcome<Received> {
    let members = ring.info()?.members;
    let counts = members.iter().map(|m| (m.node.mid.0, (m.keys_moved_in, m.bytes_moved_in)));
    Ok(counts.collect())
}

fn grown(before: &Received, after: &Received, count: impl Fn(&(u64, u64)) -> u64) -> u64 {
    after
        .iter()
        .map(|(mid, now)| {
            let then = before.iter().find(|(m, _)| m == mid).map_or(0, |(_, c)| count(c));
            count(now).saturating_sub(then)
        })
        .sum()
}

/// `ringkv add`
pub(super) fn add(args: &AddArgs, session: &mut Session) -> Outcome {
    let ring = connect(&args.target)?;
    let interrupted = session.interrupted();
    let change = Change::Add(&args.address);
    let moved = make(&ring, change, !args.no_wait, session.out.json, &interrupted)?;
    report("added", &args.address, !args.no_wait, &moved, &ring, session)
}

/// `ringkv drop`
pub(super) fn drop(args: &DropArgs, session: &mut Session) -> Outcome {
    let ring = connect(&args.target)?;
    if args.abort {
        ring.abort_drop(&args.member, args.target.timeout())?;
        match session.out.json {
            true => session.out.json_line(&json!({"change": "kept", "node": args.member}))?,
            false => session.out.line(format_args!("{} stays", args.member))?,
        }
        return Ok(Done::Yes);
    }
    let interrupted = session.interrupted();
    let change = match args.force {
        true => Change::DropByForce(&args.member),
        false => Change::Drop(&args.member),
    };
    let moved = make(&ring, change, !args.no_wait, session.out.json, &interrupted)?;
    report("dropped", &args.member, !args.no_wait, &moved, &ring, session)
}

fn report(
    done: &str,
    node: &str,
    waited: bool,
    moved: &Moved,
    ring: &Ring,
    session: &mut Session,
) -> Outcome {
    let members = ring.info()?.members.len();
    if session.out.json {
        session.out.json_line(&json!({
            "change": done, "node": node, "complete": waited, "members": members,
            "keys_moved": moved.keys, "bytes_moved": moved.bytes,
            "partitions_lost": moved.partitions_lost, "seconds": moved.took.as_secs_f64(),
        }))?;
    } else if waited {
        let (keys, size) = (counted(moved.keys, "key"), bytes(moved.bytes));
        let (took, members) = (duration(moved.took), counted(members as u64, "member"));
        session
            .out
            .line(format_args!("{done} {node} in {took}: {keys}, {size} moved; {members}"))?;
    } else {
        session.out.line(format_args!("{node} is being {done}; see 'ringkv ring'"))?;
    }
    if moved.partitions_lost > 0 && !session.out.json {
        let lost = counted(moved.partitions_lost.into(), "partition");
        session.out.line(format_args!(
            "{lost} had no other copy: the keys answer an error until 'ringkv reset'"
        ))?;
    }
    Ok(Done::Yes)
}

/// `ringkv plan`
pub(super) fn plan(args: &PlanArgs, session: &mut Session) -> Outcome {
    let ring = connect(&args.target)?;
    let (change, plan) = match &args.change {
        PlanChange::Add { address, name, weight } => {
            let name = name.as_ref().unwrap_or(address);
            (format!("adding {name}"), ring.plan_add(name, address, *weight)?)
        }
        PlanChange::Drop { member } => (format!("dropping {member}"), ring.plan_drop(member)?),
    };
    if session.out.json {
        session.out.json_line(&plan_json(&plan))?;
    } else {
        write!(session.out, "{}", plan_text(&change, &plan))?;
    }
    Ok(Done::Yes)
}

fn plan_text(change: &str, plan: &Plan) -> String {
    let mut text = format!(
        "{change} would move {}: {}, {} (the ideal is {}), and give {} another primary\n",
        match plan.partitions_moved {
            1 => "1 copy of a partition".into(),
            many => format!("{} copies of partitions", count(many as u64)),
        },
        counted(plan.keys, "key"),
        bytes(plan.bytes),
        bytes(plan.ideal_bytes),
        counted(plan.primaries_moved as u64, "partition"),
    );
    for share in members(plan) {
        let [before, after] = share.parts.map(|part| format!("{:.1} %", part * 100.0));
        text.push_str(&format!(
            "  {:<24} {before:>8} → {after:>8}  {}\n",
            share.name,
            bar(share.parts[1], 20)
        ));
    }
    text
}

fn plan_json(plan: &Plan) -> serde_json::Value {
    let members: Vec<serde_json::Value> = members(plan)
        .map(|m| json!({"name": m.name, "share_before": m.parts[0], "share_after": m.parts[1]}))
        .collect();
    json!({
        "copies_moved": plan.partitions_moved, "primaries_moved": plan.primaries_moved,
        "keys": plan.keys, "bytes": plan.bytes, "ideal_bytes": plan.ideal_bytes,
        "members": members,
    })
}

struct PlannedMember<'a> {
    name: &'a str,
    /// Its part of all copies before and after.
    parts: [f64; 2],
}

/// Everybody who is there before or after.
fn members(plan: &Plan) -> impl Iterator<Item = PlannedMember<'_>> {
    let part = |shares: &[Share], mid: MemberId| {
        shares.iter().find(|share| share.mid == mid).map_or(0.0, |share| share.share)
    };
    let is_new = |share: &&Share| !plan.shares_before.iter().any(|old| old.mid == share.mid);
    let new = plan.shares_after.iter().filter(is_new);
    plan.shares_before.iter().chain(new).map(move |share| PlannedMember {
        name: &share.name,
        parts: [part(&plan.shares_before, share.mid), part(&plan.shares_after, share.mid)],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_shows_everybody_before_and_after() {
        let share = |id, name: &str, share| Share {
            mid: MemberId(id),
            name: name.into(),
            weight: 1,
            copies: 0,
            primaries: 0,
            share,
        };
        let plan = Plan {
            partitions_moved: 1,
            primaries_moved: 2,
            keys: 3,
            bytes: 4096,
            ideal_bytes: 4000,
            shares_before: vec![share(1, "north", 1.0)],
            shares_after: vec![share(1, "north", 0.5), share(9, "west", 0.5)],
        };
        let text = plan_text("adding west", &plan);
        assert!(text.starts_with("adding west would move 1 copy of a partition"), "{text}");
        assert!(text.contains("3 keys, 4.00 KiB"), "{text}");
        assert_eq!(text.lines().count(), 3);
        assert!(text.contains("100.0 % →   50.0 %") && text.contains("0.0 % →   50.0 %"), "{text}");
        assert_eq!(plan_json(&plan)["members"][1]["name"], "west");
    }
}
