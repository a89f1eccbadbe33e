//! Questions to single nodes: one message, one answer, over connections that are kept.
//!
//! This is how a client gets the ring map and how the commands for a ring travel. An [`Asker`]
//! asks several nodes side by side on the thread that calls. It trusts no node to answer: each
//! question has an end, after which the connection is given up, so that what is slow once is not
//! waited for again on the same connection.

use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::interrupt::{SLICE, poll_interrupt};
use crate::base::limits::{CONNECT_TIMEOUT_MS, CONTROL_FRAME_BYTES_MAX};
use crate::base::{ClusterId, Error, MemberId, Nanos, Result, Status};
use crate::net::blocking::{LaneEvent, Lanes, connect};
use crate::net::sys::boottime;
use crate::net::{Address, ConnId, ConnectionOptions, Link};
use crate::wire::{ClientMsg, Hello, Reader, Role, ServerMsg, Welcome};

/// Connections that are kept for the next question, at most.
const KEPT_MAX: usize = 64;

/// How a node introduced itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Greeting {
    /// The ring it belongs to; zero if it stands by.
    pub(super) cluster: ClusterId,
    /// Its id in that ring.
    pub(super) mid: MemberId,
}

/// Whether the one who asks is still there: called between two slices of every wait.
pub(super) type Alive<'a> = dyn Fn() -> Result<()> + 'a;

/// A node's answer: a whole payload.
pub(super) struct Answer(Vec<u8>);

impl Answer {
    /// The message that it is.
    pub(super) fn message(&self) -> Result<ServerMsg<'_>> {
        Ok(ServerMsg::decode(&self.0)?)
    }
}

/// What to say about an answer of another kind than the question.
pub(super) fn unexpected(address: &str) -> Error {
    Error::new(Status::Protocol, format!("{address} answers what was not asked"))
}

/// Connections to the nodes that were asked before.
pub(super) struct Asker {
    /// Only nodes of this ring are asked; whoever it is if it is zero.
    cluster: ClusterId,
    lanes: Lanes,
    contacts: Vec<Contact>,
    last_id: u64,
}

struct Contact {
    address: String,
    conn: ConnId,
    greeting: Option<Greeting>,
}

/// One question on its way.
///
/// Invariant: `message` is not empty exactly until it is handed to the connection, which happens
/// after the greeting; a question without a message asks for the greeting alone.
struct Errand {
    address: String,
    conn: Option<ConnId>,
    id: u64,
    message: Vec<u8>,
    asks: bool,
    outcome: Option<Result<Answer>>,
}

impl Asker {
    /// One that asks whoever is there.
    pub(super) fn new() -> Self {
        Self::of(ClusterId::default())
    }

    /// One that asks the nodes of a ring. At the address of a member that has died another node
    /// may listen by now: it says so instead of answering.
    pub(super) fn of(cluster: ClusterId) -> Self {
        Self { cluster, lanes: Lanes::new(), contacts: Vec::new(), last_id: 0 }
    }

    /// Who is at this address.
    pub(super) fn greet(
        &mut self,
        address: &str,
        until: Nanos,
        alive: &Alive<'_>,
    ) -> Result<Greeting> {
        let mut errands = [self.errand(address, None)];
        self.run(&mut errands, until, alive)?;
        let [errand] = errands;
        errand.result()?;
        let contact = self.contacts.iter().find(|contact| contact.address == address);
        let greeting = contact.and_then(|contact| contact.greeting);
        greeting.ok_or_else(|| Error::new(Status::Connect, format!("{address} hung up")))
    }

