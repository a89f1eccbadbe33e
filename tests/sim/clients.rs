//! Clients: one operation at a time each, through the router core, and the history of every key.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use ringkv::base::{MemberId, Nanos, Ver};
use ringkv::proto::router::{Attempt, Next, primary_of};
use ringkv::ring::RingMap;
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
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// To be sent, to that member if one was named.
    Due { hint: Option<MemberId> },
    /// Sent.
    UnderWay { id: u64, to: MemberId, map_ver: Ver },
}

#[derive(Debug)]
struct Pending {
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
    pending: Option<Pending>,
    issued: u64,
    ids: u64,
    /// The wake that counts; older ones are ignored.
    token: u64,
    /// Keys to read at the end.
    script: VecDeque<u64>,
}

impl Client {
    /// A client that has not done anything yet.
    pub fn new() -> Self {
        Self { map: None, pending: None, issued: 0, ids: 0, token: 0, script: VecDeque::new() }
    }

    /// Whether it waits for nothing and has nothing left to do.
    pub fn is_idle(&self) -> bool {
        self.pending.is_none() && self.script.is_empty()
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
        }
    }
}

impl World {
    /// Lets a client look at its state after a span.
    pub fn client_wakes_in(&mut self, client: usize, span: Duration) {
        let state = &mut self.clients[client];
        state.token += 1;
        let token = state.token;
        self.after(span, Event::Wake { client, token });
    }

