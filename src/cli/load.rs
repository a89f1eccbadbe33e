//! `ringkv load`: stores a source through one pipelining client, and reads it back on request.
//!
//! The loader remembers each key with a hash of its last value: that is how doubles are counted,
//! how a later row of the same key never overtakes an earlier one (they are never in one batch),
//! and what `ringkv run` checks its readers against.

use std::collections::HashMap;
use std::hash::Hasher;
use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use serde_json::json;

use super::args::LoadArgs;
use super::output::{Done, Failure, Outcome, note};
use super::source::{Item, Source};
use super::text::{bytes, count, counted, duration, escaped, rate};
use super::{Session, connect, progress};
use crate::base::{Error, Status};
use crate::node::interrupt::poll_interrupt;
use crate::{ReadOptions, Ring, WriteOptions};

/// Bytes that are sent together, so that large files do not make large batches.
const BATCH_BYTES: usize = 4 << 20;
/// Skipped items that are named; the others are counted.
const NAMED_MAX: u64 = 10;
/// How often what the ring was too busy for is sent again, and the pause before the first time.
const ATTEMPTS: u32 = 6;
const PAUSE: Duration = Duration::from_millis(20);

/// `ringkv load`
pub(super) fn run(args: &LoadArgs, session: &mut Session) -> Outcome {
    let source = Source::open(&args.path, &args.source)?;
    let ring = connect(&args.target)?;
    let quiet = session.out.json;
    let loaded = load(&ring, &source, args.batch as usize, quiet)?;
    session.out.progress_line(loaded.sentence())?;
    let verified = match args.verify {
        true => Some(verify(&ring, &source, &loaded, args.batch as usize, quiet)?),
        false => None,
    };
    match &verified {
        Some(verified) if !session.out.json => session.out.line(verified.sentence())?,
        _ => {}
    }
    if session.out.json {
        session.out.json_line(&json!({
            "source": source.name(),
            "keys": loaded.known.len(),
            "duplicates": loaded.duplicates(),
            "bytes": loaded.bytes,
            "seconds": loaded.took.as_secs_f64(),
            "keys_per_second": rate(loaded.pairs, loaded.took),
            "sent_again": loaded.sent_again,
            "skipped": loaded.skipped,
            "verified": verified.as_ref().map(Verified::json),
        }))?;
    }
    match &verified {
        Some(verified) if !verified.is_right() => Ok(Done::No),
        _ => loaded.complete().map(|()| Done::Yes),
    }
}

/// What is remembered of a loaded key.
#[derive(Clone, Copy, Debug)]
pub struct Known {
    /// Which item of the source gave it its value, counted from 0.
    pub ordinal: u64,
    /// Hash of the value.
    pub hash: u64,
}

/// What a load did.
#[derive(Debug, Default)]
pub struct Loaded {
    /// Every stored key.
    pub known: HashMap<Box<[u8]>, Known>,
    /// Pairs sent, doubles included.
    pub pairs: u64,
    /// Pairs among them that the ring refused.
    refused: u64,
    /// Bytes of their keys and values.
    pub bytes: u64,
    /// Pairs that had to be sent more than once because the ring was busy.
    pub sent_again: u64,
    /// Items that were not stored.
    pub skipped: u64,
    /// From the first to the last one, reading the source included.
    pub took: Duration,
    /// Why the first one was not stored.
    first_skipped: Option<String>,
}

impl Loaded {
    /// Pairs whose key was there before in the same source.
    pub fn duplicates(&self) -> u64 {
        (self.pairs - self.refused).saturating_sub(self.known.len() as u64)
    }

    /// What a person wants to know.
    pub fn sentence(&self) -> String {
        let mut sentence = format!(
            "loaded {}, {} in {}: {} keys/s, {}/s",
            counted(self.known.len() as u64, "key"),
            bytes(self.bytes),
            duration(self.took),
            count(rate(self.pairs, self.took)),
            bytes(rate(self.bytes, self.took)),
        );
        if self.duplicates() > 0 {
            let doubles = counted(self.duplicates(), "duplicate");
            sentence.push_str(&format!("; {doubles}, the last value of each key stays"));
        }
        if self.sent_again > 0 {
            sentence.push_str(&format!("; {} sent again", count(self.sent_again)));
        }
        sentence
    }

