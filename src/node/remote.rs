//! A ring in other processes, seen by a client.
//!
//! A [`Client`] holds the newest ring map it has seen and a few idle [`Lane`]s. A call takes a
//! lane out, does its own input and output with it on the calling thread, and puts it back; so
//! calls of several threads run side by side and no thread of ours stands between a caller and the
//! key's primary. The map is fetched when an answer shows that it is old, by one thread for all.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex, RwLock};

use super::ask::{Asker, unexpected};
use super::config::{ClientConfig, Lookup};
use super::drive::Sessions;
use super::lane::{Lane, Session};
use crate::base::limits::CONNECT_TIMEOUT_MS;
use crate::base::{ClusterId, Error, MemberId, Nanos, Result, Status, Ver};
use crate::net::Address;
use crate::net::sys::boottime;
use crate::ring::{MemberState, RingMap};
use crate::wire::{ClientMsg, ServerMsg};

/// Lanes that are kept for the next call.
const IDLE_LANES_MAX: usize = 64;
/// How long one member is waited for when the map is wanted, before the next one is asked.
const MAP_PATIENCE: Duration = Duration::from_millis(150);
/// A member that could not be asked is left out for this long.
const SHUNNED_FOR: Duration = Duration::from_millis(500);

/// A connection to a ring. Clones share it; the last one to go closes it.
#[derive(Clone)]
pub(super) struct Client(Arc<Inner>);

/// What the calls of all threads share.
pub(super) struct Inner {
    seeds: Vec<String>,
    cluster: ClusterId,
    /// The member that answered first: the one that a client "knows" in the lookup modes that
    /// begin somewhere.
    contact: MemberId,
    timeout: Duration,
    map: RwLock<Arc<RingMap>>,
    idle: Mutex<Vec<Lane>>,
    closed: AtomicBool,
    /// Those who wait for nothing but time wait here, so that closing wakes them.
    resting: (Mutex<()>, Condvar),
    scout: Mutex<Scout>,
    sessions: Arc<Sessions>,
}

/// Who fetches maps.
struct Scout {
    asker: Asker,
    turn: usize,
    shunned: Vec<(String, Nanos)>,
}

impl Client {
    /// Contacts the seeds (one address, or several with commas) in turn, and gets the map from
    /// the first that has one. The error names every address that was tried.
    pub(super) fn connect(seeds: &str, config: ClientConfig) -> Result<Client> {
        let seeds = parse_seeds(seeds)?;
        let until = boottime() + config.timeout;
        let mut asker = Asker::new();
        let mut errors: Vec<Error> = Vec::new();
        for seed in &seeds {
            match first_contact(&mut asker, seed, until) {
                Ok((contact, map)) => {
                    let inner = Inner {
                        cluster: map.cluster,
                        contact,
                        timeout: config.timeout,
                        map: RwLock::new(Arc::new(map)),
                        idle: Mutex::new(Vec::new()),
                        closed: AtomicBool::new(false),
                        resting: Default::default(),
                        scout: Mutex::new(Scout { asker, turn: 0, shunned: Vec::new() }),
                        sessions: Arc::default(),
                        seeds,
                    };
                    return Ok(Client(Arc::new(inner)));
                }
                Err(error) if error.status() == Status::Aborted => return Err(error),
                Err(error) => errors.push(error),
            }
        }
        Err(nobody_answers(&errors))
    }

    /// Ends the blocked calls of other threads with `Closed`, and every later one.
    pub(super) fn close(&self) {
        self.0.closed.store(true, Ordering::SeqCst);
        drop(self.0.resting.0.lock());
        self.0.resting.1.notify_all();
        self.0.idle.lock().clear();
    }

    /// `Err(Closed)` after `close`.
    pub(super) fn check_open(&self) -> Result<()> {
        self.0.check_open()
    }

    /// The first seed.
    pub(super) fn address(&self) -> String {
        self.0.seeds.first().cloned().unwrap_or_default()
    }

    /// Deadline of the calls that do not name one.
    pub(super) fn timeout(&self) -> Duration {
        self.0.timeout
    }

    /// The newest map that was seen.
    pub(super) fn map(&self) -> Arc<RingMap> {
        Arc::clone(&self.0.map.read())
    }

    /// The member that lookups begin with if they do not go straight to the primary.
    pub(super) fn contact(&self) -> MemberId {
        self.0.contact_in(&self.0.map.read())
    }

    /// Takes over a map that somebody else fetched.
    pub(super) fn offer(&self, map: &Arc<RingMap>) {
        self.0.adopt(Arc::clone(map));
    }

    /// What a call drives its operations with, until the moment at the latest.
    pub(super) fn session(&self, lookup: Lookup, until: Nanos) -> Result<Session<'_>> {
        self.check_open()?;
        let lane = self.0.idle.lock().pop().unwrap_or_else(Lane::new);
        Ok(Session::new(&self.0, lane, lookup, until))
    }
}

impl Inner {
    pub(super) fn check_open(&self) -> Result<()> {
        match self.closed.load(Ordering::SeqCst) {
            true => Err(Status::Closed.into()),
            false => Ok(()),
        }
    }

    pub(super) fn map(&self) -> Arc<RingMap> {
        Arc::clone(&self.map.read())
    }

    /// The sessions of all threads.
    pub(super) fn sessions(&self) -> Arc<Sessions> {
        Arc::clone(&self.sessions)
    }

    /// Which ring.
    pub(super) fn cluster(&self) -> ClusterId {
        self.cluster
    }

