//! Clients: several operations at a time each, through the router and the sessions, and the history
//! of every key.
//!
//! They do what a client may do at worst: they lose patience and send again while the first message
//! is still on its way, to whoever, and the network doubles what it may double (S1b).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use ringkv::base::{MemberId, Nanos, Ver};
use ringkv::proto::ClientSessions;
use ringkv::proto::router::{Attempt, Next, primary_of};
use ringkv::ring::{PartState, RingMap};
use ringkv::wire::{ClientMsg, Op, Reply, Request, ServerMsg};

use crate::linear::{self, Action, OPERATIONS_MAX, Operation, Value, Verdict};
use crate::net::{Endpoint, Kind, Link};
use crate::world::{Event, Phase, World};

/// The last reads must end within this.
const LAST_READ_MS_MAX: u64 = 20_000;
/// Bytes of a value that say which one it is.
const NUMBER_BYTES: usize = 16;

/// What a client wants of a key.
#[derive(Clone, Debug)]
enum Wish {
    Get,
    Put { value: Value, bytes: Vec<u8>, ttl_ms: u64, if_absent: bool },
    Delete,
    Cas { expected: Option<(Value, Vec<u8>)>, value: Value, bytes: Vec<u8> },
    Incr { delta: u64 },
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// To be sent at that moment, to that member if one was named.
    Due { at: Nanos, hint: Option<MemberId> },
    /// Waits for a number of its session.
    Parked { hint: Option<MemberId> },
    /// Sent. It loses patience at that moment.
    UnderWay { id: u64, to: MemberId, map_ver: Ver, patience: Nanos },
}

#[derive(Debug)]
struct Pending {
    number: u64,
    key: u64,
    wish: Wish,
    attempt: Attempt,
    called: u64,
    called_at: Nanos,
    deadline: Nanos,
    state: State,
}

/// A client.
#[derive(Debug)]
pub struct Client {
    map: Option<Arc<RingMap>>,
    sessions: ClientSessions,
    pending: Vec<Pending>,
    /// Nothing new before that moment.
    begins_at: Nanos,
    issued: u64,
    ids: u64,
    /// What it last knew of each key, for conditions that may well hold.
    known: BTreeMap<u64, Option<Value>>,
    /// Keys to read at the end.
    script: VecDeque<u64>,
}

impl Client {
    /// A client that has not done anything yet.
    pub fn new() -> Self {
        Self {
            map: None,
            sessions: ClientSessions::default(),
            pending: Vec::new(),
            begins_at: Nanos::ZERO,
            issued: 0,
            ids: 0,
            known: BTreeMap::new(),
            script: VecDeque::new(),
        }
    }

    /// Whether it waits for nothing and has nothing left to do.
    pub fn is_idle(&self) -> bool {
        self.pending.is_empty() && self.script.is_empty()
    }

    fn at(&self, number: u64) -> Option<usize> {
        self.pending.iter().position(|pending| pending.number == number)
    }

    fn of(&mut self, number: u64) -> Option<&mut Pending> {
        self.pending.iter_mut().find(|pending| pending.number == number)
    }
}

/// What the clients saw, by key.
#[derive(Debug)]
pub struct History {
    keys: Vec<Vec<Operation>>,
    /// Operations that each key may still have in its history.
    left: Vec<usize>,
    values: u64,
    stamps: u64,
    /// When values with a time to live are over at the latest, as far as that is known.
    over_at_ms: BTreeMap<Value, u64>,
    /// Values with a time to live.
    expiring: BTreeSet<Value>,
    /// For each counter what was added for sure, and what may have been.
    sums: BTreeMap<u64, (u64, u64)>,
}

impl History {
    /// Of that many keys.
    pub fn new(keys: u64) -> Self {
        let keys = keys as usize;
        Self {
            keys: vec![Vec::new(); keys],
            left: vec![OPERATIONS_MAX - 1; keys],
            values: 0,
            stamps: 0,
            over_at_ms: BTreeMap::new(),
            expiring: BTreeSet::new(),
            sums: BTreeMap::new(),
        }
    }

    /// A number for this moment, above all earlier ones.
    fn stamp(&mut self, now: Nanos) -> u64 {
        self.stamps += 1;
        stamp_at(now) + self.stamps
    }
}

