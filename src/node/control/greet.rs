//! Handshakes, as the one who is dialled and as the one who dials.

use std::sync::Arc;
use std::time::Duration;

use super::{Conn, Control, Destination, Dial, Peer};
use crate::base::limits::{CONNECT_TIMEOUT_MS, CONTROL_FRAME_BYTES_MAX};
use crate::base::{ClusterId, MemberId, Nanos, Status, Ver};
use crate::net::{Address, CloseReason, ConnId, ConnectionOptions, Context, Flow, Link, Socket};
use crate::wire::hello::{Hello, Role, Welcome};

const RETRY_MS_MIN: u64 = 20;
const RETRY_MS_MAX: u64 = 1000;
/// Without any connection to a peer for this long, a member looks for the others itself.
const ISOLATED_AFTER: Duration = Duration::from_secs(2);
/// How long a worker may take to take over a connection.
const ATTACH_TIME: Duration = Duration::from_secs(1);

fn refusal(status: Status, not_a_member: bool, text: impl Into<String>) -> Welcome {
    Welcome::Refused { status: status.code(), not_a_member, text: text.into() }
}

impl Control {
    /// The first frame of an accepted connection.
    pub(super) fn on_hello(&mut self, ctx: &mut Context, link: &Arc<Link>, frame: &[u8]) -> Flow {
        let hello = match Hello::decode(frame) {
            Ok(hello) => hello,
            // Whoever it is does not speak our protocol, so there is nothing to tell it.
            Err(error) => return Flow::Close(CloseReason::Local(error.0.into())),
        };
        let welcome = self.judge(&hello);
        let accepted = matches!(welcome, Welcome::Accepted { .. });
        if link.push_frame(|out| welcome.encode(out)).is_err() {
            return Flow::Continue;
        }
        ctx.flush_at_turn_end(link);
        if !accepted {
            return Flow::Close(CloseReason::Local("refused".into()));
        }
        let conn = match hello.role {
            Role::Client => Conn::Leaving(Destination::Client),
            Role::PeerData => Conn::Leaving(Destination::Data(hello.from)),
            Role::PeerControl => {
                self.add_control(ctx, link, hello.from);
                return Flow::Continue;
            }
            Role::Joiner => {
                ctx.set_frame_max(link.id(), CONTROL_FRAME_BYTES_MAX);
                self.conns.insert(link.id(), Conn::Joiner);
                return Flow::Continue;
            }
        };
        self.conns.insert(link.id(), conn);
        Flow::Detach
    }

    /// Whether a dialler may come in.
    fn judge(&self, hello: &Hello) -> Welcome {
        let member = self.shared.membership();
        let map = member.as_ref().map(|member| member.map());
        let cluster = map.as_ref().map_or(ClusterId(0), |map| map.cluster);
        let mid = member.as_ref().map_or(MemberId::ZERO, |member| member.me);
        let map_ver = map.as_ref().map_or(Ver::ZERO, |map| map.ver);
        if hello.cluster != ClusterId(0) && hello.cluster != cluster {
            let text = match cluster {
                ClusterId(0) => "this node belongs to no ring".to_owned(),
                _ => format!("this node belongs to ring {cluster}, not to {}", hello.cluster),
            };
            return refusal(Status::WrongRing, false, text);
        }
        if matches!(hello.role, Role::PeerData | Role::PeerControl) {
            let Some(map) = map else {
                return refusal(Status::WrongRing, false, "this node belongs to no ring");
            };
            if hello.generation != map.generation {
                return refusal(Status::WrongRing, false, "the ring was recovered meanwhile");
            }
            if hello.to != mid {
                let text = format!("this is member {mid}, not {}", hello.to);
                return refusal(Status::WrongRing, false, text);
            }
            if !map.members.contains_key(&hello.from) {
                // It was dropped, or it is newer than this map.
                let dropped = hello.from < map.next_mid;
                let text = format!("member {} is not in the ring", hello.from);
                return refusal(Status::NoSuchMember, dropped, text);
            }
        }
        Welcome::Accepted { cluster, mid, map_ver }
    }

    fn add_control(&mut self, ctx: &mut Context, link: &Arc<Link>, mid: MemberId) {
        ctx.set_frame_max(link.id(), CONTROL_FRAME_BYTES_MAX);
        ctx.set_pause_when_high(link.id(), false);
        self.conns.insert(link.id(), Conn::Peer(mid));
        let peer = self.peers.entry(mid).or_default();
        peer.failures = 0;
        if let Some(coordinator) = &mut self.coordinator {
            coordinator.reconnected(mid);
        }
        if let Some(old) = peer.control.replace(Arc::clone(link)) {
            old.close(CloseReason::Local("replaced by a newer connection".into()));
        }
        self.watch.heard(mid, ctx.now());
        self.greet_by_heartbeat(ctx, link);
    }

