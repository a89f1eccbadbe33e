//! What a run has shown, in figures: how long each fault was felt, and what was refused.

use std::collections::BTreeMap;
use std::time::Duration;

use ringkv::Status;

use crate::history::{History, Outcome, Record};
use crate::nemesis::{Deeds, Event, Kind};

/// What was answered so soon after a fault had been on its way before.
const IN_FLIGHT: u64 = 10_000_000;
/// Pauses and cuts at least that long must lead to somebody else taking over.
const LONG: Duration = Duration::from_secs(1);
/// How long after a fault its effect on backups is looked for.
const AFTERMATH: u64 = 3_000_000_000;

/// A line of the table, and the kind of event that it is about.
type Row = (&'static str, fn(Kind) -> bool);

/// Durations of one kind, in nanoseconds, and the step of each.
#[derive(Default)]
struct Sample {
    felt: Vec<(u64, usize)>,
    /// Those that never ended.
    endless: Vec<usize>,
}

impl Sample {
    fn add(&mut self, duration: Option<u64>, step: usize) {
        match duration {
            Some(nanos) => self.felt.push((nanos, step)),
            None => self.endless.push(step),
        }
    }

    fn print(&mut self, title: &str) {
        if self.felt.is_empty() && self.endless.is_empty() {
            return;
        }
        self.felt.sort_unstable();
        let at = |share: f64| {
            let index = (self.felt.len() as f64 * share) as usize;
            let felt = self.felt.get(index.min(self.felt.len().saturating_sub(1)));
            felt.map_or(f64::NAN, |(nanos, _)| *nanos as f64 / 1e6)
        };
        let (count, p50, p99, max) = (self.felt.len(), at(0.5), at(0.99), at(1.0));
        let worst = self.felt.last().map_or(0, |(_, step)| *step);
        print!("{title:<44} {count:>7} {p50:>9.1} {p99:>9.1} {max:>9.1}");
        if worst > 0 {
            print!("  #{worst}");
        }
        if !self.endless.is_empty() {
            print!("  never in {:?}", self.endless);
        }
        println!();
    }
}

/// Prints the tables. Returns what must not have been answered at all.
pub fn print(history: &History, deeds: &Deeds, may_be_lost: bool) -> Vec<String> {
    let mut by_slot: BTreeMap<usize, Vec<&Record>> = BTreeMap::new();
    for record in &history.records {
        by_slot.entry(record.key.slot).or_default().push(record);
    }
    println!(
        "\n{:<44} {:>7} {:>9} {:>9} {:>9}",
        "milliseconds", "count", "p50", "p99", "max, in step"
    );
    gaps(&by_slot, deeds);
    changes(history, deeds);
    let mut settling = Sample::default();
    for (at, time) in deeds.settling.iter().enumerate() {
        settling.add(Some(time.as_nanos() as u64), at + 1);
    }
    settling.print("ring whole again after the end of a fault");
    let mut all = Sample::default();
    let done = history.records.iter().filter(|record| record.outcome.is_success());
    done.for_each(|record| all.add(Some(record.answered - record.called), 0));
    all.print("all operations that succeeded");
    let mut findings = answers(history, deeds, may_be_lost);
    findings.extend(failures_in_quiet(history, deeds));
    findings
}

/// What failed while no fault was made and the ring was whole.
fn failures_in_quiet(history: &History, deeds: &Deeds) -> Vec<String> {
    let failed = history.records.iter().filter(|record| !record.outcome.is_success());
    let in_quiet = |record: &&Record| {
        let whole = |(from, to): &(u64, u64)| *from < record.called && record.answered < *to;
        deeds.quiet.iter().any(whole)
    };
    failed.filter(in_quiet).take(10).map(|r| format!("failed in a whole ring: {r:?}")).collect()
}

/// From the last success before a fault to the first acknowledged write after it, for each slot
/// that was hit.
fn gaps(by_slot: &BTreeMap<usize, Vec<&Record>>, deeds: &Deeds) {
    let of = |wanted: fn(Kind) -> bool| deeds.events.iter().filter(move |e| wanted(e.kind));
    let primaries: [Row; 6] = [
        ("primary killed: gap to a write", |kind| kind == Kind::Killed),
        ("primary ended in order: gap to a write", |kind| kind == Kind::Terminated),
        (
            "primary stopped >= 1 s: gap to a write",
            |kind| matches!(kind, Kind::Stopped(time) if time >= LONG),
        ),
        (
            "primary stopped < 1 s: gap to a write",
            |kind| matches!(kind, Kind::Stopped(time) if time < LONG),
        ),
        (
            "primary cut off >= 1 s: gap to a write",
            |kind| matches!(kind, Kind::CutOff(time) if time >= LONG),
        ),
        (
            "primary cut off < 1 s: gap to a write",
            |kind| matches!(kind, Kind::CutOff(time) if time < LONG),
        ),
    ];
    for (title, wanted) in primaries {
        let mut sample = Sample::default();
        for event in of(wanted) {
            let slots = event.primary_of.iter();
            slots.for_each(|slot| sample.add(gap(&by_slot[slot], event), event.step));
        }
        sample.print(title);
    }
    let backups: [Row; 2] = [
        ("backup killed", |kind| kind == Kind::Killed),
        ("backup stopped >= 1 s", |kind| matches!(kind, Kind::Stopped(time) if time >= LONG)),
    ];
    for (title, wanted) in backups {
        for (what, writes) in [("writes", true), ("reads", false)] {
            let mut sample = Sample::default();
            for event in of(wanted) {
                for slot in &event.backup_of {
                    if let Some(time) = slowest(&by_slot[slot], event, writes) {
                        sample.add(Some(time), event.step);
                    }
                }
            }
            sample.print(&format!("{title}: slowest of the {what}"));
        }
    }
}

/// `None` if there was no write until the next event.
fn gap(records: &[&Record], event: &Event) -> Option<u64> {
    let border = records.partition_point(|record| record.answered <= event.at + IN_FLIGHT);
    let before = records[..border].iter().rfind(|record| record.outcome.is_success());
    let after = records[border..].iter().find(|record| record.is_acknowledged_write());
    let after = after.filter(|record| record.answered <= event.until.saturating_add(IN_FLIGHT))?;
    Some(after.answered - before.map_or(event.at, |record| record.answered))
}

/// How long the slowest operation of one kind took that was under way at the event or soon after.
/// The time between two of them would say more about the clients: each has one under way, and
/// waits with it where the fault hit a primary.
fn slowest(records: &[&Record], event: &Event, writes: bool) -> Option<u64> {
    let end = event.until.min(event.at + AFTERMATH);
    let after = &records[records.partition_point(|record| record.answered <= event.at)..];
    let felt = after.iter().filter(|record| record.called <= end);
    let kind = felt.filter(|record| record.is_write() == writes && record.outcome.is_success());
    // What it felt of the next event is that one's.
    kind.map(|record| record.answered.min(event.until).saturating_sub(record.called)).max()
}

/// What operations felt of nodes that came and went as planned.
fn changes(history: &History, deeds: &Deeds) {
    for (title, kind) in [("node dropped", Kind::Dropped), ("node added", Kind::Added)] {
        let mut sample = Sample::default();
        let mut refused = 0;
        for event in deeds.events.iter().filter(|event| event.kind == kind) {
            let during = |record: &&Record| (event.at..event.until).contains(&record.called);
            for record in history.records.iter().filter(during) {
                match record.outcome.is_success() {
                    true => sample.add(Some(record.answered - record.called), event.step),
                    false => refused += 1,
                }
            }
        }
        sample.print(&format!("{title}: single operations ({refused} failed)"));
    }
}

fn answers(history: &History, deeds: &Deeds, may_be_lost: bool) -> Vec<String> {
    let mut failed: BTreeMap<&str, usize> = BTreeMap::new();
    let mut unknown: BTreeMap<&str, usize> = BTreeMap::new();
    let mut findings = Vec::new();
    let (mut acknowledged, mut read) = (0, 0);
    for record in &history.records {
        match record.outcome {
            Outcome::Failed(status) => {
                *failed.entry(status.text()).or_default() += 1;
                findings.extend(never(status, record, may_be_lost));
            }
            Outcome::Unknown(status) => {
                *unknown.entry(status.text()).or_default() += 1;
                findings.extend(never(status, record, may_be_lost));
            }
            _ if record.is_write() => acknowledged += 1,
            _ => read += 1,
        }
    }
    println!(
        "\n{} kills in {} steps; {} operations on {} keys: {acknowledged} writes acknowledged, \
         {read} reads answered",
        deeds.kills(),
        deeds.steps,
        history.records.len(),
        history.keys.len(),
    );
    println!("unknown: {unknown:?}\nfailed:  {failed:?}");
    let open = history.records.iter().filter(|r| matches!(r.outcome, Outcome::Unknown(_)));
    open.take(5).for_each(|record| println!("         {record:?}"));
    findings.truncate(10);
    findings
}

/// Statuses that no fault of ours excuses.
fn never(status: Status, record: &Record, may_be_lost: bool) -> Option<String> {
    let wrong = matches!(status, Status::Internal | Status::Panic)
        || (status == Status::DataLost && !may_be_lost);
    wrong.then(|| format!("answered with {status:?}: {record:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{KeyId, Request};

    fn put(answered: u64, outcome: Outcome) -> Record {
        let (key, request) = (KeyId { slot: 0, number: 0 }, Request::Put(answered));
        Record { key, client: 0, request, called: answered - 1, answered, outcome }
    }

    #[test]
    fn a_gap_ends_with_an_acknowledged_write() {
        let ms = 1_000_000;
        let records = [
            put(90 * ms, Outcome::Stored),
            put(105 * ms, Outcome::Stored), // On its way when the fault came.
            put(300 * ms, Outcome::Unknown(Status::Timeout)),
            Record { called: 150 * ms, ..put(500 * ms, Outcome::Stored) },
        ];
        let records: Vec<&Record> = records.iter().collect();
        let (primary_of, backup_of) = (vec![0], vec![]);
        let event = Event {
            kind: Kind::Killed,
            step: 1,
            at: 100 * ms,
            until: 900 * ms,
            primary_of,
            backup_of,
        };
        assert_eq!(gap(&records, &event), Some(395 * ms));
        assert_eq!(slowest(&records, &event, true), Some(350 * ms));
        assert_eq!(slowest(&records, &event, false), None);
        let event = Event { until: 400 * ms, ..event };
        assert_eq!(gap(&records, &event), None);
    }
}
