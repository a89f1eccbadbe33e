//! Descriptors belong to a whole process, so this test has one of its own.

#![allow(clippy::unwrap_used)] // as in every test

use std::time::{Duration, Instant};

use ringkv::{ClientConfig, NodeConfig, ReadOptions, Ring, WriteOptions};

const PATIENCE: Duration = Duration::from_secs(20);

fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

#[test]
fn clients_leak_no_descriptor() {
    let before = open_descriptors();
    let node = Ring::start(NodeConfig::default()).unwrap();
    let with_node = open_descriptors();
    for round in 0..50_u32 {
        let client = Ring::connect(&node.address(), ClientConfig::default()).unwrap();
        client.put(&round.to_be_bytes(), b"v", &WriteOptions::default()).unwrap();
        assert!(client.get(&round.to_be_bytes(), &ReadOptions::default()).unwrap().is_some());
        client.info().unwrap();
        if round % 2 == 0 {
            client.close();
        }
    }
    // The node's side of the last connections closes a moment after ours.
    let start = Instant::now();
    while open_descriptors() > with_node {
        assert!(start.elapsed() < PATIENCE, "{} of {with_node}", open_descriptors());
        std::thread::yield_now();
    }
    drop(node);
    assert_eq!(open_descriptors(), before);
}
