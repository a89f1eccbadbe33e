//! The table against a plain map, and its promises about memory and scans.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use proptest::prelude::*;

use super::arena::SEGMENT_BYTES_MAX;
use super::{Cursor, Table};
use crate::base::limits::{KEY_BYTES_MAX, VALUE_BYTES_DEFAULT_MAX};
use crate::base::{Rng, Seq};

/// Value, version, expiry.
type Item = (Vec<u8>, u64, u64);
type Model = BTreeMap<Vec<u8>, Item>;

fn put(table: &mut Table, key: &[u8], value: &[u8]) {
    table.upsert(key, value, Seq(1), 0);
}

fn value_of<'a>(table: &'a Table, key: &[u8]) -> Option<&'a [u8]> {
    table.find(key).map(|entry| entry.value)
}

/// One page of at most `items` entries.
fn page(table: &Table, from: Cursor, items: usize) -> (Vec<Vec<u8>>, Option<Cursor>) {
    let mut keys = Vec::new();
    let next = table.scan(from, &mut |entry| {
        if keys.len() == items {
            return ControlFlow::Break(());
        }
        keys.push(entry.key.to_vec());
        ControlFlow::Continue(())
    });
    (keys, next)
}

fn contents(table: &Table) -> Model {
    let mut all = Model::new();
    let end = table.scan(Cursor::default(), &mut |entry| {
        let item = (entry.value.to_vec(), entry.ver.0, entry.expires_at_ms);
        assert!(all.insert(entry.key.to_vec(), item).is_none(), "a quiet table has no repeats");
        ControlFlow::Continue(())
    });
    assert_eq!(end, None);
    all
}

#[test]
fn an_empty_table_is_tiny_and_allocates_nothing() {
    let table = Table::new();
    assert!(size_of::<Table>() <= 120, "{} bytes", size_of::<Table>());
    assert_eq!(table.bytes_allocated(), 0);
    assert_eq!(table.find(b"a"), None);
    assert_eq!(page(&table, Cursor::default(), 1), (vec![], None));
    assert!(table.is_empty());
}

#[test]
fn what_was_written_is_found() {
    let mut table = Table::new();
    table.upsert(b"key", b"value", Seq(9), 0);
    table.upsert(b"", b"", Seq(10), 77);
    let entry = table.find(b"key").unwrap();
    assert_eq!((entry.key, entry.value, entry.ver), (&b"key"[..], &b"value"[..], Seq(9)));
    assert_eq!(entry.expires_at_ms, 0);
    let entry = table.find(b"").unwrap();
    assert_eq!((entry.value, entry.ver, entry.expires_at_ms), (&b""[..], Seq(10), 77));
    assert_eq!((table.len(), table.bytes_live(), table.expiring()), (2, 8, 1));
    assert!(table.remove(b"key"));
    assert!(!table.remove(b"key"));
    assert_eq!((table.len(), table.bytes_live(), table.expiring()), (1, 0, 1));
}

#[test]
fn an_overwrite_of_the_same_padded_size_allocates_nothing() {
    let mut table = Table::new();
    table.upsert(b"hits", b"9", Seq(1), 0);
    let before = page(&table, Cursor::default(), 0).1;
    table.upsert(b"hits", b"10", Seq(2), 0);
    assert_eq!(value_of(&table, b"hits"), Some(&b"10"[..]));
    assert_eq!(page(&table, Cursor::default(), 0).1, before, "the entry stayed where it was");
    // An expiry takes eight bytes: with a value shorter by eight the size is the same, and only
    // the key moves.
    table.upsert(b"k", b"123456789", Seq(3), 0);
    let allocated = table.bytes_allocated();
    table.upsert(b"k", b"1", Seq(4), 1234);
    let entry = table.find(b"k").unwrap();
    assert_eq!((entry.key, entry.value, entry.expires_at_ms), (&b"k"[..], &b"1"[..], 1234));
    assert_eq!(table.bytes_allocated(), allocated);
    table.check_invariants();
}