    /// An error if anything of the source is not in the ring.
    pub fn complete(&self) -> Outcome<()> {
        match &self.first_skipped {
            None => Ok(()),
            Some(why) => Err(Failure::new(format!(
                "{} not stored, the first one is {why}",
                match self.skipped {
                    1 => "1 item was".into(),
                    many => format!("{} items were", count(many)),
                },
            ))),
        }
    }

    fn skip(&mut self, why: String) {
        self.skipped += 1;
        if self.skipped <= NAMED_MAX {
            note(format_args!("not stored: {why}"));
        }
        self.first_skipped.get_or_insert(why);
    }
}

/// Stores the whole source.
pub fn load(ring: &Ring, source: &Source, batch_max: usize, quiet: bool) -> Outcome<Loaded> {
    let started = Instant::now();
    let value_bytes_max = ring.info()?.params.value_bytes_max as usize;
    let bar = progress::bytes("loading", source.size(), quiet);
    let mut loader = Loader { ring, bar, loaded: Loaded::default(), batch: Vec::new(), bytes: 0 };
    for item in source.items(value_bytes_max)? {
        poll_interrupt()?;
        match item? {
            Item::Skipped(why) => loader.loaded.skip(why),
            Item::Pair(key, value) => {
                let full = loader.batch.len() >= batch_max || loader.bytes >= BATCH_BYTES;
                if full || loader.is_waiting(&key) {
                    loader.send()?;
                }
                loader.push(key, value);
            }
        }
    }
    loader.send()?;
    loader.bar.finish_and_clear();
    loader.loaded.took = started.elapsed();
    Ok(loader.loaded)
}

/// The hash by which a value is recognized.
pub fn value_hash(value: &[u8]) -> u64 {
    let mut hasher = std::hash::DefaultHasher::new();
    hasher.write(value);
    hasher.finish()
}

/// Invariant: no key is twice in `batch`; items before `loaded.pairs` are stored or were skipped.
struct Loader<'a> {
    ring: &'a Ring,
    bar: ProgressBar,
    loaded: Loaded,
    batch: Vec<(Vec<u8>, Vec<u8>)>,
    bytes: usize,
}

impl Loader<'_> {
    /// Whether the batch holds a value of this key. `known` is filled when a pair is queued, and
    /// the ordinals of queued pairs begin at `pairs`.
    fn is_waiting(&self, key: &[u8]) -> bool {
        self.loaded.known.get(key).is_some_and(|known| known.ordinal >= self.loaded.pairs)
    }

    fn push(&mut self, key: Vec<u8>, value: Vec<u8>) {
        let ordinal = self.loaded.pairs + self.batch.len() as u64;
        let known = Known { ordinal, hash: value_hash(&value) };
        self.loaded.known.insert(key.as_slice().into(), known);
        self.bytes += key.len() + value.len();
        self.batch.push((key, value));
    }

    /// Sends the batch until every pair of it is stored or refused for good.
    fn send(&mut self) -> Outcome<()> {
        let queued = self.batch.len() as u64;
        let mut left = std::mem::take(&mut self.batch);
        let mut refused = Vec::new();
        let mut pause = PAUSE;
        for attempt in 1.. {
            let pairs: Vec<(&[u8], &[u8])> =
                left.iter().map(|(k, v)| (k.as_slice(), v.as_slice())).collect();
            let results = self.ring.put_many(&pairs, &WriteOptions::default())?;
            let mut again = Vec::new();
            let mut last_error = None;
            for (pair, result) in left.into_iter().zip(results) {
                match result {
                    Ok(()) => self.loaded.bytes += (pair.0.len() + pair.1.len()) as u64,
                    Err(error) if is_for_good(&error) => refused.push((pair.0, error)),
                    Err(error) if error.status().is_retryable() && attempt < ATTEMPTS => {
                        again.push(pair);
                        last_error = Some(error);
                    }
                    Err(error) => return Err(self.gave_up(&pair.0, error)),
                }
            }
            left = again;
            let Some(error) = last_error else { break };
            log::info!("{} sent again: {error}", counted(left.len() as u64, "pair"));
            self.loaded.sent_again += left.len() as u64;
            std::thread::sleep(pause);
            pause *= 2;
        }
        self.bar.inc(self.bytes as u64);
        self.bytes = 0;
        self.loaded.pairs += queued;
        for (key, error) in refused {
            self.refuse(&key, &error);
        }
        Ok(())
    }

    /// A pair that the ring never takes: it is named, and not expected there later.
    fn refuse(&mut self, key: &[u8], error: &Error) {
        self.loaded.known.remove(key);
        self.loaded.refused += 1;
        self.loaded.skip(format!("{}: {}", shortened(key), error.message()));
    }

    fn gave_up(&self, key: &[u8], error: Error) -> Failure {
        self.bar.finish_and_clear();
        let stored = counted(self.loaded.pairs, "pair");
        error.context(format!("{stored} stored, then {}", shortened(key))).into()
    }
}