    /// A client's time has come: to begin, to send again, or to give up.
    pub fn client_wakes(&mut self, client: usize, token: u64) {
        let state = &self.clients[client];
        if state.token != token {
            return;
        }
        match &state.pending {
            None => self.begin_operation(client),
            Some(pending) if self.now >= pending.deadline => self.give_up(client),
            Some(pending) => match pending.state {
                State::Due { hint } => self.send_request(client, hint),
                State::UnderWay { .. } => {}
            },
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
        let scripted = self.clients[client].script.front().copied();
        let Some(key) = scripted.or_else(|| self.next_key(client)) else { return };
        let wish = match scripted {
            Some(_) => Wish::Get,
            None => self.next_wish(),
        };
        let cost = 1 + usize::from(matches!(wish, Wish::Put { ttl_ms: 1.., .. }));
        let left = &mut self.history.left[key as usize];
        if scripted.is_none() {
            if *left < cost {
                let think = Duration::from_millis(self.settings.think_ms);
                return self.client_wakes_in(client, think);
            }
            *left -= cost;
        }
        let timeout = match self.phase {
            Phase::Verify => LAST_READ_MS_MAX,
            _ => self.settings.operation_timeout_ms,
        };
        let mut pending = Pending {
            key,
            wish,
            attempt: Attempt::new(&Op::Get { key: b"" }),
            called: self.history.stamp(self.now),
            called_at: self.now,
            deadline: self.now + Duration::from_millis(timeout),
            state: State::Due { hint: None },
        };
        pending.attempt = Attempt::new(&pending.op(b"k"));
        self.clients[client].pending = Some(pending);
        self.counters.operations += 1;
        self.send_request(client, None);
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

    fn next_wish(&mut self) -> Wish {
        let settings = &self.settings;
        if self.rng.chance(settings.reads_permille) {
            return Wish::Get;
        }
        if self.rng.chance(settings.deletes_permille) {
            return Wish::Delete;
        }
        self.history.values += 1;
        let value = self.history.values;
        let expires = self.rng.chance(settings.ttl_permille);
        Wish::Put {
            value,
            bytes: value_bytes(value, settings.value_bytes),
            ttl_ms: if expires { self.rng.range(1, 1_500) } else { 0 },
            if_absent: self.rng.chance(settings.if_absent_permille),
        }
    }

    fn send_request(&mut self, client: usize, hint: Option<MemberId>) {
        let Some(to) = self.choose_node(client, hint) else { return self.lost(client, false) };
        let redirect = self.rng.chance(150);
        let state = &mut self.clients[client];
        state.ids += 1;
        let id = state.ids;
        let map_ver = state.map.as_ref().map_or(Ver::ZERO, |map| map.ver);
        let Some(pending) = &mut state.pending else { return };
        pending.state = State::UnderWay { id, to, map_ver };
        let deadline = pending.deadline;
        let key = key_bytes(pending.key);
        let request = Request { redirect, ..Request::new(map_ver, pending.op(&key)) };
        let mut bytes = Vec::new();
        ClientMsg::Request { id, request }.encode(&mut bytes);
        let link = Link::new(Endpoint::Node(to), Endpoint::Client(client), Kind::Client);
        if self.network.in_flight(link, Endpoint::Client(client)).is_none() {
            return self.lost(client, false);
        }
        self.send(Endpoint::Client(client), Endpoint::Node(to), Kind::Client, bytes);
        self.client_wakes_in(client, deadline.since(self.now));
    }

    /// The member that a request goes to: whom the answer named, whom the map names, or anybody.
    fn choose_node(&mut self, client: usize, hint: Option<MemberId>) -> Option<MemberId> {
        let anybody = self.rng.below(self.nodes.len() as u64) as usize;
        let anybody = self.nodes.keys().nth(anybody).copied();
        if self.rng.chance(self.settings.misroute_permille) {
            return anybody;
        }
        let state = &self.clients[client];
        let pending = state.pending.as_ref()?;
        let key = key_bytes(pending.key);
        let by_map = || primary_of(state.map.as_ref()?, &pending.op(&key));
        let known = hint.or_else(by_map).filter(|mid| self.nodes.contains_key(mid));
        known.or(anybody)
    }

    /// A connection of a client broke, or its member ended.
    pub fn client_lost(&mut self, client: usize, mid: MemberId) {
        let pending = self.clients[client].pending.as_ref();
        let concerned =
            |pending: &Pending| matches!(pending.state, State::UnderWay { to, .. } if to == mid);
        if pending.is_some_and(concerned) {
            self.lost(client, true);
        }
    }

    fn lost(&mut self, client: usize, sent: bool) {
        let Some(pending) = &mut self.clients[client].pending else { return };
        let next = pending.attempt.on_lost(sent, self.now, &mut self.rng);
        self.follow(client, next, None);
    }

    /// Bytes arrive at a client.
    pub fn client_hears(&mut self, client: usize, bytes: &[u8]) {
        match ServerMsg::decode(bytes) {
            Ok(ServerMsg::Reply { id, reply }) => {
                self.note(|_| {
                    let text = format!("client {client} hears {id} {reply:?}");
                    text.chars().take(200).collect()
                });
                let Some(pending) = &mut self.clients[client].pending else { return };
                match pending.state {
                    State::UnderWay { id: mine, map_ver, .. } if mine == id => {
                        let attempt = &mut pending.attempt;
                        let next = attempt.on_reply(&reply, map_ver, self.now, &mut self.rng);
                        self.follow(client, next, Some(&reply));
                    }
                    // The answer of an operation that was given up.
                    _ => {}
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

    fn follow(&mut self, client: usize, next: Next, reply: Option<&Reply<'_>>) {
        match (next, reply) {
            (Next::Again { at, hint, refresh }, _) => {
                if refresh {
                    self.ask_for_map(client);
                }
                let Some(pending) = &mut self.clients[client].pending else { return };
                pending.state = State::Due { hint };
                let span = at.since(self.now);
                self.client_wakes_in(client, span);
            }
            (Next::Unknown, reply) => {
                if self.settings.quiet && reply.is_some() {
                    return self.require(Err("a planned change made a write unknown".into()));
                }
                self.give_up(client);
            }
            (Next::Done, Some(reply)) => self.finish(client, reply),
            (Next::Done, None) => self.require(Err("done without an answer".into())),
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

    /// The run ends although operations are under way.
    pub fn leave_open(&mut self) {
        for client in 0..self.clients.len() {
            self.give_up(client);
        }
    }

    /// The operation has no answer. A write that was refused each time it was sent did not happen.
    fn give_up(&mut self, client: usize) {
        let Some(pending) = self.clients[client].pending.take() else { return };
        if self.phase == Phase::Verify {
            return self.require(Err(format!("I14: the last read does not end: {pending:?}")));
        }
        if matches!(pending.state, State::UnderWay { .. }) {
            let action = match pending.wish {
                Wish::Get => None,
                Wish::Put { value, if_absent: true, .. } => Some(Action::PutIfAbsent(value, None)),
                Wish::Put { value, .. } => Some(Action::Put(value)),
                Wish::Delete => Some(Action::Delete(None)),
            };
            if let Some(action) = action {
                self.counters.unknown += 1;
                self.record(&pending, None, action);
            }
        }
        self.next_operation(client);
    }

    fn finish(&mut self, client: usize, reply: &Reply<'_>) {
        let Some(pending) = self.clients[client].pending.take() else { return };
        let action = match (&pending.wish, reply) {
            (Wish::Get, Reply::Value(bytes)) => match value_number(bytes) {
                Some(value) => Some(Action::Get(Some(value))),
                None => return self.require(Err(format!("a damaged value: {bytes:?}"))),
            },
            (Wish::Get, Reply::Absent) => Some(Action::Get(None)),
            (Wish::Put { value, if_absent: true, .. }, Reply::Done) => {
                Some(Action::PutIfAbsent(*value, Some(true)))
            }
            (Wish::Put { value, if_absent: true, .. }, Reply::Exists) => {
                Some(Action::PutIfAbsent(*value, Some(false)))
            }
            (Wish::Put { value, .. }, Reply::Done) => Some(Action::Put(*value)),
            (Wish::Delete, Reply::Done) => Some(Action::Delete(Some(true))),
            (Wish::Delete, Reply::Absent) => Some(Action::Delete(Some(false))),
            (_, Reply::Busy | Reply::NotEnoughReplicas { .. } | Reply::OutOfMemory) => None,
            _ => return self.require(Err(format!("{reply:?} to {pending:?}"))),
        };
        self.clients[client].script.pop_front();
        if let Some(action) = action {
            self.counters.acks += 1;
            let stamp = self.history.stamp(self.now);
            self.record(&pending, Some(stamp), action);
        }
        self.next_operation(client);
    }

    fn next_operation(&mut self, client: usize) {
        let think = Duration::from_micros(self.rng.below(self.settings.think_ms * 2000));
        self.client_wakes_in(client, think);
    }

    fn record(&mut self, pending: &Pending, answered: Option<u64>, action: Action) {
        self.mark(format!("{action:?}").as_bytes());
        let now_ms = self.now.0 / 1_000_000;
        let called_ms = pending.called_at.0 / 1_000_000;
        if let Action::Get(Some(value)) = action {
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
        }
    }
}