#[test]
fn the_largest_pair_stands_alone_and_is_freed_at_once() {
    let mut table = Table::new();
    let key = vec![7; KEY_BYTES_MAX];
    let value = vec![8; VALUE_BYTES_DEFAULT_MAX];
    put(&mut table, b"small", b"before");
    let before = table.bytes_allocated();
    put(&mut table, &key, &value);
    put(&mut table, b"small too", b"after");
    table.check_invariants();
    assert!(value_of(&table, &key) == Some(&value[..]));
    assert!(table.bytes_allocated() > VALUE_BYTES_DEFAULT_MAX as u64);
    assert!(table.remove(&key));
    table.check_invariants();
    assert!(table.bytes_allocated() < before + 64 * 1024, "{}", table.bytes_allocated());
    assert_eq!(value_of(&table, b"small"), Some(&b"before"[..]));
    assert_eq!(value_of(&table, b"small too"), Some(&b"after"[..]));
}

#[test]
fn entries_around_the_segment_limit_keep_their_places() {
    let mut table = Table::new();
    for round in 0..3u8 {
        for size in (0..24).map(|n| SEGMENT_BYTES_MAX - 96 + 8 * n) {
            put(&mut table, format!("{round} {size}").as_bytes(), &vec![round; size]);
            put(&mut table, format!("{round} {size} small").as_bytes(), b"x");
        }
        table.check_invariants();
    }
    assert_eq!(table.len(), 3 * 48);
    assert_eq!(contents(&table).len(), 3 * 48);
}

#[test]
fn memory_goes_back_when_keys_go() {
    let mut table = Table::new();
    for n in 0..20_000u32 {
        put(&mut table, &n.to_be_bytes(), &[0; 40]);
    }
    let full = table.bytes_allocated();
    for n in 0..20_000u32 {
        assert!(table.remove(&(n.wrapping_mul(7919) % 20_000).to_be_bytes()));
        let bound = 3 * (20_000 - u64::from(n)) * 64 + full / 8 + 16_384;
        assert!(table.bytes_allocated() <= bound, "{} after {n}", table.bytes_allocated());
    }
    assert_eq!(table.bytes_allocated(), 0);
    table.check_invariants();
}

#[test]
fn churn_with_changing_sizes_does_not_leak() {
    let mut rng = Rng::new(1);
    let mut table = Table::new();
    let mut peak_ratio = 0.0f64;
    for round in 0..60_000u64 {
        let key = (rng.below(1000) as u32).to_be_bytes();
        let size = if rng.chance(20) { rng.below(20_000) } else { rng.below(200) };
        table.upsert(&key, &vec![1; size as usize], Seq(round), rng.below(2));
        if rng.chance(300) {
            table.remove(&(rng.below(1000) as u32).to_be_bytes());
        }
        // Header, expiry, padding and index: at most 64 bytes for each key.
        let live = table.bytes_live() + 64 * table.len() as u64;
        let bound = 2 * live + live / 2 + 64 * 1024;
        assert!(table.bytes_allocated() <= bound, "{} of {live}", table.bytes_allocated());
        if round > 10_000 {
            peak_ratio = peak_ratio.max(table.bytes_allocated() as f64 / live as f64);
        }
    }
    table.check_invariants();
    assert!(peak_ratio > 1.2, "the churn makes holes, or this test tests nothing: {peak_ratio}");
}

#[test]
fn a_million_keys_in_4096_tables_cost_less_than_40_bytes_each() {
    let mut tables: Vec<Table> = (0..4096).map(|_| Table::new()).collect();
    let keys = 4096 * 244u64;
    for n in 0..keys {
        let key = format!("key:{n:010}");
        put(&mut tables[(n % 4096) as usize], key.as_bytes(), &[7; 32]);
    }
    let held: u64 = tables.iter().map(Table::bytes_allocated).sum();
    let held = held + (tables.len() * size_of::<Table>()) as u64;
    let overhead = held as f64 / keys as f64 - 46.0;
    assert!(overhead <= 40.0, "{overhead} bytes of overhead per key");
}

#[test]
fn a_table_of_one_key_is_small() {
    let mut table = Table::new();
    put(&mut table, b"key", b"value");
    assert!(table.bytes_allocated() <= 400, "{}", table.bytes_allocated());
}

