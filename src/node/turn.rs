//! One turn's outgoing messages: the outbox that the runtime lends to the protocols.
//!
//! Whoever handles inputs, a worker, the control thread, or a thread of the host program inside a
//! call, opens a turn, visits replicas, and finishes it: then each touched replica is flushed once
//! and each touched connection gets one `send`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::calls::Mailbox;
use super::control::ControlInput;
use super::shared::{Membership, Route, Shared, Target};
use crate::base::limits::{BULK_BUDGET_BYTES, PIPELINE_MAX};
use crate::base::{MemberId, PartitionId};
use crate::net::Link;
use crate::proto::{Caller, Disposition, Leases, Moment, Outbox, Replica};
use crate::wire::{Command, Op, PeerMsg, Reply, Request, ServerMsg};

/// The connection number of callers in this process.
pub(super) const LOCAL: u64 = 0;

/// The messages of one turn.
pub(super) struct Turn {
    shared: Arc<Shared>,
    member: Arc<Membership>,
    outgoing: Outgoing,
    /// Replicas that were handed something and not flushed yet.
    dirty: Vec<PartitionId>,
}

/// What the turn has to send; apart from the rest so that a replica can be visited meanwhile.
struct Outgoing {
    shared: Arc<Shared>,
    member: Arc<Membership>,
    touched: Vec<Arc<Link>>,
    /// Whoever waits in this process is woken once for all of its answers.
    delivered: Vec<Arc<Mailbox>>,
    /// Most answers of a turn go where the last one went.
    last_target: Option<(u64, Arc<Target>)>,
    last_peer: Option<(MemberId, Arc<Link>)>,
}

impl Turn {
    pub(super) fn new(shared: Arc<Shared>, member: Arc<Membership>) -> Self {
        let outgoing = Outgoing {
            shared: Arc::clone(&shared),
            member: Arc::clone(&member),
            touched: Vec::new(),
            delivered: Vec::new(),
            last_target: None,
            last_peer: None,
        };
        Self { shared, member, outgoing, dirty: Vec::new() }
    }

    pub(super) fn member(&self) -> &Arc<Membership> {
        &self.member
    }

    /// Hands something to a replica.
    pub(super) fn visit<R>(
        &mut self,
        pid: PartitionId,
        f: impl FnOnce(&mut Replica, Moment, &mut dyn Outbox) -> R,
    ) -> Option<R> {
        let at = self.shared.moment();
        let outgoing = &mut self.outgoing;
        let result = self.shared.visit(&self.member, pid, |replica| f(replica, at, outgoing))?;
        if self.dirty.last() != Some(&pid) {
            self.dirty.push(pid);
        }
        Some(result)
    }

    /// Counts an operation of a connection; false if too many of it are under way.
    pub(super) fn admit(&mut self, caller: Caller) -> bool {
        self.outgoing.target(caller.connection).is_some_and(|target| target.admit())
    }

    /// Executes a request here or passes it on (F1): at most once, and never again.
    pub(super) fn request(&mut self, caller: Caller, request: &Request<'_>) {
        let pid = match request.op {
            Op::Scan { pid, .. } => pid,
            op => match op.key() {
                Some(key) => self.member.hasher.partition(key),
                None => return,
            },
        };
        let handed = self.visit(pid, |replica, at, out| replica.request(at, caller, request, out));
        match handed {
            Some(Disposition::Accepted) => {}
            Some(Disposition::Elsewhere(primary)) => self.pass_on(caller, primary, request),
            None => self.retry(caller, MemberId::ZERO),
        }
    }

    /// Whether this node has a complete copy of what `op` is about.
    pub(super) fn holds(&self, op: &Op<'_>) -> bool {
        let pid = op.key().map(|key| self.member.hasher.partition(key));
        let replica = pid.and_then(|pid| self.member.replica(pid));
        replica.is_some_and(|replica| replica.lock().is_complete())
    }

    /// Answers a caller from outside of a replica.
    pub(super) fn reply(&mut self, caller: Caller, reply: &Reply<'_>) {
        self.outgoing.reply(caller, reply);
    }

    /// Answers the callers of requests that were passed on and will not be answered.
    pub(super) fn fail_routes(&mut self, routes: Vec<Route>) {
        let map_ver = self.member.map_ver();
        for route in routes {
            let reply = match route.is_mutation {
                true => Reply::Unknown,
                false => Reply::Retry { primary: MemberId::ZERO, map_ver },
            };
            self.outgoing.reply(route.caller, &reply);
        }
    }

    /// Notes a connection to flush when the turn is over.
    pub(super) fn touch(&mut self, link: &Arc<Link>) {
        self.outgoing.touch(link);
    }

