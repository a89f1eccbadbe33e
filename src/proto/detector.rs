//! Who is taken for dead, and who is believed to be back.
//!
//! Every member has a [`Watch`]: it notes when it heard of each member that matters to it, and
//! suspects who is silent or cannot be reached (D1). The member that leads the coordinator has a
//! [`Jury`] as well: it declares a member dead when it cannot hear it itself and somebody else
//! cannot either, or after a longer silence of its own (D2).
//!
//! Nothing in here is needed for safety. A member that is wrongly declared dead loses its part in
//! the ring for a while, and nobody loses data: so detection may be quick.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::base::{MemberId, Nanos};
use crate::ring::{MemberState, PartState, RingMap};
use crate::wire::Command;

/// Between two heartbeats to the same member.
pub const HEARTBEAT: Duration = Duration::from_millis(50);
/// A member that is not heard of for this long is suspected.
const SILENCE: Duration = Duration::from_millis(250);
/// A suspicion that nobody else shares is enough after this long.
const SILENCE_ALONE: Duration = Duration::from_millis(500);
/// A reporter repeats itself with each heartbeat; what is older than this was taken back.
const REPORT_LIFE: Duration = Duration::from_millis(300);
/// A look at the clock this late means that this member itself was stopped, and knows nothing.
const OWN_PAUSE: Duration = Duration::from_millis(150);
/// A dead member's place is kept for this long, then its copies are made elsewhere.
const PLACE_KEPT: Duration = Duration::from_secs(10);
/// A dead member has to be heard of for this long before it is up again, doubled each time (D4).
const REJOIN_MIN: Duration = Duration::from_secs(1);
const REJOIN_MAX: Duration = Duration::from_secs(60);
/// Without a relapse for this long, a member's past is forgotten.
const FLAP_MEMORY: Duration = Duration::from_secs(600);

/// What one member hears of the others.
#[derive(Debug, Default)]
pub struct Watch {
    peers: BTreeMap<MemberId, Peer>,
    looked_at: Nanos,
}

#[derive(Debug)]
struct Peer {
    heard_at: Nanos,
    connected: bool,
    refused: bool,
}

impl Watch {
    /// Watches just these members from now on.
    pub fn set(&mut self, members: &BTreeSet<MemberId>, now: Nanos) {
        self.peers.retain(|mid, _| members.contains(mid));
        for mid in members {
            let unheard = Peer { heard_at: now, connected: false, refused: false };
            self.peers.entry(*mid).or_insert(unheard);
        }
    }

    /// Whether it is watched.
    pub fn is_watched(&self, mid: MemberId) -> bool {
        self.peers.contains_key(&mid)
    }

    /// Something came from `mid`.
    pub fn heard(&mut self, mid: MemberId, now: Nanos) {
        if let Some(peer) = self.peers.get_mut(&mid) {
            *peer = Peer { heard_at: now, connected: true, refused: false };
        }
    }

    /// The connection to `mid` broke. Whether it should be tried at once if somebody is still
    /// there.
    pub fn disconnected(&mut self, mid: MemberId) -> bool {
        self.peers.get_mut(&mid).is_some_and(|peer| std::mem::replace(&mut peer.connected, false))
    }

    /// Nobody listens at the address of `mid`.
    pub fn refused(&mut self, mid: MemberId) {
        if let Some(peer) = self.peers.get_mut(&mid) {
            peer.refused = !peer.connected;
        }
    }

    /// Whom I suspect now. Call it with every heartbeat: a late call shows that it was this member
    /// that stood still, and then it blames nobody.
    pub fn suspects(&mut self, now: Nanos) -> Vec<MemberId> {
        let was_paused = now.since(self.looked_at) > OWN_PAUSE;
        self.looked_at = now;
        if was_paused {
            self.peers.values_mut().for_each(|peer| peer.heard_at = now);
        }
        self.peers.keys().copied().filter(|mid| self.is_suspect(*mid, now)).collect()
    }

    /// Whether `mid` is silent, or its connection broke and nobody answers at its address.
    pub fn is_suspect(&self, mid: MemberId, now: Nanos) -> bool {
        self.peers.get(&mid).is_some_and(|peer| {
            (peer.refused && !peer.connected) || now.since(peer.heard_at) > SILENCE
        })
    }

    fn silence(&self, mid: MemberId, now: Nanos) -> Duration {
        self.peers.get(&mid).map_or(Duration::ZERO, |peer| now.since(peer.heard_at))
    }
}

/// What the leader of the coordinator decides about the living and the dead.
#[derive(Debug, Default)]
pub struct Jury {
    /// When whom suspected whom last: (suspect, reporter).
    reports: BTreeMap<(MemberId, MemberId), Nanos>,
    pasts: BTreeMap<MemberId, Past>,
}

