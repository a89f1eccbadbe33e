//! The connections of one call of a client: one to each member that it needs.
//!
//! A [`Lane`] outlives the call and is used by one thread at a time; a [`Session`] is the lane
//! while a call has it, and what [`drive`](super::drive::drive) drives operations with. Two rules
//! make its reports true. Nothing is sent to a node before it has said that it is the member that
//! is meant, so what fails before that was provably not executed. And a number is never used for
//! two operations, so an answer that comes after everybody has given up is nobody's.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::ask::{Greeting, greeting};
use super::config::Lookup;
use super::drive::{Event, Transport};
use super::interrupt::SLICE;
use super::remote::Inner;
use crate::base::limits::{CONNECT_TIMEOUT_MS, FRAME_BYTES_MAX};
use crate::base::{ClusterId, MemberId, Nanos, PartitionId, Result, Status, Ver};
use crate::net::blocking::{LaneEvent, Lanes, connect, flush_all};
use crate::net::sys::boottime;
use crate::net::{Address, CloseReason, ConnectionOptions, FRAME_HEADER_BYTES, Link};
use crate::proto::router::{Stamp, partition_of, primary_of};
use crate::ring::RingMap;
use crate::wire::codec::Decoded;
use crate::wire::{ClientMsg, Hello, Op, Request, Role, ServerMsg};

/// So many bytes are sent on their way while the next operations are still being encoded.
const EAGER_BYTES: usize = 32 * 1024;
/// Above this many unsent bytes the next operation waits for the peer to read.
const UNSENT_BYTES_MAX: usize = 8 * 1024 * 1024;
/// A member that could not be reached is not dialled again for this long.
const REDIAL_AFTER: Duration = Duration::from_millis(75);
/// An idle lane is looked through for dead connections after this long.
const STALE_AFTER: Duration = Duration::from_millis(1);
/// While answers are missing, somebody else is asked this often whether the ring has changed.
const DOUBT_AFTER: Duration = Duration::from_millis(300);

/// The connections and what is under way on them.
///
/// Invariants:
/// - `slots[tag]` is the operation with that tag; its number is never used again;
/// - a peer's `held` is empty once it is greeted, and when it has no link.
pub(super) struct Lane {
    lanes: Lanes,
    peers: Vec<Peer>,
    peer_of: HashMap<MemberId, usize>,
    slots: Vec<Slot>,
    last_number: u32,
    lost: Vec<(usize, bool)>,
    used_at: Nanos,
}

struct Peer {
    mid: MemberId,
    link: Option<Arc<Link>>,
    greeted: bool,
    /// Frames that wait for the greeting.
    held: Vec<u8>,
    redial_at: Nanos,
}

/// One operation under way: which number its answer bears, and whom it was sent to. The number 0
/// is nobody's.
#[derive(Clone, Copy, Default)]
struct Slot {
    number: u32,
    peer: usize,
}

/// A lane in the hands of a call.
pub(super) struct Session<'c> {
    client: &'c Inner,
    lane: Option<Lane>,
    map: Arc<RingMap>,
    lookup: Lookup,
    until: Nanos,
    doubt_at: Nanos,
}

impl Lane {
    /// No connections yet.
    pub(super) fn new() -> Self {
        Self {
            lanes: Lanes::new(),
            peers: Vec::new(),
            peer_of: HashMap::new(),
            slots: Vec::new(),
            last_number: 0,
            lost: Vec::new(),
            used_at: Nanos::ZERO,
        }
    }

    /// Before a call: forgets what ended while nobody looked, and members that are gone.
    fn refresh_connections(&mut self, map: &RingMap) -> Result<()> {
        debug_assert!(self.slots.is_empty(), "nothing is under way");
        if boottime().since(self.used_at) < STALE_AFTER {
            return Ok(());
        }
        let peers = &mut self.peers;
        self.lanes.wait(Duration::ZERO, |link, event| {
            // Nothing is under way, so a frame is a goodbye, or a late answer of no use any more.
            match (event, peer_at(peers, link)) {
                (LaneEvent::Closed(_), Some(peer)) => drop(peer.disconnect()),
                (LaneEvent::Frame(frame), Some(peer)) if peer.greeted => {
                    if matches!(ServerMsg::decode(frame), Ok(ServerMsg::Goodbye)) {
                        peer.disconnect();
                        link.close(CloseReason::Local("the node has left the ring".into()));
                    }
                }
                _ => {}
            }
        })?;
        for peer in peers.iter_mut().filter(|peer| !map.members.contains_key(&peer.mid)) {
            if let Some(link) = peer.disconnect() {
                self.lanes.remove(link.id());
            }
        }
        Ok(())
    }

