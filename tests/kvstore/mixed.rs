//! Old and new programs side by side, over the old wire.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

use crate::cluster::{self, Cluster, ask_old, client_of, connect, free_ports};
use crate::old::{OldNode, OldServer, position};
use crate::process::Process;
use crate::wire::{DROP, GET, Kind, PUT, Request, unmark};
use crate::{exchange, text};

const SUCCESSFUL: &str = "client: received 'successful' \n";
const NOTHING: &str = "client: received '' \n";

fn name(port: u16) -> String {
    format!("localhost:{port}")
}

fn node(port: u16, server: u16) -> (String, Process) {
    (name(port), cluster::start_node(port, server))
}

/// Ports in the order in which an old server has its nodes.
fn sorted<const N: usize>(mut ports: [u16; N]) -> [u16; N] {
    ports.sort_by_key(|port| position(&name(*port)));
    ports
}

fn pair(of: &str, i: usize) -> (String, String) {
    (format!("{of}-key-{i}"), format!("{of}-value-{i}"))
}

/// Stores pairs at a server or a node, as old programs do.
fn fill(port: u16, of: &str, count: usize) {
    for i in 0..count {
        let (key, value) = pair(of, i);
        let reply = exchange(port, &Request::new(PUT, key.as_bytes(), value.as_bytes()));
        assert!(reply.starts_with(b"successful"), "{}", text(&reply));
    }
}

fn assert_filled(port: u16, of: &str, count: usize) {
    for i in 0..count {
        let (key, value) = pair(of, i);
        let found = ask_old(port, &Request::new(GET, key.as_bytes(), b"null"));
        assert_eq!(text(&found), value, "{key}");
    }
}

#[test]
fn an_old_server_has_old_and_new_nodes() {
    const KEYS: usize = 40;
    let [port, ports @ ..] = free_ports::<5>();
    let [first, middle, last, added] = sorted(ports);
    let (first_name, mut first) = node(first, port);
    let old = OldNode::start(middle, port);
    let (last_name, mut last_node) = node(last, port);
    let server = OldServer::start(port, &[&first_name, &old.name(), &last_name]);

    assert_eq!(client_of(port, &["put", "hello", "world"], 0), SUCCESSFUL);
    assert_eq!(client_of(port, &["get", "hello"], 0), "client: received 'world' \n");
    assert_eq!(client_of(port, &["get", "nothing"], 0), "client: received 'no result' \n");
    for line in ["receive: PUT hello world", "send PUT result: successful!", "receive: GET hello "]
    {
        last_node.line(&format!("NODE-{last} {line}"));
    }
    last_node.line(&format!("NODE-{last} send GET result: world"));
    last_node.line("length of str is 5");
    fill(port, "old", KEYS);
    assert_filled(port, "old", KEYS);
    assert_eq!(old.len(), 0, "the old server has all keys at the last node");

    // From the new node to the old one, which does not belong to any ring, and on to the other.
    assert_eq!(client_of(port, &["drop", &last_name], 0), NOTHING);
    last_node.line(&format!("NODE-{last}: try to relocate 41 kv pairs"));
    last_node.line(&format!("NODE-{last} send PUT request: hello world"));
    last_node.line(&format!("NODE-{last}: finish relocate."));
    assert_eq!(old.len(), KEYS + 1);
    assert_filled(port, "old", KEYS);
    assert_eq!(client_of(port, &["drop", &old.name()], 0), NOTHING);
    old.wait_empty();
    assert_filled(port, "old", KEYS);

    // The node after the new one has none to send, or all; they come back to one of the two.
    let (added_name, mut added) = node(added, port);
    assert_eq!(client_of(port, &["add", &added_name], 0), NOTHING);
    first.line(&format!("NODE-{}: finish relocate.", port_of(&first_name)));
    server.end();
    old.end();
    for node in [&mut first, &mut last_node, &mut added] {
        node.end();
    }
}

fn port_of(name: &str) -> u16 {
    name.rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port")
}