/// The number of a moment: room for a million stamps at each.
fn stamp_at(at: Nanos) -> u64 {
    at.0 << 20
}

fn key_bytes(key: u64) -> Vec<u8> {
    format!("key-{key}").into_bytes()
}

fn value_bytes(value: Value, len: usize) -> Vec<u8> {
    let mut bytes = format!("{value:0NUMBER_BYTES$x}").into_bytes();
    bytes.resize(len.max(NUMBER_BYTES), value as u8);
    bytes
}

fn value_number(bytes: &[u8]) -> Option<Value> {
    let (number, padding) = bytes.split_at_checked(NUMBER_BYTES)?;
    let value = Value::from_str_radix(std::str::from_utf8(number).ok()?, 16).ok()?;
    padding.iter().all(|byte| *byte == value as u8).then_some(value)
}

impl Pending {
    fn op<'a>(&'a self, key: &'a [u8]) -> Op<'a> {
        match &self.wish {
            Wish::Get => Op::Get { key },
            Wish::Put { bytes, ttl_ms, if_absent, .. } => {
                Op::Put { key, value: bytes, ttl_ms: *ttl_ms, if_absent: *if_absent }
            }
            Wish::Delete => Op::Delete { key },
            Wish::Cas { expected, bytes, .. } => {
                let expected = expected.as_ref().map(|(_, bytes)| &bytes[..]);
                Op::Cas { key, expected, value: bytes, ttl_ms: 0 }
            }
            Wish::Incr { delta } => Op::Incr { key, delta: *delta as i64, ttl_ms: 0 },
        }
    }
}

impl World {
    /// Lets a client look at its state after a span.
    pub fn client_wakes_in(&mut self, client: usize, span: Duration) {
        self.after(span, Event::Wake { client });
    }

    /// A client looks at what it waits for: what is to be sent, given up, or begun.
    pub fn client_wakes(&mut self, client: usize) {
        let numbers: Vec<u64> = self.clients[client].pending.iter().map(|p| p.number).collect();
        for number in numbers {
            let Some(pending) = self.clients[client].of(number) else { continue };
            match pending.state {
                _ if self.now >= pending.deadline => self.give_up(client, number),
                State::Due { at, hint } if self.now >= at => {
                    self.send_request(client, number, hint);
                }
                State::Parked { hint } => self.send_request(client, number, hint),
                State::UnderWay { patience, .. } if self.now >= patience => {
                    self.counters.impatience += 1;
                    self.lost(client, number, true);
                }
                _ => {}
            }
        }
        let state = &self.clients[client];
        if self.now >= state.begins_at && state.pending.len() < self.settings.pipeline {
            self.begin_operation(client);
        }
    }

    /// Every key is read once more.
    pub fn read_everything(&mut self) {
        for key in 0..self.settings.keys {
            let client = key as usize % self.clients.len();
            self.clients[client].script.push_back(key);
        }
        for client in 0..self.clients.len() {
            self.client_wakes_in(client, Duration::from_millis(1));
        }
    }

    fn begin_operation(&mut self, client: usize) {
        let scripted = self.clients[client].script.pop_front();
        let Some(key) = scripted.or_else(|| self.next_key(client)) else { return };
        let wish = match scripted {
            Some(_) => Wish::Get,
            None => self.next_wish(client, key),
        };
        let cost = 1 + usize::from(matches!(wish, Wish::Put { ttl_ms: 1.., .. }));
        let left = &mut self.history.left[key as usize];
        if scripted.is_none() {
            if *left < cost {
                return self.next_operation(client);
            }
            *left -= cost;
        }
        let timeout = match self.phase {
            Phase::Verify => LAST_READ_MS_MAX,
            _ => self.settings.operation_timeout_ms,
        };
        let mut pending = Pending {
            number: self.counters.operations,
            key,
            wish,
            attempt: Attempt::new(&Op::Get { key: b"" }),
            called: self.history.stamp(self.now),
            called_at: self.now,
            deadline: self.now + Duration::from_millis(timeout),
            state: State::Due { at: self.now, hint: None },
        };
        pending.attempt = Attempt::new(&pending.op(b"k"));
        let number = pending.number;
        self.clients[client].pending.push(pending);
        self.counters.operations += 1;
        self.client_wakes_in(client, Duration::from_millis(timeout));
        self.next_operation(client);
        self.send_request(client, number, None);
    }