#[test]
fn the_digest_depends_on_the_contents_alone() {
    let mut one = Table::new();
    let mut other = Table::new();
    assert_eq!(one.digest(), other.digest());
    for n in 0..500u32 {
        one.upsert(&n.to_be_bytes(), &[1; 9], Seq(u64::from(n)), 0);
        let n = 499 - n;
        other.upsert(&n.to_be_bytes(), &[2; 900], Seq(1), 5);
        other.upsert(&n.to_be_bytes(), &[1; 9], Seq(u64::from(n)), 0);
    }
    assert_eq!(one.digest(), other.digest());
    let equal = one.digest();
    let changes: [(&[u8], u64, u64); 4] =
        [(&[1; 9], 3, 1), (&[1; 9], 4, 0), (&[1; 8], 3, 0), (&[3; 9], 3, 0)];
    for (value, ver, expiry) in changes {
        one.upsert(&3u32.to_be_bytes(), value, Seq(ver), expiry);
        assert_ne!(one.digest(), equal, "{value:?} {ver} {expiry}");
    }
    one.upsert(&3u32.to_be_bytes(), &[1; 9], Seq(3), 0);
    assert_eq!(one.digest(), equal);
}

#[test]
fn the_digest_is_the_same_in_every_process() {
    let mut table = Table::new();
    table.upsert(b"some key", b"a value of some length", Seq(12), 34);
    table.upsert(b"k", b"", Seq(1), 0);
    assert_eq!(table.digest(), DIGEST_OF_TWO);
}
/// Fixed when the digest was defined. A change means that two versions cannot be compared.
const DIGEST_OF_TWO: u64 = 9_400_087_600_985_353_761;

#[test]
fn a_page_ends_before_the_entry_that_broke() {
    let mut table = Table::new();
    for n in 0..10u8 {
        put(&mut table, &[n], b"v");
    }
    let (first, next) = page(&table, Cursor::default(), 4);
    assert_eq!(first, [[0], [1], [2], [3]]);
    let (second, next) = page(&table, next.unwrap(), 6);
    assert_eq!(second, [[4], [5], [6], [7], [8], [9]]);
    assert_eq!(next, None, "no empty page at the end");
}

#[test]
fn a_cursor_survives_clear() {
    let mut table = Table::new();
    put(&mut table, b"a", b"1");
    put(&mut table, b"b", b"1");
    let cursor = page(&table, Cursor::default(), 1).1.unwrap();
    table.clear();
    assert_eq!((table.len(), table.bytes_allocated(), table.bytes_live()), (0, 0, 0));
    put(&mut table, b"c", b"1");
    assert_eq!(page(&table, cursor, 9), (vec![b"c".to_vec()], None));
}

/// A small set of keys, so that operations meet; some of them with an unusual length.
fn key(number: u8) -> Vec<u8> {
    let length = if number.is_multiple_of(16) { usize::from(number) * 16 } else { 3 };
    let mut key = vec![0xA5; length];
    key.push(number);
    key
}

#[derive(Clone, Debug)]
enum Action {
    Upsert {
        key: u8,
        size: usize,
        expires_at_ms: u64,
    },
    Remove {
        key: u8,
    },
    /// Removes all keys of one residue, to make whole segments die.
    RemoveSome {
        residue: u8,
    },
    /// Reads the next page of the scan that is under way, or begins one.
    Page {
        items: usize,
    },
    Clear,
}

fn size() -> impl Strategy<Value = usize> {
    prop_oneof![
        60 => 0..64usize,
        20 => 64..3000usize,
        4 => 3000..40_000usize,
        1 => 200_000..300_000usize,
    ]
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        120 => (any::<u8>(), size(), prop_oneof![3 => Just(0), 1 => any::<u64>()])
            .prop_map(|(key, size, expires_at_ms)| Action::Upsert { key, size, expires_at_ms }),
        40 => any::<u8>().prop_map(|key| Action::Remove { key }),
        2 => (0..4u8).prop_map(|residue| Action::RemoveSome { residue }),
        30 => (1..20usize).prop_map(|items| Action::Page { items }),
        1 => Just(Action::Clear),
    ]
}