/// What is remembered of a member that is or was dead.
#[derive(Debug, Default)]
struct Past {
    /// Since when, if it is.
    dead_since: Option<Nanos>,
    /// Dead, but heard of without a break since.
    heard_since: Option<Nanos>,
    returned_at: Nanos,
    returns: u32,
}

impl Jury {
    /// `reporter` suspects these members.
    pub fn report(
        &mut self,
        reporter: MemberId,
        suspects: impl IntoIterator<Item = MemberId>,
        now: Nanos,
    ) {
        self.forget_old_reports(now);
        self.reports.extend(suspects.into_iter().map(|suspect| ((suspect, reporter), now)));
    }

    /// With every report, too: a voter that never leads has nothing to judge.
    fn forget_old_reports(&mut self, now: Nanos) {
        self.reports.retain(|_, at| now.since(*at) <= REPORT_LIFE);
    }

    /// What to do about members that are or were dead, by the map, what this member hears itself,
    /// and what others report. `me` watches everybody.
    pub fn judge(
        &mut self,
        me: MemberId,
        map: &RingMap,
        watch: &Watch,
        now: Nanos,
    ) -> Vec<Command> {
        self.forget_old_reports(now);
        self.pasts.retain(|mid, past| {
            let counts = past.dead_since.is_some() || now.since(past.returned_at) < FLAP_MEMORY;
            counts && map.members.contains_key(mid)
        });
        let mut commands = self.deaths(me, map, watch, now);
        commands.extend(self.returns(map, watch, now));
        commands
    }

    fn deaths(&self, me: MemberId, map: &RingMap, watch: &Watch, now: Nanos) -> Vec<Command> {
        let living = |mid: &MemberId| map.members.get(mid).is_some_and(|m| !m.is_dead());
        let alive: Vec<MemberId> = map.members.keys().copied().filter(living).collect();
        let lost: Vec<MemberId> =
            alive.iter().copied().filter(|mid| *mid != me && watch.is_suspect(*mid, now)).collect();
        if lost.len() * 2 > alive.len() {
            // D3: it is rather me who is cut off.
            return Vec::new();
        }
        let is_confirmed = |mid: &MemberId| {
            let mut reporters = self.reports.range((*mid, MemberId::ZERO)..);
            let others = reporters.by_ref().take_while(|((suspect, _), _)| suspect == mid);
            let trusted = |reporter: &MemberId| {
                *reporter != me && living(reporter) && !lost.contains(reporter)
            };
            others.map(|((_, reporter), _)| reporter).any(trusted)
                || watch.silence(*mid, now) > SILENCE_ALONE
        };
        let counts = |mid: &MemberId| {
            let is_leaving = map.members.get(mid).is_some_and(|m| m.state == MemberState::Leaving);
            !is_leaving || map.parts.iter().any(|part| part.isr.contains(*mid))
        };
        lost.iter().filter(|mid| is_confirmed(mid) && counts(mid)).map(down).collect()
    }

    fn returns(&mut self, map: &RingMap, watch: &Watch, now: Nanos) -> Vec<Command> {
        let mut commands = Vec::new();
        // One that leaves is not marked as dead: only what waits for it is.
        let stalled = map.parts.iter().filter(|part| part.state == PartState::Stalled);
        let awaited: BTreeSet<MemberId> = stalled.flat_map(|part| part.isr.iter()).collect();
        for (mid, member) in &map.members {
            if !member.is_dead() && !awaited.contains(mid) {
                if let Some(past) = self.pasts.get_mut(mid).filter(|p| p.dead_since.is_some()) {
                    *past = Past { returned_at: now, returns: past.returns + 1, ..Past::default() };
                }
                continue;
            }
            let past = self.pasts.entry(*mid).or_default();
            let dead_since = *past.dead_since.get_or_insert(now);
            if watch.is_suspect(*mid, now) {
                past.heard_since = None;
            } else {
                let heard_since = *past.heard_since.get_or_insert(now);
                let patience = (REJOIN_MIN * (1 << past.returns.min(6))).min(REJOIN_MAX);
                if now.since(heard_since) >= patience {
                    commands.push(Command::Up { mid: *mid });
                    continue;
                }
            }
            if member.state == MemberState::Down && now.since(dead_since) > PLACE_KEPT {
                commands.push(Command::Away { mid: *mid });
            }
        }
        commands
    }
}