    /// The peer's place in `peers`.
    fn peer(&mut self, mid: MemberId) -> usize {
        *self.peer_of.entry(mid).or_insert_with(|| {
            self.peers.push(Peer {
                mid,
                link: None,
                greeted: false,
                held: Vec::new(),
                redial_at: Nanos::ZERO,
            });
            self.peers.len() - 1
        })
    }

    /// Makes sure that there is a connection to a peer, or at least an attempt at one.
    fn reach(&mut self, at: usize, map: &RingMap, until: Nanos) -> Result<Arc<Link>> {
        let peer = &mut self.peers[at];
        if let Some(link) = peer.link.as_ref().filter(|link| !link.is_closed()) {
            return Ok(Arc::clone(link));
        }
        let now = boottime();
        if peer.link.is_some() || now < peer.redial_at {
            // A link that is closed has to be reported first, with what is under way on it.
            return Err(Status::Connect.into());
        }
        peer.redial_at = now + REDIAL_AFTER;
        let member = map.members.get(&peer.mid).ok_or(Status::NoSuchMember)?;
        let timeout = Duration::from_millis(CONNECT_TIMEOUT_MS).min(until.since(now));
        let socket = connect(&Address::parse(&member.addr)?, timeout)?;
        let options = ConnectionOptions { frame_max: FRAME_BYTES_MAX, ..Default::default() };
        let link = self.lanes.add(socket, options);
        link.set_tag(at as u64);
        let hello = Hello {
            role: Role::Client,
            cluster: map.cluster,
            generation: map.generation,
            from: MemberId::ZERO,
            to: peer.mid,
        };
        // A link that fails at once is closed, which the next wait reports.
        let _ = link.push_frame(|buffer| hello.encode(buffer));
        peer.link = Some(Arc::clone(&link));
        Ok(link)
    }

    /// Hands a message to a peer, or keeps it until the peer has introduced itself.
    fn send(&mut self, at: usize, link: &Link, message: &ClientMsg<'_>) {
        let peer = &mut self.peers[at];
        if peer.greeted {
            // A closed link is reported by the next wait.
            let _ = link.push_frame(|buffer| message.encode(buffer));
        } else {
            append_frame(&mut peer.held, message);
        }
    }

    /// The next number; 0 is left out.
    fn number(&mut self) -> u32 {
        self.last_number = self.last_number.checked_add(1).unwrap_or(1);
        self.last_number
    }
}

impl Peer {
    fn disconnect(&mut self) -> Option<Arc<Link>> {
        self.greeted = false;
        self.held = Vec::new();
        self.link.take()
    }
}

impl<'c> Session<'c> {
    pub(super) fn new(client: &'c Inner, mut lane: Lane, lookup: Lookup, until: Nanos) -> Self {
        let map = client.map();
        if lane.refresh_connections(&map).is_err() {
            lane = Lane::new();
        }
        let doubt_at = boottime() + DOUBT_AFTER;
        Self { client, lane: Some(lane), map, lookup, until, doubt_at }
    }

    fn lane(&mut self) -> &mut Lane {
        self.lane.as_mut().expect("only drop takes the lane")
    }

    /// Whom to send an operation to.
    fn target(&self, op: &Op<'_>, hint: Option<MemberId>) -> Option<MemberId> {
        // The place in a scan means something only to the replica that the scan thinks it is
        // talking to: the primary of the map.
        // The primary of what is lost is forgotten: anybody else knows that it is lost.
        let primary = || {
            let primary = primary_of(&self.map, op)?;
            let is_member = self.map.members.contains_key(&primary);
            Some(if is_member { primary } else { self.client.contact_in(&self.map) })
        };
        if let Op::Scan { .. } = op {
            return primary();
        }
        hint.or_else(|| match self.lookup {
            Lookup::Direct => primary(),
            Lookup::Iterative | Lookup::Recursive | Lookup::Local => {
                Some(self.client.contact_in(&self.map))
            }
        })
    }