/// A scan under way: where it is, what it must visit, what it has visited.
struct Scan {
    cursor: Cursor,
    present_throughout: BTreeSet<Vec<u8>>,
    visited: BTreeSet<Vec<u8>>,
}

impl Scan {
    fn begin(model: &Model) -> Self {
        Self {
            cursor: Cursor::default(),
            present_throughout: model.keys().cloned().collect(),
            visited: BTreeSet::new(),
        }
    }

    /// Reads a page. False when the scan is complete, after checking the guarantee.
    fn advance(&mut self, table: &Table, model: &Model, items: usize) -> bool {
        let (keys, next) = page(table, self.cursor, items);
        assert!(keys.iter().all(|key| model.contains_key(key)), "only live keys are visited");
        self.visited.extend(keys);
        let Some(cursor) = next else {
            let missed: Vec<_> = self.present_throughout.difference(&self.visited).collect();
            assert!(missed.is_empty(), "missed {missed:?}");
            return false;
        };
        let (before, after) = (self.cursor, cursor);
        assert!((before.birth, before.offset) != (after.birth, after.offset), "a page advances");
        self.cursor = cursor;
        true
    }
}

fn run(actions: Vec<Action>) {
    let mut table = Table::new();
    let mut model = Model::new();
    let mut scan: Option<Scan> = None;
    for (step, action) in actions.into_iter().enumerate() {
        let mut gone = Vec::new();
        match action {
            Action::Upsert { key: number, size, expires_at_ms } => {
                let value = vec![step as u8; size];
                table.upsert(&key(number), &value, Seq(step as u64), expires_at_ms);
                model.insert(key(number), (value, step as u64, expires_at_ms));
            }
            Action::Remove { key: number } => gone.push(key(number)),
            Action::RemoveSome { residue } => {
                gone.extend((0..=255).filter(|n| n % 4 == residue).map(key));
            }
            Action::Page { items } => {
                let mut under_way = scan.take().unwrap_or_else(|| Scan::begin(&model));
                if under_way.advance(&table, &model, items) {
                    scan = Some(under_way);
                }
            }
            Action::Clear => {
                gone.extend(model.keys().cloned());
                table.clear();
                model.clear();
            }
        }
        for key in gone {
            assert_eq!(table.remove(&key), model.remove(&key).is_some());
            if let Some(scan) = &mut scan {
                scan.present_throughout.remove(&key);
            }
        }
        assert_eq!(table.len(), model.len());
        if step % 16 == 0 {
            table.check_invariants();
        }
    }
    while scan.as_mut().is_some_and(|scan| scan.advance(&table, &model, 7)) {}
    table.check_invariants();
    for (key, (value, ver, expiry)) in &model {
        let entry = table.find(key).unwrap();
        assert_eq!((entry.value, entry.ver.0, entry.expires_at_ms), (&value[..], *ver, *expiry));
    }
    assert!(contents(&table) == model);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn a_table_is_a_map_and_scans_miss_nothing(
        actions in prop::collection::vec(action(), 1..1200),
    ) {
        run(actions);
    }

    #[test]
    fn any_cursor_is_harmless(
        sizes in prop::collection::vec(size(), 0..80),
        cursors in prop::collection::vec((0..12u64, any::<u32>()), 1..20),
    ) {
        let mut table = Table::new();
        for (number, size) in sizes.iter().enumerate() {
            // Zeros look like the header of an empty pair, ones like that of an enormous one.
            let value = vec![if number % 3 == 0 { 0xFF } else { 0 }; *size];
            table.upsert(&key(number as u8), &value, Seq(1), 0);
            table.remove(&key((number / 2) as u8));
        }
        let all = contents(&table);
        for (birth, offset) in cursors {
            // Small offsets in low slots are the ones that hit something.
            for offset in [offset, offset % 4096, offset % (4 << 15)] {
                let (keys, _) = page(&table, Cursor { birth, offset }, usize::MAX);
                prop_assert!(keys.iter().all(|key| all.contains_key(key)));
            }
        }
    }
}
