//! What a handle can tell about its ring: members, shares, health, the way of a key, plans.
//!
//! The ring map says who should hold what; the members themselves say how much that is. They are
//! asked side by side, and one that does not answer is shown as such instead of failing the whole.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::ask::{Answer, Asker, unexpected};
use super::config::{Lookup, Progress, ReadOptions};
use super::drive::{Event, Transport, drive, refusal};
use super::report::{Location, MemberInfo, NodeRef, RingInfo};
use super::source::{Source, next_rng};
use crate::base::{Error, MemberId, Nanos, PartitionId, Result, Status, Ver};
use crate::net::sys::boottime;
use crate::proto::router::{Stamp, primary_of};
use crate::ring::plan::{Change, PartitionSize, Plan, plan};
use crate::ring::{Hasher, PartState, RingMap};
use crate::wire::client::NodeStats;
use crate::wire::{ClientMsg, Op, Reply, ServerMsg};

/// How long a member is waited for before it counts as unreachable.
const PATIENCE: Duration = Duration::from_secs(1);

/// A ring map with what those of its members that answer say they hold.
pub(super) struct Survey {
    pub(super) map: Arc<RingMap>,
    pub(super) stats: BTreeMap<MemberId, NodeStats>,
}

/// Asks all members what they hold, by the newest map that any of them has.
pub(super) fn survey(source: &Source) -> Result<Survey> {
    let until = source.deadline(None).min(boottime() + PATIENCE);
    let known = source.map()?;
    let mut asker = Asker::of(known.cluster);
    let wanted = |id| ClientMsg::MapWanted { id, have: known.ver };
    let answers = asker.ask_all(&addresses(&known), wanted, until, &|| source.check_open())?;
    let map = newest_in(source, &known, &answers);
    // Who was silent that long is not waited for once more.
    let unheard = known.members.keys().zip(&answers).filter(|(_, answer)| answer.is_err());
    let silent: BTreeSet<MemberId> = unheard.map(|(mid, _)| *mid).collect();
    let asked = map.members.iter().filter(|(mid, _)| !silent.contains(mid));
    let (order, addresses): (Vec<MemberId>, Vec<&str>) =
        asked.map(|(mid, member)| (*mid, member.addr.as_str())).unzip();
    let until = source.deadline(None).min(boottime() + PATIENCE);
    let wanted = |id| ClientMsg::StatsWanted { id };
    let answers = asker.ask_all(&addresses, wanted, until, &|| source.check_open())?;
    let heard = answers.iter().map(|answer| stats_in(answer.as_ref().ok()?));
    let stats = order.into_iter().zip(heard).filter_map(|(mid, stats)| Some((mid, stats?)));
    Ok(Survey { stats: stats.collect(), map })
}

fn addresses(map: &RingMap) -> Vec<&str> {
    map.members.values().map(|member| member.addr.as_str()).collect()
}

fn stats_in(answer: &Answer) -> Option<NodeStats> {
    match answer.message() {
        Ok(ServerMsg::Stats { stats, .. }) => Some(stats),
        _ => None,
    }
}

/// The newest map among `map` and those of all its members that answer.
pub(super) fn newest_map(
    source: &Source,
    asker: &mut Asker,
    map: &Arc<RingMap>,
    until: Nanos,
) -> Result<Arc<RingMap>> {
    newest_of(source, asker, map, &addresses(map), until)
}

/// The newest map among `map` and those of the nodes at these addresses.
pub(super) fn newest_of(
    source: &Source,
    asker: &mut Asker,
    map: &Arc<RingMap>,
    addresses: &[&str],
    until: Nanos,
) -> Result<Arc<RingMap>> {
    let wanted = |id| ClientMsg::MapWanted { id, have: map.ver };
    let answers = asker.ask_all(addresses, wanted, until, &|| source.check_open())?;
    Ok(newest_in(source, map, &answers))
}

fn newest_in(source: &Source, map: &Arc<RingMap>, answers: &[Result<Answer>]) -> Arc<RingMap> {
    let mut newest = Arc::clone(map);
    let mut consider = |theirs: Arc<RingMap>| {
        let newer = (theirs.generation, theirs.ver) > (newest.generation, newest.ver);
        if theirs.cluster == newest.cluster && newer {
            newest = theirs;
        }
    };
    // Those that were asked may all have left, and a node that looks may know more than they.
    source.map().into_iter().for_each(&mut consider);
    for answer in answers.iter().flatten() {
        if let Ok(ServerMsg::Map { map: Some(theirs), .. }) = answer.message() {
            consider(Arc::new(*theirs));
        }
    }
    source.offer(&newest);
    newest
}

/// The partitions whose copies are all lost.
pub(super) fn lost_partitions(source: &Source) -> Result<Vec<PartitionId>> {
    let until = source.deadline(None).min(boottime() + PATIENCE);
    let known = source.map()?;
    let map = newest_map(source, &mut Asker::of(known.cluster), &known, until)?;
    Ok(super::change::lost_partitions(&map))
}

