//! The three tracker programs of `c_examples/tracker`, as their users and old programs meet them.
//!
//! They are compiled with both sanitizers against the library that cargo built, run as processes,
//! and driven by the new client and by the bytes that the first client sent.

#[path = "c_api/build.rs"]
mod build;
#[path = "tracker/cluster.rs"]
mod cluster;
#[path = "c_api/process.rs"]
mod process;
#[path = "tracker/wire.rs"]
mod wire;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Instant;

use build::{Variant, root};
use cluster::{Ports, Tracker, program, run_client, source};
use process::{PATIENCE, are_let_go};
use ringkv::{ReadOptions, WriteOptions};
use wire::{
    DELETE, FAILED, HERE, INSERT, JOIN, LEAVE, OldServer, REHASH, SEARCH, TERMINATE, ask,
    ask_three, change_bytes, connect, message_bytes, message_from, places, start_old_tracker,
};

const COMPLETE: &str = "RANGE SEARCH COMPLETE\n";
const RULE: &str = "=============================";

#[test]
fn the_programs_are_c11_and_short() {
    for (name, lines_max) in [("mainServer", 345), ("server", 315), ("client", 230)] {
        source(name).compile(Variant::C11);
        let path = root().join(format!("c_examples/tracker/{name}.c"));
        let lines = std::fs::read_to_string(path).expect("a source").lines().count();
        assert!(lines <= lines_max, "{name}.c has {lines} lines");
    }
}

#[test]
fn wrong_arguments_get_a_sentence() {
    let incorrect = "ERROR: Incorrect CL arguments provided!\n";
    let ports = Ports::claim();
    let nobody = format!("client: the main server does not answer on port {}\n", ports.first);
    let nobody_above =
        format!("client: the main server does not answer on port {}\n", ports.first + 1);
    let cases: &[(&[&str], &str, i32)] = &[
        (&[], incorrect, 2),
        (&["insert"], incorrect, 2),
        (&["insert", "5"], incorrect, 2),
        (&["insert", "five", "50"], incorrect, 2),
        (&["insert", "5", "50x"], incorrect, 2),
        (&["insert", "5", ""], incorrect, 2),
        (&["insert", "2147483648", "1"], incorrect, 2),
        (&["insert", "5", "99999999999999999999"], incorrect, 2),
        (&["insert", "5", "50", "500"], incorrect, 2),
        (&["search", "5", "50"], incorrect, 2),
        (&["delete"], incorrect, 2),
        (&["find", "5"], incorrect, 2),
        (&["4", "5"], incorrect, 2),
        (&["range_search", "-1"], incorrect, 2),
        (&["range_insert", "many"], incorrect, 2),
        (&["rm_server", "0"], incorrect, 2),
        (&["rm_server", "65536"], incorrect, 2),
        (&["insert", "5", "-1"], "NEGATIVE VALUES ARE NOT ALLOWED\n", 1),
        (&["0", "5", "-2147483648"], "NEGATIVE VALUES ARE NOT ALLOWED\n", 1),
        (&["insert", "5", "50"], &nobody, 1),
        (&["search", "5"], &nobody, 1),
        (&["range_search", "5"], &nobody, 1),
        (&["rm_server", "3002"], &nobody_above, 1),
    ];
    for (args, printed, status) in cases {
        assert_eq!(run_client(ports.first, args), ((*printed).to_owned(), *status), "{args:?}");
    }
}

