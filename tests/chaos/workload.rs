//! The clients, and what they ask for.
//!
//! Keys come in *slots*: a slot has a partition of its own and one key at a time, which is replaced
//! by another of the same partition before its history gets too long to be checked. So the gap that
//! a crash makes is seen on a partition that is in use all the time. Each slot has a writer and a
//! reader of its own, so that an operation that waits on one partition holds up nobody elsewhere;
//! the other clients roam over all slots with all kinds of operations.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ringkv::Status;
use ringkv::base::{PartitionId, Rng};
use ringkv::net::sys::boottime;
use ringkv::ring::{Hasher, Params};

use crate::executor::{Answer, Contact, Executor, InProcess, Spawned, find_python};
use crate::history::{History, KeyId, Outcome, Record, Request};
use crate::janitor::Janitor;
use crate::linear::OPERATIONS_MAX;
use crate::settings::{Mode, Settings};

/// Operations on one key. The last read needs room, too.
const OPERATIONS_OF_A_KEY: u32 = OPERATIONS_MAX as u32 - 28;

/// The keys that are in use.
pub struct Slots {
    hasher: Hasher,
    slots: Vec<Mutex<Slot>>,
    keys: Mutex<BTreeMap<KeyId, Arc<str>>>,
}

struct Slot {
    partition: PartitionId,
    id: KeyId,
    key: Arc<str>,
    used: u32,
}

impl Slots {
    fn new(settings: &Settings, params: &Params) -> Slots {
        let hasher = Hasher::new(params.hash, params.seed, params.partitions);
        let mut rng = settings.rng(1);
        let mut partitions: Vec<PartitionId> = Vec::new();
        while partitions.len() < settings.slots {
            let drawn = PartitionId(rng.below(u64::from(params.partitions)) as u32);
            if !partitions.contains(&drawn) {
                partitions.push(drawn);
            }
        }
        let slot = |(slot, partition): (usize, PartitionId)| {
            let id = KeyId { slot, number: 0 };
            Mutex::new(Slot { partition, id, key: Arc::from(""), used: OPERATIONS_OF_A_KEY })
        };
        let slots = partitions.into_iter().enumerate().map(slot).collect();
        Slots { hasher, slots, keys: Mutex::default() }
    }

    pub fn count(&self) -> usize {
        self.slots.len()
    }

    /// The key of a slot, to be used for one operation.
    fn take(&self, slot: usize) -> (KeyId, Arc<str>) {
        let mut slot = self.slots[slot].lock().unwrap();
        if slot.used == OPERATIONS_OF_A_KEY {
            slot.used = 0;
            let name = |number| format!("s{}-{number}", slot.id.slot);
            let here = |number: &u64| self.hasher.partition(name(*number).as_bytes());
            let mut numbers = slot.id.number + 1..;
            let number = numbers.find(|number| here(number) == slot.partition);
            slot.id.number = number.expect("every partition has endless keys");
            slot.key = Arc::from(format!("s{}-{}", slot.id.slot, slot.id.number));
            self.keys.lock().unwrap().insert(slot.id, Arc::clone(&slot.key));
        }
        slot.used += 1;
        (slot.id, Arc::clone(&slot.key))
    }

    /// The key of a slot, to ask where it lives.
    pub fn key(&self, slot: usize) -> Arc<str> {
        Arc::clone(&self.slots[slot].lock().unwrap().key)
    }
}

/// Clients at work, each on a thread of its own.
pub struct Workload {
    pub slots: Arc<Slots>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Vec<Record>>>,
    /// What kinds of clients there are, in words.
    pub kinds: String,
}

impl Workload {
    pub fn start(
        settings: &Settings,
        params: &Params,
        contact: &Contact,
        janitor: &Janitor,
    ) -> Workload {
        let slots = Arc::new(Slots::new(settings, params));
        let stop = Arc::new(AtomicBool::new(false));
        let mut workload = Workload { slots, stop, threads: Vec::new(), kinds: String::new() };
        // `make` builds the package after the short form ran, so what is there may be old.
        let python = (settings.mode != Mode::Short).then(find_python).flatten();
        let mut counts = [0; 3];
        for client in 0..settings.clients {
            let (kind, executor): (_, Box<dyn Executor>) = match (client % 3, &python) {
                (0, _) => (0, Box::new(InProcess(contact.ring()))),
                (2, Some(python)) => (2, Box::new(Spawned::python(python, contact, janitor))),
                _ => (1, Box::new(Spawned::c(contact, janitor))),
            };
            counts[kind] += 1;
            workload.spawn(settings, client, executor, None, Errand::Any);
        }
        for slot in 0..settings.slots {
            let ring = contact.ring();
            let (writer, reader) = (100 + 2 * slot, 101 + 2 * slot);
            let probe = Box::new(InProcess(ring.clone()));
            workload.spawn(settings, writer, probe, Some(slot), Errand::Write);
            let probe = Box::new(InProcess(ring));
            workload.spawn(settings, reader, probe, Some(slot), Errand::Read);
        }
        let without = if python.is_none() { " (no package to import: none in Python)" } else { "" };
        let [rust, c, in_python] = counts;
        let slots = settings.slots;
        workload.kinds = format!(
            "{rust} in Rust, {c} in C, {in_python} in Python{without}; {slots} writers and {slots} \
             readers"
        );
        workload
    }

