//! What one run does, from the environment of `make chaos`.

use std::time::Duration;

use ringkv::base::Rng;

/// Which faults a run draws from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The short form of `cargo test`.
    Short,
    /// Kills, pauses, rolling restarts, kills while nodes come and go.
    Storm,
    /// Cut cables, one-way cuts, loss, slow links, and kills among them.
    Cables,
    /// Two nodes at once, whenever all copies are in sync.
    Double,
    /// All holders of a key at once: what is lost is said to be.
    Loss,
    /// No fault at all, but both cores busy with other work: nobody may be declared dead.
    Idle,
}

/// Everything that a run depends on. The same settings give the same schedule of faults.
#[derive(Clone, Debug)]
pub struct Settings {
    pub mode: Mode,
    pub seed: u64,
    /// Nodes of the ring; in `Storm` one more comes and goes.
    pub nodes: usize,
    pub partitions: u32,
    /// How long faults are made.
    pub time: Duration,
    /// Faults, at most.
    pub steps: usize,
    /// The run ends when so many nodes were killed.
    pub kills: usize,
    /// Clients of random operations: one third each in this process, in C and in Python.
    pub clients: usize,
    /// Streams of keys, each in a partition of its own with its own writer and reader.
    pub slots: usize,
    /// Time between two operations of one client.
    pub pace: Duration,
    /// Keys that are written once at the beginning and read at the end.
    pub ballast: usize,
    /// Deadline of each operation.
    pub timeout: Duration,
}

impl Settings {
    /// As the environment says; without it, the short form.
    pub fn from_environment() -> Settings {
        let mode = match std::env::var("CHAOS_MODE").unwrap_or_default().as_str() {
            "" | "short" => Mode::Short,
            "storm" => Mode::Storm,
            "cables" => Mode::Cables,
            "double" => Mode::Double,
            "loss" => Mode::Loss,
            "idle" => Mode::Idle,
            other => panic!("CHAOS_MODE={other}: short, storm, cables, double, loss or idle"),
        };
        let mut settings = Settings::of(mode);
        if let Some(seed) = number("CHAOS_SEED") {
            settings.seed = seed;
        }
        if let Some(minutes) = number("CHAOS_MINUTES") {
            settings.time = Duration::from_secs(60 * minutes);
        }
        if let Some(steps) = number("CHAOS_STEPS") {
            settings.steps = steps as usize;
        }
        if let Some(kills) = number("CHAOS_KILLS") {
            settings.kills = kills as usize;
        }
        if let Some(nodes) = number("CHAOS_NODES") {
            settings.nodes = nodes as usize;
        }
        settings
    }

    /// The defaults of a mode. All but the short form draw a seed.
    pub fn of(mode: Mode) -> Settings {
        let long = Settings {
            mode,
            seed: ringkv::net::sys::random_u64() % 1_000_000,
            nodes: 5,
            partitions: 256,
            time: Duration::from_secs(300),
            steps: usize::MAX,
            kills: usize::MAX,
            clients: 8,
            slots: 12,
            pace: Duration::from_millis(10),
            ballast: 20_000,
            timeout: Duration::from_secs(5),
        };
        match mode {
            Mode::Short => Settings {
                seed: 1,
                nodes: 3,
                partitions: 32,
                time: Duration::from_secs(8),
                clients: 4,
                slots: 6,
                ballast: 500,
                ..long
            },
            Mode::Idle => Settings { time: Duration::from_secs(600), ..long },
            Mode::Storm | Mode::Cables | Mode::Double | Mode::Loss => long,
        }
    }

    /// The numbers that everything random is drawn from, a different row for each `purpose`.
    pub fn rng(&self, purpose: u64) -> Rng {
        // Drawn twice, because neighbouring seeds of this generator give shifted rows.
        Rng::new(Rng::new(self.seed ^ (purpose << 32)).next_u64())
    }
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok().filter(|text| !text.is_empty())?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text}: a number is wanted")))
}