/// The members, what each holds, and what is moving.
pub(super) fn info(source: &Source) -> Result<RingInfo> {
    Ok(survey(source)?.info())
}

impl Survey {
    fn info(&self) -> RingInfo {
        let map = &self.map;
        let all_copies: usize = map.parts.iter().map(|part| part.isr.len()).sum();
        let mut members: BTreeMap<MemberId, MemberInfo> =
            map.members.keys().map(|mid| (*mid, self.member(*mid))).collect();
        for part in map.parts.iter().filter(|part| part.state != PartState::Lost) {
            for mid in part.isr.iter() {
                if let Some(member) = members.get_mut(&mid) {
                    member.copies += 1;
                    member.primaries += u32::from(part.primary == mid);
                }
            }
        }
        for member in members.values_mut() {
            member.share = f64::from(member.copies) / all_copies.max(1) as f64;
        }
        let by_position: Vec<MemberInfo> =
            map.by_position().iter().filter_map(|mid| members.remove(mid)).collect();
        let lost = map.parts.iter().filter(|part| part.state == PartState::Lost).count();
        RingInfo {
            cluster: map.cluster,
            version: map.ver.0,
            params: map.params,
            required: map.required,
            keys: by_position.iter().map(|member| member.keys).sum(),
            bytes: by_position.iter().map(|member| member.bytes).sum(),
            members: by_position,
            under_replicated: under_replicated(map),
            lost: lost as u32,
            moving: (!map.is_settled()).then(|| progress(map)),
        }
    }

    fn member(&self, mid: MemberId) -> MemberInfo {
        let Some(member) = self.map.members.get(&mid) else { return MemberInfo::default() };
        let stats = self.stats.get(&mid);
        let mut info = MemberInfo {
            node: node_ref(&self.map, mid),
            zone: member.zone.clone(),
            weight: member.weight,
            position: member.position,
            state: member.state,
            reachable: stats.is_some(),
            coordinator: self.map.voters.contains(&mid),
            ..MemberInfo::default()
        };
        if let Some(stats) = stats {
            info.keys_held = stats.keys_held;
            info.bytes_held = stats.bytes_held;
            info.memory_bytes = stats.memory_bytes;
            info.keys_moved_in = stats.keys_moved_in;
            info.bytes_moved_in = stats.bytes_moved_in;
            for size in self.sizes_of(mid, stats).map(|(_, size)| size) {
                info.keys += size.keys;
                info.bytes += size.bytes;
            }
        }
        info
    }

    /// Sizes of the partitions that `mid` is primary of. It may have been one of more when it
    /// answered; each partition is counted where the map has it.
    fn sizes_of<'s>(
        &'s self,
        mid: MemberId,
        stats: &'s NodeStats,
    ) -> impl Iterator<Item = (usize, PartitionSize)> + 's {
        let own = move |(pid, keys, bytes): &(PartitionId, u64, u64)| {
            let part = self.map.part(*pid).filter(|part| part.primary == mid);
            part.map(|_| (pid.0 as usize, PartitionSize { keys: *keys, bytes: *bytes }))
        };
        stats.partitions.iter().filter_map(own)
    }

    fn sizes(&self) -> Vec<PartitionSize> {
        let mut sizes = vec![PartitionSize::default(); self.map.parts.len()];
        for (mid, stats) in &self.stats {
            for (pid, size) in self.sizes_of(*mid, stats) {
                sizes[pid] = size;
            }
        }
        sizes
    }

    pub(super) fn is_reachable(&self, mid: MemberId) -> bool {
        self.stats.contains_key(&mid)
    }
}

/// A member as others refer to it.
pub(super) fn node_ref(map: &RingMap, mid: MemberId) -> NodeRef {
    let member = map.members.get(&mid);
    NodeRef {
        mid,
        name: member.map_or_else(String::new, |member| member.name.clone()),
        addr: member.map_or_else(String::new, |member| member.addr.clone()),
    }
}

/// Copies that each partition should and could have now.
pub(super) fn copies_due(map: &RingMap) -> usize {
    usize::from(map.params.copies).min(map.targets().len())
}

pub(super) fn under_replicated(map: &RingMap) -> u32 {
    let due = copies_due(map);
    map.parts.iter().filter(|part| part.isr.len() < due).count() as u32
}

/// How many of the wanted copies are there.
fn progress(map: &RingMap) -> Progress {
    let wanted = map.parts.iter().map(|part| part.goal.len() as u64).sum();
    let there = map.parts.iter().map(|p| p.goal.iter().filter(|m| p.isr.contains(*m)).count());
    Progress { copies_done: there.sum::<usize>() as u64, copies_total: wanted }
}