#[test]
fn a_new_server_takes_over_where_an_old_one_was() {
    const KEYS: usize = 50;
    let [port, ports @ ..] = free_ports::<4>();
    let [first, middle, last] = sorted(ports);
    let nodes = vec![node(first, port), node(last, port)];
    let old = OldNode::start(middle, port);
    let server = OldServer::start(port, &[&name(first), &name(last), &old.name()]);
    fill(port, "server", KEYS);
    server.end();
    // What an old server has put there when it had other nodes.
    fill(first, "first", KEYS);
    fill(middle, "middle", KEYS);

    // Whoever comes before the new server has everything waits for it.
    let mut cluster = Cluster::of(port, nodes, &[&old.name()]);
    std::thread::scope(|scope| {
        for of in ["server", "first", "middle"] {
            scope.spawn(move || assert_filled(port, of, KEYS));
        }
    });
    cluster.server.line("server: waiting for connections...");
    cluster.server.line(&format!("SERVER new node {} is of the old kind", old.name()));
    cluster.server.line(&format!("node-2 at {}", old.name()));
    assert_eq!(old.len(), 0);
    assert_eq!(cluster.ring().info().expect("the ring").keys, 3 * KEYS as u64);
    assert_eq!(cluster.ring().info().expect("the ring").members.len(), 2);

    assert_eq!(cluster.client(&["drop", &old.name()]), NOTHING);
    cluster.server.line("sorting completed");
    assert!(cluster.client_fails(&["drop", &old.name()]).contains("no member called"));
    assert_eq!(cluster.client(&["add", &old.name()]), NOTHING);
    let itself = cluster.client_fails(&["add", &name(port)]);
    assert!(itself.contains("it does not send its pairs: error: "), "{itself}");

    // The nodes have it all; and an old server finds it at each of them.
    cluster.server.kill();
    let server = OldServer::start(port, &[&name(first), &name(last)]);
    for of in ["server", "first", "middle"] {
        assert_filled(port, of, KEYS);
    }
    assert_eq!(client_of(port, &["drop", &name(last)], 0), NOTHING);
    assert_filled(port, "server", KEYS);
    server.end();
    cluster.server = cluster::start_server(port, &[&name(first), &name(last), &old.name()]);
    cluster.server.line("server: waiting for connections...");
    assert_filled(port, "middle", KEYS);
    cluster.end();
    old.end();
}

#[test]
fn a_new_server_keeps_the_pairs_of_old_nodes_until_there_are_new_ones() {
    const KEYS: usize = 60;
    let [port, first, second, new] = free_ports();
    let old = [OldNode::start(first, port), OldNode::start(second, port)];
    fill(first, "first", KEYS);
    fill(second, "second", KEYS);
    let list = [&*old[0].name(), &*old[1].name()];
    let mut cluster = Cluster::of(port, vec![], &list);
    cluster.server.line("server: waiting for connections...");
    cluster.server.line("SERVER: no new node is there yet");
    for of in ["first", "second"] {
        assert_filled(port, of, KEYS);
    }
    assert_eq!((old[0].len(), old[1].len()), (0, 0));
    assert_eq!(cluster.client(&["put", "hello", "world"]), SUCCESSFUL);
    cluster.server.line(&format!("SERVER: received PUT hello world; node: localhost:{port}"));

    // Stopped in order, it leaves them where an old server or the next one finds them.
    cluster.server.end();
    assert_eq!((old[0].len(), old[1].len()), (2 * KEYS + 1, 2 * KEYS + 1));
    cluster.server = cluster::start_server(port, &list);
    assert_filled(port, "first", KEYS);
    cluster.server.line("server: waiting for connections...");
    assert_eq!((old[0].len(), old[1].len()), (0, 0));

    // The pairs go to the first new node, and the server may die.
    cluster.start_node_at(new);
    assert_eq!(cluster.client(&["add", &name(new)]), NOTHING);
    let info = cluster.ring().info().expect("the ring");
    assert_eq!((info.members.len(), info.keys), (1, 2 * KEYS as u64 + 1));
    assert_filled(port, "second", KEYS);
    cluster.server.kill();
    cluster.server = cluster::start_server(port, &[&*name(new), list[0], list[1]]);
    cluster.server.line("server: waiting for connections...");
    assert_filled(port, "second", KEYS);
    assert_eq!(cluster.client(&["get", "hello"]), "client: received 'world' \n");
    cluster.end();
    for node in old {
        node.end();
    }
}