    /// Dials every older member to which a connection is missing. Who has lost all of them dials
    /// the newer ones too: it may have been dropped, and would never hear of it otherwise.
    pub(super) fn dial_peers(&mut self, ctx: &mut Context, now: Nanos) {
        let Some(member) = self.shared.membership() else { return };
        let map = member.map();
        self.peers.retain(|mid, _| map.members.contains_key(mid));
        let is_alone = map.members.len() == 1;
        if is_alone || self.peers.values().any(|peer| peer.control.is_some()) {
            self.connected_at = now;
        }
        let is_isolated = now.since(self.connected_at) > ISOLATED_AFTER;
        let others = map.members.iter().filter(|(mid, _)| **mid != member.me);
        for (mid, info) in others.filter(|(mid, _)| **mid < member.me || is_isolated) {
            let peer = self.peers.entry(*mid).or_default();
            if now < peer.retry_at {
                continue;
            }
            let Ok(address) = Address::parse(&info.addr) else { continue };
            let timeout = Duration::from_millis(CONNECT_TIMEOUT_MS);
            if peer.control.is_none() && !peer.dialling_control {
                peer.dialling_control = true;
                let dial = ctx.dial(&address, timeout);
                self.dials.insert(dial, Dial::Member { mid: *mid, is_data: false });
            }
            if member.peer(*mid).is_none() && !peer.dialling_data {
                peer.dialling_data = true;
                let dial = ctx.dial(&address, timeout);
                self.dials.insert(dial, Dial::Member { mid: *mid, is_data: true });
            }
        }
    }

    pub(super) fn greet_member(
        &mut self,
        ctx: &mut Context,
        socket: Socket,
        to: MemberId,
        is_data: bool,
    ) {
        let Some(member) = self.shared.membership() else { return };
        let map = member.map();
        let Ok(link) = ctx.add(socket, ConnectionOptions::default()) else {
            return self.dial_failed(ctx, to, is_data);
        };
        let since = ctx.now();
        self.conns.insert(link.id(), Conn::Greeted { to, is_data, since });
        let hello = Hello {
            role: if is_data { Role::PeerData } else { Role::PeerControl },
            cluster: map.cluster,
            generation: map.generation,
            from: member.me,
            to,
        };
        if link.push_frame(|out| hello.encode(out)).is_ok() {
            ctx.flush_at_turn_end(&link);
        }
    }

    pub(super) fn on_welcome(
        &mut self,
        ctx: &mut Context,
        link: &Arc<Link>,
        to: MemberId,
        is_data: bool,
        frame: &[u8],
    ) -> Flow {
        match Welcome::decode(frame) {
            Ok(Welcome::Accepted { mid, .. }) if mid == to => {
                let retry_at = ctx.now() + ATTACH_TIME;
                let peer = self.dialled(to, is_data);
                if is_data {
                    // A worker takes it in a moment; until then it must not be dialled again.
                    peer.retry_at = retry_at;
                    self.conns.insert(link.id(), Conn::Leaving(Destination::Data(to)));
                    return Flow::Detach;
                }
                self.add_control(ctx, link, to);
                Flow::Continue
            }
            Ok(Welcome::Refused { not_a_member: true, text, .. }) => {
                log::info!("member {to} says: {text}");
                self.leave_ring(ctx);
                Flow::Continue
            }
            Ok(Welcome::Refused { status, text, .. }) => {
                if status == Status::WrongRing.code() {
                    // Another node is there now, or the same one with another id.
                    self.on_dead_end(ctx.now(), to);
                }
                Flow::Close(CloseReason::Local(text.into()))
            }
            Ok(_) => Flow::Close(CloseReason::Local("another member answered".into())),
            Err(error) => Flow::Close(CloseReason::Local(error.0.into())),
        }
    }

    /// What was dialled, and said, as a member ends with the membership: answered later, it would
    /// be taken for the business of the member that this node has become by then.
    pub(super) fn forget_dialled(&mut self, ctx: &mut Context) {
        self.dials.retain(|_, dial| matches!(dial, Dial::Seed));
        let greeted = |(id, conn): (&ConnId, &Conn)| {
            let is_greeted = matches!(conn, Conn::Greeted { .. });
            is_greeted.then_some(*id)
        };
        for id in self.conns.iter().filter_map(greeted).collect::<Vec<_>>() {
            self.conns.remove(&id);
            ctx.close(id, CloseReason::Local("left the ring".into()));
        }
    }

    fn dialled(&mut self, mid: MemberId, is_data: bool) -> &mut Peer {
        let peer = self.peers.entry(mid).or_default();
        match is_data {
            true => peer.dialling_data = false,
            false => peer.dialling_control = false,
        }
        peer
    }

    pub(super) fn dial_failed(&mut self, ctx: &mut Context, mid: MemberId, is_data: bool) {
        let jitter_us = self.rng.below(RETRY_MS_MIN * 1000);
        let peer = self.dialled(mid, is_data);
        let wait_ms = (RETRY_MS_MIN << peer.failures.min(6)).min(RETRY_MS_MAX);
        peer.failures += 1;
        peer.retry_at = ctx.now() + Duration::from_micros(wait_ms * 1000 + jitter_us);
    }
}