    fn next_key(&mut self, client: usize) -> Option<u64> {
        let state = &mut self.clients[client];
        if self.phase != Phase::Load || state.issued == self.settings.operations_per_client {
            return None;
        }
        state.issued += 1;
        let hot = self.rng.chance(self.settings.hot_key_permille);
        Some(if hot { 0 } else { self.rng.below(self.settings.keys) })
    }

    fn next_wish(&mut self, client: usize, key: u64) -> Wish {
        let settings = &self.settings;
        if self.rng.chance(settings.reads_permille) {
            return Wish::Get;
        }
        if settings.is_counter(key) {
            // Always upwards, so that a value never comes back.
            return Wish::Incr { delta: self.rng.range(1, 4) };
        }
        if self.rng.chance(settings.deletes_permille) {
            return Wish::Delete;
        }
        self.history.values += 1;
        let value = self.history.values;
        let bytes = value_bytes(value, settings.value_bytes);
        if self.rng.chance(settings.cas_permille) {
            // A value that expires while its successor is on its way is seen to go before the
            // successor is seen to come: expiry is no entry, and has no place in the order.
            let expiring = &self.history.expiring;
            let known = self.clients[client].known.get(&key).copied().flatten();
            let known = known.filter(|value| !expiring.contains(value));
            let expected = known.map(|value| (value, value_bytes(value, settings.value_bytes)));
            return Wish::Cas { expected, value, bytes };
        }
        let expires = self.rng.chance(settings.ttl_permille);
        if expires {
            self.history.expiring.insert(value);
        }
        Wish::Put {
            value,
            bytes,
            ttl_ms: if expires { self.rng.range(1, 1_500) } else { 0 },
            if_absent: self.rng.chance(settings.if_absent_permille),
        }
    }

    fn send_request(&mut self, client: usize, number: u64, hint: Option<MemberId>) {
        if !self.has_number(client, number) {
            let Some(pending) = self.clients[client].of(number) else { return };
            pending.state = State::Parked { hint };
            return;
        }
        let to = self.choose_node(client, number, hint);
        let redirect = self.rng.chance(150);
        let impatient = self.rng.chance(self.settings.sessions.impatient_permille);
        let patience = self.now + Duration::from_micros(self.rng.range(50, 400_000));
        let state = &mut self.clients[client];
        state.ids += 1;
        let id = state.ids;
        let map_ver = state.map.as_ref().map_or(Ver::ZERO, |map| map.ver);
        let Some(pending) = state.of(number) else { return };
        let patience = if impatient { patience } else { pending.deadline };
        // Nobody may double a message whose refusal would be taken for proof (S1b, S6').
        let may_double = pending.attempt.may_be_executed();
        let stamp = pending.attempt.send();
        let Some(to) = to else { return self.lost(client, number, false) };
        pending.state = State::UnderWay { id, to, map_ver, patience };
        let key = key_bytes(pending.key);
        let request = Request { redirect, ..Request::new(map_ver, pending.op(&key)) };
        let request = stamp.on(request);
        let mut bytes = Vec::new();
        ClientMsg::Request { id, request }.encode(&mut bytes);
        let link = Link::new(Endpoint::Node(to), Endpoint::Client(client), Kind::Client);
        if self.network.in_flight(link, Endpoint::Client(client)).is_none() {
            return self.lost(client, number, false);
        }
        if may_double && self.rng.chance(self.settings.sessions.double_permille) {
            self.double(client, &bytes);
        }
        self.send(Endpoint::Client(client), Endpoint::Node(to), Kind::Client, bytes);
        self.client_wakes_in(client, patience.since(self.now));
    }

    /// Whether an operation has what its next message needs.
    fn has_number(&mut self, client: usize, number: u64) -> bool {
        let state = &mut self.clients[client];
        let Some(at) = state.at(number) else { return true };
        let Client { pending, sessions, .. } = state;
        let Pending { attempt, key, .. } = &mut pending[at];
        if !attempt.needs_ticket() {
            return true;
        }
        let pid = self.hasher.partition(&key_bytes(*key));
        let rng = &mut self.rng;
        let draw = || (u128::from(rng.next_u64()) << 64) | u128::from(rng.next_u64());
        let ticket = sessions.begin(pid, draw);
        if let Some(ticket) = ticket {
            self.counters.sessions += u64::from(ticket.session.number == 1);
            attempt.set_ticket(ticket);
        }
        ticket.is_some()
    }

