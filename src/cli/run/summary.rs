//! What the job prints at the end.

use std::io::Write;
use std::time::Duration;

use serde_json::{Value, json};

use super::clients::Tally;
use super::{Loaded, Verified, draw};
use crate::RingInfo;
use crate::cli::Session;
use crate::cli::change::Moved;
use crate::cli::output::Outcome;
use crate::cli::ring::info_json;
use crate::cli::text::{bytes, count, duration};

/// One change: what it moved, and what it had to move.
pub struct Movement {
    /// As the members counted it.
    pub moved: Moved,
    /// The least that any system would have to move.
    pub ideal_bytes: u64,
}

impl Movement {
    /// Moved bytes for each byte that had to move.
    pub fn ratio(&self) -> f64 {
        self.moved.bytes as f64 / self.ideal_bytes.max(1) as f64
    }

    /// What a person wants to know.
    pub fn sentence(&self) -> String {
        format!(
            "moved {}, ideal {}: {:.3} x the ideal",
            bytes(self.moved.bytes),
            bytes(self.ideal_bytes),
            self.ratio(),
        )
    }

    fn json(&self) -> Value {
        json!({
            "bytes": self.moved.bytes, "keys": self.moved.keys, "ideal_bytes": self.ideal_bytes,
            "ratio": self.ratio(), "seconds": self.moved.took.as_secs_f64(),
        })
    }
}

/// Whether every copy was in place after the changes.
pub struct Settling {
    /// Copies that were not, when the clients had ended.
    pub copies_missing: u64,
    /// How long it took until they were; `None` if that was waited for in vain.
    pub took: Option<Duration>,
}

impl Settling {
    /// What a person wants to know.
    pub fn sentence(&self) -> String {
        match (self.copies_missing, self.took) {
            (0, Some(_)) => "every copy is in place".into(),
            (missing, Some(took)) => format!(
                "copies not in place when the clients ended: {}; all were {} later",
                count(missing),
                duration(took)
            ),
            (missing, None) => {
                format!("copies not in place: {}, and waiting did not help", count(missing))
            }
        }
    }

    fn json(&self) -> Value {
        json!({
            "copies_missing": self.copies_missing,
            "seconds": self.took.map(|took| took.as_secs_f64()),
        })
    }
}

/// Everything that happened.
pub struct Summary<'a> {
    /// What was loaded.
    pub source: String,
    /// Seed of the clients.
    pub seed: u64,
    /// Which of the first nodes was dropped.
    pub dropped: usize,
    /// The load.
    pub loaded: &'a Loaded,
    /// Reading back right after it.
    pub first_reading: Verified,
    /// The clients.
    pub tally: Tally,
    /// The fourth node's coming.
    pub added: Movement,
    /// The dropped one's going.
    pub gone: Movement,
    /// The copies after both.
    pub settling: Settling,
    /// Reading back at the end.
    pub second_reading: Verified,
    /// The ring at the end.
    pub info: RingInfo,
}

impl Summary<'_> {
    /// Nothing missing, nothing wrong, nothing failed.
    pub fn is_right(&self) -> bool {
        self.first_reading.is_right()
            && self.second_reading.is_right()
            && self.settling.took.is_some()
            && self.tally.failed == 0
            && self.tally.wrong == 0
    }

    /// The report, as text or JSON.
    pub fn print(&self, session: &mut Session) -> Outcome<()> {
        if session.out.json {
            let value = self.json();
            session.out.json_line(&value)?;
            return Ok(());
        }
        let tally = &self.tally;
        let slow = |percent| Duration::from_nanos(tally.latencies.value_at_percentile(percent));
        let out = &mut session.out;
        out.line(format_args!(
            "clients  {} operations ({} writes), p50 {}, p99 {}, slowest {}",
            count(tally.operations),
            count(tally.writes),
            duration(slow(50.0)),
            duration(slow(99.0)),
            duration(slow(100.0)),
        ))?;
        out.line(format_args!(
            "         failed operations: {}, wrong: {}",
            count(tally.failed),
            count(tally.wrong)
        ))?;
        if let Some(first) = &tally.first {
            out.line(format_args!("         the first: {first}"))?;
        }
        out.line(format_args!("shares   max/mean {:.3}", self.evenness()))?;
        write!(out, "\n{}", draw::ring(&self.info))?;
        let verdict = if self.is_right() { "ok" } else { "NOT OK" };
        out.line(format_args!(
            "\n{verdict}: {} after adding n4 and dropping n{}",
            self.keys(),
            self.dropped
        ))?;
        Ok(())
    }

    fn keys(&self) -> String {
        let reading = &self.second_reading;
        let bad = reading.missing + reading.wrong + reading.failed;
        let right = reading.keys.saturating_sub(bad);
        format!(
            "{} of {} keys as in the source",
            count(right),
            count(self.loaded.known.len() as u64)
        )
    }

    /// The largest share of copies in relation to the mean.
    fn evenness(&self) -> f64 {
        let copies: Vec<u32> =
            self.info.members.iter().filter(|m| m.weight > 0).map(|m| m.copies).collect();
        let mean = copies.iter().map(|c| f64::from(*c)).sum::<f64>() / copies.len().max(1) as f64;
        copies.iter().copied().max().map_or(1.0, |most| f64::from(most) / mean.max(1e-9))
    }

    fn json(&self) -> Value {
        let latency = |percent| self.tally.latencies.value_at_percentile(percent);
        json!({
            "ok": self.is_right(),
            "source": self.source,
            "seed": self.seed,
            "dropped": format!("n{}", self.dropped),
            "load": {
                "keys": self.loaded.known.len(), "duplicates": self.loaded.duplicates(),
                "bytes": self.loaded.bytes, "seconds": self.loaded.took.as_secs_f64(),
                "sent_again": self.loaded.sent_again,
            },
            "check_after_load": self.first_reading.json(),
            "clients": {
                "operations": self.tally.operations, "writes": self.tally.writes,
                "failed": self.tally.failed, "wrong": self.tally.wrong, "first": self.tally.first,
                "p50_ns": latency(50.0), "p99_ns": latency(99.0), "max_ns": latency(100.0),
            },
            "add": self.added.json(),
            "drop": self.gone.json(),
            "settle": self.settling.json(),
            "check_at_end": self.second_reading.json(),
            "max_over_mean": self.evenness(),
            "ring": info_json(&self.info),
        })
    }
}
