//! The command line, as people and scripts meet it: the real program, real processes, real sockets.

#![cfg(feature = "cli")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// Much longer than anything here takes, so that only what hangs meets it.
const PATIENCE: Duration = Duration::from_secs(60);

fn ringkv() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringkv"));
    command.env_remove("RINGKV_RING").env_remove("RINGKV_LOG").stdin(Stdio::null());
    command
}

fn run(args: &[&str]) -> Output {
    ringkv().args(args).output().expect("the program starts")
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("UTF-8")
}

fn code(output: &Output) -> i32 {
    output.status.code().expect("an exit status, not a signal")
}

/// Exit status 2 and exactly one sentence on stderr, which is returned.
fn refused(output: &Output) -> String {
    let text = stderr(output);
    assert_eq!(code(output), 2, "{text}");
    assert_eq!(text.lines().count(), 1, "one sentence: {text}");
    assert!(text.starts_with("ringkv: "), "{text}");
    text
}

fn done(output: &Output) -> String {
    assert_eq!(code(output), 0, "{}{}", stdout(output), stderr(output));
    stdout(output)
}

fn json(output: &Output) -> Value {
    let text = stdout(output);
    assert_eq!(text.lines().count(), 1, "one line: {text}");
    serde_json::from_str(&text).expect("JSON")
}

/// A node process; ends with this value, because its standard input does.
struct Node {
    child: Child,
    address: String,
    first_line: Value,
}

impl Node {
    fn start(args: &[&str]) -> Node {
        let mut child = ringkv()
            .args(["node", "--json", "--until-stdin-ends", "--listen", "127.0.0.1:0"])
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let mut line = String::new();
        let stdout = child.stdout.as_mut().expect("piped");
        BufReader::new(stdout).read_line(&mut line).expect("reads");
        let first_line: Value =
            serde_json::from_str(&line).expect("the node says where it listens");
        let address = first_line["address"].as_str().expect("an address").to_owned();
        Node { child, address, first_line }
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([name, &self.child.id().to_string()]).status();
        assert!(sent.expect("kill is there").success());
    }