    /// A message is delivered twice, the second time late and perhaps elsewhere. The answer to it
    /// is nobody's.
    fn double(&mut self, client: usize, bytes: &[u8]) {
        self.counters.doubles += 1;
        let state = &mut self.clients[client];
        state.ids += 1;
        let mut bytes = bytes.to_vec();
        bytes[1..9].copy_from_slice(&state.ids.to_le_bytes());
        let at = self.rng.below(self.nodes.len() as u64) as usize;
        let Some(to) = self.nodes.keys().nth(at).copied() else { return };
        let late = Duration::from_micros(self.rng.range(0, 1_500_000));
        self.after(late, Event::Double { client, to, bytes });
    }

    /// The member that a request goes to: whom the answer named, whom the map names, or anybody.
    fn choose_node(
        &mut self,
        client: usize,
        number: u64,
        hint: Option<MemberId>,
    ) -> Option<MemberId> {
        let anybody = self.rng.below(self.nodes.len() as u64) as usize;
        let anybody = self.nodes.keys().nth(anybody).copied();
        if self.rng.chance(self.settings.misroute_permille) {
            return anybody;
        }
        let state = &self.clients[client];
        let pending = &state.pending[state.at(number)?];
        let key = key_bytes(pending.key);
        let by_map = || primary_of(state.map.as_ref()?, &pending.op(&key));
        let known = hint.or_else(by_map).filter(|mid| self.nodes.contains_key(mid));
        known.or(anybody)
    }

    /// A connection of a client broke, or its member ended.
    pub fn client_lost(&mut self, client: usize, mid: MemberId) {
        let concerned =
            |pending: &&Pending| matches!(pending.state, State::UnderWay { to, .. } if to == mid);
        let pending = self.clients[client].pending.iter().filter(concerned);
        let numbers: Vec<u64> = pending.map(|pending| pending.number).collect();
        numbers.into_iter().for_each(|number| self.lost(client, number, true));
    }

    fn lost(&mut self, client: usize, number: u64, sent: bool) {
        let (now, rng) = (self.now, &mut self.rng);
        let Some(pending) = self.clients[client].of(number) else { return };
        let next = pending.attempt.on_lost(sent, now, rng);
        self.follow(client, number, next, None);
    }

    /// Bytes arrive at a client.
    pub fn client_hears(&mut self, client: usize, bytes: &[u8]) {
        match ServerMsg::decode(bytes) {
            Ok(ServerMsg::Reply { id, reply }) => {
                self.note(|_| {
                    let text = format!("client {client} hears {id} {reply:?}");
                    text.chars().take(200).collect()
                });
                self.counters.session_unknown += u64::from(reply == Reply::SessionUnknown);
                let (now, rng) = (self.now, &mut self.rng);
                // The answer of a message that was given up is nobody's.
                for pending in &mut self.clients[client].pending {
                    match pending.state {
                        State::UnderWay { id: mine, map_ver, .. } if mine == id => {
                            let next = pending.attempt.on_reply(&reply, map_ver, now, rng);
                            let number = pending.number;
                            return self.follow(client, number, next, Some(&reply));
                        }
                        _ => {}
                    }
                }
            }
            Ok(ServerMsg::Map { map: Some(map), .. }) => {
                let slot = &mut self.clients[client].map;
                if slot.as_ref().is_none_or(|old| old.ver < map.ver) {
                    *slot = Some(Arc::from(map));
                }
            }
            Ok(_) => {}
            Err(error) => self.require(Err(format!("{error:?} at a client: {bytes:?}"))),
        }
    }

    fn follow(&mut self, client: usize, number: u64, next: Next, reply: Option<&Reply<'_>>) {
        self.return_ticket(client, number);
        match (next, reply) {
            (Next::Again { at, hint, refresh }, _) => {
                if refresh {
                    self.ask_for_map(client);
                }
                self.counters.retries += 1;
                let Some(pending) = self.clients[client].of(number) else { return };
                pending.state = State::Due { at, hint };
                let span = at.since(self.now);
                self.client_wakes_in(client, span);
            }
            (Next::Unknown, reply) => {
                if self.settings.quiet && reply.is_some() {
                    return self.require(Err("a planned change made a write unknown".into()));
                }
                self.counters.refused_unknown += 1;
                self.give_up(client, number);
            }
            (Next::Done, Some(reply)) => self.finish(client, number, reply),
            (Next::Done, None) => self.require(Err("done without an answer".into())),
        }
    }