    /// Flushes every replica that was handed something, then every connection.
    pub(super) fn finish(&mut self) {
        let mut dirty = std::mem::take(&mut self.dirty);
        dirty.sort_unstable();
        dirty.dedup();
        let outgoing = &mut self.outgoing;
        for pid in dirty {
            let at = self.shared.moment();
            self.shared.visit(&self.member, pid, |replica| replica.flush(at, outgoing));
        }
        for link in outgoing.touched.drain(..) {
            link.flush();
        }
        for mailbox in outgoing.delivered.drain(..) {
            mailbox.ring();
        }
    }

    fn pass_on(&mut self, caller: Caller, primary: MemberId, request: &Request<'_>) {
        let may = request.hop == 0
            && !request.redirect
            && primary != MemberId::ZERO
            && self.member.map_ver() >= request.map_ver;
        let Some(link) = may.then(|| self.member.peer(primary)).flatten() else {
            return self.retry(caller, primary);
        };
        let is_mutation = request.op.is_mutation();
        let route = self.shared.routes.open(Route { caller, to: primary, is_mutation });
        let request = Request { hop: 1, ..*request };
        if link.push_frame(|out| PeerMsg::Forward { route, request }.encode(out)).is_err() {
            // It never left: proof that it was not executed.
            self.shared.routes.close(route);
            return self.retry(caller, primary);
        }
        self.outgoing.touch(&link);
    }

    fn retry(&mut self, caller: Caller, primary: MemberId) {
        let map_ver = self.member.map_ver();
        self.outgoing.reply(caller, &Reply::Retry { primary, map_ver });
    }
}

impl Outgoing {
    fn touch(&mut self, link: &Arc<Link>) {
        if !self.touched.iter().any(|touched| Arc::ptr_eq(touched, link)) {
            self.touched.push(Arc::clone(link));
        }
    }

    fn peer(&mut self, mid: MemberId) -> Option<Arc<Link>> {
        match &self.last_peer {
            Some((last, link)) if *last == mid => Some(Arc::clone(link)),
            _ => {
                let link = self.member.peer(mid)?;
                self.last_peer = Some((mid, Arc::clone(&link)));
                Some(link)
            }
        }
    }

    fn target(&mut self, connection: u64) -> Option<Arc<Target>> {
        match &self.last_target {
            Some((last, target)) if *last == connection => Some(Arc::clone(target)),
            _ => {
                let target = Arc::clone(self.shared.targets.read().get(&connection)?);
                self.last_target = Some((connection, Arc::clone(&target)));
                Some(target)
            }
        }
    }
}

impl Outbox for Outgoing {
    fn send(&mut self, to: MemberId, msg: &PeerMsg<'_>) {
        let Some(link) = self.peer(to) else { return };
        // A failed push means that the connection is gone, and the message with it.
        if link.push_frame(|out| msg.encode(out)).is_ok() {
            self.touch(&link);
        }
    }

    fn reply(&mut self, to: Caller, reply: &Reply<'_>) {
        if to.connection == LOCAL {
            if let Some(mailbox) = self.shared.calls.complete(to.id, reply)
                && !self.delivered.iter().any(|known| Arc::ptr_eq(known, &mailbox))
            {
                self.delivered.push(mailbox);
            }
            return;
        }
        let Some(target) = self.target(to.connection) else { return };
        target.in_flight.fetch_sub(1, Ordering::Relaxed);
        let pushed = target.link.push_frame(|out| match target.is_peer {
            true => PeerMsg::encode_forward_reply(to.id, reply, out),
            false => ServerMsg::encode_reply(to.id, reply, out),
        });
        if pushed.is_ok() {
            self.touch(&target.link);
        }
    }

    fn propose(&mut self, command: Command) {
        self.shared.tell_control(ControlInput::Propose(command));
    }

    fn bulk_room(&self, to: MemberId) -> Option<usize> {
        let link = self.member.peer(to)?;
        Some(BULK_BUDGET_BYTES.saturating_sub(link.pending()))
    }

    fn leases(&mut self, f: &mut dyn FnMut(&mut Leases)) {
        f(&mut self.member.leases.lock());
    }
}

impl Target {
    pub(super) fn new(link: Arc<Link>, is_peer: bool) -> Self {
        Self { link, is_peer, in_flight: AtomicU32::new(0) }
    }

    /// Counts an operation, to be answered through `Outbox::reply`; false, and not counted, if the
    /// connection has too many under way.
    pub(super) fn admit(&self) -> bool {
        let admitted = (self.in_flight.fetch_add(1, Ordering::Relaxed) as usize) < PIPELINE_MAX;
        if !admitted {
            self.in_flight.fetch_sub(1, Ordering::Relaxed);
        }
        admitted
    }
}
