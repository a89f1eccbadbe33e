//! Whether all copies of a key are the same once nobody writes any more.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use ringkv::{Lookup, ReadOptions};

use crate::cluster::Cluster;
use crate::executor::Contact;
use crate::history::History;

/// Keys that are compared, at most about: every so many of all.
const KEYS_MAX: usize = 2000;
/// Backups hear of the last commits a little later.
const PATIENCE: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(100);

type Copy = Option<Vec<u8>>;

/// Returns what differs.
pub fn compare(cluster: &Cluster, history: &History) -> Vec<String> {
    let every = history.keys.len().div_ceil(KEYS_MAX).max(1);
    let mut held: BTreeMap<usize, Vec<&str>> = BTreeMap::new();
    for key in history.keys.values().step_by(every) {
        for node in cluster.holders(key) {
            held.entry(node).or_default().push(key);
        }
    }
    let begun = Instant::now();
    loop {
        let differing = differing(cluster, &held);
        if differing.is_empty() || begun.elapsed() > PATIENCE {
            return differing;
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

fn differing(cluster: &Cluster, held: &BTreeMap<usize, Vec<&str>>) -> Vec<String> {
    let mut copies: BTreeMap<&str, Vec<(usize, Copy)>> = BTreeMap::new();
    let options = ReadOptions { lookup: Lookup::Local, ..ReadOptions::default() };
    for (node, keys) in held {
        let (seeds, timeout) = (cluster.network.address(*node), Duration::from_secs(5));
        let ring = Contact { seeds, timeout }.ring();
        let bytes: Vec<&[u8]> = keys.iter().map(|key| key.as_bytes()).collect();
        let values = ring.get_many(&bytes, &options).expect("the handle is open");
        for (key, value) in keys.iter().zip(values) {
            // One that cannot be read is a copy that differs from any.
            let value = value.unwrap_or_else(|error| Some(error.to_string().into_bytes()));
            copies.entry(key).or_default().push((*node, value));
        }
    }
    let same = |copies: &[(usize, Copy)]| copies.iter().all(|(_, copy)| *copy == copies[0].1);
    let differ = copies.iter().filter(|(_, copies)| !same(copies));
    differ.map(|(key, copies)| format!("copies of {key} differ: {copies:?}")).take(10).collect()
}
