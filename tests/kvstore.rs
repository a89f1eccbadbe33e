//! The three kvstore programs of `c_examples/kvstore`, as their users and old programs meet them.
//!
//! They are compiled with both sanitizers against the library that cargo built, run as processes,
//! and driven by the new client and by the bytes that the first client sent.

#[path = "c_api/build.rs"]
mod build;
#[path = "kvstore/cluster.rs"]
mod cluster;
#[path = "kvstore/mixed.rs"]
mod mixed;
#[path = "kvstore/old.rs"]
mod old;
#[path = "c_api/process.rs"]
mod process;
#[path = "kvstore/wire.rs"]
mod wire;

use std::io::Write;
use std::net::TcpListener;
use std::process::Output;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use build::{Program, Variant, root};
use cluster::{Cluster, exchange, free_ports, program};
use process::{PATIENCE, are_let_go};
use ringkv::{RingInfo, WriteOptions};
use wire::{ADD, DROP, GET, Kind, OLD_REPLY_BYTES, PUT, Request};

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn refused(output: &Output, code: i32) -> String {
    let errors = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{errors}");
    assert_eq!(errors.lines().count(), 1, "one sentence: {errors}");
    assert!(output.stdout.is_empty());
    errors
}

#[test]
fn the_programs_are_c99_and_c11() {
    for name in ["server", "node", "client"] {
        let folder = root().join("c_examples/kvstore");
        let program = Program::at(&folder.join(format!("{name}.c")));
        let program = program.with(&folder.join("kvstore.c"));
        program.compile(Variant::C99);
        program.compile(Variant::C11);
    }
    for (name, lines_max) in [("server", 420), ("node", 240), ("client", 60)] {
        let path = root().join(format!("c_examples/kvstore/{name}.c"));
        let lines = std::fs::read_to_string(path).expect("a source").lines().count();
        assert!(lines <= lines_max, "{name}.c has {lines} lines");
    }
}

#[test]
fn wrong_arguments_get_a_usage_line() {
    let run = |name: &str, args: &[&str]| program(name).args(args).output().expect("it starts");
    let wrong: &[(&str, &[&str])] = &[
        ("client", &[]),
        ("client", &["localhost:3344", "get"]),
        ("client", &["localhost:3344", "fetch", "key"]),
        ("node", &[]),
        ("node", &["3345"]),
        ("node", &["port", "localhost:3344"]),
        ("node", &["3345x", "localhost:3344"]),
        ("node", &["65536", "localhost:3344"]),
        ("server", &[]),
        ("server", &["2", "localhost:3345"]),
        ("server", &["none", "localhost:3345"]),
        ("server", &["1x", "localhost:3345"]),
    ];
    for (name, args) in wrong {
        let sentence = refused(&run(name, args), 2);
        assert!(sentence.starts_with(&format!("usage: ./{name} ")), "{sentence}");
    }
    for port in ["", "0", "65536", "http"] {
        let server =
            program("server").args(["1", "localhost:1"]).env("KVSTORE_PORT", port).output();
        let sentence = refused(&server.expect("it starts"), 2);
        assert_eq!(sentence, "server: KVSTORE_PORT is not a port\n");
    }
    let [port] = free_ports();
    let nobody = format!("localhost:{port}");
    assert!(refused(&run("client", &[&nobody, "get", "key"]), 1).contains("cannot connect"));
    assert!(refused(&run("client", &["nowhere", "get", "key"]), 1).contains("host:port"));

    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let taken = listener.local_addr().expect("an address").port().to_string();
    let node = run("node", &[&taken, "localhost:3344"]);
    assert!(refused(&node, 1).starts_with(&format!("NODE-{taken}: ")));
    let server = program("server").args(["1", "localhost:1"]).env("KVSTORE_PORT", &taken).output();
    assert!(refused(&server.expect("it starts"), 1).contains("cannot listen on port"));
}

