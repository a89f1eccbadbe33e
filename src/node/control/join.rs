//! Becoming a member of a ring that exists: ask a seed for the map, ask the coordinator to be
//! admitted, wait for the map that lists us.

use std::sync::Arc;
use std::time::Duration;

use super::{AdminReply, Conn, Control, Dial};
use crate::base::limits::{CONNECT_TIMEOUT_MS, CONTROL_FRAME_BYTES_MAX, HANDSHAKE_TIMEOUT_MS};
use crate::base::{ClusterId, Error, MemberId, Nanos, Result, Status, Ver};
use crate::net::{Address, CloseReason, ConnectionOptions, Context, Flow, Link, Socket};
use crate::ring::hash::node_position;
use crate::wire::hello::{Hello, Role, Welcome};
use crate::wire::{Command, ControlMsg, JoinInfo};

const RETRY: Duration = Duration::from_millis(100);
/// Waiting for any answer of a seed ends after this long; then the next one is tried.
const PATIENCE: Duration = Duration::from_millis(HANDSHAKE_TIMEOUT_MS);

/// A join under way.
pub(super) struct Joining {
    seeds: Vec<String>,
    tried: usize,
    /// Where the voters of the coordinator listen, once a seed's map has said it. One of them
    /// leads, and each knows only of itself whether it does.
    voters: Vec<String>,
    /// How many of them are tried before the seeds are asked again.
    voters_left: usize,
    /// The answerer was asked to admit us.
    asked: bool,
    /// The ring that is meant; zero if any.
    cluster: ClusterId,
    /// Who answered on the current connection; zero before its welcome.
    answerer: MemberId,
    /// The id that we were admitted under.
    admitted: Option<MemberId>,
    link: Option<Arc<Link>>,
    last_error: String,
    /// Try the next seed at this moment, unless an answer comes before.
    next_try: Nanos,
    until: Nanos,
    invited_by: Option<AdminReply>,
    /// Tells this join from every other one.
    boot: u32,
}

impl Joining {
    pub(super) fn next_timeout(&self) -> Nanos {
        self.next_try.min(self.until)
    }
}

impl Control {
    /// Begins to join; the outcome goes to who started the node, or to who invited it.
    pub(in crate::node) fn join(
        &mut self,
        now: Nanos,
        seeds: Vec<String>,
        cluster: ClusterId,
        invited_by: Option<AdminReply>,
    ) {
        self.joining = Some(Joining {
            seeds,
            tried: 0,
            voters: Vec::new(),
            voters_left: 0,
            asked: false,
            cluster,
            answerer: MemberId::ZERO,
            admitted: None,
            link: None,
            last_error: "no seed was given".into(),
            next_try: now,
            until: now + self.shared.config.start_timeout,
            invited_by,
            boot: self.rng.next_u64() as u32,
        });
    }

    pub(super) fn on_invite(
        &mut self,
        ctx: &mut Context,
        reply: AdminReply,
        cluster: ClusterId,
        seeds: Vec<String>,
    ) {
        if let Some(member) = self.shared.membership() {
            let mine = member.map().cluster;
            return match mine == cluster {
                true => reply.send(Status::Refused, "the node is a member of this ring already"),
                false => reply.send(
                    Status::WrongRing,
                    &format!("the node belongs to another ring, {mine}; drop it there first"),
                ),
            };
        }
        if self.joining.is_some() {
            return reply.send(Status::Busy, "the node is joining a ring already");
        }
        if seeds.is_empty() || cluster == ClusterId(0) {
            return reply.send(Status::InvalidArgument, "an invitation names a ring and a seed");
        }
        let now = ctx.now();
        self.join(now, seeds, cluster, Some(reply));
        self.drive_join(ctx, now);
    }

    /// Tries the next seed when it is time, gives up at the deadline.
    pub(super) fn drive_join(&mut self, ctx: &mut Context, now: Nanos) {
        let Some(joining) = &mut self.joining else { return };
        if now >= joining.until {
            let why = format!("cannot join the ring: {}", joining.last_error);
            return self.end_join(ctx, Err(Error::new(Status::Timeout, why)));
        }
        if now < joining.next_try {
            return;
        }
        if let Some(link) = joining.link.take() {
            self.conns.remove(&link.id());
            ctx.close(link.id(), CloseReason::Local("no answer".into()));
        }
        let Some(joining) = &mut self.joining else { return };
        joining.next_try = now + PATIENCE + Duration::from_millis(CONNECT_TIMEOUT_MS);
        let seed = if joining.voters_left > 0 {
            joining.voters_left -= 1;
            joining.voters.get(joining.voters_left % joining.voters.len().max(1)).cloned()
        } else {
            joining.tried += 1;
            joining.seeds.get((joining.tried - 1) % joining.seeds.len().max(1)).cloned()
        };
        let Some(seed) = seed else { return };
        match Address::parse(&seed) {
            Ok(address) => {
                let dial = ctx.dial(&address, Duration::from_millis(CONNECT_TIMEOUT_MS));
                self.dials.insert(dial, Dial::Seed);
            }
            Err(error) => self.end_join(ctx, Err(error)),
        }
    }

    pub(super) fn greet_seed(&mut self, ctx: &mut Context, socket: Socket) {
        let Some(joining) = &mut self.joining else { return };
        let Ok(link) = ctx.add(socket, ConnectionOptions::default()) else { return };
        ctx.set_frame_max(link.id(), CONTROL_FRAME_BYTES_MAX);
        self.conns.insert(link.id(), Conn::Seed);
        joining.answerer = MemberId::ZERO;
        joining.asked = false;
        joining.next_try = ctx.now() + PATIENCE;
        joining.link = Some(Arc::clone(&link));
        let hello = Hello {
            role: Role::Joiner,
            cluster: joining.cluster,
            generation: 0,
            from: MemberId::ZERO,
            to: MemberId::ZERO,
        };
        if link.push_frame(|out| hello.encode(out)).is_ok() {
            ctx.flush_at_turn_end(&link);
        }
    }

