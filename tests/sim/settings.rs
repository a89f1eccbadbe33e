//! What one seed draws: the shape of the ring, its load, and which faults come how often. Each
//! seed leaves many faults out, so that the others are seen in every combination (swarm testing).

use std::time::Duration;

use ringkv::base::{Nanos, Rng};
use ringkv::ring::{Params, PlacementKind};

use crate::crashes::Dangers;

/// Directed attacks: faults at the worst moment instead of a random one.
#[derive(Clone, Copy, Debug, Default)]
pub struct Attacks {
    /// A new primary passes its role on as soon as it has it.
    pub handover_twice: bool,
    /// The old primary is isolated when its handover is applied.
    pub isolate_old_primary: bool,
    /// A connection is reset while a snapshot is on it, at any phase.
    pub reset_in_snapshot: bool,
    /// A learner does not hear of the map for a long time.
    pub delay_map_to_learner: bool,
    /// A member is dropped while it streams.
    pub drop_streamer: bool,
    /// The coordinator's member is dropped.
    pub drop_coordinator: bool,
    /// Primaries remove in-sync replicas for no reason.
    pub remove_for_no_reason: bool,
    /// What a primary sends, or its answer, is late, and the role moves on meanwhile.
    pub late_append: bool,
    /// The coordinator takes primaries for dead that are not, and promotes others.
    pub promote_falsely: bool,
    /// The primary is cut off from everybody but the clients, and replaced.
    pub isolate_and_down: bool,
    /// A primary does not hear that a learner counts now; everybody else goes.
    pub hide_in_sync: bool,
    /// A node dies and is back at once, and in between somebody is promoted.
    pub restart_and_promote: bool,
    /// A role is passed on, and again before anybody hears of it.
    pub handover_at_once: bool,
    /// A primary that slept wakes up in the middle of the stream that its successor sends it.
    pub resume_into_stream: bool,
    /// A primary is replaced while it is read from.
    pub down_under_reads: bool,
    /// A second heir while the old primary's leases still run.
    pub heirs_in_a_row: bool,
    /// A primary that was replaced long ago hears of it when its heir is replaced.
    pub late_farewell: bool,
    /// An acknowledgement comes back to a primary that has been replaced and is back unknowingly.
    pub late_ack: bool,
    /// What was said on a connection that broke arrives in the middle of what is said on the next.
    pub haunt: bool,
    /// Everybody reads when a cut ends.
    pub read_after_cut: bool,
}

impl Attacks {
    fn draw(rng: &mut Rng) -> Self {
        Self {
            handover_twice: rng.chance(250),
            isolate_old_primary: rng.chance(250),
            reset_in_snapshot: rng.chance(250),
            delay_map_to_learner: rng.chance(250),
            drop_streamer: rng.chance(200),
            drop_coordinator: rng.chance(250),
            remove_for_no_reason: rng.chance(200),
            late_append: rng.chance(250),
            promote_falsely: rng.chance(150),
            isolate_and_down: rng.chance(300),
            hide_in_sync: rng.chance(250),
            restart_and_promote: rng.chance(250),
            handover_at_once: rng.chance(200),
            resume_into_stream: rng.chance(250),
            down_under_reads: rng.chance(250),
            heirs_in_a_row: rng.chance(250),
            late_farewell: rng.chance(250),
            late_ack: rng.chance(250),
            haunt: rng.chance(200),
            read_after_cut: rng.chance(250),
        }
    }
}

/// What makes life hard for sessions.
#[derive(Clone, Copy, Debug, Default)]
pub struct SessionFaults {
    /// How often a client sends again before it could know that it must.
    pub impatient_permille: u64,
    /// How often a message that may be doubled is.
    pub double_permille: u64,
    /// How often, of the ticks of a primary, a session is closed that may be in use.
    pub close_permille: u64,
}

impl SessionFaults {
    fn draw(rng: &mut Rng) -> Self {
        Self {
            impatient_permille: pick(rng, &[0, 20, 200]),
            double_permille: pick(rng, &[0, 50, 400]),
            close_permille: pick(rng, &[0, 10, 120]),
        }
    }
}

/// The choices of one seed.
#[derive(Clone, Debug)]
pub struct Settings {
    pub params: Params,
    /// Members that join at the start, beside the first.
    pub joins_at_start: u64,
    pub members_max: usize,
    pub duration: Nanos,
    /// Mean time between two changes by the operator; 0 is none.
    pub operator_ms: u64,
    pub clients: usize,
    pub keys: u64,
    /// How often the first key is taken.
    pub hot_key_permille: u64,
    pub operations_per_client: u64,
    pub think_ms: u64,
    pub reads_permille: u64,
    pub deletes_permille: u64,
    pub if_absent_permille: u64,
    pub ttl_permille: u64,
    pub cas_permille: u64,
    /// Keys, the last ones, that are only added to.
    pub counters: u64,
    /// Operations that a client has under way at the same time.
    pub pipeline: usize,
    pub sessions: SessionFaults,
    pub value_bytes: usize,
    pub operation_timeout_ms: u64,
    /// How often a client asks somebody else than the primary.
    pub misroute_permille: u64,
    delay_us: (u64, u64),
    tail_permille: u64,
    tail_us: u64,
    pub reconnect_ms: u64,
    /// Mean time between two random faults; 0 is none.
    pub fault_ms: u64,
    pub fault_weights: [u64; 5],
    pub fault_length_ms: u64,
    pub map_skip_permille: u64,
    pub map_full_permille: u64,
    /// How long partitions lag behind their node in adopting a map, at most.
    pub adopt_lag_us: u64,
    /// How long inputs may wait for a flush.
    pub turn_us: u64,
    pub bulk_room: usize,
    pub no_room_permille: u64,
    pub memory_full_permille: u64,
    pub attacks: Attacks,
    pub dangers: Dangers,
    /// Nothing goes wrong, members only come and go: then no write may end unknown.
    pub quiet: bool,
}