#[test]
fn servers_refuse_wrong_arguments_and_taken_ports() {
    let ports = Ports::claim();
    let run = |name: &str, args: &[&str], port: &str| {
        let output = program(name).args(args).env("TRACKER_PORT", port).output();
        let output = output.expect("it starts");
        let text = [output.stdout, output.stderr].concat();
        (String::from_utf8_lossy(&text).into_owned(), output.status.code())
    };
    let first = ports.first.to_string();
    for args in [
        &["0"][..],
        &["-4"],
        &["ten"],
        &["4x"],
        &["add_server"],
        &["add_server", "port"],
        &["add_server", "0"],
        &["add_server", "65536"],
        &["4", "5"],
        &["add_server", "3002", "3003"],
    ] {
        let (printed, status) = run("server", args, &first);
        assert_eq!(status, Some(2), "{args:?}");
        assert!(printed.starts_with("usage: ./server "), "{printed}");
    }
    assert_eq!(run("mainServer", &["3000"], &first), ("usage: ./mainServer\n".into(), Some(2)));
    let too_many = "Please try a fewer number of servers MAX 50.\n";
    assert_eq!(run("server", &["51"], &first), (too_many.into(), Some(1)));
    for name in ["mainServer", "server", "client"] {
        for port in ["", "http", "0", "65535"] {
            let (printed, status) = run(name, &[], port);
            let is_client = name == "client"; // It looks at its arguments first.
            assert_eq!(status, Some(2), "{name} {port}: {printed}");
            assert!(is_client || printed.starts_with("TRACKER_PORT: "), "{printed}");
        }
    }
    for at in [0, 1] {
        let _taken = TcpListener::bind(("127.0.0.1", ports.first + at)).expect("it is free");
        let (printed, status) = run("mainServer", &[], &first);
        assert_eq!(status, Some(1));
        assert!(printed.starts_with("cannot listen on port "), "{printed}");
    }
    for above in [0, cluster::RING_DISTANCE] {
        let _taken = TcpListener::bind(("127.0.0.1", ports.first + 4 + above)).expect("free");
        let (printed, status) = run("server", &["4"], &first);
        assert_eq!(status, Some(1));
        assert!(printed.starts_with("Creating 4 servers\n"), "{printed}");
        assert!(printed.contains("in use"), "{printed}");
    }
}

#[test]
fn the_first_readme_prints_the_same_lines() {
    let mut tracker = Tracker::start();
    let port = |at: u16| tracker.port + 2 + at;
    let [first, last, again] = [port(0), port(9), port(0)];
    let servers = tracker.start_servers(&[]);
    servers.line("Creating 10 servers (default)");
    servers.line(&format!("Ports open on {first} through {last}."));
    for at in 0..10 {
        tracker.added(first + at);
    }
    let table = table_before(&tracker.main.lines(), &format!("SERVER <127.0.0.1:{last}> ADDED"));
    let mut expected = vec!["ACTIVE SERVERS: (10 active)".to_owned(), RULE.into()];
    expected.push("Server\t|    Address".into());
    expected.extend((0..10).map(|at| format!("   {at}\t|    127.0.0.1:{}", first + at)));
    expected.push(RULE.into());
    assert_eq!(table, expected);

    assert_eq!(tracker.done(&["insert", "5", "50"]), "INSERT <5, 50> SUCCESSFUL\n");
    let found = "SUCCESSFUL SEARCH -- KEY: <5> RETRIEVED VALUE: <50>\n";
    assert_eq!(tracker.done(&["search", "5"]), found);
    assert_eq!(tracker.done(&["1", "5"]), found);
    assert_eq!(tracker.done(&["delete", "5"]), "DELETED: <5, 0>\n");
    assert_eq!(tracker.done(&["2", "5"]), "DELETED: <5, 0>\n");
    let absent = ("KEY DOES NOT EXIST IN DHT\n".to_owned(), 1);
    assert_eq!(tracker.client(&["search", "5"]), absent);
    assert_eq!(tracker.done(&["0", "5", "51"]), "INSERT <5, 51> SUCCESSFUL\n");

    assert_eq!(tracker.done(&["range_insert", "300"]), "");
    assert_eq!(tracker.done(&["range_search", "300"]), COMPLETE);
    let (printed, status) = tracker.client(&["range_search", "302"]);
    let absent = "KEY <300> DOES NOT EXIST IN DHT\nKEY <301> DOES NOT EXIST IN DHT\n";
    assert_eq!((printed, status), (format!("{absent}{COMPLETE}"), 1));

    for (command, port) in [("rm_server", first), ("3", last)] {
        let requested = tracker.done(&[command, &port.to_string()]);
        let rest = "REQUESTED (see mainServer terminal for details)";
        assert_eq!(requested, format!("REMOVE <127.0.0.1:{port}> {rest}\n"));
        tracker.main.line(&format!("SERVER <127.0.0.1:{port}> DELETED"));
        assert_eq!(tracker.done(&["range_search", "300"]), COMPLETE);
        tracker.servers[0].1.line(&format!("SERVER <127.0.0.1:{port}> TERMINATED"));
    }
    tracker.add_server(again);
    tracker.main.nth_line(&format!("SERVER <127.0.0.1:{again}> ADDED"), 2);
    assert_eq!(tracker.done(&["range_search", "300"]), COMPLETE);
    tracker.end();
}