    fn spawn(
        &mut self,
        settings: &Settings,
        client: usize,
        mut executor: Box<dyn Executor>,
        slot: Option<usize>,
        errand: Errand,
    ) {
        let (slots, stop) = (Arc::clone(&self.slots), Arc::clone(&self.stop));
        let mut rng = settings.rng(1000 + client as u64);
        let pace = settings.pace;
        let work = move || {
            let mut records = Vec::new();
            let mut value = (client as u64) << 32;
            // What it saw last in each slot.
            let mut seen: BTreeMap<usize, (KeyId, Option<u64>)> = BTreeMap::new();
            while !stop.load(Ordering::Relaxed) {
                let begun = Instant::now();
                value += 1;
                let slot = slot.unwrap_or_else(|| rng.below(slots.count() as u64) as usize);
                let (id, key) = slots.take(slot);
                let request = match id.is_counter() {
                    true => errand.on_counter(&mut rng),
                    false => {
                        let last = seen.get(&slot).filter(|(key, _)| *key == id);
                        errand.on_value(&mut rng, value, last.and_then(|(_, value)| *value))
                    }
                };
                let called = boottime().0;
                let Some(answer) = executor.execute(&key, request) else {
                    // What it was at may have been done: a status that no fault excuses says so.
                    let outcome = Outcome::Unknown(Status::Panic);
                    let answered = boottime().0;
                    records.push(Record { key: id, client, request, called, answered, outcome });
                    break;
                };
                let Answer { called, answered, outcome } = answer;
                records.push(Record { key: id, client, request, called, answered, outcome });
                let now = match (request, outcome) {
                    (_, Outcome::Read(value)) => Some(value),
                    (Request::Put(value), Outcome::Stored) => Some(Some(value)),
                    _ => None,
                };
                if let Some(value) = now {
                    seen.insert(slot, (id, value));
                }
                std::thread::sleep(pace.saturating_sub(begun.elapsed()).max(SMALLEST_PAUSE));
            }
            records
        };
        let name = format!("client-{client}");
        let thread = std::thread::Builder::new().name(name).spawn(work);
        self.threads.push(thread.expect("a thread can be started"));
    }

    /// Lets the clients end what they are at, and returns what all of them did.
    pub fn finish(mut self) -> History {
        self.stop.store(true, Ordering::Relaxed);
        let mut history = History::default();
        for thread in self.threads.drain(..) {
            history.records.extend(thread.join().expect("no client has panicked"));
        }
        history.records.sort_by_key(|record| record.answered);
        history.keys = std::mem::take(&mut self.slots.keys.lock().unwrap());
        history
    }
}

impl Drop for Workload {
    /// Also if the test has panicked: then nobody waits for the clients, but they end.
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// A client that is refused at once, again and again, must not take the machine from the nodes.
const SMALLEST_PAUSE: Duration = Duration::from_millis(1);

/// What a client is there for.
#[derive(Clone, Copy)]
enum Errand {
    Read,
    Write,
    /// Everything.
    Any,
}

impl Errand {
    /// `seen` is the value that the client saw last; it may be an old one.
    fn on_value(self, rng: &mut Rng, value: u64, seen: Option<u64>) -> Request {
        match (self, rng.below(100)) {
            (Errand::Read, _) | (Errand::Any, 0..35) => Request::Get,
            (Errand::Write, _) | (Errand::Any, 35..60) => Request::Put(value),
            (Errand::Any, 60..72) => Request::PutIfAbsent(value),
            (Errand::Any, 72..84) => Request::Cas(seen, value),
            (Errand::Any, _) => Request::Delete,
        }
    }

    fn on_counter(self, rng: &mut Rng) -> Request {
        match (self, rng.below(100)) {
            (Errand::Read, _) | (Errand::Any, 0..40) => Request::Get,
            _ => Request::Incr(rng.range(1, 3)),
        }
    }
}