#[test]
fn the_printed_lines_are_those_of_the_first_programs() {
    let mut cluster = Cluster::start(3);
    let put = cluster.client(&["put", "hello", "world"]);
    assert_eq!(put, "client: received 'successful' \n");
    assert_eq!(cluster.client(&["get", "hello"]), "client: received 'world' \n");
    assert_eq!(cluster.client(&["get", "nothing"]), "client: received 'no result' \n");
    assert_eq!(cluster.client(&["put", "bare"]), "client: received 'successful' \n");
    assert_eq!(cluster.client(&["get", "bare"]), "client: received 'null' \n");
    cluster.client(&["put", "a\nb", "c\td"]);
    assert_eq!(cluster.client(&["get", "a\nb"]), "client: received 'c\\x09d' \n");

    let received = cluster.server.line("SERVER: received PUT hello world; node: localhost:");
    let port = received.rsplit(':').next().expect("a port").to_owned();
    assert!(cluster.nodes.iter().any(|(name, _)| name.ends_with(&port)), "{received}");
    cluster.server.line(&format!("SERVER: send PUT hello world to node: localhost:{port}"));
    cluster.server.line(&format!("SERVER: send PUT to node: {port} success."));
    cluster.server.line("SERVER: received GET a\\x0ab; node: localhost:");

    let added = cluster.start_node();
    assert_eq!(cluster.client(&["add", &added]), "client: received '' \n");
    cluster.server.line(&format!("SERVER new node {added} hash "));
    cluster.server.line("---start---");
    cluster.server.line("node-3 at localhost:");
    cluster.server.line("---end---");
    assert_eq!(cluster.client(&["drop", &added]), "client: received '' \n");
    cluster.server.line("sorting completed");
    cluster.end();
}

#[test]
fn a_refused_change_says_why_and_changes_nothing() {
    let cluster = Cluster::start(2);
    let member = cluster.nodes[0].0.clone();
    let [port] = free_ports();
    let nobody = format!("localhost:{port}");
    let cases = [
        ("drop", nobody.as_str(), "no member called"),
        ("drop", "", "error: "),
        ("add", nobody.as_str(), "cannot connect"),
        ("add", "nowhere", "error: "),
        ("add", member.as_str(), "is a member already"),
    ];
    for (method, address, sentence) in cases {
        let answer = cluster.client_fails(&[method, address]);
        assert!(answer.starts_with("client: received 'error: "), "{answer}");
        assert!(answer.contains(sentence), "{answer}");
    }
    assert_eq!(cluster.ring().info().expect("the ring").members.len(), 2);

    let unknown = Request { method: 9, ..Request::new(GET, b"key", b"null") };
    assert_eq!(cluster.ask_old(&unknown), b"error: unknown method");
    cluster.server.line("method is: 9");
    cluster.end();
}

/// Stores it; under load a node may be taken for dead for a moment, and then one tries again.
fn put_for_sure(cluster: &Cluster, key: &str, value: &str) {
    let asked = Instant::now();
    loop {
        let answer = text(&cluster.ask_old(&Request::new(PUT, key.as_bytes(), value.as_bytes())));
        if answer == "successful" {
            return;
        }
        assert!(answer.starts_with("error: ") && asked.elapsed() < PATIENCE, "{answer}");
    }
}