/// The table that stands before a line.
fn table_before(lines: &[String], line: &str) -> Vec<String> {
    let end = lines.iter().position(|of| of == line).expect("the line is there");
    let begin = lines[..end].iter().rposition(|of| of.starts_with("ACTIVE SERVERS"));
    lines[begin.expect("a table")..end].to_vec()
}

#[test]
fn clients_of_the_first_kind_get_three_answers_that_agree() {
    let tracker = Tracker::start_with(3);
    let keys = [0, 5, -1, -300, i32::MAX, i32::MIN];
    for (value, key) in (0..).zip(keys) {
        let stored = [INSERT, key, i32::MAX - value];
        assert_eq!(ask_three(tracker.port, &stored), stored);
        assert_eq!(ask_three(tracker.port, &[SEARCH, key, 0]), [SEARCH, key, i32::MAX - value]);
        let three = places(tracker.port, key);
        assert!(three[0] != three[1] && three[1] != three[2] && three[2] != three[0], "{three:?}");
    }
    // Other programs see decimal text.
    let ring = tracker.ring(tracker.port);
    let value = ring.get(b"-300", &ReadOptions::default()).expect("the ring answers");
    assert_eq!(value.as_deref(), Some(&b"2147483644"[..]));
    for key in keys {
        assert_eq!(ask_three(tracker.port, &[DELETE, key, 0]), [DELETE, key, 0]);
        assert_eq!(ask_three(tracker.port, &[DELETE, key, 0]), [DELETE, key, 0]);
        assert_eq!(ask_three(tracker.port, &[SEARCH, key, 0]), [SEARCH, key, -1]);
    }
    assert_eq!(ask_three(tracker.port, &[INSERT, 5, -1]), FAILED);
    // What does not fit the wire is no miss.
    for value in ["hello", "2147483648", "-1", "5\0", ""] {
        ring.put(b"5", value.as_bytes(), &WriteOptions::default()).expect("it is stored");
        assert_eq!(ask_three(tracker.port, &[SEARCH, 5, 0]), FAILED, "{value}");
        let failure = ("client: no server answers for the key 5\n".to_owned(), 1);
        assert_eq!(tracker.client(&["search", "5"]), failure);
    }
    tracker.end();
}

#[test]
fn many_requests_on_one_connection_are_answered_in_order() {
    let mut tracker = Tracker::start();
    tracker.start_servers(&["2"]);
    tracker.added(tracker.port + 3);
    let [server, other, third] = places(tracker.port, 0);
    assert!(server != other && third == server, "with two servers the first one comes again");
    let requests: Vec<[i32; 3]> = (0..1000)
        .map(|at| match at % 5 {
            0 => [INSERT, 7, at],
            1 | 4 => [SEARCH, 7, 0],
            2 => [INSERT, 7, at + 1],
            _ => [DELETE, at, 0],
        })
        .collect();
    let mut connection = connect(server);
    let bytes: Vec<u8> = requests.iter().flat_map(message_bytes).collect();
    let mut answers = vec![0; bytes.len()];
    std::thread::scope(|scope| {
        let mut writer = connection.try_clone().expect("a second handle");
        // In pieces that are no whole requests.
        scope.spawn(move || bytes.chunks(17).for_each(|piece| writer.write_all(piece).expect("")));
        connection.read_exact(&mut answers).expect("as many answers");
    });
    let mut stored = 0;
    for (request, answer) in requests.iter().zip(answers.chunks(12)) {
        if request[0] == INSERT {
            stored = request[2];
        }
        let value = [request[2], stored, 0][usize::try_from(request[0]).expect("an action")];
        assert_eq!(message_from(answer), [request[0], request[1], value]);
    }
    tracker.end();
}