fn is_for_good(error: &Error) -> bool {
    matches!(error.status(), Status::KeyTooLarge | Status::ValueTooLarge | Status::InvalidArgument)
}

/// A key that fits into a sentence.
fn shortened(key: &[u8]) -> String {
    let text = escaped(key);
    match text.char_indices().nth(80) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

/// What reading back found.
#[derive(Debug, Default)]
pub struct Verified {
    /// Keys that were read.
    pub keys: u64,
    /// Bytes of their values.
    pub bytes: u64,
    /// Keys that are not in the ring.
    pub missing: u64,
    /// Keys with another value than the source's.
    pub wrong: u64,
    /// Keys whose reading failed.
    pub failed: u64,
    /// How long it took, reading the source again included.
    pub took: Duration,
    /// What was wrong with the first one.
    pub first: Option<String>,
}

impl Verified {
    /// Whether everything is there as it should be.
    pub fn is_right(&self) -> bool {
        self.missing == 0 && self.wrong == 0 && self.failed == 0
    }

    /// What a person wants to know.
    pub fn sentence(&self) -> String {
        let keys = counted(self.keys, "key");
        let took = duration(self.took);
        let mut sentence = format!(
            "read back {keys}, {} in {took} and compared with the source: {} missing, {} wrong, \
             {} failed",
            bytes(self.bytes),
            count(self.missing),
            count(self.wrong),
            count(self.failed),
        );
        if let Some(first) = &self.first {
            sentence.push_str(&format!("; the first: {first}"));
        }
        sentence
    }

    /// The same for scripts.
    pub fn json(&self) -> serde_json::Value {
        json!({
            "keys": self.keys, "bytes": self.bytes, "missing": self.missing, "wrong": self.wrong,
            "failed": self.failed, "seconds": self.took.as_secs_f64(), "first": self.first,
        })
    }

    /// Takes one result in.
    pub fn judge(&mut self, key: &[u8], expected: &[u8], got: Result<Option<Vec<u8>>, Error>) {
        self.keys += 1;
        let problem = match got {
            Ok(Some(value)) if value == expected => {
                self.bytes += value.len() as u64;
                return;
            }
            Ok(Some(value)) => {
                self.wrong += 1;
                let (is, should) = (value.len(), expected.len());
                format!("has another value ({is} bytes instead of {should} or other bytes)")
            }
            Ok(None) => {
                self.missing += 1;
                "is missing".into()
            }
            Err(error) => {
                self.failed += 1;
                format!("cannot be read: {error}")
            }
        };
        self.first.get_or_insert(format!("{} {problem}", shortened(key)));
    }
}

/// Reads the source again and compares every stored key with it.
pub fn verify(
    ring: &Ring,
    source: &Source,
    loaded: &Loaded,
    batch_max: usize,
    quiet: bool,
) -> Outcome<Verified> {
    let started = Instant::now();
    let value_bytes_max = ring.info()?.params.value_bytes_max as usize;
    let bar = progress::counted("comparing", loaded.known.len() as u64, quiet);
    let mut verified = Verified::default();
    let mut batch: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    let mut bytes = 0;
    let mut ordinal = 0;
    for item in source.items(value_bytes_max)? {
        poll_interrupt()?;
        let Item::Pair(key, value) = item? else { continue };
        // Of several values of one key the last one counts; what was refused is not expected.
        if loaded.known.get(key.as_slice()).is_some_and(|known| known.ordinal == ordinal) {
            bytes += value.len();
            batch.push((key, value));
        }
        ordinal += 1;
        if batch.len() >= batch_max || bytes >= BATCH_BYTES {
            bar.inc(batch.len() as u64);
            compare(ring, &mut batch, &mut verified)?;
            bytes = 0;
        }
    }
    compare(ring, &mut batch, &mut verified)?;
    bar.finish_and_clear();
    // A source that shrank meanwhile would otherwise look verified.
    let unread = (loaded.known.len() as u64).saturating_sub(verified.keys);
    if unread > 0 {
        verified.failed += unread;
        let what = format!("{} changed meanwhile", source.name());
        verified.first.get_or_insert(what);
    }
    verified.took = started.elapsed();
    Ok(verified)
}

fn compare(
    ring: &Ring,
    batch: &mut Vec<(Vec<u8>, Vec<u8>)>,
    verified: &mut Verified,
) -> Outcome<()> {
    let keys: Vec<&[u8]> = batch.iter().map(|(key, _)| key.as_slice()).collect();
    let results = ring.get_many(&keys, &ReadOptions::default())?;
    for ((key, value), got) in batch.iter().zip(results) {
        verified.judge(key, value, got);
    }
    batch.clear();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::NodeConfig;
    use crate::cli::args::SourceArgs;

    struct Case {
        ring: Ring,
        source: Source,
        _directory: tempfile::TempDir,
    }

    fn case(text: &str, value_bytes_max: u32) -> Case {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("rows.csv");
        std::fs::write(&path, text).expect("writes");
        let args = SourceArgs { key: Some("id".into()), format: None };
        let source = Source::open(&path, &args).expect("opens");
        let params = crate::ring::Params { value_bytes_max, ..Default::default() };
        let ring = Ring::start(NodeConfig { params, ..Default::default() }).expect("starts");
        Case { ring, source, _directory: directory }
    }

    #[test]
    fn the_last_of_several_rows_stays_and_doubles_are_counted() {
        let case = case("id,v\n1,a\n2,b\n1,c\n3,d\n1,e\n", 1000);
        let loaded = load(&case.ring, &case.source, 1000, true).expect("loads");
        assert_eq!((loaded.known.len(), loaded.duplicates(), loaded.pairs), (3, 2, 5));
        let got = case.ring.get(b"1", &ReadOptions::default()).expect("get");
        assert_eq!(got.as_deref(), Some(&b"1,e"[..]));
        let verified = verify(&case.ring, &case.source, &loaded, 2, true).expect("reads");
        assert!(verified.is_right(), "{verified:?}");
        assert_eq!(verified.keys, 3);
        case.ring.close();
    }

    #[test]
    fn reading_back_finds_what_is_missing_and_wrong() {
        let case = case("id,v\n1,a\n2,b\n3,c\n", 1000);
        let loaded = load(&case.ring, &case.source, 2, true).expect("loads");
        case.ring.delete(b"2", &WriteOptions::default()).expect("deletes");
        case.ring.put(b"3", b"3,x", &WriteOptions::default()).expect("puts");
        let verified = verify(&case.ring, &case.source, &loaded, 2, true).expect("reads");
        assert_eq!((verified.missing, verified.wrong, verified.failed), (1, 1, 0));
        assert!(verified.sentence().contains("2 is missing"), "{}", verified.sentence());
        case.ring.close();
    }

    #[test]
    fn what_the_ring_refuses_is_named_and_the_rest_is_stored() {
        let long_key = "k".repeat(5000);
        let text = format!("id,v\n1,a\n{long_key},b\n2,{}\n3,c\n", "x".repeat(9000));
        let case = case(&text, 8000);
        let loaded = load(&case.ring, &case.source, 10, true).expect("loads");
        assert_eq!((loaded.known.len(), loaded.skipped, loaded.duplicates()), (2, 2, 0));
        assert!(loaded.complete().is_err());
        let verified = verify(&case.ring, &case.source, &loaded, 10, true).expect("reads");
        assert!(verified.is_right(), "{verified:?}");
        case.ring.close();
    }
}