    /// The first member that was met, or whoever is up if it is gone.
    pub(super) fn contact_in(&self, map: &RingMap) -> MemberId {
        if map.members.get(&self.contact).is_some_and(|m| m.state != MemberState::Down) {
            return self.contact;
        }
        let mut up = map.members.iter().filter(|(_, m)| m.state == MemberState::Up);
        up.next().map_or(self.contact, |(mid, _)| *mid)
    }

    pub(super) fn give_back(&self, lane: Lane) {
        let mut idle = self.idle.lock();
        if idle.len() < IDLE_LANES_MAX && self.check_open().is_ok() {
            idle.push(lane);
        }
    }

    /// Lets `span` pass, or less if the client is closed.
    pub(super) fn rest(&self, span: Duration) {
        let mut guard = self.resting.0.lock();
        if self.check_open().is_ok() {
            self.resting.1.wait_for(&mut guard, span);
        }
    }

    /// Gets a map newer than `have`, if there is one and somebody can be asked before `until`.
    /// Several threads that want one wait for the first of them.
    pub(super) fn refresh(&self, have: Ver, until: Nanos) {
        let until = until.min(boottime() + 4 * MAP_PATIENCE);
        let Some(mut scout) = self.scout.try_lock_for(until.since(boottime())) else { return };
        if self.map.read().ver > have {
            return;
        }
        for address in scout.candidates(&self.map(), &self.seeds) {
            let now = boottime();
            if now >= until || self.check_open().is_err() {
                return;
            }
            match self.fetch(&mut scout.asker, &address, have, until.min(now + MAP_PATIENCE)) {
                Ok(Some(map)) => return self.adopt(Arc::new(map)),
                // It answers, so it is worth waiting for the next occasion.
                Ok(None) => return,
                Err(_) => scout.shunned.push((address, now + SHUNNED_FOR)),
            }
        }
    }

    fn fetch(
        &self,
        asker: &mut Asker,
        address: &str,
        have: Ver,
        until: Nanos,
    ) -> Result<Option<RingMap>> {
        let wanted = |id| ClientMsg::MapWanted { id, have };
        let answer = asker.ask(address, wanted, until, &|| self.check_open())?;
        match answer.message()? {
            ServerMsg::Map { map, .. } => Ok(map.map(|map| *map)),
            _ => Err(unexpected(address)),
        }
    }

    /// Maps of other rings are not ours, however they came: an address may be used again.
    fn adopt(&self, map: Arc<RingMap>) {
        let mut ours = self.map.write();
        let newer = (map.generation, map.ver) > (ours.generation, ours.ver);
        if map.cluster == self.cluster && newer {
            *ours = map;
        }
    }
}

impl Scout {
    /// Whom to ask, in order: another member each time, because one that was dropped would answer
    /// for ever that it knows nothing newer. Seeds last.
    fn candidates(&mut self, map: &RingMap, seeds: &[String]) -> Vec<String> {
        let now = boottime();
        self.shunned.retain(|(_, until)| *until > now);
        self.turn = self.turn.wrapping_add(1);
        let up = map.members.values().filter(|m| m.state != MemberState::Down);
        let mut order: Vec<String> = up.map(|m| m.addr.clone()).collect();
        if !order.is_empty() {
            let turn = self.turn % order.len();
            order.rotate_left(turn);
        }
        let others = seeds.iter().filter(|seed| !order.contains(seed)).cloned();
        let others: Vec<String> = others.collect();
        order.extend(others);
        order.retain(|address| !self.shunned.iter().any(|(shunned, _)| shunned == address));
        order
    }
}

fn parse_seeds(seeds: &str) -> Result<Vec<String>> {
    let seeds = seeds.split(',').map(str::trim).filter(|seed| !seed.is_empty());
    let seeds: Vec<String> = seeds.map(str::to_owned).collect();
    if seeds.is_empty() {
        return Err(Error::new(
            Status::InvalidArgument,
            "no address to connect to; write host:port, or several with commas",
        ));
    }
    for seed in &seeds {
        Address::parse(seed)?;
    }
    Ok(seeds)
}

fn first_contact(asker: &mut Asker, seed: &str, until: Nanos) -> Result<(MemberId, RingMap)> {
    let until = until.min(boottime() + 2 * Duration::from_millis(CONNECT_TIMEOUT_MS));
    let greeting = asker.greet(seed, until, &|| Ok(()))?;
    if greeting.cluster == ClusterId::default() {
        let sentence = format!("the node at {seed} stands by: it belongs to no ring yet");
        return Err(Error::new(Status::Unavailable, sentence));
    }
    let wanted = |id| ClientMsg::MapWanted { id, have: Ver::ZERO };
    let answer = asker.ask(seed, wanted, until, &|| Ok(()))?;
    match answer.message()? {
        ServerMsg::Map { map: Some(map), .. } if map.cluster == greeting.cluster => {
            Ok((greeting.mid, *map))
        }
        _ => Err(unexpected(seed)),
    }
}

/// One error for all seeds: its status is that of the first, which a single seed has to itself.
fn nobody_answers(errors: &[Error]) -> Error {
    let status = errors.first().map_or(Status::Connect, Error::status);
    let status =
        if errors.iter().all(|error| error.status() == status) { status } else { Status::Connect };
    let sentences: Vec<&str> = errors.iter().map(Error::message).collect();
    Error::new(status, sentences.join("; "))
}

#[cfg(test)]
mod tests;