    fn ended(&mut self) -> ExitStatus {
        ended(&mut self.child)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let asked = Instant::now();
        while asked.elapsed() < Duration::from_secs(10) {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn ended(child: &mut Child) -> ExitStatus {
    let started = Instant::now();
    loop {
        if let Some(status) = child.try_wait().expect("waits") {
            return status;
        }
        if started.elapsed() > PATIENCE {
            let _ = child.kill();
            panic!("the program does not end");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// An address on which nobody listens.
fn dead_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("its address").to_string()
}

fn file(directory: &TempDir, name: &str, content: &[u8]) -> PathBuf {
    let path = directory.path().join(name);
    std::fs::write(&path, content).expect("writes");
    path
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

const COMMANDS: [&str; 20] = [
    "node", "put", "get", "del", "incr", "cas", "scan", "load", "dump", "ring", "watch", "locate",
    "add", "drop", "plan", "reset", "health", "demo", "bench", "run",
];

#[test]
fn every_command_has_help_and_a_place_in_the_overview() {
    let overview = done(&run(&["--help"]));
    for command in COMMANDS {
        assert!(overview.contains(&format!("\n  {command} ")), "{command} in {overview}");
        let help = done(&run(&[command, "--help"]));
        assert!(help.contains("Usage: ringkv") && help.contains("--json"), "{help}");
    }
    assert!(done(&run(&["--version"])).starts_with("ringkv "));
}

#[test]
fn mistakes_are_one_sentence_and_status_2() {
    for (args, part) in [
        (&["frobnicate"][..], "frobnicate"),
        (&[], "subcommand"),
        (&["get"], "<KEY>"),
        (&["get", "k", "--rnig", "x"], "--rnig"),
        (&["put", "k"], "VALUE"),
        (&["put", "k", "v", "--file", "f"], "cannot be used with"),
        (&["put", "k", "v", "--ttl", "0"], "at least 1ms"),
        (&["get", "k", "--timeout", "0"], "0"),
        (&["get", "--hex", "abc"], "hexadecimal"),
        (&["put", "k", "--file", "/no/such/file"], "cannot read /no/such/file: no such file"),
        (&["node", "--standby", "--join", "127.0.0.1:1"], "cannot be used with"),
        (&["node", "--join", "127.0.0.1:1", "--copies", "2"], "--copies is fixed by the node"),
        (&["node", "--value-max", "1TiB"], "at most 64 MiB"),
        (&["node", "--memory-max", "much"], "write a size"),
        (&["run", "--drop", "4"], "4"),
        (&["load", "/no/such/file"], "cannot read /no/such/file"),
    ] {
        let sentence = refused(&run(args));
        assert!(sentence.contains(part), "{args:?}: {sentence}");
    }
}

#[test]
fn a_dead_ring_and_an_unknown_host_are_told_apart() {
    let dead = dead_address();
    let output = run(&["get", "k", "--ring", &dead, "--timeout", "2000"]);
    assert!(refused(&output).contains(&dead), "{}", stderr(&output));
    let output = run(&["ring", "--ring", "no-such-host.invalid:7000", "--timeout", "5000"]);
    assert!(refused(&output).contains("no-such-host.invalid"), "{}", stderr(&output));
    let output = ringkv().arg("health").env("RINGKV_RING", &dead).output().expect("starts");
    assert!(refused(&output).contains(&dead), "the environment names the ring");

    let output = run(&["get", "k", "--json", "--ring", &dead, "--timeout", "2000"]);
    assert_eq!(code(&output), 2);
    assert_eq!(json(&output)["error"]["code"], -402, "{}", stdout(&output));
    for (seed, part) in [("no-such-host.invalid:1", "no-such-host.invalid"), (&dead, &dead)] {
        let mut node = ringkv();
        node.args(["node", "--until-stdin-ends", "--listen", "127.0.0.1:0", "--join", seed]);
        let output = node.args(["--start-timeout", "300ms"]).output().expect("starts");
        assert!(refused(&output).contains(part), "{}", stderr(&output));
    }
}

#[test]
fn a_node_refuses_a_port_in_use_and_a_public_address() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("its address").to_string();
    let sentence = refused(&run(&["node", "--until-stdin-ends", "--listen", &address]));
    assert!(sentence.contains(&address) && sentence.contains("in use"), "{sentence}");
    let sentence = refused(&run(&["node", "--until-stdin-ends", "--listen", "0.0.0.0:0"]));
    assert!(sentence.contains("public") || sentence.contains("loopback"), "{sentence}");
}

#[test]
fn a_node_says_where_it_listens_and_ends_in_order() {
    for signal in ["-INT", "-TERM"] {
        let mut node = Node::start(&["--name", "north"]);
        assert_eq!(node.first_line["name"], "north");
        assert_eq!(node.first_line["members"], 1);
        assert_eq!(node.first_line["cluster"].as_str().map(str::len), Some(32));
        node.signal(signal);
        assert_eq!(node.ended().code(), Some(0), "{signal}");
    }
    let mut node = Node::start(&["--standby"]);
    assert_eq!(node.first_line["cluster"], Value::Null);
    drop(node.child.stdin.take());
    assert_eq!(node.ended().code(), Some(0), "ends with its standard input");
}

#[test]
fn values_go_in_and_come_out_as_they_are() {
    let node = Node::start(&[]);
    let ring = ["--ring", node.address.as_str()];
    let with = |args: &[&str]| run(&[args, &ring[..]].concat());

    assert_eq!(done(&with(&["put", "k", "v"])), "");
    assert_eq!(with(&["get", "k"]).stdout, b"v", "no line end outside a terminal");
    assert_eq!(json(&with(&["get", "k", "--json"]))["value"], "v");

    let missing = with(&["get", "nobody"]);
    assert_eq!((code(&missing), missing.stdout.len()), (1, 0));
    assert_eq!(stderr(&missing), "ringkv: no such key: nobody\n");
    let missing = with(&["get", "nobody", "--json"]);
    assert_eq!((code(&missing), json(&missing)["found"].as_bool()), (1, Some(false)));

    let again = with(&["put", "k", "w", "--if-absent"]);
    assert_eq!(code(&again), 1, "{}", stderr(&again));
    assert_eq!(with(&["get", "k"]).stdout, b"v");

    let mut put = ringkv();
    put.args(["put", "--hex", "ff00", "-"]).args(ring).stdin(Stdio::piped());
    let mut child = put.spawn().expect("starts");
    child.stdin.take().expect("piped").write_all(b"\xfe\n\x00").expect("writes");
    assert!(ended(&mut child).success());
    assert_eq!(with(&["get", "--hex", "FF00"]).stdout, b"\xfe\n\x00");
    let got = json(&with(&["get", "--hex", "ff00", "--json"]));
    assert_eq!(
        (got["key_hex"].as_str(), got["value_hex"].as_str()),
        (Some("ff00"), Some("fe0a00"))
    );

    let listed = done(&with(&["scan"]));
    let mut lines: Vec<&str> = listed.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["\\xff\\x00\t\\xfe\\x0a\\x00", "k\tv"]);
    assert_eq!(done(&with(&["scan", "--keys", "--prefix", "k"])), "k\n");
    assert_eq!(done(&with(&["scan", "--limit", "1", "--json"])).lines().count(), 1);
    assert_eq!(done(&with(&["scan", "--prefix", "nobody"])), "");

    let deleted = with(&["del", "k", "nobody"]);
    assert_eq!(code(&deleted), 1);
    assert_eq!(stderr(&deleted), "ringkv: no such key: nobody\n");
    assert_eq!(json(&with(&["del", "--hex", "ff00", "--json"]))["deleted"], 1);
}

#[test]
fn limits_are_one_sentence() {
    let directory = TempDir::new().expect("a directory");
    let node = Node::start(&["--value-max", "1000"]);
    let ring = node.address.as_str();
    let long = "k".repeat(5000);
    refused(&run(&["put", &long, "v", "--ring", ring]));
    refused(&run(&["put", "", "v", "--ring", ring]));
    let big = file(&directory, "big", &[b'x'; 1001]);
    refused(&run(&["put", "k", "--file", text(&big), "--ring", ring]));
    let fits = file(&directory, "fits", &[b'x'; 1000]);
    done(&run(&["put", "k", "--file", text(&fits), "--ring", ring]));
    let output = run(&["load", text(directory.path()), "--ring", ring]);
    assert_eq!(code(&output), 2);
    assert!(stderr(&output).contains("over the ring's limit"), "{}", stderr(&output));
    assert_eq!(run(&["get", "fits", "--ring", ring]).stdout.len(), 1000, "the rest was stored");
}

#[test]
fn time_to_live_ends() {
    let node = Node::start(&[]);
    let ring = node.address.as_str();
    done(&run(&["put", "k", "v", "--ttl", "1500ms", "--ring", ring]));
    done(&run(&["get", "k", "--ring", ring]));
    let started = Instant::now();
    while code(&run(&["get", "k", "--ring", ring])) == 0 {
        assert!(started.elapsed() < PATIENCE, "it lives for ever");
    }
}

#[test]
fn files_are_loaded_verified_and_dumped() {
    let directory = TempDir::new().expect("a directory");
    let node = Node::start(&[]);
    let ring = node.address.as_str();
    let csv = file(&directory, "rows.csv", b"name,id\r\na,1\r\nb,2\r\nc,1\r\n");
    let output = run(&["load", text(&csv), "--key", "id", "--verify", "--json", "--ring", ring]);
    let told = json(&output);
    assert_eq!((code(&output), &told["keys"], &told["duplicates"]), (0, &2.into(), &1.into()));
    assert_eq!((&told["verified"]["missing"], &told["verified"]["wrong"]), (&0.into(), &0.into()));
    assert_eq!(run(&["get", "1", "--ring", ring]).stdout, b"c,1");

    let sentence = refused(&run(&["load", text(&csv), "--key", "nr", "--ring", ring]));
    assert!(sentence.contains("no column 'nr'; its columns are name, id"), "{sentence}");
    let sentence = refused(&run(&["load", text(&csv), "--ring", ring]));
    assert!(sentence.contains("--key"), "{sentence}");
    let odd = file(&directory, "odd", b"x");
    assert!(refused(&run(&["load", text(&odd), "--ring", ring])).contains("--format"));

    let all = directory.path().join("all.jsonl");
    let human = done(&run(&["dump", "--out", text(&all), "--ring", ring]));
    assert!(human.starts_with("dumped 2 keys"), "{human}");
    assert_eq!(std::fs::read_to_string(&all).expect("is there").lines().count(), 2);
    let printed = done(&run(&["dump", "--ring", ring]));
    assert_eq!(printed.lines().count(), 2);
    let sentence = refused(&run(&["dump", "--out", "/dev/full", "--ring", ring]));
    assert_eq!(sentence, "ringkv: cannot write /dev/full: no space left on device\n");
    let full = std::fs::File::create("/dev/full").expect("opens");
    let output = ringkv().args(["dump", "--ring", ring]).stdout(full).output().expect("starts");
    assert!(refused(&output).contains("cannot write to standard output: no space left"));
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let node = Node::start(&[]);
    let ring = node.address.as_str();
    let directory = TempDir::new().expect("a directory");
    let rows: String = (0..20_000).map(|id| format!("{id},{}\n", "x".repeat(50))).collect();
    let csv = file(&directory, "rows.csv", format!("id,text\n{rows}").as_bytes());
    done(&run(&["load", text(&csv), "--key", "id", "--ring", ring]));
    let mut scan = ringkv();
    scan.args(["scan", "--ring", ring]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = scan.spawn().expect("starts");
    let mut first = [0; 10];
    child.stdout.take().expect("piped").read_exact(&mut first).expect("something is printed");
    assert_eq!(ended(&mut child).code(), Some(141));
    let mut complaint = String::new();
    child.stderr.take().expect("piped").read_to_string(&mut complaint).expect("reads");
    assert_eq!(complaint, "", "broken pipe is silent");
}

#[test]
fn the_ring_shows_itself() {
    let node = Node::start(&["--name", "north"]);
    let ring = node.address.as_str();
    done(&run(&["put", "k", "v", "--ring", ring]));
    let drawn = done(&run(&["ring", "--ring", ring]));
    assert!(drawn.contains("north") && drawn.contains("! every key has one copy only"), "{drawn}");
    let told = json(&run(&["ring", "--json", "--ring", ring]));
    assert_eq!((&told["keys"], &told["partitions"]), (&1.into(), &4096.into()));
    assert_eq!(told["members"][0]["name"], "north");
    let told = json(&run(&["locate", "k", "--json", "--ring", ring]));
    assert_eq!(told["holders"][0]["name"], "north");
    for mode in ["direct", "iterative", "recursive", "local"] {
        let human = done(&run(&["locate", "k", "--mode", mode, "--ring", ring]));
        assert!(human.contains("primary    north"), "{human}");
    }
    let health = run(&["health", "--json", "--ring", ring]);
    let is_ok = json(&health)["ok"].as_bool().expect("a truth value");
    assert_eq!(code(&health), i32::from(!is_ok));
}

#[test]
fn watching_ends_with_ctrl_c() {
    let node = Node::start(&[]);
    let mut watch = ringkv();
    watch.args(["ring", "--watch", "--json", "--ring", &node.address]).stdout(Stdio::piped());
    let mut child = watch.spawn().expect("starts");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    assert!(lines.next().expect("a line").is_ok());
    assert!(lines.next().expect("a second line").is_ok());
    let killed = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(killed.expect("kill is there").success());
    assert_eq!(ended(&mut child).code(), Some(0));
}

#[test]
fn members_come_and_go() {
    let first = Node::start(&["--name", "n1"]);
    let ring = first.address.as_str();
    let second = Node::start(&["--name", "n2", "--join", ring]);
    let third = Node::start(&["--name", "n3", "--standby"]);
    for key in 0..50 {
        done(&run(&["put", &format!("k{key}"), "v", "--ring", ring]));
    }
    let plan = done(&run(&["plan", "add", &third.address, "--ring", ring]));
    assert!(plan.contains("move"), "{plan}");
    let human = done(&run(&["add", &third.address, "--ring", ring]));
    assert!(human.starts_with(&format!("added {}", third.address)), "{human}");
    assert!(human.contains("3 members"), "{human}");
    let sentence = refused(&run(&["add", &third.address, "--ring", ring]));
    assert!(sentence.contains(&third.address) || sentence.contains("n3"), "{sentence}");

    // Asked of another member than the one that goes, which here is the creator.
    let others = format!("{},{}", second.address, third.address);
    let plan = json(&run(&["plan", "drop", "n1", "--json", "--ring", &others]));
    assert!(plan.is_object(), "{plan}");
    let told = json(&run(&["drop", "n1", "--json", "--ring", &others]));
    assert_eq!((&told["members"], &told["complete"]), (&2.into(), &true.into()));
    drop(first);
    let keys = done(&run(&["scan", "--keys", "--ring", &others]));
    let mut keys: Vec<&str> = keys.lines().collect();
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(keys.len(), 50);
    assert!(refused(&run(&["drop", "nobody", "--ring", &others])).contains("nobody"));
    let dead = dead_address();
    assert!(refused(&run(&["add", &dead, "--ring", &others])).contains(&dead));
}

#[test]
fn a_number_is_added_to_and_a_value_is_swapped() {
    let node = Node::start(&[]);
    let ring = node.address.as_str();
    assert_eq!(done(&run(&["incr", "n", "--ring", ring])), "1\n");
    assert_eq!(done(&run(&["incr", "n", "-5", "--ring", ring])), "-4\n");
    assert_eq!(json(&run(&["incr", "n", "4", "--json", "--ring", ring]))["sum"], 0);
    assert_eq!(code(&run(&["cas", "n", "x", "--expect", "1", "--ring", ring])), 1);
    done(&run(&["cas", "n", "x", "--expect", "0", "--ring", ring]));
    assert!(refused(&run(&["incr", "n", "--ring", ring])).contains("whole number"));
    assert_eq!(code(&run(&["cas", "n", "y", "--absent", "--ring", ring])), 1);
    let told = json(&run(&["cas", "m", "y", "--absent", "--json", "--ring", ring]));
    assert_eq!(told["stored"], true);
    assert!(refused(&run(&["cas", "m", "y", "--ring", ring])).contains("--expect"));
}

/// The lines of `ringkv watch --json`, until Ctrl-C.
struct Watch {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Watch {
    fn start(ring: &str) -> Watch {
        let mut watch = ringkv();
        watch.args(["watch", "--json", "--ring", ring]).stdout(Stdio::piped());
        let mut child = watch.spawn().expect("starts");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        Watch { child, lines }
    }

    /// The next event of that kind, about that member.
    fn until(&mut self, kind: &str, name: Option<&str>) -> Value {
        loop {
            let line = self.lines.next().expect("it goes on").expect("reads");
            let event: Value = serde_json::from_str(&line).expect("JSON");
            let is_about = name.is_none_or(|name| event["member"]["name"] == name);
            if event["kind"] == kind && is_about {
                return event;
            }
        }
    }

    fn end(mut self) -> Option<i32> {
        let killed = Command::new("kill").args(["-INT", &self.child.id().to_string()]).status();
        assert!(killed.expect("kill is there").success());
        ended(&mut self.child).code()
    }
}

#[test]
fn a_crash_is_watched_dropped_and_given_up() {
    let first =
        Node::start(&["--name", "n1", "--copies", "1", "--partitions", "64", "--no-leases"]);
    let ring = first.address.as_str();
    let mut watch = Watch::start(ring);
    // A watch that has begun has seen what follows.
    let second = Node::start(&["--name", "n2", "--join", ring]);
    let mut third = Node::start(&["--name", "n3", "--join", ring]);
    watch.until("joined", Some("n3"));
    watch.until("settled", None);
    for key in 0..64 {
        done(&run(&["put", &format!("k{key}"), "v", "--ring", ring]));
    }
    assert_eq!(json(&run(&["ring", "--json", "--ring", ring]))["leases"], false);

    third.signal("-KILL");
    third.ended();
    watch.until("down", Some("n3"));
    let stalled = watch.until("stalled", None)["partitions"].clone();
    let health = run(&["health", "--ring", ring]);
    assert_eq!(code(&health), 1);
    assert!(stdout(&health).contains("n3, which is dead"), "{}", stdout(&health));
    assert!(refused(&run(&["drop", "n3", "--ring", ring])).contains("the only copy of"));
    let dropped = json(&run(&["drop", "n3", "--force", "--json", "--ring", ring]));
    assert_eq!(dropped["partitions_lost"], stalled);
    watch.until("left", Some("n3"));
    assert_eq!(watch.until("lost", None)["partitions"], stalled);

    let get = |key: u32| run(&["get", &format!("k{key}"), "--ring", ring]);
    let lost: Vec<u32> = (0..64).filter(|key| code(&get(*key)) == 2).collect();
    assert!(!lost.is_empty());
    assert!(refused(&get(lost[0])).contains("ringkv reset"));
    let unsure = ringkv().args(["reset", "--ring", ring]).stdin(Stdio::null()).output();
    assert!(refused(&unsure.expect("starts")).contains("--yes"));
    let reset = json(&run(&["reset", "--yes", "--json", "--ring", ring]));
    assert_eq!(reset["partitions_reset"], stalled);
    assert_eq!(watch.until("reset", None)["partitions"], stalled);
    assert_eq!(done(&run(&["reset", "--ring", ring])), "nothing is lost\n");
    assert!(lost.iter().all(|key| code(&get(*key)) == 1), "empty, and in use");
    assert_eq!(code(&run(&["health", "--ring", ring])), 0);
    assert!(
        refused(&run(&["drop", "n2", "--abort", "--ring", ring])).contains("not being dropped")
    );
    assert_eq!(watch.end(), Some(0));
    drop(second);
}

#[test]
fn fewer_copies_than_asked_for_need_force() {
    let first = Node::start(&["--name", "n1", "--partitions", "64"]);
    let ring = first.address.as_str();
    let _second = Node::start(&["--name", "n2", "--join", ring]);
    let sentence = refused(&run(&["drop", "n2", "--ring", ring]));
    assert!(sentence.contains("2 copies of each key (min_insync)"), "{sentence}");
    assert!(sentence.contains("add a node first"), "{sentence}");
    done(&run(&["drop", "n2", "--force", "--ring", ring]));
    refused(&run(&["drop", "n1", "--force", "--ring", ring]));
}

#[test]
fn the_last_copy_is_not_dropped() {
    let node = Node::start(&["--name", "only"]);
    refused(&run(&["drop", "only", "--ring", &node.address]));
    refused(&run(&["plan", "drop", "only", "--ring", &node.address]));
    done(&run(&["put", "k", "v", "--ring", &node.address]));
}

#[test]
fn the_demo_shows_three_rings() {
    let human = done(&run(&["demo", "--keys", "300"]));
    for part in ["north", "east", "south", "west", "300 keys", "0 missing or wrong"] {
        assert!(human.contains(part), "{part} in {human}");
    }
    let told = json(&run(&["demo", "--keys", "300", "--json"]));
    assert_eq!(told["wrong"], 0);
    assert_eq!(told["four"]["members"].as_array().map(Vec::len), Some(4));
    assert_eq!(told["three_again"]["members"].as_array().map(Vec::len), Some(3));
}

#[test]
fn the_bench_measures_here_and_there() {
    let node = Node::start(&[]);
    let ring = node.address.as_str();
    let output = run(&["bench", "--time", "20ms", "--keys", "500", "--json", "--ring", ring]);
    let lines = json(&output);
    assert_eq!(code(&output), 0);
    let facts = &lines["facts"];
    assert!(facts["lookup_ns"].as_f64() > Some(0.0) && facts["get_ns"].as_f64() > Some(0.0));
    let lines = lines["lines"].as_array().expect("an array");
    assert_eq!(lines.len(), 12);
    assert!(lines.iter().all(|line| line["operations"].as_u64() > Some(0)), "{lines:?}");
    assert_eq!(done(&run(&["scan", "--keys", "--ring", ring])), "", "its keys are gone");
}

#[test]
fn the_main_job_runs_with_each_node_dropped() {
    let directory = TempDir::new().expect("a directory");
    let rows: String = (0..3000).map(|id| format!("{id},row {id}\r")).collect();
    let csv = file(&directory, "rows.csv", format!("id,text\r{rows}").as_bytes());
    for dropped in ["1", "2", "3"] {
        let options = ["--key", "id", "--drop", dropped, "--operations", "100", "--json"];
        let output = run(&[&["run", text(&csv)][..], &options[..]].concat());
        assert_eq!(code(&output), 0, "{}{}", stdout(&output), stderr(&output));
        let told = json(&output);
        assert_eq!(told["ok"], true);
        assert_eq!(told["load"]["keys"], 3000);
        assert_eq!(told["clients"]["failed"], 0);
        assert_eq!(told["check_at_end"]["keys"], 3000);
        assert_eq!(told["ring"]["members"].as_array().map(Vec::len), Some(3));
    }
}

#[test]
fn the_main_job_leaves_no_process_however_it_ends() {
    let directory = TempDir::new().expect("a directory");
    let rows: String = (0..500).map(|id| format!("{id},x\n")).collect();
    let csv = file(&directory, "rows.csv", format!("id,text\n{rows}").as_bytes());
    for (signal, status) in [("-INT", Some(130)), ("-KILL", None)] {
        let mut job = ringkv();
        // So many operations that it is at work when it is stopped.
        job.args(["run", text(&csv), "--key", "id", "--operations", "1000000000"]);
        let mut child = job.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starts");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let nodes = lines.next().expect("a line").expect("reads");
        let addresses = nodes.split_whitespace().nth(1).expect("addresses");
        let addresses: Vec<String> =
            addresses.trim_end_matches(',').split(',').map(str::to_owned).collect();
        assert_eq!(addresses.len(), 3);
        assert!(lines.any(|line| line.is_ok_and(|line| line.starts_with("clients"))));
        let sent = Command::new("kill").args([signal, &child.id().to_string()]).status();
        assert!(sent.expect("kill is there").success());
        assert_eq!(ended(&mut child).code(), status, "{signal}");
        for address in addresses {
            let started = Instant::now();
            while std::net::TcpStream::connect(&address).is_ok() {
                assert!(started.elapsed() < PATIENCE, "{address} is still there after {signal}");
            }
        }
    }
}
