//! What the clients asked and were answered, and whether that can have been right.

use std::collections::BTreeMap;
use std::sync::Arc;

use ringkv::Status;

use crate::linear::{self, Action, Operation, Verdict};

/// A key that was used: which of all, and by which stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyId {
    pub slot: usize,
    pub number: u64,
}

/// What was asked for. Values are unique, so numbers stand for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    Get,
    Put(u64),
    PutIfAbsent(u64),
    Delete,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A value or none.
    Read(Option<u64>),
    /// Stored.
    Stored,
    /// Whether the condition held: there was no value to keep, there was one to delete.
    Condition(bool),
    /// Certainly not executed.
    Failed(Status),
    /// Executed, or not, or still to be executed.
    Unknown(Status),
}

impl Outcome {
    /// An error of this status.
    pub fn error(status: Status) -> Outcome {
        match status.maybe_applied() {
            true => Outcome::Unknown(status),
            false => Outcome::Failed(status),
        }
    }

    pub fn is_success(self) -> bool {
        !matches!(self, Outcome::Failed(_) | Outcome::Unknown(_))
    }
}

/// One operation. Times are nanoseconds of CLOCK_BOOTTIME, which all processes share.
#[derive(Clone, Copy, Debug)]
pub struct Record {
    pub key: KeyId,
    pub client: usize,
    pub request: Request,
    pub called: u64,
    pub answered: u64,
    pub outcome: Outcome,
}

impl Record {
    pub fn is_write(&self) -> bool {
        self.request != Request::Get
    }

    /// Also one whose condition did not hold: its answer went through the log as well.
    pub fn is_acknowledged_write(&self) -> bool {
        self.is_write() && self.outcome.is_success()
    }

    /// As the checker wants it; `None` if it says nothing.
    fn operation(&self) -> Option<Operation> {
        let unknown = matches!(self.outcome, Outcome::Unknown(_));
        let action = match (self.request, self.outcome) {
            (_, Outcome::Failed(_)) => return None,
            (Request::Get, Outcome::Read(value)) => Action::Get(value),
            (Request::Get, _) => return None,
            (Request::Put(value), _) => Action::Put(value),
            (Request::PutIfAbsent(value), Outcome::Condition(held)) => {
                Action::PutIfAbsent(value, Some(held))
            }
            (Request::PutIfAbsent(value), _) => Action::PutIfAbsent(value, None),
            (Request::Delete, Outcome::Condition(held)) => Action::Delete(Some(held)),
            (Request::Delete, _) => Action::Delete(None),
        };
        let answered = (!unknown).then_some(self.answered);
        Some(Operation { called: self.called, answered, action })
    }
}

/// All records of a run, with the names of the keys.
#[derive(Default)]
pub struct History {
    pub records: Vec<Record>,
    pub keys: BTreeMap<KeyId, Arc<str>>,
}

/// A key whose history cannot be explained.
pub struct Violation {
    pub why: String,
    /// Its operations, one line each.
    pub history: String,
}

/// What the checker says of all keys.
#[derive(Default)]
pub struct Judgement {
    pub keys: usize,
    pub operations: usize,
    /// Keys whose search was given up: neither good nor bad.
    pub unresolved: usize,
    pub violations: Vec<Violation>,
}

impl History {
    /// Checks every key on its own. `last_reads` came after everything else had ended.
    pub fn judge(&self, last_reads: &[Record]) -> Judgement {
        let mut by_key: BTreeMap<KeyId, Vec<&Record>> = BTreeMap::new();
        for record in self.records.iter().chain(last_reads) {
            by_key.entry(record.key).or_default().push(record);
        }
        let mut judgement = Judgement { keys: by_key.len(), ..Judgement::default() };
        for (key, mut records) in by_key {
            records.sort_by_key(|record| record.called);
            judgement.operations += records.len();
            match verdict(&records) {
                Verdict::Linearizable => {}
                Verdict::Unresolved => judgement.unresolved += 1,
                Verdict::Violation => judgement.violations.push(self.explain(key, &records)),
            }
        }
        judgement
    }

    fn explain(&self, key: KeyId, records: &[&Record]) -> Violation {
        // The shortest beginning that is wrong ends with the answer that gives it away.
        let mut by_answer = records.to_vec();
        by_answer.sort_by_key(|record| record.answered);
        let wrong = |count: &usize| verdict(&by_answer[..*count]) == Verdict::Violation;
        let first = (1..=by_answer.len()).find(wrong).unwrap_or(by_answer.len());
        let culprit = by_answer[first - 1];
        let line = |record: &&Record| {
            let mark = if std::ptr::eq(*record, culprit) { "  <== first wrong answer" } else { "" };
            format!(
                "  {:>17} {:>17} client {:>3}  {:?} -> {:?}{mark}\n",
                record.called, record.answered, record.client, record.request, record.outcome
            )
        };
        let name = self.keys.get(&key).map_or("?", |name| &**name);
        let why = format!(
            "key {name}: no order explains what client {} was answered at {} ({:?} -> {:?})",
            culprit.client, culprit.answered, culprit.request, culprit.outcome
        );
        Violation { why, history: records.iter().map(line).collect() }
    }
}

fn verdict(records: &[&Record]) -> Verdict {
    let operations: Vec<Operation> = records.iter().filter_map(|r| r.operation()).collect();
    linear::check(&operations)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(called: u64, request: Request, outcome: Outcome) -> Record {
        let key = KeyId { slot: 0, number: 0 };
        Record { key, client: 1, request, called, answered: called + 1, outcome }
    }

    fn history(records: &[Record]) -> History {
        let keys = records.iter().map(|record| (record.key, Arc::from("k"))).collect();
        History { records: records.to_vec(), keys }
    }

    #[test]
    fn a_lost_write_is_a_violation_that_names_the_read() {
        let records = [
            record(10, Request::Put(1), Outcome::Stored),
            record(20, Request::Put(2), Outcome::Stored),
            record(30, Request::Get, Outcome::Read(Some(2))),
        ];
        let good = history(&records).judge(&[record(90, Request::Get, Outcome::Read(Some(2)))]);
        assert!(good.violations.is_empty() && good.operations == 4 && good.keys == 1);
        let bad = history(&records).judge(&[record(90, Request::Get, Outcome::Read(Some(1)))]);
        assert_eq!(bad.violations.len(), 1);
        assert!(bad.violations[0].why.contains("at 91"), "{}", bad.violations[0].why);
        assert_eq!(bad.violations[0].history.matches("first wrong").count(), 1);
    }

    #[test]
    fn unknown_writes_are_open_and_failed_ones_never_were() {
        let timeout = Outcome::error(Status::Timeout);
        let unavailable = Outcome::error(Status::Unavailable);
        assert_eq!(timeout, Outcome::Unknown(Status::Timeout));
        assert_eq!(unavailable, Outcome::Failed(Status::Unavailable));
        let read = record(90, Request::Get, Outcome::Read(Some(1)));
        for (outcome, violations) in [(timeout, 0), (unavailable, 1)] {
            let judgement = history(&[record(10, Request::Put(1), outcome)]).judge(&[read]);
            assert_eq!(judgement.violations.len(), violations, "{outcome:?}");
        }
        let silent = record(95, Request::Get, timeout);
        assert!(history(&[silent]).judge(&[]).violations.is_empty());
    }
}