    /// Asks one node.
    pub(super) fn ask<'m>(
        &mut self,
        address: &str,
        message: impl Fn(u64) -> ClientMsg<'m>,
        until: Nanos,
        alive: &Alive<'_>,
    ) -> Result<Answer> {
        let mut errands = [self.errand(address, Some(&message))];
        self.run(&mut errands, until, alive)?;
        let [errand] = errands;
        errand.result()
    }

    /// Asks several nodes the same, at the same time. One result for each, in order. An `Err` of
    /// the whole means that the caller was interrupted or its handle was closed.
    pub(super) fn ask_all<'m>(
        &mut self,
        addresses: &[&str],
        message: impl Fn(u64) -> ClientMsg<'m>,
        until: Nanos,
        alive: &Alive<'_>,
    ) -> Result<Vec<Result<Answer>>> {
        let mut errands: Vec<Errand> =
            addresses.iter().map(|address| self.errand(address, Some(&message))).collect();
        self.run(&mut errands, until, alive)?;
        Ok(errands.into_iter().map(Errand::result).collect())
    }

    /// Closes the connection to this address, so that the next question begins with a greeting.
    pub(super) fn forget(&mut self, address: &str) {
        let known = self.contacts.iter().filter(|contact| contact.address == address);
        let gone: Vec<ConnId> = known.map(|contact| contact.conn).collect();
        gone.into_iter().for_each(|conn| self.hang_up(conn));
    }

    fn errand<'m>(
        &mut self,
        address: &str,
        message: Option<&dyn Fn(u64) -> ClientMsg<'m>>,
    ) -> Errand {
        self.last_id += 1;
        let mut errand = Errand {
            address: address.to_owned(),
            conn: None,
            id: self.last_id,
            message: Vec::new(),
            asks: message.is_some(),
            outcome: None,
        };
        if let Some(message) = message {
            message(errand.id).encode(&mut errand.message);
        }
        errand
    }

    fn run(&mut self, errands: &mut [Errand], until: Nanos, alive: &Alive<'_>) -> Result<()> {
        self.reap()?;
        for errand in errands.iter_mut() {
            alive()?;
            match self.reach(&errand.address, until) {
                Ok(conn) => errand.conn = Some(conn),
                Err(error) => errand.outcome = Some(Err(error)),
            }
        }
        for link in self.lanes.links() {
            hand_over(&self.contacts, errands, link);
        }
        while errands.iter().any(|errand| errand.outcome.is_none()) {
            alive()?;
            poll_interrupt()?;
            let now = boottime();
            if now >= until {
                break;
            }
            self.turn(errands, until.since(now).min(SLICE))?;
        }
        let late = errands.iter().filter(|errand| errand.outcome.is_none());
        let late: Vec<ConnId> = late.filter_map(|errand| errand.conn).collect();
        late.into_iter().for_each(|conn| self.hang_up(conn));
        while self.contacts.len() > KEPT_MAX {
            let oldest = self.contacts[0].conn;
            self.hang_up(oldest);
        }
        Ok(())
    }

    /// Waits once, and hears what came.
    fn turn(&mut self, errands: &mut [Errand], wait_max: Duration) -> Result<()> {
        let contacts = &mut self.contacts;
        let mut broken = Vec::new();
        self.lanes.wait(wait_max, |link, event| match event {
            LaneEvent::Frame(frame) => match hear(contacts, errands, link.id(), frame) {
                Ok(()) => hand_over(contacts, errands, link),
                Err(error) => {
                    fail(errands, link.id(), &error);
                    broken.push(link.id());
                }
            },
            LaneEvent::Closed(reason) => {
                contacts.retain(|contact| contact.conn != link.id());
                fail(errands, link.id(), &Error::new(Status::ConnectionLost, reason.to_string()));
            }
        })?;
        broken.into_iter().for_each(|conn| self.hang_up(conn));
        Ok(())
    }

    /// Takes out the connections that ended since the last question.
    fn reap(&mut self) -> Result<()> {
        if !self.lanes.is_empty() {
            self.turn(&mut [], Duration::ZERO)?;
        }
        Ok(())
    }

    /// The connection to this address, a new one if need be.
    fn reach(&mut self, address: &str, until: Nanos) -> Result<ConnId> {
        if let Some(contact) = self.contacts.iter().find(|contact| contact.address == address) {
            return Ok(contact.conn);
        }
        let rest = until.since(boottime());
        let socket = connect(
            &Address::parse(address)?,
            rest.min(Duration::from_millis(CONNECT_TIMEOUT_MS)),
        )?;
        let options =
            ConnectionOptions { frame_max: CONTROL_FRAME_BYTES_MAX, ..Default::default() };
        let link = self.lanes.add(socket, options);
        let hello = Hello {
            role: Role::Client,
            cluster: self.cluster,
            generation: 0,
            from: MemberId::ZERO,
            to: MemberId::ZERO,
        };
        // A link that fails at once is closed, which the next turn reports.
        let _ = link.push_frame(|buffer| hello.encode(buffer));
        let address = address.to_owned();
        self.contacts.push(Contact { address, conn: link.id(), greeting: None });
        Ok(link.id())
    }

    fn hang_up(&mut self, conn: ConnId) {
        self.lanes.remove(conn);
        self.contacts.retain(|contact| contact.conn != conn);
    }
}