fn down(mid: &MemberId) -> Command {
    Command::Down { mid: *mid }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ClusterId;
    use crate::proto::Coordinator;
    use crate::ring::Params;
    use crate::wire::JoinInfo;

    const ME: MemberId = MemberId(1);
    const OTHER: MemberId = MemberId(2);
    const VICTIM: MemberId = MemberId(3);

    fn ms(ms: u64) -> Nanos {
        Nanos::from_millis(ms)
    }

    /// A ring of that many members.
    fn ring(members: u64) -> Coordinator {
        let info = |n: u64| JoinInfo {
            name: format!("n{n}"),
            addr: format!("h{n}:1"),
            weight: 1,
            position: n,
            ..JoinInfo::default()
        };
        let params = Params { partitions: 8, ..Params::default() };
        let mut coordinator = Coordinator::create(ClusterId(1), params, info(1));
        for n in 2..=members {
            coordinator.operate(&Command::Join(info(n))).unwrap();
        }
        coordinator.propose(&|_| false);
        coordinator
    }

    fn watch(members: u64) -> Watch {
        let mut watch = Watch::default();
        watch.set(&(2..=members).map(MemberId).collect(), ms(0));
        watch
    }

    /// Lets time pass until `to`, hearing of `alive` every 50 ms; everything decided meanwhile.
    fn pass(
        ring: &mut Coordinator,
        watch: &mut Watch,
        jury: &mut Jury,
        (from, to): (u64, u64),
        alive: &[MemberId],
    ) -> Vec<Command> {
        let mut decided = Vec::new();
        for now in (from..=to).step_by(50).map(ms) {
            alive.iter().for_each(|mid| watch.heard(*mid, now));
            watch.suspects(now);
            for command in jury.judge(ME, ring.map(), watch, now) {
                ring.operate(&command).unwrap();
                decided.push(command);
            }
            ring.propose(&|_| false);
        }
        decided
    }

    #[test]
    fn a_refused_connection_and_a_second_witness_are_enough_at_once() {
        let (ring, mut watch, mut jury) = (ring(3), watch(3), Jury::default());
        watch.heard(VICTIM, ms(10));
        watch.heard(OTHER, ms(10));
        watch.suspects(ms(10));
        assert!(watch.disconnected(VICTIM), "worth a try whether somebody is still there");
        watch.refused(VICTIM);
        assert!(jury.judge(ME, ring.map(), &watch, ms(11)).is_empty(), "one witness");
        jury.report(OTHER, [VICTIM], ms(12));
        assert_eq!(jury.judge(ME, ring.map(), &watch, ms(12)), [Command::Down { mid: VICTIM }]);
        watch.heard(VICTIM, ms(13));
        assert!(jury.judge(ME, ring.map(), &watch, ms(13)).is_empty(), "it spoke");
    }

    #[test]
    fn who_never_judges_keeps_no_reports_of_long_ago() {
        let mut jury = Jury::default();
        for n in 0..1_000 {
            jury.report(OTHER, [MemberId(n)], ms(100 * n));
        }
        assert_eq!(jury.reports.len(), 4, "those of the last 300 ms");
    }

    #[test]
    fn silence_needs_a_witness_or_more_silence() {
        let (mut ring, mut watch, mut jury) = (ring(3), watch(3), Jury::default());
        assert!(pass(&mut ring, &mut watch, &mut jury, (0, 500), &[OTHER]).is_empty());
        let decided = pass(&mut ring, &mut watch, &mut jury, (550, 600), &[OTHER]);
        assert_eq!(decided, [Command::Down { mid: VICTIM }]);
    }

    #[test]
    fn who_hears_of_less_than_half_blames_itself() {
        let (mut ring, mut watch, mut jury) = (ring(5), watch(5), Jury::default());
        let decided = pass(&mut ring, &mut watch, &mut jury, (0, 5_000), &[OTHER]);
        assert!(decided.is_empty());
    }

    #[test]
    fn who_stood_still_itself_blames_nobody() {
        let (mut ring, mut watch, mut jury) = (ring(3), watch(3), Jury::default());
        pass(&mut ring, &mut watch, &mut jury, (0, 200), &[OTHER, VICTIM]);
        assert!(watch.suspects(ms(5_200)).is_empty());
        assert!(jury.judge(ME, ring.map(), &watch, ms(5_200)).is_empty());
    }

    #[test]
    fn who_is_back_has_to_stay_longer_each_time() {
        let (mut ring, mut watch, mut jury) = (ring(3), watch(3), Jury::default());
        let both = [OTHER, VICTIM];
        let mut now = 0;
        for patience in [1_000, 2_000, 4_000] {
            pass(&mut ring, &mut watch, &mut jury, (now, now + 600), &[OTHER]);
            assert!(ring.map().members[&VICTIM].is_dead());
            now += 650;
            let decided = pass(&mut ring, &mut watch, &mut jury, (now, now + patience - 50), &both);
            assert_eq!(decided, []);
            now += patience;
            let decided = pass(&mut ring, &mut watch, &mut jury, (now, now + 50), &both);
            assert_eq!(decided, [Command::Up { mid: VICTIM }]);
            now += 100;
        }
    }

    #[test]
    fn the_place_of_the_dead_is_given_away_after_a_while() {
        let (mut ring, mut watch, mut jury) = (ring(3), watch(3), Jury::default());
        let decided = pass(&mut ring, &mut watch, &mut jury, (0, 12_000), &[OTHER]);
        assert_eq!(decided, [Command::Down { mid: VICTIM }, Command::Away { mid: VICTIM }]);
    }
}
