//! Brings a batch of operations to its end: routes, waits, follows redirects, tries again, and says
//! so when a write's fate is unknown.
//!
//! Writes bear numbers of the handle's sessions, which its threads share: so one that was sent and
//! not answered is sent again until its deadline, and executed once. A write that finds its session
//! being opened, or its window full, is *parked*: it goes on when one of this batch ends, or, if
//! another thread holds it up, a little later. Those of one partition keep their order.
//!
//! The same loop serves a node of this process and a client of other processes; they differ in
//! their [`Transport`].

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use parking_lot::Mutex;

use super::interrupt::{SLICE, poll_interrupt};
use crate::base::{Error, MemberId, Nanos, PartitionId, Result, Rng, Status, Ver};
use crate::net::sys;
use crate::proto::ClientSessions;
use crate::proto::router::{Attempt, Next, Stamp};
use crate::wire::{Op, Reply};

/// Operations of one batch that are under way at the same time.
const WINDOW: usize = 2048;

/// Locks over the sessions of one handle, so that its threads rarely meet.
const SESSION_LOCKS: usize = 64;
/// How soon a parked operation looks again although nothing of its batch has ended.
const PARKED_FOR: Duration = Duration::from_micros(500);
/// How soon somebody without a ring looks whether there is one.
const NO_RING_FOR: Duration = Duration::from_millis(10);

/// The sessions of one handle.
pub(super) struct Sessions([Shelf; SESSION_LOCKS]);

/// The sessions under one lock. A cache line for each: two threads that take two locks would
/// otherwise wait for each other.
#[derive(Default)]
#[repr(align(64))]
struct Shelf(Mutex<ClientSessions>);

impl Default for Sessions {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Shelf::default()))
    }
}

impl Sessions {
    fn at(&self, pid: PartitionId) -> &Mutex<ClientSessions> {
        &self.0[pid.0 as usize % SESSION_LOCKS].0
    }

    /// Gives back the number that an attempt has no more use for, if there is one.
    fn settle(&self, attempt: &mut Attempt) {
        if let Some((ticket, end)) = attempt.take_spent() {
            self.at(ticket.pid).lock().end(ticket, end);
        }
    }
}

/// What happened to an operation that was handed to a transport.
pub(super) enum Event<'a> {
    /// The answer.
    Reply(&'a Reply<'a>),
    /// No answer will come. `sent`: the operation may have reached the one who executes it.
    Lost {
        /// Whether it may have left this process (or this thread).
        sent: bool,
    },
}

/// How operations travel.
pub(super) trait Transport {
    /// The clock of deadlines.
    fn now(&self) -> Nanos;

