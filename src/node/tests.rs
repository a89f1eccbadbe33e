//! Nodes of one process that form a real ring over loopback.

use std::time::{Duration, Instant};

use super::drive::{drive, refusal};
use super::local::Node;
use super::{
    ClientConfig, Lookup, NodeConfig, ReadOptions, Ring, ScanOptions, Start, WriteOptions,
};
use crate::base::limits::KEY_BYTES_MAX;
use crate::base::{Error, Result, Rng, Status};
use crate::ring::Params;
use crate::wire::{Op, Reply};

fn config(start: Start) -> NodeConfig {
    let params = Params { partitions: 64, ..Params::default() };
    NodeConfig { start, params, ..NodeConfig::default() }
}

fn ring_of(count: usize) -> Vec<Node> {
    let first = Node::start(config(Start::Create)).unwrap();
    let seed = first.address();
    let mut nodes = vec![first];
    for _ in 1..count {
        nodes.push(Node::start(config(Start::Join(vec![seed.clone()]))).unwrap());
    }
    nodes.iter().for_each(|node| wait_settled(node, count));
    nodes
}

fn wait_settled(node: &Node, members: usize) {
    let begin = Instant::now();
    let settled = || {
        let map = node.map()?;
        let in_sync = map.parts.iter().all(|part| part.isr.len() == members.min(3));
        (map.members.len() == members && map.is_settled() && in_sync).then_some(())
    };
    while settled().is_none() {
        assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", node.map().unwrap().parts[0]);
        std::thread::yield_now();
    }
}

fn run(node: &Node, ops: &[Op<'_>]) -> Vec<Result<Option<Vec<u8>>>> {
    let mut results: Vec<_> = ops.iter().map(|_| Err(Status::Internal.into())).collect();
    let mut rng = Rng::new(1);
    let mut transport = node.transport(Lookup::Direct);
    let until = crate::net::sys::boottime() + Duration::from_secs(5);
    drive(&mut transport, ops, until, &mut rng, &mut |at, result| {
        results[at] = result.and_then(|reply| match refusal(reply) {
            Some(error) => Err(error),
            None => Ok(value_of(reply)),
        });
    })
    .unwrap();
    results
}

fn value_of(reply: &Reply<'_>) -> Option<Vec<u8>> {
    match reply {
        Reply::Value(value) => Some(value.to_vec()),
        Reply::Done => Some(b"done".to_vec()),
        _ => None,
    }
}

fn put<'a>(key: &'a [u8], value: &'a [u8]) -> Op<'a> {
    Op::Put { key, value, ttl_ms: 0, if_absent: false }
}

#[test]
fn three_nodes_agree_on_what_any_of_them_wrote() {
    let nodes = ring_of(3);
    let keys: Vec<Vec<u8>> = (0..500).map(|i| format!("key {i}").into_bytes()).collect();
    let puts: Vec<Op<'_>> = keys.iter().map(|key| put(key, key)).collect();
    assert!(run(&nodes[0], &puts).iter().all(|result| result.is_ok()));
    let gets: Vec<Op<'_>> = keys.iter().map(|key| Op::Get { key }).collect();
    for node in &nodes {
        for (key, result) in keys.iter().zip(run(node, &gets)) {
            assert_eq!(result.unwrap().as_ref(), Some(key));
        }
    }
    nodes.iter().for_each(Node::close);
    let closed: Error = nodes[0].check_open().unwrap_err();
    assert_eq!(closed.status(), Status::Closed);
}

#[test]
fn a_ring_of_one_needs_nobody() {
    let node = Node::start(config(Start::Create)).unwrap();
    let results = run(&node, &[put(b"k", b"v"), Op::Get { key: b"k" }, Op::Delete { key: b"k" }]);
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    assert_eq!(node.read(b"k", &mut |value: &[u8]| value.to_vec()), Some(None));
}

#[test]
fn a_scan_whose_prefix_is_no_beginning_of_a_key_is_refused() {
    let ring = Ring::start(config(Start::Create)).unwrap();
    let scan = |bytes| ring.scan(ScanOptions { prefix: vec![b'p'; bytes], ..Default::default() });
    for bytes in [KEY_BYTES_MAX + 1, 70_000] {
        assert_eq!(scan(bytes).map(|_| ()).unwrap_err().status(), Status::KeyTooLarge);
    }
    assert_eq!(scan(KEY_BYTES_MAX).unwrap().next_page(), Ok(None));
}

/// S2: through every node, by many threads at once, with sessions that they share.
#[test]
fn each_addition_counts_once() {
    let params = Params { partitions: 4, ..Params::default() };
    let first = Ring::start(NodeConfig { params, ..config(Start::Create) }).unwrap();
    let join = || config(Start::Join(vec![first.address()]));
    let rings = [Ring::start(join()).unwrap(), Ring::start(join()).unwrap(), first.clone()];
    let client = Ring::connect(&first.address(), ClientConfig::default()).unwrap();
    let options = WriteOptions::default();
    // The copies are still being made, and primaries move.
    std::thread::scope(|scope| {
        for ring in rings.iter().chain([&client, &client]) {
            scope.spawn(|| {
                for _ in 0..200 {
                    ring.incr(b"sum", 1, &options).unwrap();
                    swap_once(ring, b"swapped");
                }
            });
        }
    });
    for key in [b"sum".as_slice(), b"swapped"] {
        let value = client.get(key, &ReadOptions::default()).unwrap().unwrap();
        assert_eq!(std::str::from_utf8(&value), Ok("1000"));
    }
    first.put(b"text", b"seven", &options).unwrap();
    let refused = client.incr(b"text", 1, &options).unwrap_err();
    assert_eq!(refused.status(), Status::NotANumber);
    assert_eq!(client.incr(b"sum", i64::MAX, &options).unwrap_err().status(), Status::Overflow);
    assert_eq!(client.cas(b"text", None, b"x", &options), Ok(false));
    assert_eq!(client.cas(b"text", Some(b"seven"), b"x", &options), Ok(true));
}

/// Adds one by swapping, which fails until nobody else was faster.
fn swap_once(ring: &Ring, key: &[u8]) {
    loop {
        let old = ring.get(key, &ReadOptions::default()).unwrap();
        let text = old.as_deref().map_or("0", |old| std::str::from_utf8(old).unwrap());
        let new = (text.parse::<u64>().unwrap() + 1).to_string();
        if ring.cas(key, old.as_deref(), new.as_bytes(), &WriteOptions::default()).unwrap() {
            return;
        }
    }
}