    pub(super) fn seed_failed(&mut self, ctx: &mut Context, why: &str) {
        let Some(joining) = &mut self.joining else { return };
        joining.last_error = why.to_owned();
        joining.link = None;
        joining.next_try = ctx.now() + RETRY;
    }

    pub(super) fn on_seed_frame(
        &mut self,
        ctx: &mut Context,
        link: &Arc<Link>,
        frame: &[u8],
    ) -> Flow {
        match &self.joining {
            None => return Flow::Close(CloseReason::Local("not joining any more".into())),
            Some(joining) if joining.answerer != MemberId::ZERO => {
                return self.on_control(ctx, link, frame);
            }
            Some(_) => {}
        }
        match Welcome::decode(frame) {
            Ok(Welcome::Accepted { cluster, mid, .. }) if cluster != ClusterId(0) => {
                if let Some(joining) = &mut self.joining {
                    joining.answerer = mid;
                    joining.cluster = cluster;
                }
                self.send(ctx, link, &ControlMsg::MapWanted { have: Ver::ZERO });
                Flow::Continue
            }
            Ok(Welcome::Accepted { .. }) => {
                let why = "the seed belongs to no ring yet";
                self.seed_failed(ctx, why);
                Flow::Close(CloseReason::Local(why.into()))
            }
            Ok(Welcome::Refused { text, .. }) => {
                self.seed_failed(ctx, &text);
                Flow::Close(CloseReason::Local(text.into()))
            }
            Err(error) => {
                self.seed_failed(ctx, "the seed is not a ringkv node of this version");
                Flow::Close(CloseReason::Local(error.0.into()))
            }
        }
    }

    pub(super) fn on_seed_message(
        &mut self,
        ctx: &mut Context,
        link: &Arc<Link>,
        msg: ControlMsg,
    ) -> Flow {
        let Some(joining) = &mut self.joining else { return Flow::Continue };
        joining.next_try = ctx.now() + PATIENCE;
        match msg {
            ControlMsg::MapFull(map) => {
                // Who admitted us may have been deposed without knowing it: then nothing came of
                // it, and the id is, or will be, another member's.
                let (boot, address) = (joining.boot, &self.shared.address);
                let is_listed = |mid: &MemberId| {
                    let member = map.members.get(mid);
                    member.is_some_and(|member| member.boot == boot && member.addr == *address)
                };
                if let Some(mid) = joining.admitted.filter(is_listed) {
                    self.become_member(mid, Arc::from(map), false);
                    self.end_join(ctx, Ok(()));
                    return Flow::Close(CloseReason::Local("joined".into()));
                }
                if joining.voters_left == 0 {
                    let addresses = map.voters.iter().filter_map(|mid| map.members.get(mid));
                    joining.voters = addresses.map(|member| member.addr.clone()).collect();
                    joining.voters_left = 2 * joining.voters.len();
                }
                let is_voter = map.voters.contains(&joining.answerer);
                if is_voter && !std::mem::replace(&mut joining.asked, true) {
                    let command = Command::Join(self.join_info(map.params.seed));
                    let origin = MemberId::ZERO;
                    self.send(ctx, link, &ControlMsg::Submit { id: 1, origin, command });
                    return Flow::Continue;
                }
                joining.next_try = ctx.now();
                Flow::Continue
            }
            ControlMsg::Submitted { admitted, .. } if admitted != MemberId::ZERO => {
                joining.admitted = Some(admitted);
                self.send(ctx, link, &ControlMsg::MapWanted { have: Ver::ZERO });
                Flow::Continue
            }
            ControlMsg::Submitted { status, text, .. } if status == Status::Unavailable.code() => {
                self.seed_failed(ctx, &text);
                Flow::Close(CloseReason::Local("asked in vain".into()))
            }
            ControlMsg::Submitted { status, text, .. } => {
                let status = Status::from_code(status).unwrap_or(Status::Refused);
                self.end_join(ctx, Err(Error::new(status, text)));
                Flow::Close(CloseReason::Local("refused".into()))
            }
            _ => Flow::Continue,
        }
    }

    fn join_info(&self, seed: u32) -> JoinInfo {
        let boot = self.joining.as_ref().map_or(0, |joining| joining.boot);
        join_info(&self.shared.config, &self.shared.address, seed, boot)
    }

    fn end_join(&mut self, ctx: &mut Context, result: Result<()>) {
        let Some(joining) = self.joining.take() else { return };
        if let Some(link) = &joining.link {
            self.conns.remove(&link.id());
            ctx.close_after_flush(link.id(), CloseReason::Local("the join is over".into()));
        }
        if let Some(reply) = joining.invited_by {
            match &result {
                Ok(()) => reply.send(Status::Ok, ""),
                Err(error) => reply.send(error.status(), error.message()),
            }
        } else {
            self.report_started(result);
        }
    }
}

/// What the node says of itself.
pub(in crate::node) fn join_info(
    config: &crate::node::NodeConfig,
    address: &str,
    seed: u32,
    boot: u32,
) -> JoinInfo {
    let name = config.name.clone().unwrap_or_else(|| address.to_owned());
    JoinInfo {
        addr: address.to_owned(),
        zone: config.zone.clone(),
        weight: config.weight,
        position: config.position.unwrap_or_else(|| node_position(&name, seed)),
        boot,
        durable: false,
        name,
    }
}