impl Errand {
    fn result(self) -> Result<Answer> {
        let late = || {
            let sentence = format!("{} does not answer in time", self.address);
            Err(Error::new(Status::Timeout, sentence))
        };
        self.outcome.unwrap_or_else(late)
    }
}

/// Takes in a frame: the greeting or an answer. An error ends the connection.
fn hear(
    contacts: &mut [Contact],
    errands: &mut [Errand],
    conn: ConnId,
    frame: &[u8],
) -> Result<()> {
    let Some(contact) = contacts.iter_mut().find(|contact| contact.conn == conn) else {
        return Ok(());
    };
    if contact.greeting.is_none() {
        contact.greeting = Some(greeting(frame)?);
        return Ok(());
    }
    // Every message to a client begins with its type and the number of the question.
    let mut reader = Reader::new(frame);
    reader.u8("type")?;
    let id = reader.u64("id")?;
    if let Some(errand) = errands.iter_mut().find(|e| e.id == id && e.outcome.is_none()) {
        errand.outcome = Some(Ok(Answer(frame.to_vec())));
    }
    Ok(())
}

/// What the first frame of a node says.
pub(super) fn greeting(frame: &[u8]) -> Result<Greeting> {
    match Welcome::decode(frame)? {
        Welcome::Accepted { cluster, mid, .. } => Ok(Greeting { cluster, mid }),
        Welcome::Refused { status, text, .. } => {
            Err(Error::new(Status::from_code(status).unwrap_or(Status::Refused), text))
        }
    }
}

/// Sends the questions that wait for this connection's greeting, once it came.
fn hand_over(contacts: &[Contact], errands: &mut [Errand], link: &Link) {
    let greeted = |c: &Contact| c.conn == link.id() && c.greeting.is_some();
    if !contacts.iter().any(greeted) {
        return;
    }
    for errand in errands.iter_mut().filter(|e| e.conn == Some(link.id())) {
        if !errand.asks {
            errand.outcome.get_or_insert(Ok(Answer(Vec::new())));
        } else if !errand.message.is_empty() {
            let message = std::mem::take(&mut errand.message);
            let _ = link.push_frame(|buffer| buffer.extend_from_slice(&message));
        }
    }
}

/// Ends the questions that are under way on a connection.
fn fail(errands: &mut [Errand], conn: ConnId, error: &Error) {
    for errand in errands.iter_mut().filter(|e| e.conn == Some(conn) && e.outcome.is_none()) {
        errand.outcome = Some(Err(error.clone().context(&errand.address)));
    }
}

/// Waits without a connection to wait for: somewhat shorter than asked if the host has something
/// to say in between, such as Ctrl-C.
pub(super) fn pause(span: Duration, alive: &Alive<'_>) -> Result<()> {
    let until = boottime() + span;
    let nobody = (Mutex::new(()), Condvar::new());
    loop {
        alive()?;
        poll_interrupt()?;
        let now = boottime();
        if now >= until {
            return Ok(());
        }
        nobody.1.wait_for(&mut nobody.0.lock(), until.since(now).min(SLICE));
    }
}