    /// Waits until a peer that reads slowly has taken most of what is meant for it. A deadlock is
    /// not possible: the answers to what is large are small.
    fn back_pressure(&mut self, link: &Link) {
        let until = self.until;
        let client = self.client;
        self.lane().lanes.links().for_each(|link| link.flush());
        while link.pending() > UNSENT_BYTES_MAX / 2 && !link.is_closed() {
            let now = boottime();
            if now >= until || client.check_open().is_err() {
                return;
            }
            let _ = flush_all(link, until.since(now).min(SLICE));
        }
    }

    /// While answers are missing: if the ring says that a member is dead, do not wait for it any
    /// longer. A process that hangs keeps its connections open.
    fn doubt(&mut self, now: Nanos) {
        self.doubt_at = now + DOUBT_AFTER;
        self.refresh(self.until);
        let map = Arc::clone(&self.map);
        for peer in &self.lane().peers {
            let alive = map.members.get(&peer.mid).is_some_and(|m| !m.is_dead());
            if let (false, Some(link)) = (alive, &peer.link) {
                link.close(CloseReason::Local("the ring has declared it dead".into()));
            }
        }
    }
}

impl Transport for Session<'_> {
    fn now(&self) -> Nanos {
        boottime()
    }

    fn partition(&mut self, op: &Op<'_>) -> Option<PartitionId> {
        partition_of(&self.map, op)
    }

    fn submit(&mut self, tag: usize, op: &Op<'_>, stamp: Stamp, hint: Option<MemberId>) -> Ver {
        let (map, until) = (Arc::clone(&self.map), self.until);
        // Who walks from node to node follows every redirect, also by the map that it has itself.
        let routed_by = match self.lookup {
            Lookup::Iterative => Ver::ZERO,
            _ => map.ver,
        };
        let target = self.target(op, hint);
        let redirect = matches!(self.lookup, Lookup::Direct | Lookup::Iterative);
        let lane = self.lane();
        let reached = target.and_then(|mid| {
            let at = lane.peer(mid);
            lane.reach(at, &map, until).ok().map(|link| (at, link))
        });
        // Before the greeting nothing is sent, so only so much is taken.
        let room = |at: usize| lane.peers[at].held.len() <= UNSENT_BYTES_MAX;
        let Some((at, link)) = reached.filter(|(at, _)| room(*at)) else {
            lane.lost.push((tag, false));
            return routed_by;
        };
        if lane.slots.len() <= tag {
            lane.slots.resize_with(tag + 1, Slot::default);
        }
        let number = lane.number();
        lane.slots[tag] = Slot { number, peer: at };
        let request = stamp.on(Request { redirect, ..Request::new(map.ver, *op) });
        let id = (u64::from(number) << 32) | tag as u64;
        lane.send(at, &link, &ClientMsg::Request { id, request });
        if link.pending() > UNSENT_BYTES_MAX {
            self.back_pressure(&link);
        } else if link.pending() > EAGER_BYTES {
            link.flush();
        }
        routed_by
    }

    fn wait(&mut self, until: Nanos, report: &mut dyn FnMut(usize, Event<'_>)) -> Result<()> {
        self.client.check_open()?;
        let now = boottime();
        if now >= self.doubt_at {
            self.doubt(now);
        }
        let client = self.client;
        let lane = self.lane();
        let wait_max = match lane.lost.is_empty() {
            true => until.since(now).min(SLICE),
            false => Duration::ZERO,
        };
        for (tag, sent) in std::mem::take(&mut lane.lost) {
            report(tag, Event::Lost { sent });
        }
        if lane.lanes.is_empty() {
            client.rest(wait_max);
            return client.check_open();
        }
        let Lane { lanes, peers, slots, .. } = lane;
        lanes.wait(wait_max, |link, event| {
            let Some(peer) = peer_at(peers, link) else { return };
            match event {
                LaneEvent::Frame(frame) if peer.greeted => match answer(frame, slots, report) {
                    Ok(Heard::Answer) => {}
                    Ok(Heard::Goodbye) => {
                        peer.disconnect();
                        lose(slots, link.tag() as usize, false, report);
                        link.close(CloseReason::Local("the node has left the ring".into()));
                    }
                    Err(_) => link.close(CloseReason::Local("a malformed message".into())),
                },
                LaneEvent::Frame(frame) => peer.welcome(frame, link, client.cluster()),
                LaneEvent::Closed(_) => {
                    let sent = peer.greeted;
                    peer.disconnect();
                    lose(slots, link.tag() as usize, sent, report);
                }
            }
        })?;
        Ok(())
    }

    fn refresh(&mut self, until: Nanos) {
        self.client.refresh(self.map.ver, until);
        self.map = self.client.map();
    }

    fn abandon(&mut self) {
        let lane = self.lane();
        lane.lost.clear();
        lane.slots.clear();
        // What was not sent shall not be sent later, when its caller has given up.
        let unsent = |peer: &&mut Peer| {
            !peer.held.is_empty() || peer.link.as_ref().is_some_and(|link| link.pending() > 0)
        };
        for peer in lane.peers.iter_mut().filter(unsent) {
            if let Some(link) = peer.disconnect() {
                lane.lanes.remove(link.id());
            }
        }
    }
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        self.abandon();
        if let Some(mut lane) = self.lane.take() {
            lane.used_at = boottime();
            self.client.give_back(lane);
        }
    }
}

