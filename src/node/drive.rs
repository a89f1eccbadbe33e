//! Brings a batch of operations to its end: routes, waits, follows redirects, tries again what was
//! provably not executed, and says so when a write's fate is unknown.
//!
//! The same loop serves a node of this process and a client of other processes; they differ in
//! their [`Transport`].

use super::interrupt::{SLICE, poll_interrupt};
use crate::base::{Error, MemberId, Nanos, Result, Rng, Status, Ver};
use crate::proto::router::{Attempt, Next};
use crate::wire::{Op, Reply};

/// Operations of one batch that are under way at the same time.
const WINDOW: usize = 2048;

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
    fn submit(&mut self, tag: usize, op: &Op<'_>, hint: Option<MemberId>) -> Ver;

    /// Sends what was submitted and reports what came, waiting until `until` at the latest.
    fn wait(&mut self, until: Nanos, report: &mut dyn FnMut(usize, Event<'_>)) -> Result<()>;

    /// Somebody knows a newer map than this transport: get it, soon.
    fn refresh(&mut self, until: Nanos);

    /// Forget what is under way: nobody waits for it any more.
    fn abandon(&mut self);
}

#[derive(Clone, Copy)]
enum State {
    /// To be submitted, not before the moment.
    Due {
        at: Nanos,
        hint: Option<MemberId>,
    },
    UnderWay {
        map_ver: Ver,
    },
    Done,
}

struct Pending {
    attempt: Attempt,
    state: State,
}

/// Drives `ops` until each is answered or `until` has passed. `done` is called exactly once for
/// each operation, with its index. An `Err` of the whole means that the handle is closed or the
/// call was interrupted; `done` was then not called for the rest.
pub(super) fn drive(
    transport: &mut dyn Transport,
    ops: &[Op<'_>],
    until: Nanos,
    rng: &mut Rng,
    done: &mut dyn FnMut(usize, Result<&Reply<'_>>),
) -> Result<()> {
    for (at, window) in ops.chunks(WINDOW).enumerate() {
        let base = at * WINDOW;
        let mut done_here = |index: usize, result: Result<&Reply<'_>>| done(base + index, result);
        let result = drive_window(transport, window, until, rng, &mut done_here);
        if result.is_err() {
            transport.abandon();
        }
        result?;
    }
    Ok(())
}

fn drive_window(
    transport: &mut dyn Transport,
    ops: &[Op<'_>],
    until: Nanos,
    rng: &mut Rng,
    done: &mut dyn FnMut(usize, Result<&Reply<'_>>),
) -> Result<()> {
    let begin = transport.now();
    let start = |op: &Op<'_>| Pending {
        attempt: Attempt::new(op),
        state: State::Due { at: begin, hint: None },
    };
    let mut pending: Vec<Pending> = ops.iter().map(start).collect();
    let mut left = pending.len();
    loop {
        let mut wake_at = until;
        let now = transport.now();
        for (tag, (op, item)) in ops.iter().zip(&mut pending).enumerate() {
            match item.state {
                State::Due { at, hint } if at <= now => {
                    item.state = State::UnderWay { map_ver: transport.submit(tag, op, hint) };
                }
                State::Due { at, .. } => wake_at = wake_at.min(at),
                State::UnderWay { .. } | State::Done => {}
            }
        }
        let mut refresh = false;
        let slice = wake_at.min(now + SLICE);
        transport.wait(slice, &mut |tag, event| {
            let Some(item) = pending.get_mut(tag) else { return };
            let State::UnderWay { map_ver } = item.state else { return };
            refresh |= settle(item, map_ver, tag, event, now, rng, &mut left, done);
        })?;
        if left == 0 {
            return Ok(());
        }
        poll_interrupt()?;
        if transport.now() >= until {
            break;
        }
        if refresh {
            transport.refresh(until);
        }
    }
    transport.abandon();
    for (tag, (op, item)) in ops.iter().zip(&pending).enumerate() {
        if !matches!(item.state, State::Done) {
            done(tag, Err(overdue(op, item)));
        }
    }
    Ok(())
}

/// Handles one event of an operation. Whether a newer map is needed.
#[allow(clippy::too_many_arguments)]
fn settle(
    item: &mut Pending,
    map_ver: Ver,
    tag: usize,
    event: Event<'_>,
    now: Nanos,
    rng: &mut Rng,
    left: &mut usize,
    done: &mut dyn FnMut(usize, Result<&Reply<'_>>),
) -> bool {
    let (next, reply) = match &event {
        Event::Reply(reply) => (item.attempt.on_reply(reply, map_ver, now, rng), Some(*reply)),
        Event::Lost { sent } => (item.attempt.on_lost(*sent, now, rng), None),
    };
    match (next, reply) {
        (Next::Again { at, hint, refresh }, _) => {
            item.state = State::Due { at, hint };
            return refresh;
        }
        (Next::Done, Some(reply)) => done(tag, Ok(reply)),
        _ => done(tag, Err(Status::ConnectionLost.into())),
    }
    item.state = State::Done;
    *left -= 1;
    false
}

/// Why an operation is not done at its deadline. What was refused every time was not executed;
/// what waits for an answer may have been.
fn overdue(op: &Op<'_>, item: &Pending) -> Error {
    let under_way = matches!(item.state, State::UnderWay { .. });
    match (under_way, op.is_mutation()) {
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
        Reply::DataLost { .. } => Status::DataLost.into(),
        Reply::ValueTooLarge { limit } => Error::new(
            Status::ValueTooLarge,
            format!("the value is longer than the ring's limit of {limit} bytes"),
        ),
        Reply::OutOfMemory => Status::OutOfMemory.into(),
        _ => return None,
    })
}
