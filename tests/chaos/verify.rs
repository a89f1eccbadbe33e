//! The last word: everything is read once more, and every history is checked.

use std::time::Duration;

use ringkv::base::PartitionId;
use ringkv::net::sys::boottime;
use ringkv::ring::Hasher;
use ringkv::{ReadOptions, Ring, Status, WriteOptions};

use crate::history::{History, Judgement, Outcome, Record, Request};

/// Keys that are read or written together.
const BATCH: usize = 500;
const PATIENCE: Duration = Duration::from_secs(20);
/// For each batch once one of them could not be read: it will not be the only one.
const IMPATIENCE: Duration = Duration::from_millis(300);

/// Keys that are there the whole time, so that there is something to move.
pub struct Ballast(Vec<(String, String)>);

impl Ballast {
    pub fn put(ring: &Ring, count: usize) -> Ballast {
        let pair = |at| (format!("ballast-{at}"), format!("{at:0100}"));
        let pairs: Vec<(String, String)> = (0..count).map(pair).collect();
        for batch in pairs.chunks(BATCH) {
            let batch: Vec<(&[u8], &[u8])> =
                batch.iter().map(|(key, value)| (key.as_bytes(), value.as_bytes())).collect();
            let results = ring.put_many(&batch, &WriteOptions::default()).expect("a ring at rest");
            results.into_iter().for_each(|result| result.expect("a ring at rest"));
        }
        Ballast(pairs)
    }

    /// What is wrong after `lost` partitions have begun again: their keys are absent and can be
    /// written, all others are what they were.
    pub fn after_reset(&self, ring: &Ring, lost: &[PartitionId]) -> Vec<String> {
        let params = ring.info().expect("the ring is whole").params;
        let hasher = Hasher::new(params.hash, params.seed, params.partitions);
        let keys: Vec<&str> = self.0.iter().map(|(key, _)| key.as_str()).collect();
        let mut findings = Vec::new();
        for ((key, value), last) in self.0.iter().zip(read_all(ring, &keys)) {
            let is_lost = lost.contains(&hasher.partition(key.as_bytes()));
            if last != Last::Value((!is_lost).then(|| value.clone())) {
                findings.push(format!("{key} after the reset: {}", last.text()));
            }
            let written = is_lost
                .then(|| ring.put(key.as_bytes(), value.as_bytes(), &WriteOptions::default()));
            if let Some(Err(error)) = written {
                findings.push(format!("{key} cannot be written after the reset: {error}"));
            }
        }
        findings
    }
}

/// What the last read of a key has shown.
#[derive(PartialEq, Eq)]
enum Last {
    Value(Option<String>),
    /// The ring says that it is lost.
    Lost,
    Unreadable(String),
}

/// Returns what is wrong. `may_be_lost`: more nodes died than the promise covers, so keys may be
/// lost; but then the ring has to say so.
pub fn judge(history: &History, ring: &Ring, ballast: &Ballast, may_be_lost: bool) -> Vec<String> {
    let mut findings = Vec::new();
    let keys: Vec<&str> = ballast.0.iter().map(|(key, _)| key.as_str()).collect();
    let read = read_all(ring, &keys);
    let mut lost = 0;
    for ((key, value), last) in ballast.0.iter().zip(read) {
        lost += usize::from(last == Last::Lost);
        if last != Last::Value(Some(value.clone())) && !(may_be_lost && last == Last::Lost) {
            findings.push(format!("{key}, written at the beginning: {}", last.text()));
        }
    }
    let (last_reads, unread) = last_reads(history, ring);
    for (key, last) in unread {
        lost += usize::from(last == Last::Lost);
        if !may_be_lost || last != Last::Lost {
            findings.push(format!("{key} at the end: {}", last.text()));
        }
    }
    if may_be_lost {
        println!("{lost} keys are lost, and said to be");
        if lost == 0 {
            findings.push("nothing was lost: this run has shown nothing".into());
        }
    }
    findings.extend(conclusions(history.judge(&last_reads)));
    findings
}

impl Last {
    fn text(&self) -> &str {
        match self {
            Last::Value(None) => "absent",
            Last::Value(Some(value)) => value,
            Last::Lost => "lost",
            Last::Unreadable(why) => why,
        }
    }
}

/// The reads as records, and the keys that could not be read.
fn last_reads<'h>(history: &'h History, ring: &Ring) -> (Vec<Record>, Vec<(&'h str, Last)>) {
    let names: Vec<&str> = history.keys.values().map(|key| &**key).collect();
    let called = boottime().0;
    let values = read_all(ring, &names);
    let answered = boottime().0;
    let (mut records, mut unread) = (Vec::new(), Vec::new());
    for ((key, name), last) in history.keys.iter().zip(values) {
        let Last::Value(value) = last else {
            unread.push((&**name, last));
            continue;
        };
        let value = value.map(|value| value.parse().unwrap_or(u64::MAX));
        let (request, outcome) = (Request::Get, Outcome::Read(value));
        records.push(Record { key: *key, client: usize::MAX, request, called, answered, outcome });
    }
    (records, unread)
}

fn conclusions(judgement: Judgement) -> Vec<String> {
    println!(
        "{} keys with {} operations checked: {} violations, {} unresolved",
        judgement.keys,
        judgement.operations,
        judgement.violations.len(),
        judgement.unresolved,
    );
    for violation in judgement.violations.iter().take(5) {
        println!("\n{}\n{}", violation.why, violation.history);
    }
    let mut findings: Vec<String> = judgement.violations.into_iter().map(|v| v.why).collect();
    if judgement.unresolved * 100 > judgement.keys {
        findings.push(format!("{} keys could not be checked", judgement.unresolved));
    }
    findings
}

fn read_all(ring: &Ring, keys: &[&str]) -> Vec<Last> {
    let mut values = Vec::with_capacity(keys.len());
    let mut patience = PATIENCE;
    for batch in keys.chunks(BATCH) {
        if values.iter().any(|last| matches!(last, Last::Unreadable(_))) {
            patience = IMPATIENCE;
        }
        let options = ReadOptions { timeout: Some(patience), ..ReadOptions::default() };
        let bytes: Vec<&[u8]> = batch.iter().map(|key| key.as_bytes()).collect();
        let results = ring.get_many(&bytes, &options).expect("the handle is open");
        values.extend(results.into_iter().map(|result| match result {
            Ok(value) => {
                Last::Value(value.map(|value| String::from_utf8_lossy(&value).into_owned()))
            }
            Err(error) if error.status() == Status::DataLost => Last::Lost,
            Err(error) => Last::Unreadable(error.to_string()),
        }));
    }
    values
}