#[test]
fn the_client_works_with_servers_of_the_first_kind() {
    let ports = Ports::claim();
    let servers = [(); 3].map(|()| OldServer::start());
    let listener = TcpListener::bind(("127.0.0.1", ports.first)).expect("it is free");
    start_old_tracker(listener, [servers[0].port, servers[1].port, servers[2].port]);
    let client = |args: &[&str]| run_client(ports.first, args);
    let done = |printed: &str| (printed.to_owned(), 0);
    assert_eq!(client(&["insert", "5", "50"]), done("INSERT <5, 50> SUCCESSFUL\n"));
    assert_eq!(client(&["range_insert", "20"]), done(""));
    for server in &servers {
        assert_eq!(server.keys.lock().expect("no panic").len(), 20);
    }
    assert_eq!(client(&["range_search", "20"]), done(COMPLETE));
    assert_eq!(client(&["delete", "5"]), done("DELETED: <5, 0>\n"));
    assert_eq!(client(&["search", "5"]), ("KEY DOES NOT EXIST IN DHT\n".into(), 1));

    servers[1].keys.lock().expect("no panic").insert(7, 8);
    let line = |name: &str, at: usize, value: i32| {
        format!("{name}: 127.0.0.1:{}  --  A: 1, K: 7, V: {value}\n", servers[at].port)
    };
    let lines =
        [line("primaryServer", 0, 7), line("neighborServer1", 1, 8), line("neighborServer2", 2, 7)];
    let expected = format!("\nSERVER RESPONSES DO NOT MATCH:\n{}", lines.concat());
    assert_eq!(client(&["search", "7"]), (expected, 1));
}

#[test]
fn the_client_asks_the_next_server_when_one_is_dead() {
    let ports = Ports::claim();
    let servers = [(); 2].map(|()| OldServer::start());
    let listener = TcpListener::bind(("127.0.0.1", ports.first)).expect("it is free");
    // The first one does not run.
    start_old_tracker(listener, [ports.first + 2, servers[0].port, servers[1].port]);
    let client = |args: &[&str]| run_client(ports.first, args);
    assert_eq!(client(&["insert", "5", "50"]), ("INSERT <5, 50> SUCCESSFUL\n".into(), 0));
    assert_eq!(client(&["range_insert", "20"]), (String::new(), 0));
    assert_eq!(client(&["range_search", "20"]), (COMPLETE.into(), 0));

    let listener = TcpListener::bind(("127.0.0.1", ports.first + 3)).expect("it is free");
    start_old_tracker(listener, [ports.first + 2; 3]);
    let client = |args: &[&str]| run_client(ports.first + 3, args);
    assert_eq!(client(&["insert", "5", "50"]), ("INSERT <5, 50> FAILED\n".into(), 1));
    let nobody = "client: no server answers for the key 5\n";
    assert_eq!(client(&["search", "5"]), (nobody.into(), 1));
    assert_eq!(client(&["delete", "5"]), (nobody.into(), 1));
    let failed = "INSERT <0, 0> FAILED\nINSERT <1, 1> FAILED\n";
    assert_eq!(client(&["range_insert", "2"]), (failed.into(), 1));
}

#[test]
fn any_one_server_may_be_killed() {
    let mut tracker = Tracker::start_with(4);
    assert_eq!(tracker.done(&["range_insert", "600"]), "");
    for at in [0, 2] {
        let port = tracker.port + 2 + at;
        kill_under_load(&mut tracker, port);
        assert_eq!(tracker.done(&["range_search", "600"]), COMPLETE);
        tracker.main.line(&format!("SERVER <127.0.0.1:{port}> DOES NOT ANSWER"));
        for key in 0..40 {
            let three = places(tracker.port, key);
            assert!(!three.contains(&port), "the dead server is named");
            assert_eq!(ask_three(tracker.port, &[SEARCH, key, 0]), [SEARCH, key, key]);
        }
        // Started again, it is the same server as before.
        tracker.add_server(port);
        tracker.main.nth_line(&format!("SERVER <127.0.0.1:{port}> ADDED"), 2);
        assert_eq!(tracker.done(&["range_search", "600"]), COMPLETE);
        wait_until_healthy(&tracker);
    }
    tracker.end();
}