    /// Takes an operation, to be answered under the number `tag`: by an event of a later `wait`.
    /// `hint` is whom a refusal named. Returns the version of the map it was routed by.
    fn submit(&mut self, tag: usize, op: &Op<'_>, stamp: Stamp, hint: Option<MemberId>) -> Ver;

    /// The partition that an operation is about; `None` if there is no ring to ask.
    fn partition(&mut self, op: &Op<'_>) -> Option<PartitionId>;

    /// Sends what was submitted and reports what came, waiting until `until` at the latest.
    fn wait(&mut self, until: Nanos, report: &mut dyn FnMut(usize, Event<'_>)) -> Result<()>;

    /// Somebody knows a newer map than this transport: get it, soon.
    fn refresh(&mut self, until: Nanos);

    /// Forget what is under way: nobody waits for it any more.
    fn abandon(&mut self);
}

#[derive(Clone, Copy)]
enum State {
    /// Not yet, or no longer, under way.
    Waiting,
    UnderWay {
        map_ver: Ver,
    },
    Done,
}

struct Pending {
    attempt: Attempt,
    state: State,
}

/// An operation that is submitted again, not before the moment.
struct Later {
    at: Nanos,
    tag: usize,
    hint: Option<MemberId>,
}

/// Drives `ops` until each is answered or `until` has passed. `done` is called exactly once for
/// each operation, with its index. An `Err` of the whole means that the handle is closed or the
/// call was interrupted; `done` was then not called for the rest. `sessions` are those of the
/// handle that the transport belongs to.
pub(super) fn drive(
    transport: &mut dyn Transport,
    sessions: &Sessions,
    ops: &[Op<'_>],
    until: Nanos,
    rng: &mut Rng,
    done: &mut dyn FnMut(usize, Result<&Reply<'_>>),
) -> Result<()> {
    let mut batch = Batch::new(sessions, ops, until);
    let result = batch.run(transport, rng, done);
    transport.abandon();
    batch.give_up();
    result?;
    batch.report_overdue(done);
    Ok(())
}

/// A batch of operations on its way.
///
/// - At most `WINDOW` operations are `UnderWay` at the same time.
/// - An operation is `Waiting` exactly if its tag is in `fresh`, in `later` or in `parked`.
/// - No queue of `parked` is empty; `parked_count` is the length of all together.
struct Batch<'o> {
    sessions: &'o Sessions,
    ops: &'o [Op<'o>],
    pending: Vec<Pending>,
    until: Nanos,
    /// Operations that were never submitted: from this tag on.
    fresh: usize,
    later: Vec<Later>,
    /// Operations that wait for a number of their session, in order.
    parked: BTreeMap<PartitionId, VecDeque<usize>>,
    parked_count: usize,
    under_way: usize,
    left: usize,
}

impl<'o> Batch<'o> {
    fn new(sessions: &'o Sessions, ops: &'o [Op<'o>], until: Nanos) -> Self {
        let start = |op| Pending { attempt: Attempt::new(op), state: State::Waiting };
        Self {
            sessions,
            ops,
            pending: ops.iter().map(start).collect(),
            until,
            fresh: 0,
            later: Vec::new(),
            parked: BTreeMap::new(),
            parked_count: 0,
            under_way: 0,
            left: ops.len(),
        }
    }

    fn run(
        &mut self,
        transport: &mut dyn Transport,
        rng: &mut Rng,
        done: &mut dyn FnMut(usize, Result<&Reply<'_>>),
    ) -> Result<()> {
        while self.left > 0 {
            let now = transport.now();
            if now >= self.until {
                return Ok(());
            }
            self.submit_due(transport, now);
            let wake_at = self.later.iter().map(|later| later.at).min().unwrap_or(self.until);
            let look_at = if self.parked.is_empty() { self.until } else { now + PARKED_FOR };
            let slice = wake_at.min(look_at).min(self.until).min(now + SLICE);
            let mut refresh = false;
            transport.wait(slice, &mut |tag, event| {
                refresh |= self.settle(tag, event, now, rng, done);
            })?;
            poll_interrupt()?;
            if refresh {
                transport.refresh(self.until);
            }
        }
        Ok(())
    }

    /// Submits what is due, as far as the window allows; what was refused before goes first.
    fn submit_due(&mut self, transport: &mut dyn Transport, now: Nanos) {
        let mut due: Vec<Later> = Vec::new();
        self.later.retain_mut(|later| {
            let is_due = later.at <= now;
            if is_due {
                due.push(Later { ..*later });
            }
            !is_due
        });
        for Later { tag, hint, .. } in due {
            self.submit_or_park(transport, tag, hint, now);
        }
        self.submit_parked(transport);
        // In halves: a trickle of single operations would travel in single messages.
        if self.under_way > WINDOW / 2 {
            return;
        }
        while self.under_way + self.parked_count < WINDOW && self.fresh < self.ops.len() {
            self.fresh += 1;
            self.submit_or_park(transport, self.fresh - 1, None, now);
        }
    }

    /// Submits an operation if it has what it needs, and nobody of its partition is before it.
    fn submit_or_park(
        &mut self,
        transport: &mut dyn Transport,
        tag: usize,
        hint: Option<MemberId>,
        now: Nanos,
    ) {
        let (Some(op), Some(item)) = (self.ops.get(tag), self.pending.get_mut(tag)) else { return };
        if !item.attempt.needs_ticket() {
            return self.submit(transport, tag, hint);
        }
        let Some(pid) = transport.partition(op) else {
            return self.later.push(Later { at: now + NO_RING_FOR, tag, hint });
        };
        if !self.parked.contains_key(&pid) && self.number(pid, tag) {
            return self.submit(transport, tag, hint);
        }
        self.parked.entry(pid).or_default().push_back(tag);
        self.parked_count += 1;
    }

    /// Submits the parked operations for which there are numbers now.
    fn submit_parked(&mut self, transport: &mut dyn Transport) {
        for (pid, mut tags) in std::mem::take(&mut self.parked) {
            while let Some(tag) = tags.front().copied().filter(|tag| self.number(pid, *tag)) {
                tags.pop_front();
                self.parked_count -= 1;
                self.submit(transport, tag, None);
            }
            if !tags.is_empty() {
                self.parked.insert(pid, tags);
            }
        }
    }

    /// Gives an operation a number of its session, if there is one now.
    fn number(&mut self, pid: PartitionId, tag: usize) -> bool {
        let Some(item) = self.pending.get_mut(tag) else { return false };
        let ticket = self.sessions.at(pid).lock().begin(pid, sys::random_u128);
        ticket.map(|ticket| item.attempt.set_ticket(ticket)).is_some()
    }

    fn submit(&mut self, transport: &mut dyn Transport, tag: usize, hint: Option<MemberId>) {
        let (Some(op), Some(item)) = (self.ops.get(tag), self.pending.get_mut(tag)) else { return };
        let stamp = item.attempt.send();
        item.state = State::UnderWay { map_ver: transport.submit(tag, op, stamp, hint) };
        self.under_way += 1;
    }

    /// Handles one event of an operation. Whether a newer map is needed.
    fn settle(
        &mut self,
        tag: usize,
        event: Event<'_>,
        now: Nanos,
        rng: &mut Rng,
        done: &mut dyn FnMut(usize, Result<&Reply<'_>>),
    ) -> bool {
        let Some(item) = self.pending.get_mut(tag) else { return false };
        let State::UnderWay { map_ver } = item.state else { return false };
        self.under_way -= 1;
        let (next, reply) = match &event {
            Event::Reply(reply) => (item.attempt.on_reply(reply, map_ver, now, rng), Some(*reply)),
            Event::Lost { sent } => (item.attempt.on_lost(*sent, now, rng), None),
        };
        self.sessions.settle(&mut item.attempt);
        match (next, reply) {
            (Next::Again { at, hint, refresh }, _) => {
                item.state = State::Waiting;
                self.later.push(Later { at, tag, hint });
                return refresh;
            }
            (Next::Done, Some(reply)) => done(tag, Ok(reply)),
            _ => done(tag, Err(fate_unknown())),
        }
        item.state = State::Done;
        self.left -= 1;
        false
    }

    /// Nobody waits any more: what is not done gives its number back.
    fn give_up(&mut self) {
        for item in self.pending.iter_mut().filter(|item| !matches!(item.state, State::Done)) {
            item.attempt.give_up();
            self.sessions.settle(&mut item.attempt);
        }
    }

    fn report_overdue(&self, done: &mut dyn FnMut(usize, Result<&Reply<'_>>)) {
        for (tag, (op, item)) in self.ops.iter().zip(&self.pending).enumerate() {
            if !matches!(item.state, State::Done) {
                done(tag, Err(overdue(op, item)));
            }
        }
    }
}

/// What to say of a write that was sent again to a ring that does not know its session any more.
fn fate_unknown() -> Error {
    Error::new(
        Status::ConnectionLost,
        "the write was sent and not answered, and the ring has nothing on record of it: \
         it may or may not have taken effect",
    )
}

/// Why an operation is not done at its deadline. What was refused every time was not executed;
/// a message that nobody has answered may have been.
fn overdue(op: &Op<'_>, item: &Pending) -> Error {
    let under_way = matches!(item.state, State::UnderWay { .. });
    match (under_way || item.attempt.may_be_executed(), op.is_mutation()) {
        (true, _) => Status::Timeout.into(),
        (false, true) => Error::new(
            Status::Unavailable,
            "no node that could execute the write can be reached; it was not executed",
        ),
        (false, false) => {
            Error::new(Status::Unavailable, "no node that could answer can be reached")
        }
    }
}

/// What the answer to `op` means as an error; `None` if it is a proper answer.
pub(super) fn refusal(reply: &Reply<'_>) -> Option<Error> {
    Some(match reply {
        Reply::Busy => Error::new(Status::Busy, "too many operations wait; it was not executed"),
        Reply::NotEnoughReplicas { have, need } => Error::new(
            Status::NotEnoughReplicas,
            format!("the key has {have} in-sync copies and a write needs {need}; not executed"),
        ),
        Reply::DataLost { .. } => Error::new(
            Status::DataLost,
            "every copy of the key's partition is lost; `ringkv reset` lets it start again, empty",
        ),
        Reply::ValueTooLarge { limit } => Error::new(
            Status::ValueTooLarge,
            format!("the value is longer than the ring's limit of {limit} bytes"),
        ),
        Reply::OutOfMemory => Status::OutOfMemory.into(),
        _ => return None,
    })
}