fn peer_at<'p>(peers: &'p mut [Peer], link: &Link) -> Option<&'p mut Peer> {
    let peer = peers.get_mut(link.tag() as usize)?;
    peer.link.as_ref().is_some_and(|own| own.id() == link.id()).then_some(peer)
}

impl Peer {
    /// Takes in its introduction, and sends what waited for it.
    fn welcome(&mut self, frame: &[u8], link: &Link, cluster: ClusterId) {
        let expected = Greeting { cluster, mid: self.mid };
        match greeting(frame) {
            Ok(met) if met == expected => {
                self.greeted = true;
                let held = std::mem::take(&mut self.held);
                let _ = link.push(|buffer| buffer.extend_from_slice(&held));
                link.flush();
            }
            Ok(_) => link.close(CloseReason::Local("somebody else is at this address".into())),
            Err(error) => link.close(CloseReason::Local(error.message().to_owned().into())),
        }
    }
}

/// Takes in the answer to an operation, if somebody still waits for it.
fn answer(
    frame: &[u8],
    slots: &mut [Slot],
    report: &mut dyn FnMut(usize, Event<'_>),
) -> Decoded<Heard> {
    let (id, reply) = match ServerMsg::decode(frame)? {
        ServerMsg::Reply { id, reply } => (id, reply),
        ServerMsg::Goodbye => return Ok(Heard::Goodbye),
        _ => return Ok(Heard::Answer), // Nobody asked for it on this connection.
    };
    let (number, tag) = ((id >> 32) as u32, (id & u64::from(u32::MAX)) as usize);
    if let Some(slot) = slots.get_mut(tag).filter(|slot| number != 0 && slot.number == number) {
        *slot = Slot::default();
        report(tag, Event::Reply(&reply));
    }
    Ok(Heard::Answer)
}

/// What a frame of a node was.
enum Heard {
    Answer,
    /// The node has left the ring: what it has not answered was not executed.
    Goodbye,
}

/// Reports what was under way on a connection that is gone.
fn lose(slots: &mut [Slot], peer: usize, sent: bool, report: &mut dyn FnMut(usize, Event<'_>)) {
    for (tag, slot) in slots.iter_mut().enumerate() {
        if slot.number != 0 && slot.peer == peer {
            *slot = Slot::default();
            report(tag, Event::Lost { sent });
        }
    }
}

fn append_frame(buffer: &mut Vec<u8>, message: &ClientMsg<'_>) {
    let start = buffer.len();
    buffer.extend_from_slice(&[0; FRAME_HEADER_BYTES]);
    message.encode(buffer);
    let length = (buffer.len() - start - FRAME_HEADER_BYTES) as u32;
    buffer[start..start + FRAME_HEADER_BYTES].copy_from_slice(&length.to_le_bytes());
}