/// Kills a server while two clients write and read; nothing may fail or be missed.
fn kill_under_load(tracker: &mut Tracker, server: u16) {
    let port = tracker.port;
    let is_over = AtomicBool::new(false);
    let rounds = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for (command, printed) in [("range_insert", ""), ("range_search", COMPLETE)] {
            let (is_over, rounds) = (&is_over, &rounds);
            scope.spawn(move || {
                while !is_over.load(Ordering::Relaxed) {
                    assert_eq!(run_client(port, &[command, "600"]), (printed.to_owned(), 0));
                    rounds.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let some_rounds = || {
            let before = rounds.load(Ordering::Relaxed);
            let asked = Instant::now();
            // More than one client can have under way.
            while rounds.load(Ordering::Relaxed) < before + 3 && asked.elapsed() < PATIENCE {
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
        };
        some_rounds();
        tracker.kill_server(server);
        some_rounds();
        is_over.store(true, Ordering::Relaxed);
    });
}

fn wait_until_healthy(tracker: &Tracker) {
    let asked = Instant::now();
    while !tracker.ring(tracker.port).health().expect("the ring answers").ok {
        assert!(asked.elapsed() < PATIENCE, "the copies are not made anew");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

#[test]
fn one_of_two_servers_may_be_killed_and_a_dead_one_be_removed() {
    let mut tracker = Tracker::start_with(2);
    assert_eq!(tracker.done(&["range_insert", "100"]), "");
    wait_until_healthy_enough(&tracker);
    let port = tracker.port + 3;
    tracker.kill_server(port);
    assert_eq!(tracker.done(&["range_search", "100"]), COMPLETE);
    assert_eq!(tracker.done(&["insert", "5", "55"]), "INSERT <5, 55> SUCCESSFUL\n");
    tracker.main.line(&format!("SERVER <127.0.0.1:{port}> DOES NOT ANSWER"));
    tracker.done(&["rm_server", &port.to_string()]);
    tracker.main.line(&format!("SERVER <127.0.0.1:{port}> DELETED"));
    assert_eq!(tracker.done(&["range_search", "100"]), COMPLETE);
    tracker.end();
}

/// With two servers there cannot be three copies; two of each key are wanted.
fn wait_until_healthy_enough(tracker: &Tracker) {
    let asked = Instant::now();
    while tracker.ring(tracker.port).info().expect("the ring answers").under_replicated > 0 {
        assert!(asked.elapsed() < PATIENCE, "the second copies are not made");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

#[test]
fn nothing_is_missed_while_servers_come_and_go() {
    const KEYS: i32 = 1500;
    let mut tracker = Tracker::start();
    let first = tracker.port + 2;
    tracker.start_servers(&["4"]);
    tracker.added(first + 3);
    assert_eq!(tracker.done(&["range_insert", &KEYS.to_string()]), "");
    let port = tracker.port;
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // A client of the new kind, and one of the first kind that changes what it reads.
        let searching = scope.spawn(|| {
            let mut rounds = 0;
            while !is_over.load(Ordering::Relaxed) || rounds == 0 {
                let found = run_client(port, &["range_search", &KEYS.to_string()]);
                assert_eq!(found, (COMPLETE.to_owned(), 0));
                rounds += 1;
            }
        });
        let changing = scope.spawn(|| {
            for key in (0..KEYS).cycle() {
                if is_over.load(Ordering::Relaxed) {
                    break;
                }
                let [primary, second, third] = places(port, key);
                assert_eq!(ask(primary, &[INSERT, key, key + 1]), [INSERT, key, key + 1]);
                assert_eq!(ask(second, &[SEARCH, key, 0]), [SEARCH, key, key + 1]);
                assert_eq!(ask(third, &[INSERT, key, key]), [INSERT, key, key]);
            }
        });
        for at in [4, 5] {
            tracker.add_server(first + at);
            tracker.added(first + at);
        }
        for at in [0, 5] {
            tracker.done(&["rm_server", &(first + at).to_string()]);
            tracker.main.line(&format!("SERVER <127.0.0.1:{}> DELETED", first + at));
        }
        is_over.store(true, Ordering::Relaxed);
        searching.join().expect("nothing is missed");
        changing.join().expect("every server gives the newest value");
    });
    // The process whose only server was removed ends.
    tracker.servers.pop().expect("the last one").1.wait();
    tracker.end();
}

#[test]
fn the_main_server_can_be_restarted() {
    let mut tracker = Tracker::start_with(3);
    assert_eq!(tracker.done(&["range_insert", "100"]), "");
    tracker.main.kill();
    // Servers answer meanwhile, and one that comes waits.
    assert_eq!(ask(tracker.port + 2, &[SEARCH, 9, 0]), [SEARCH, 9, 9]);
    tracker.add_server(tracker.port + 5);
    tracker.restart_main();
    for at in 0..4 {
        tracker.added(tracker.port + 2 + at);
    }
    assert_eq!(tracker.done(&["range_search", "100"]), COMPLETE);
    assert_eq!(tracker.ring(tracker.port).info().expect("one ring").members.len(), 5);

    tracker.main.end();
    tracker.restart_main();
    for at in 0..4 {
        tracker.added(tracker.port + 2 + at);
    }
    assert_eq!(tracker.done(&["range_search", "100"]), COMPLETE);
    tracker.end();
}

#[test]
fn a_single_server_is_found_again_by_a_main_server_that_was_killed() {
    let mut tracker = Tracker::start_with(1);
    assert_eq!(tracker.done(&["range_insert", "100"]), "");
    tracker.main.kill();
    tracker.restart_main();
    tracker.added(tracker.port + 2);
    assert_eq!(tracker.done(&["range_search", "100"]), COMPLETE);
    tracker.end();
}

#[test]
fn without_servers_there_is_an_answer_and_the_next_one_begins_anew() {
    let mut tracker = Tracker::start();
    let none = ("NO SERVERS ACTIVE IN THE DHT\n".to_owned(), 1);
    for args in [&["search", "5"][..], &["insert", "5", "5"], &["range_insert", "5"]] {
        assert_eq!(tracker.client(args), none);
    }
    let first = tracker.port + 2;
    tracker.done(&["rm_server", &first.to_string()]);
    tracker.main.line("SERVER IS NOT ACTIVE AND THEREFORE CANNOT BE DELETED!");
    tracker.start_servers(&["4"]);
    // Who comes meanwhile is not sent away.
    tracker.added(first);
    assert_eq!(tracker.done(&["range_insert", "100"]), "");
    tracker.added(first + 3);

    let (_, mut servers) = tracker.servers.pop().expect("it runs");
    servers.kill();
    tracker.main.line("NO ACTIVE SERVERS");
    assert_eq!(tracker.client(&["search", "5"]), none);
    tracker.start_servers(&["4"]);
    tracker.main.line("NO SERVER ANSWERS ANY MORE: THE NEXT ONE BEGINS A NEW, EMPTY RING");
    // The old one is looked at for as long as the new one is not there.
    let absent = ("KEY DOES NOT EXIST IN DHT\n".to_owned(), 1);
    let asked = Instant::now();
    while tracker.client(&["search", "5"]) != absent {
        assert!(asked.elapsed() < PATIENCE, "no new ring begins");
    }
    assert_eq!(tracker.done(&["range_insert", "100"]), "");
    assert_eq!(tracker.done(&["range_search", "100"]), COMPLETE);
    tracker.end();
}

#[test]
fn all_servers_but_the_last_can_be_removed() {
    let tracker = Tracker::start_with(3);
    let first = tracker.port + 2;
    assert_eq!(tracker.done(&["range_insert", "100"]), "");
    connect(tracker.port + 1).write_all(&change_bytes(JOIN, HERE, first)).expect("it is taken");
    tracker.main.line("SERVER ALREADY IN DHT!");
    let mut tracker = tracker;
    for at in [0, 1] {
        tracker.done(&["rm_server", &(first + at).to_string()]);
        tracker.main.line(&format!("SERVER <127.0.0.1:{}> DELETED", first + at));
        tracker.servers[usize::from(at)].1.wait();
    }
    let last = (first + 2).to_string();
    tracker.done(&["rm_server", &last]);
    let refused = tracker.main.line(&format!("SERVER <127.0.0.1:{last}> CANNOT BE DELETED: "));
    assert!(refused.contains("would lose every key"), "{refused}");
    assert_eq!(tracker.done(&["range_search", "100"]), COMPLETE);
    tracker.end();
}

#[test]
fn a_server_that_is_ended_leaves_its_keys() {
    let mut tracker = Tracker::start_with(2);
    tracker.start_servers(&["add_server", &(tracker.port + 10).to_string()]);
    tracker.added(tracker.port + 10);
    assert_eq!(tracker.done(&["range_insert", "100"]), "");
    // One after the other; what two of them had is not lost with them.
    for _ in 0..2 {
        let (_, mut server) = tracker.servers.remove(0);
        server.end();
    }
    tracker.main.line(&format!("SERVER <127.0.0.1:{}> DELETED", tracker.port + 2));
    tracker.main.line(&format!("SERVER <127.0.0.1:{}> DELETED", tracker.port + 3));
    assert_eq!(tracker.done(&["range_search", "100"]), COMPLETE);
    tracker.end();
}

#[test]
fn strangers_cannot_stop_rehash_or_confuse_anything() {
    let tracker = Tracker::start_with(1);
    let server = tracker.port + 2;
    assert_eq!(tracker.done(&["insert", "5", "50"]), "INSERT <5, 50> SUCCESSFUL\n");
    for action in [REHASH, TERMINATE, 5, -1, i32::MAX] {
        assert_eq!(ask(server, &[action, 5, 5]), FAILED);
    }
    tracker.servers[0].1.line(&format!("SERVER <127.0.0.1:{server}>: THE RING REHASHES"));
    tracker.servers[0]
        .1
        .line(&format!("MESSAGE RECEIVED ON SERVER <127.0.0.1:{server}>: A: 4, K: 5, V: 5"));

    let meaningless = [
        (JOIN, [10, 0, 0, 7], server),
        (LEAVE, [0, 0, 0, 0], server),
        (2, HERE, server),
        (-1, HERE, server),
        (JOIN, HERE, 0),
    ];
    for (nth, (action, ip, port)) in (1..).zip(meaningless) {
        let mut connection = connect(tracker.port + 1);
        connection.write_all(&change_bytes(action, ip, port)).expect("it is taken");
        assert_eq!(connection.read(&mut [0]).expect("it is closed"), 0);
        tracker.main.nth_line("A MESSAGE THAT MEANS NOTHING WAS IGNORED", nth);
    }
    // A server that does not run cannot be added.
    let mut connection = connect(tracker.port + 1);
    let nobody = tracker.port + 20;
    connection.write_all(&change_bytes(JOIN, HERE, nobody)).expect("it is taken");
    tracker.main.line(&format!("SERVER <127.0.0.1:{nobody}> CANNOT BE ADDED: cannot connect"));

    let noise: Vec<u8> = (0..20_000_u32).flat_map(u32::to_be_bytes).collect();
    for port in [tracker.port, tracker.port + 1, server, server + cluster::RING_DISTANCE] {
        for size in [0, 1, 3, 7, 11, 13, noise.len()] {
            // It may be refused half way.
            let _ = connect(port).write_all(&noise[..size]);
        }
    }
    let found = "SUCCESSFUL SEARCH -- KEY: <5> RETRIEVED VALUE: <50>\n";
    assert_eq!(tracker.done(&["search", "5"]), found);
    tracker.end();
}

#[test]
fn silent_clients_do_not_hold_up_the_others() {
    let tracker = Tracker::start_with(1);
    let server = tracker.port + 2;
    let mut silent: Vec<_> =
        (0..60).map(|at| connect(if at % 2 == 0 { tracker.port } else { server })).collect();
    for connection in &mut silent {
        connection.write_all(&[1, 2, 3]).expect("it is taken");
    }
    assert_eq!(tracker.done(&["insert", "5", "50"]), "INSERT <5, 50> SUCCESSFUL\n");
    // They were not let go before that, and are in the end.
    are_let_go(&mut silent);
    tracker.end();
}

#[test]
fn ports_go_up_to_the_last_one() {
    let mut tracker = Tracker::start();
    // The ring's nodes of these listen below them. Somebody else may have the port.
    let port = (65_000..=65_535).rev().find(|port| {
        [*port, port - cluster::RING_DISTANCE]
            .iter()
            .all(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
    });
    let port = port.expect("a free port");
    tracker.add_server(port);
    tracker.added(port);
    assert_eq!(places(tracker.port, 5), [port; 3]);
    assert_eq!(tracker.done(&["insert", "5", "50"]), "INSERT <5, 50> SUCCESSFUL\n");
    assert_eq!(ask_three(tracker.port, &[SEARCH, 5, 0]), [SEARCH, 5, 50]);
    tracker.end();
}