#[test]
fn what_is_put_while_a_node_sends_its_pairs_is_not_overtaken_by_them() {
    let [port, at] = free_ports();
    let old = OldNode::start(at, port);
    for key in ["kept", "changed"] {
        exchange(at, &Request::new(PUT, key.as_bytes(), b"old"));
    }
    let held = old.hold();
    let mut cluster = Cluster::of(port, vec![], &[&old.name()]);
    let send = |request: Request| {
        let mut connection = connect(port);
        connection.write_all(&request.to_bytes()).expect("the server takes it");
        connection
    };
    let answer = |mut connection: TcpStream| {
        let mut reply = Vec::new();
        connection.read_to_end(&mut reply).expect("a reply");
        unmark(&reply)
    };
    let put = send(Request::new(PUT, b"changed", b"new").marked());
    let get = send(Request::new(GET, b"kept", b"").marked());
    // Pairs come by the same door meanwhile, and so many clients wait, the others are sent away.
    assert_eq!(ask_old(port, &Request::new(PUT, b"other", b"pair")), b"successful");
    let waiting: Vec<_> =
        (0..40).map(|_| send(Request::new(GET, b"changed", b"").marked())).collect();
    assert_eq!(ask_old(port, &Request::new(GET, b"other", b"null")), b"pair");
    drop(held);
    assert_eq!(answer(put), (Kind::Done, b"successful".to_vec()));
    assert_eq!(answer(get), (Kind::Done, b"old".to_vec()));
    for connection in waiting {
        let (kind, found) = answer(connection);
        let right = found == b"old" || found == b"new";
        assert!(right || (kind == Kind::Error && found.starts_with(b"error: busy")), "{found:?}");
    }
    assert_eq!(ask_old(port, &Request::new(GET, b"changed", b"null")), b"new");
    cluster.server.line("server: waiting for connections...");
    cluster.server.end();
    old.end();
}

#[test]
fn a_node_that_cannot_send_its_pairs_keeps_them() {
    let [nobody, at] = free_ports();
    let cluster = Cluster::start(1);
    let (node_name, mut node) = node(at, nobody);
    fill(at, "kept", 5);
    let refused = cluster.client_fails(&["add", &node_name]);
    assert!(refused.contains(&format!("cannot connect to localhost:{nobody}")), "{refused}");
    node.line(&format!("NODE-{at}: what could not be relocated stays here"));
    assert_filled(at, "kept", 5);
    assert_eq!(cluster.ring().info().expect("the ring").members.len(), 1);

    // A server that comes there gets them.
    let server = OldServer::start(nobody, &[&cluster.nodes[0].0]);
    let sent = exchange(at, &Request::new(DROP, b"", b"").marked_for_node());
    assert_eq!(unmark(&sent), (Kind::Done, vec![]));
    assert_filled(cluster.port, "kept", 5);
    assert_eq!(ask_old(at, &Request::new(GET, b"kept-key-0", b"null")), b"no result");
    server.end();
    node.end();
    cluster.end();
}

#[test]
fn a_node_gives_an_old_server_no_more_than_it_can_take() {
    let [port, at] = free_ports();
    let (_, mut node) = node(at, port);
    for size in [255, 256, 4096, 100_000] {
        let value = vec![b'v'; size];
        let put = unmark(&exchange(at, &Request::new(PUT, b"key", &value).marked_for_node()));
        assert_eq!(put, (Kind::Done, b"successful".to_vec()));
        let (_, found) = unmark(&exchange(at, &Request::new(GET, b"key", b"").marked_for_node()));
        assert!(found == value);
        let reply = exchange(at, &Request::new(GET, b"key", b""));
        assert_eq!(reply.len(), 256);
        let sentence = format!("error: {size} bytes are too many for a program of the old kind");
        let expected = if size == 255 { &value[..] } else { sentence.as_bytes() };
        assert!(reply.starts_with(expected), "{}", text(&reply));
    }
    node.end();
}

#[test]
fn garbage_at_a_door_gets_an_error_or_nothing() {
    let cluster = Cluster::start(2);
    let header = |method, key: usize, value: usize| {
        let mut bytes = Request::new(method, b"", b"").header();
        bytes[8..16].copy_from_slice(&key.to_ne_bytes());
        bytes[16..24].copy_from_slice(&value.to_ne_bytes());
        bytes
    };
    let garbage = [
        vec![],
        vec![0],
        vec![0; 24],
        vec![0xff; 24],
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(),
        header(GET, usize::MAX, 0),
        header(PUT, 3, usize::MAX),
        header(PUT, usize::MAX - 1, usize::MAX - 1),
        header(PUT, 4096, 16 << 20),
        header(PUT, 0, 0),
        header(i32::MIN, 1, 1),
    ];
    let node = port_of(&cluster.nodes[0].0);
    for (port, reply_bytes) in [(cluster.port, 4096), (node, 256)] {
        for bytes in &garbage {
            let mut connection = connect(port);
            let _ = connection.write_all(bytes);
            let _ = connection.shutdown(Shutdown::Write);
            let mut reply = Vec::new();
            connection.read_to_end(&mut reply).expect("it hangs up in order");
            let right = reply.is_empty() || reply.starts_with(b"error: ");
            assert!(right && [0, reply_bytes].contains(&reply.len()), "{}", text(&reply));
        }
        assert_eq!(ask_old(port, &Request::new(PUT, b"key", b"value")), b"successful");
        assert_eq!(ask_old(port, &Request::new(GET, b"key", b"null")), b"value");
    }
    cluster.end();
}
