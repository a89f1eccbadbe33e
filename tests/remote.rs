//! Rings of several nodes in this process, used through clients and through the nodes.

#![allow(clippy::unwrap_used)] // as in every test

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ringkv::ring::{HashKind, Params};
use ringkv::{
    ChangeOptions, ClientConfig, Lookup, NodeConfig, ReadOptions, Ring, ScanOptions, Start, Status,
    WriteOptions,
};

const PATIENCE: Duration = Duration::from_secs(30);

fn first() -> Ring {
    let params = Params { partitions: 256, ..Params::default() };
    Ring::start(NodeConfig { name: Some("first".into()), params, ..NodeConfig::default() }).unwrap()
}

fn standby(name: &str) -> Ring {
    let start = Start::Standby;
    Ring::start(NodeConfig { name: Some(name.into()), start, ..NodeConfig::default() }).unwrap()
}

fn client(ring: &Ring) -> Ring {
    Ring::connect(&ring.address(), ClientConfig::default()).unwrap()
}

fn pairs(count: usize) -> Vec<(Vec<u8>, Vec<u8>)> {
    (0..count).map(|at| (format!("key-{at}").into_bytes(), vec![at as u8; 1 + at % 60])).collect()
}

fn put_all(ring: &Ring, pairs: &[(Vec<u8>, Vec<u8>)]) {
    let borrowed: Vec<(&[u8], &[u8])> = pairs.iter().map(|(k, v)| (&k[..], &v[..])).collect();
    let results = ring.put_many(&borrowed, &WriteOptions::default()).unwrap();
    assert_eq!(results.len(), pairs.len());
    results.into_iter().for_each(|result| result.unwrap());
}

fn scan_all(ring: &Ring, options: ScanOptions) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut scan = ring.scan(options).unwrap();
    let mut all = BTreeMap::new();
    while let Some(page) = scan.next_page().unwrap() {
        assert!(!page.is_empty());
        all.extend(page);
    }
    all
}

fn wait() -> ChangeOptions<'static> {
    ChangeOptions { timeout: PATIENCE, ..ChangeOptions::default() }
}

#[test]
fn a_client_does_everything_that_a_node_does() {
    let node = first();
    let client = client(&node);
    let (read, write) = (ReadOptions::default(), WriteOptions::default());
    assert_eq!(client.get(b"a", &read).unwrap(), None);
    client.put(b"a", b"1", &write).unwrap();
    assert_eq!(client.get(b"a", &read).unwrap().unwrap(), b"1");
    assert_eq!(node.get(b"a", &read).unwrap().unwrap(), b"1");
    let only_new = WriteOptions { if_absent: true, ..write };
    assert_eq!(client.put(b"a", b"2", &only_new).unwrap_err().status(), Status::Exists);
    assert!(client.delete(b"a", &write).unwrap());
    assert!(!client.delete(b"a", &write).unwrap());

    let pairs = pairs(5000);
    put_all(&client, &pairs);
    let keys: Vec<&[u8]> = pairs.iter().map(|(key, _)| &key[..]).collect();
    for ring in [&client, &node] {
        let values = ring.get_many(&keys, &read).unwrap();
        assert!(
            values.into_iter().map(|v| v.unwrap().unwrap()).eq(pairs.iter().map(|p| p.1.clone()))
        );
        assert!(
            scan_all(ring, ScanOptions::default())
                .into_iter()
                .eq(pairs.iter().cloned().collect::<BTreeMap<_, _>>())
        );
    }
    let info = client.info().unwrap();
    assert_eq!((info.keys, info.members.len()), (5000, 1));
    assert!(info.members[0].reachable && info.members[0].coordinator);
    assert!(client.health().unwrap().ok);
    let gone = client.delete_many(&keys, &write).unwrap();
    assert!(gone.into_iter().all(|gone| gone.unwrap()));
    assert_eq!(scan_all(&client, ScanOptions::default()).len(), 0);
}

#[test]
fn nodes_are_added_and_dropped_while_clients_work() {
    let first = first();
    let client = client(&first);
    let pairs = pairs(3000);
    put_all(&client, &pairs);
    let others = [standby("second"), standby("third")];
    let asked = AtomicU64::new(0);
    for other in &others {
        let mut on_progress = |progress: &ringkv::Progress| {
            asked.fetch_add(1, Ordering::Relaxed);
            assert!(progress.copies_done <= progress.copies_total);
            true
        };
        let options = ChangeOptions { on_progress: Some(&mut on_progress), ..wait() };
        client.add_node(&other.address(), options).unwrap();
    }
    assert!(asked.load(Ordering::Relaxed) > 0);
    let absent = client.plan_drop("nobody").unwrap_err();
    assert_eq!(absent.status(), Status::NoSuchMember);
    let again = client.add_node(&others[0].address(), wait()).unwrap_err();
    assert_eq!(again.status(), Status::Refused);
    let info = client.info().unwrap();
    assert_eq!((info.keys, info.members.len(), info.under_replicated), (3000, 3, 0));
    assert_eq!(info.moving, None);
    assert!(info.members.iter().all(|m| m.copies == 256 && m.primaries > 80 && m.reachable));
    for lookup in [Lookup::Direct, Lookup::Iterative, Lookup::Recursive] {
        let options = ReadOptions { lookup, ..ReadOptions::default() };
        for (key, value) in pairs.iter().take(200) {
            assert_eq!(client.get(key, &options).unwrap().as_ref(), Some(value));
            let location = client.locate(key, &options).unwrap();
            assert_eq!(location.holders.len(), 3);
            assert_eq!(location.hops.last(), location.holders.first());
            assert!(location.hops.len() <= 2);
        }
    }
    let unknown = client.drop_node("nobody", wait()).unwrap_err();
    assert_eq!(unknown.status(), Status::NoSuchMember);
    assert!(unknown.message().contains("second"));
    let plan = client.plan_drop("second").unwrap();
    assert_eq!(plan.keys, 0);
    client.drop_node("second", wait()).unwrap();
    let refused = client.drop_node("first", wait()).unwrap_err();
    assert_eq!(refused.status(), Status::Refused);
    assert!(refused.message().contains("add a node first"), "{refused}");
    client.drop_node("first", ChangeOptions { force: true, ..wait() }).unwrap();
    let info = client.info().unwrap();
    assert_eq!((info.keys, info.members.len()), (3000, 1));
    assert_eq!(scan_all(&client, ScanOptions::default()).len(), 3000);
    client.wait_settled(PATIENCE).unwrap();
}