impl Settings {
    /// The choices of `seed`.
    pub fn draw(rng: &mut Rng) -> Self {
        let copies = 1 + rng.below(4) as u8;
        // A chunk takes 64 KiB: only values of that size make a snapshot of several chunks.
        let big = rng.chance(200);
        let params = Params {
            partitions: 1 << rng.below(if big { 2 } else { 5 }),
            placement: pick(rng, &[PlacementKind::Balanced, PlacementKind::Successor]),
            seed: rng.next_u64() as u32,
            copies,
            leases: rng.chance(850),
            min_insync: 1 + rng.below(u64::from(copies)) as u8,
            ..Params::default()
        };
        let quiet = rng.chance(100);
        let some = |rng: &mut Rng, permille, value| if rng.chance(permille) { value } else { 0 };
        Self {
            params,
            joins_at_start: rng.below(5),
            members_max: 3 + rng.below(4) as usize,
            duration: Nanos::from_millis(rng.range(1_500, 6_000)),
            operator_ms: pick(rng, &[150, 500, 1_500, 3_000]),
            clients: 1 + rng.below(5) as usize,
            keys: rng.range(1, 13),
            hot_key_permille: pick(rng, &[0, 300, 700]),
            operations_per_client: rng.range(10, 120),
            think_ms: pick(rng, &[2, 20, 100]),
            reads_permille: pick(rng, &[100, 400, 700]),
            deletes_permille: pick(rng, &[0, 100, 300]),
            if_absent_permille: pick(rng, &[0, 200, 500]),
            ttl_permille: pick(rng, &[0, 0, 100, 400]),
            cas_permille: pick(rng, &[0, 200, 600]),
            counters: rng.below(3),
            pipeline: pick(rng, &[1, 2, 6]),
            sessions: if quiet { SessionFaults::default() } else { SessionFaults::draw(rng) },
            value_bytes: if big { 34_000 } else { 16 },
            operation_timeout_ms: pick(rng, &[500, 2_000, 5_000]),
            misroute_permille: pick(rng, &[0, 50, 400]),
            delay_us: pick(rng, &[(20, 60), (50, 500), (500, 5_000)]),
            tail_permille: if quiet { 0 } else { pick(rng, &[0, 10, 100]) },
            tail_us: pick(rng, &[5_000, 60_000, 600_000]),
            reconnect_ms: if quiet { 20 } else { pick(rng, &[2, 50, 400]) },
            fault_ms: if quiet { 0 } else { pick(rng, &[30, 200, 800]) },
            fault_weights: std::array::from_fn(|_| some(rng, 600, 1)),
            fault_length_ms: pick(rng, &[30, 300, 2_000]),
            map_skip_permille: pick(rng, &[0, 200, 900]),
            map_full_permille: pick(rng, &[0, 200, 1_000]),
            adopt_lag_us: pick(rng, &[0, 0, 2_000, 60_000]),
            turn_us: pick(rng, &[0, 50, 2_000]),
            bulk_room: pick(rng, &[1, 40_000, 1 << 20]),
            no_room_permille: pick(rng, &[0, 300, 800]),
            memory_full_permille: pick(rng, &[0, 0, 100]),
            attacks: match quiet {
                true => Attacks::default(),
                false => Attacks::draw(rng),
            },
            dangers: Dangers::draw(rng, quiet),
            quiet,
        }
    }

    /// Whether a key is only added to.
    pub fn is_counter(&self, key: u64) -> bool {
        key + self.counters >= self.keys
    }

    /// How long one message takes.
    pub fn delay(&self, rng: &mut Rng) -> Duration {
        let (low, high) = self.delay_us;
        let tail = if rng.chance(self.tail_permille) { rng.below(self.tail_us) } else { 0 };
        Duration::from_micros(rng.range(low, high) + tail)
    }

    /// No tails and no stinginess any more: the faults are over.
    pub fn heal(&mut self) {
        self.tail_permille = 0;
        self.map_skip_permille = 0;
        self.no_room_permille = 0;
        self.memory_full_permille = 0;
        self.sessions = SessionFaults::default();
        self.bulk_room = self.bulk_room.max(40_000);
        self.attacks = Attacks::default();
        self.dangers.heal();
    }
}

fn pick<T: Copy>(rng: &mut Rng, choices: &[T]) -> T {
    choices[rng.below(choices.len() as u64) as usize]
}