    /// Gives back a number that an operation does not need any more: another one may go on.
    fn return_ticket(&mut self, client: usize, number: u64) {
        let Some(pending) = self.clients[client].of(number) else { return };
        if let Some((ticket, end)) = pending.attempt.take_spent() {
            self.clients[client].sessions.end(ticket, end);
            self.client_wakes_in(client, Duration::ZERO);
        }
    }

    fn ask_for_map(&mut self, client: usize) {
        let at = self.rng.below(self.nodes.len() as u64) as usize;
        let Some(to) = self.nodes.keys().nth(at).copied() else { return };
        let have = self.clients[client].map.as_ref().map_or(Ver::ZERO, |map| map.ver);
        let mut bytes = Vec::new();
        ClientMsg::MapWanted { id: 0, have }.encode(&mut bytes);
        self.send(Endpoint::Client(client), Endpoint::Node(to), Kind::Client, bytes);
    }

    /// The operation has no answer. A write that was refused each time it was sent did not happen.
    fn give_up(&mut self, client: usize, number: u64) {
        let Some(pending) = self.clients[client].of(number) else { return };
        pending.attempt.give_up();
        self.return_ticket(client, number);
        let Some(pending) = self.take(client, number) else { return };
        if self.phase == Phase::Verify {
            return self.require(Err(format!("I14: the last read does not end: {pending:?}")));
        }
        if pending.attempt.may_be_executed() {
            self.leave_open(&pending);
        }
    }

    /// The operation may have taken effect, or do so at any time.
    fn leave_open(&mut self, pending: &Pending) {
        let action = match pending.wish {
            Wish::Get => return,
            Wish::Put { value, if_absent: true, .. } => Action::PutIfAbsent(value, None),
            Wish::Put { value, .. } => Action::Put(value),
            Wish::Delete => Action::Delete(None),
            Wish::Cas { ref expected, value, .. } => {
                Action::Cas(expected.as_ref().map(|(value, _)| *value), value, None)
            }
            Wish::Incr { delta } => {
                self.history.sums.entry(pending.key).or_default().1 += delta;
                Action::Incr(delta, None)
            }
        };
        self.counters.unknown += 1;
        self.record(pending, None, action);
    }

    /// An operation is over: another one may begin.
    fn take(&mut self, client: usize, number: u64) -> Option<Pending> {
        let state = &mut self.clients[client];
        let at = state.at(number)?;
        let pending = state.pending.remove(at);
        let span = state.begins_at.since(self.now);
        self.client_wakes_in(client, span);
        Some(pending)
    }

    fn finish(&mut self, client: usize, number: u64, reply: &Reply<'_>) {
        let Some(pending) = self.take(client, number) else { return };
        if matches!(reply, Reply::DataLost { .. }) {
            // S5: an earlier message of it may have been executed, before everything was lost.
            self.coverage.data_lost += 1;
            return self.leave_open(&pending);
        }
        let action = match self.action_of(&pending, reply) {
            Ok(action) => action,
            Err(why) => return self.require(Err(why)),
        };
        let Some(action) = action else { return };
        let known = match action {
            Action::Get(value) => Some(value),
            Action::Put(value) | Action::PutIfAbsent(value, Some(true)) => Some(Some(value)),
            Action::Cas(_, value, Some(true)) => Some(Some(value)),
            Action::Delete(_) => Some(None),
            _ => None,
        };
        if let Some(known) = known {
            self.clients[client].known.insert(pending.key, known);
        }
        if let Action::Incr(delta, _) = action {
            self.history.sums.entry(pending.key).or_default().0 += delta;
        }
        self.counters.acks += 1;
        let stamp = self.history.stamp(self.now);
        self.record(&pending, Some(stamp), action);
    }