#[test]
fn a_walk_of_many_pages_sees_everything_while_the_ring_changes() {
    let params = Params { partitions: 4, ..Params::default() };
    let first = Ring::start(NodeConfig { params, ..NodeConfig::default() }).unwrap();
    let client = client(&first);
    let pairs = pairs(30_000);
    put_all(&client, &pairs);
    let expected: BTreeMap<_, _> = pairs.iter().cloned().collect();
    assert_eq!(scan_all(&client, ScanOptions::default()), expected);
    let some = ScanOptions { prefix: b"key-29".to_vec(), keys_only: true, ..Default::default() };
    let some = scan_all(&client, some);
    assert_eq!(some.len(), expected.keys().filter(|key| key.starts_with(b"key-29")).count());
    assert!(some.values().all(|value| value.is_empty()));

    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let walks = scope.spawn(|| {
            let mut walks = 0;
            while !done.load(Ordering::SeqCst) || walks == 0 {
                assert_eq!(scan_all(&client, ScanOptions::default()), expected);
                walks += 1;
            }
        });
        let others = [standby("second"), standby("third")];
        others.iter().for_each(|other| first.add_node(&other.address(), wait()).unwrap());
        first.drop_node("third", wait()).unwrap();
        done.store(true, Ordering::SeqCst);
        walks.join().unwrap();
    });
}

#[test]
fn many_threads_share_one_client_while_the_ring_changes() {
    let first = first();
    let client = client(&first);
    let others = [standby("second"), standby("third")];
    let done = AtomicBool::new(false);
    let (read, write) = (ReadOptions::default(), WriteOptions::default());
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..4_u8)
            .map(|worker| {
                let (client, done, read, write) = (&client, &done, &read, &write);
                scope.spawn(move || {
                    let mut round = 0_u32;
                    while !done.load(Ordering::SeqCst) || round < 100 {
                        let key = [worker, (round % 50) as u8];
                        client.put(&key, &round.to_be_bytes(), write).unwrap();
                        let value = client.get(&key, read).unwrap();
                        assert_eq!(value.unwrap(), round.to_be_bytes());
                        round += 1;
                    }
                })
            })
            .collect();
        others.iter().for_each(|other| client.add_node(&other.address(), wait()).unwrap());
        client.drop_node("first", wait()).unwrap();
        done.store(true, Ordering::SeqCst);
        workers.into_iter().for_each(|worker| worker.join().unwrap());
    });
    assert_eq!(client.info().unwrap().keys, 200);
}

#[test]
fn wrong_arguments_are_refused_before_anything_is_sent() {
    let params = Params { hash: HashKind::Integer, value_bytes_max: 100, ..Params::default() };
    let node = Ring::start(NodeConfig { params, ..NodeConfig::default() }).unwrap();
    let client = client(&node);
    let (read, write) = (ReadOptions::default(), WriteOptions::default());
    for ring in [&node, &client] {
        let status = |key: &[u8]| ring.get(key, &read).unwrap_err().status();
        assert_eq!(status(b""), Status::KeyTooLarge);
        assert_eq!(status(&[b'1'; 4097]), Status::KeyTooLarge);
        assert_eq!(status(b"seven"), Status::InvalidArgument);
        let results = ring.put_many(&[(b"1", b"x"), (b"x", b"x"), (b"2", &[0; 101])], &write);
        let results: Vec<_> =
            results.unwrap().into_iter().map(|r| r.map_err(|error| error.status())).collect();
        let (invalid, large) = (Status::InvalidArgument, Status::ValueTooLarge);
        assert_eq!(results, [Ok(()), Err(invalid), Err(large)]);
        assert_eq!(ring.get(b"1", &read).unwrap().unwrap(), b"x");
        assert_eq!(ring.get(b"2", &read).unwrap(), None);
        assert_eq!(ring.add_node("nowhere", wait()).unwrap_err().status(), invalid);
        let unreachable = ring.add_node("127.0.0.1:1", wait()).unwrap_err();
        assert_eq!(unreachable.status(), Status::Connect);
        assert_eq!(
            ring.add_node(&first().address(), wait()).unwrap_err().status(),
            Status::WrongRing
        );
        let short = WriteOptions { ttl: Some(Duration::from_nanos(1)), ..write };
        ring.put(b"3", b"x", &short).unwrap();
        let start = Instant::now();
        while ring.get(b"3", &read).unwrap().is_some() {
            assert!(start.elapsed() < PATIENCE);
        }
    }
    let asked = standby("asked");
    assert_eq!(asked.get(b"1", &read).unwrap_err().status(), Status::Unavailable);
}

#[test]
fn closing_ends_every_later_call() {
    let node = first();
    let client = client(&node);
    client.close();
    client.close();
    let error = client.get(b"k", &ReadOptions::default()).unwrap_err();
    assert_eq!(error.status(), Status::Closed);
    assert_eq!(client.info().unwrap_err().status(), Status::Closed);
    let start = Instant::now();
    drop(node);
    assert!(start.elapsed() < PATIENCE);
}