/// Waits until the ring is as the closure wants it; the last one is told if it never is.
fn wait_for_ring(cluster: &Cluster, is_right: impl Fn(&RingInfo) -> bool) {
    let asked = Instant::now();
    loop {
        let info = cluster.ring().info().expect("the ring answers");
        if is_right(&info) {
            return;
        }
        assert!(asked.elapsed() < PATIENCE, "{info:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn keys_are_spread_evenly_and_survive_add_and_drop() {
    const KEYS: u64 = 300;
    // Keys fall at random: of 20,000 a third is within 1 % of even, as a standard deviation.
    const MORE: u64 = 20_000;
    let mut cluster = Cluster::start(3);
    std::thread::scope(|scope| {
        for part in 0..8 {
            let cluster = &cluster;
            scope.spawn(move || {
                for i in (part..KEYS).step_by(8) {
                    put_for_sure(cluster, &format!("key-{i}"), &format!("value-{i}"));
                }
            });
        }
    });
    let more: Vec<String> = (0..MORE).map(|i| format!("more-{i}")).collect();
    let pairs: Vec<_> = more.iter().map(|key| (key.as_bytes(), key.as_bytes())).collect();
    let stored = cluster.ring().put_many(&pairs, &WriteOptions::default()).expect("they are put");
    assert!(stored.iter().all(Result::is_ok));
    let check = |cluster: &Cluster, members: u64| {
        wait_for_ring(cluster, |info| {
            let even =
                |of: u64, is: u64, percent: u64| (is * members).abs_diff(of) * 100 <= of * percent;
            let parts = info.params.partitions.into();
            info.keys == KEYS + MORE
                && info.members.len() as u64 == members
                && info.members.iter().all(|member| {
                    even(info.keys, member.keys, 5) && even(parts, member.primaries.into(), 1)
                })
        });
        for i in 0..KEYS {
            let key = format!("key-{i}");
            let found = cluster.ask_old(&Request::new(GET, key.as_bytes(), b"null"));
            assert_eq!(text(&found), format!("value-{i}"));
        }
    };
    check(&cluster, 3);
    let added = cluster.start_node();
    assert_eq!(cluster.client(&["add", &added]), "client: received '' \n");
    check(&cluster, 4);
    let first = cluster.nodes[0].0.clone();
    assert_eq!(cluster.client(&["drop", &first]), "client: received '' \n");
    check(&cluster, 3);
    // What was dropped stands by, and can be added again.
    assert_eq!(cluster.client(&["add", &first]), "client: received '' \n");
    check(&cluster, 4);
    cluster.end();
}

#[test]
fn values_are_any_bytes_of_any_length() {
    let cluster = Cluster::start(1);
    let all_bytes: Vec<u8> = (0..=255).collect();
    let long: Vec<u8> = (0..100_000_u32).flat_map(|i| i.to_le_bytes()).take(100_000).collect();
    for value in [&[][..], &all_bytes, &[0; 4096], &long] {
        let request = Request::new(PUT, &all_bytes, value);
        let (kind, answer) = cluster.ask_new(&request);
        assert_eq!((kind, &*answer), (Kind::Done, &b"successful"[..]));
        let (kind, found) = cluster.ask_new(&Request::new(GET, &all_bytes, b""));
        assert!(kind == Kind::Done && found == value, "{} bytes", value.len());
    }
    // The first client has room for one reply of 4096 bytes; it is told, not given half of it.
    let found = cluster.ask_old(&Request::new(GET, &all_bytes, b"null"));
    assert_eq!(text(&found), "error: 100000 bytes are too many for a program of the old kind");

    let through_client = "x".repeat(100_000);
    cluster.client(&["put", "long", &through_client]);
    let line = cluster.client(&["get", "long"]);
    assert!(line == format!("client: received '{through_client}' \n"), "{} bytes", line.len());

    for (key, value_size) in [(vec![b'k'; 4097], 4), (b"key".to_vec(), (16 << 20) + 1), (vec![], 4)]
    {
        let value = vec![b'v'; value_size];
        let (kind, answer) = cluster.ask_new(&Request::new(PUT, &key, &value));
        assert_eq!(kind, Kind::Error, "{}", text(&answer));
        assert!(answer.starts_with(b"error: "));
    }
    cluster.end();
}

#[test]
fn an_old_client_gets_4096_bytes_of_which_the_rest_is_nul() {
    let mut cluster = Cluster::start(1);
    let expect = |request: &Request, expected: &str| {
        // Whatever the padding held; the parts come in sends of their own.
        for padding in [0, 0x7fff, u32::MAX] {
            let reply = cluster.exchange(&Request { padding, ..request.clone() });
            assert_eq!(reply.len(), OLD_REPLY_BYTES);
            let (front, rest) = reply.split_at(expected.len());
            assert_eq!(text(front), expected);
            assert!(rest.iter().all(|byte| *byte == 0), "memory of the server leaks");
        }
    };
    expect(&Request::new(PUT, b"hello", b"world"), "successful");
    expect(&Request::new(GET, b"hello", b"null"), "world");
    expect(&Request::new(GET, b"absent", b"null"), "no result");
    let longest = "v".repeat(4095);
    expect(&Request::new(PUT, b"longest", longest.as_bytes()), "successful");
    expect(&Request::new(GET, b"longest", b"null"), &longest);
    let added = cluster.start_node();
    let add = Request::new(ADD, added.as_bytes(), b"null");
    let drop = Request::new(DROP, added.as_bytes(), b"null");
    for request in [add, drop] {
        assert_eq!(cluster.exchange(&request), [0; OLD_REPLY_BYTES]);
    }
    cluster.end();
}

#[test]
fn the_client_works_with_an_old_server() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let address = format!("localhost:{}", listener.local_addr().expect("an address").port());
    let old_server = std::thread::spawn(move || {
        let (mut connection, _) = listener.accept().expect("the client comes");
        connection.set_read_timeout(Some(PATIENCE)).expect("a time limit");
        let request = Request::read(&mut connection);
        let mut reply = b"world\0stray bytes".to_vec();
        reply.resize(OLD_REPLY_BYTES, b'#');
        connection.write_all(&reply).expect("it takes the reply");
        request
    });
    let output = program("client").args([&address, "put", "hello", "there"]).output();
    let output = output.expect("it starts");
    assert_eq!(text(&output.stdout), "client: received 'world' \n");
    assert!(output.status.success());
    let request = old_server.join().expect("the old server is content");
    assert_eq!(
        (request.method, &*request.key, &*request.value),
        (PUT, &b"hello"[..], &b"there"[..])
    );
}

#[test]
fn silent_clients_do_not_hold_up_the_others() {
    let cluster = Cluster::start(1);
    let mut silent: Vec<_> = (0..20).map(|_| cluster.connect()).collect();
    for (i, connection) in silent.iter_mut().enumerate() {
        let request = Request::new(PUT, b"hello", b"silence").to_bytes();
        connection.write_all(&request[..i]).expect("the server takes it");
    }
    assert_eq!(cluster.ask_old(&Request::new(PUT, b"hello", b"world")), b"successful");
    assert_eq!(cluster.ask_old(&Request::new(GET, b"hello", b"null")), b"world");
    // They were not let go before that, and are in the end.
    are_let_go(&mut silent);
    cluster.end();
}

#[test]
fn a_dead_node_gives_right_answers_or_errors() {
    const KEYS: usize = 12;
    let mut cluster = Cluster::start(3);
    for i in 0..KEYS {
        put_for_sure(&cluster, &format!("key-{i}"), &format!("value-{i}"));
    }
    cluster.nodes.remove(1).1.kill();
    // Side by side, because each may have to wait for the deadline.
    std::thread::scope(|scope| {
        for i in 0..KEYS {
            let cluster = &cluster;
            scope.spawn(move || {
                let key = format!("key-{i}");
                let found = text(&cluster.ask_old(&Request::new(GET, key.as_bytes(), b"null")));
                let right = found == format!("value-{i}") || found.starts_with("error: ");
                assert!(right, "{key}: {found}");
                let stored = text(&cluster.ask_old(&Request::new(PUT, key.as_bytes(), b"new")));
                assert!(stored == "successful" || stored.starts_with("error: "), "{stored}");
            });
        }
    });
    cluster.end();
}

#[test]
fn a_node_killed_under_load_takes_nothing_along() {
    const AFTERWARDS: usize = 60;
    let mut cluster = Cluster::start(3);
    let mut victim = cluster.nodes.remove(1).1;
    let (acknowledged, dead) = (AtomicUsize::new(0), AtomicUsize::new(usize::MAX));
    std::thread::scope(|scope| {
        for part in 0..6 {
            let (cluster, acknowledged, dead) = (&cluster, &acknowledged, &dead);
            scope.spawn(move || {
                let mut mine: Vec<(String, String)> = Vec::new();
                let enough = || {
                    let dead = dead.load(Ordering::Relaxed);
                    acknowledged.load(Ordering::Relaxed) > dead.saturating_add(AFTERWARDS)
                };
                for i in 0.. {
                    let (key, value) = (format!("key-{part}-{i}"), format!("value-{i}"));
                    let put = Request::new(PUT, key.as_bytes(), value.as_bytes());
                    let (kind, answer) = cluster.ask_new(&put);
                    assert!(kind == Kind::Error || answer == b"successful", "{}", text(&answer));
                    if kind == Kind::Done {
                        mine.push((key, value));
                        acknowledged.fetch_add(1, Ordering::Relaxed);
                    }
                    let Some((key, value)) = mine.get(i / 2) else { continue };
                    let (kind, found) = cluster.ask_new(&Request::new(GET, key.as_bytes(), b""));
                    assert!(kind == Kind::Error || text(&found) == *value, "{}", text(&found));
                    if enough() {
                        break;
                    }
                }
                for (key, value) in mine {
                    let found = text(&cluster.ask_old(&Request::new(GET, key.as_bytes(), b"null")));
                    assert_eq!(found, value, "{key} was acknowledged");
                }
            });
        }
        while acknowledged.load(Ordering::Relaxed) < AFTERWARDS {
            std::thread::sleep(Duration::from_millis(1));
        }
        victim.kill();
        dead.store(acknowledged.load(Ordering::Relaxed), Ordering::Relaxed);
    });
    cluster.end();
}

#[test]
fn the_server_waits_for_nodes_and_finds_them_again() {
    let [server_port, first, second] = free_ports();
    let addresses = [first, second].map(|port| format!("localhost:{port}"));
    let list: Vec<&str> = addresses.iter().map(String::as_str).collect();
    let mut cluster = Cluster::without_nodes(server_port, &list);
    cluster.start_node_at(first);
    cluster.server.line("server: waiting for connections...");
    assert_eq!(cluster.client(&["put", "hello", "world"]), "client: received 'successful' \n");
    cluster.start_node_at(second);
    cluster.server.line(&format!("SERVER new node {} hash ", addresses[1]));

    cluster.server.kill();
    cluster.server = cluster::start_server(server_port, &list);
    cluster.server.line("server: waiting for connections...");
    assert_eq!(cluster.client(&["get", "hello"]), "client: received 'world' \n");
    assert_eq!(cluster.ring().info().expect("the ring").members.len(), 2);
    cluster.end();
}