/// Where `key` lives, and the nodes asked on the way there.
pub(super) fn locate(source: &Source, key: &[u8], options: &ReadOptions) -> Result<Location> {
    let until = source.deadline(options.timeout);
    let lookup = options.lookup;
    let op = Op::Probe { key };
    let map = source.map()?;
    let first = match lookup {
        Lookup::Direct => primary_of(&map, &op),
        _ => source.first_asked(),
    };
    // What a node holds does not tell who answers for a key, so a local lookup asks it on.
    let asked_by = if lookup == Lookup::Local { Lookup::Recursive } else { lookup };
    let mut way = source.way(asked_by, until)?;
    let mut recorder = Recorder { inner: way.transport(), hints: Vec::new() };
    let mut found: Result<MemberId> = Err(Status::Internal.into());
    drive(&mut recorder, source.sessions(), &[op], until, &mut next_rng(), &mut |_, result| {
        found = result.and_then(|reply| match reply {
            Reply::Here(mid) => Ok(*mid),
            other => Err(refusal(other).unwrap_or_else(|| Status::Protocol.into())),
        });
    })?;
    let mut hops: Vec<MemberId> = first.into_iter().chain(recorder.hints).collect();
    hops.push(found?);
    hops.dedup();
    // The map as it is now: the lookup may have shown that it was old.
    let map = source.map()?;
    let hasher = Hasher::new(map.params.hash, map.params.seed, map.params.partitions);
    let partition = hasher.partition(key);
    let part = map.part(partition).ok_or(Status::Internal)?;
    let others = part.isr.iter().filter(|mid| *mid != part.primary);
    let holders = std::iter::once(part.primary).chain(others);
    Ok(Location {
        partition,
        position: hasher.position(key),
        holders: holders.map(|mid| node_ref(&map, mid)).collect(),
        hops: hops.into_iter().map(|mid| node_ref(&map, mid)).collect(),
    })
}

/// A transport that remembers which redirects were followed.
struct Recorder<'t> {
    inner: &'t mut dyn Transport,
    hints: Vec<MemberId>,
}

impl Transport for Recorder<'_> {
    fn now(&self) -> Nanos {
        self.inner.now()
    }

    fn submit(&mut self, tag: usize, op: &Op<'_>, stamp: Stamp, hint: Option<MemberId>) -> Ver {
        self.hints.extend(hint);
        self.inner.submit(tag, op, stamp, hint)
    }

    fn partition(&mut self, op: &Op<'_>) -> Option<PartitionId> {
        self.inner.partition(op)
    }

    fn wait(&mut self, until: Nanos, report: &mut dyn FnMut(usize, Event<'_>)) -> Result<()> {
        self.inner.wait(until, report)
    }

    fn refresh(&mut self, until: Nanos) {
        self.inner.refresh(until);
    }

    fn abandon(&mut self) {
        self.inner.abandon();
    }
}

/// What adding a node would move.
pub(super) fn plan_add(source: &Source, name: &str, address: &str, weight: u32) -> Result<Plan> {
    let survey = survey(source)?;
    let position = crate::ring::hash::node_position(name, survey.map.params.seed);
    let change = Change::Add {
        name: name.to_owned(),
        addr: address.to_owned(),
        zone: String::new(),
        weight,
        position,
    };
    Ok(plan(&survey.map, &survey.sizes(), &change))
}

/// What dropping a member would move.
pub(super) fn plan_drop(source: &Source, name_or_address: &str) -> Result<Plan> {
    let survey = survey(source)?;
    let mid = member_called(&survey.map, name_or_address)?;
    let heirs = survey.map.members.iter().filter(|(m, member)| **m != mid && member.is_heir());
    if heirs.count() == 0 {
        return Err(Error::new(
            Status::Refused,
            format!(
                "{name_or_address} is the last living node that holds data; it cannot be dropped"
            ),
        ));
    }
    Ok(plan(&survey.map, &survey.sizes(), &Change::Drop(mid)))
}

/// The member of that name or address; the error lists the names that there are.
pub(super) fn member_called(map: &RingMap, name_or_address: &str) -> Result<MemberId> {
    map.find_member(name_or_address).ok_or_else(|| {
        let names: Vec<&str> = map.members.values().map(|member| member.name.as_str()).collect();
        let sentence =
            format!("no member called {name_or_address}; the ring has {}", names.join(", "));
        Error::new(Status::NoSuchMember, sentence)
    })
}

/// What an `Outcome` says.
pub(super) fn outcome(answer: &Answer, address: &str) -> Result<()> {
    match answer.message()? {
        ServerMsg::Outcome { status: 0, .. } => Ok(()),
        ServerMsg::Outcome { status, text, .. } => {
            let status = Status::from_code(status).unwrap_or(Status::Refused);
            Err(Error::new(status, text))
        }
        _ => Err(unexpected(address)),
    }
}