    /// What an answer says; nothing if it is a refusal.
    fn action_of(&self, pending: &Pending, reply: &Reply<'_>) -> Result<Option<Action>, String> {
        let is_counter = self.settings.is_counter(pending.key);
        Ok(Some(match (&pending.wish, reply) {
            (Wish::Get, Reply::Value(bytes)) => {
                let text = || std::str::from_utf8(bytes).ok()?.parse().ok();
                let value = if is_counter { text() } else { value_number(bytes) };
                Action::Get(Some(value.ok_or_else(|| format!("a damaged value: {bytes:?}"))?))
            }
            (Wish::Get, Reply::Absent) => Action::Get(None),
            (Wish::Put { value, if_absent: true, .. }, Reply::Done) => {
                Action::PutIfAbsent(*value, Some(true))
            }
            (Wish::Put { value, if_absent: true, .. }, Reply::Exists) => {
                Action::PutIfAbsent(*value, Some(false))
            }
            (Wish::Put { value, .. }, Reply::Done) => Action::Put(*value),
            (Wish::Delete, Reply::Done) => Action::Delete(Some(true)),
            (Wish::Delete, Reply::Absent) => Action::Delete(Some(false)),
            (Wish::Cas { expected, value, .. }, Reply::Done | Reply::Mismatch) => {
                let expected = expected.as_ref().map(|(value, _)| *value);
                Action::Cas(expected, *value, Some(*reply == Reply::Done))
            }
            (Wish::Incr { delta }, Reply::Number(sum)) => Action::Incr(*delta, Some(*sum as u64)),
            (_, Reply::Busy | Reply::NotEnoughReplicas { .. } | Reply::OutOfMemory) => {
                return Ok(None);
            }
            _ => return Err(format!("{reply:?} to {pending:?}")),
        }))
    }

    fn next_operation(&mut self, client: usize) {
        let think = Duration::from_micros(self.rng.below(self.settings.think_ms * 2000));
        self.clients[client].begins_at = self.now + think;
        self.client_wakes_in(client, think);
    }

    fn record(&mut self, pending: &Pending, answered: Option<u64>, action: Action) {
        self.mark(format!("{action:?}").as_bytes());
        let now_ms = self.now.0 / 1_000_000;
        let called_ms = pending.called_at.0 / 1_000_000;
        let is_counter = self.settings.is_counter(pending.key);
        if let (Action::Get(Some(value)), false) = (action, is_counter) {
            let over = self.history.over_at_ms.get(&value);
            if let Some(over) = over.filter(|over| **over <= called_ms) {
                let why = format!("{value} was read at {called_ms} ms and ends at {over} ms");
                self.require(Err(why));
            }
        }
        let history = &mut self.history.keys[pending.key as usize];
        history.push(Operation { called: pending.called, answered, action });
        if let Wish::Put { value, ttl_ms: ttl_ms @ 1.., .. } = pending.wish {
            let ends = Nanos::from_millis(called_ms + ttl_ms);
            let expiry = Action::Expire(value);
            history.push(Operation { called: stamp_at(ends), answered: None, action: expiry });
            if answered.is_some() {
                self.history.over_at_ms.insert(value, now_ms + ttl_ms);
            }
        }
    }

    /// The history of every key must have an order.
    pub fn check_history(&mut self) {
        let keys = std::mem::take(&mut self.history.keys);
        for (key, history) in keys.iter().enumerate() {
            match linear::check(history) {
                Verdict::Linearizable => {}
                Verdict::Unresolved => self.counters.unresolved += 1,
                Verdict::Violation => {
                    let lines: Vec<String> = history.iter().map(|o| format!("{o:?}")).collect();
                    let why = format!("key {key} is not linearizable:\n{}", lines.join("\n"));
                    self.require(Err(why));
                }
            }
            self.check_sum(key as u64, history);
        }
    }

    /// What a counter shows at the end is what was added to it, each time once.
    fn check_sum(&mut self, key: u64, history: &[Operation]) {
        let last = history.iter().rev().find_map(|operation| match operation.action {
            Action::Get(value) => Some(value.unwrap_or(0)),
            _ => None,
        });
        let (Some((sure, maybe)), Some(last)) = (self.history.sums.get(&key), last) else { return };
        // Of what is lost there is no last value.
        let pid = self.hasher.partition(&key_bytes(key));
        let is_lost = self.truth.parts[pid.0 as usize].state == PartState::Lost;
        if !is_lost && !(*sure..=sure + maybe).contains(&last) {
            let why = format!("counter {key} is {last}, was raised by {sure} and maybe {maybe}");
            self.require(Err(why));
        }
    }
}
