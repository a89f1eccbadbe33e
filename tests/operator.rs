//! What an operator does after a crash: look, drop the dead, call a drop off, give up what is lost.
//! A node of this process that is closed without being dropped has crashed for the others.

#![allow(clippy::unwrap_used)] // as in every test

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use ringkv::base::limits::HANDSHAKE_TIMEOUT_MS;
use ringkv::base::{ClusterId, MemberId};
use ringkv::proto::Coordinator;
use ringkv::ring::{MemberState, Params, RingMap};
use ringkv::wire::{Command, ControlMsg, Hello, JoinInfo, Role, Welcome};
use ringkv::{
    ChangeOptions, ClientConfig, NodeConfig, ReadOptions, Ring, Start, Status, WriteOptions,
};

const PATIENCE: Duration = Duration::from_secs(60);

/// A ring of these nodes and a client of it.
struct Cluster {
    nodes: Vec<(&'static str, Ring)>,
    client: Ring,
}

impl Cluster {
    fn new(params: Params, names: &[&'static str]) -> Self {
        let mut nodes: Vec<(&str, Ring)> = Vec::new();
        for name in names {
            let start = match nodes.first() {
                Some((_, first)) => Start::Join(vec![first.address()]),
                None => Start::Create,
            };
            let name = *name;
            let config =
                NodeConfig { name: Some(name.into()), params, start, ..Default::default() };
            nodes.push((name, Ring::start(config).unwrap()));
        }
        let seeds: Vec<String> = nodes.iter().map(|(_, node)| node.address()).collect();
        let client = Ring::connect(&seeds.join(","), ClientConfig::default()).unwrap();
        client.wait_settled(PATIENCE).unwrap();
        Self { nodes, client }
    }

    /// Ends nodes without a word.
    fn crash(&mut self, names: &[&str]) {
        let (dead, alive) =
            std::mem::take(&mut self.nodes).into_iter().partition(|(name, _)| names.contains(name));
        self.nodes = alive;
        let dead: Vec<(&str, Ring)> = dead;
        dead.iter().for_each(|(_, node)| node.close());
    }

    fn state(&self, name: &str) -> Option<MemberState> {
        let info = self.client.info().unwrap();
        info.members.iter().find(|member| member.node.name == name).map(|member| member.state)
    }
}

fn params(copies: u8) -> Params {
    Params { partitions: 64, copies, min_insync: copies.min(2), ..Params::default() }
}

fn wait() -> ChangeOptions<'static> {
    ChangeOptions { timeout: PATIENCE, ..ChangeOptions::default() }
}

fn forced() -> ChangeOptions<'static> {
    ChangeOptions { force: true, ..wait() }
}

fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < PATIENCE, "{what} does not happen");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn fill(ring: &Ring) -> Vec<Vec<u8>> {
    let keys: Vec<Vec<u8>> = (0..500).map(|at| format!("key-{at}").into_bytes()).collect();
    for key in &keys {
        ring.put(key, key, &WriteOptions::default()).unwrap();
    }
    keys
}

#[test]
fn a_dead_member_is_seen_named_planned_without_and_dropped() {
    let mut cluster = Cluster::new(params(3), &["a", "b", "c", "d"]);
    let keys = fill(&cluster.client);
    assert_eq!(cluster.client.health().unwrap().reasons, Vec::<String>::new());
    cluster.crash(&["c"]);
    until("the death of c", || cluster.state("c") == Some(MemberState::Down));
    let health = cluster.client.health().unwrap();
    assert!(!health.ok, "{health:?}");
    assert!(
        health.reasons.iter().any(|reason| reason.starts_with("c at 127.0.0.1:")),
        "{health:?}"
    );
    let plan = cluster.client.plan_drop("c").unwrap();
    assert!(plan.keys > 0 && plan.partitions_moved > 0);
    assert!(plan.shares_after.iter().all(|share| share.name != "c"));
    let dropped = cluster.client.drop_node("c", forced()).unwrap();
    assert_eq!(dropped.partitions_lost, 0);
    assert_eq!(cluster.state("c"), None);
    cluster.client.wait_settled(PATIENCE).unwrap();
    assert!(cluster.client.health().unwrap().ok);
    for key in &keys {
        let value = cluster.client.get(key, &ReadOptions::default()).unwrap();
        assert_eq!(value.as_ref(), Some(key));
    }
}

#[test]
fn what_is_lost_says_so_until_it_is_reset() {
    let mut cluster = Cluster::new(params(1), &["a", "b", "c"]);
    let keys = fill(&cluster.client);
    cluster.crash(&["b"]);
    until("the death of b", || cluster.state("b") == Some(MemberState::Down));
    let sentence = cluster.client.drop_node("b", wait()).unwrap_err().message().to_owned();
    assert!(sentence.contains("b is dead and has the only copy of"), "{sentence}");
    let lost = cluster.client.drop_node("b", forced()).unwrap().partitions_lost;
    assert!((15..30).contains(&lost), "{lost} of 64");
    assert_eq!(cluster.client.lost_partitions().unwrap().len(), lost as usize);
    let health = cluster.client.health().unwrap();
    assert_eq!((health.ok, health.unwritable), (false, lost));
    assert!(health.reasons.iter().any(|reason| reason.contains("ringkv reset")), "{health:?}");

    let inside = cluster.nodes[0].1.clone();
    let mut gone = Vec::new();
    for key in &keys {
        match cluster.client.get(key, &ReadOptions::default()) {
            Ok(value) => assert_eq!(value.as_ref(), Some(key)),
            Err(error) => {
                assert_eq!(error.status(), Status::DataLost);
                assert!(error.message().contains("ringkv reset"), "{error}");
                gone.push(key);
            }
        }
    }
    assert!(!gone.is_empty());
    for ring in [&inside, &cluster.client] {
        let written = ring.put(gone[0], b"new", &WriteOptions::default()).unwrap_err();
        assert_eq!(written.status(), Status::DataLost);
    }

    let first = cluster.client.lost_partitions().unwrap()[0];
    cluster.client.reset_partition(first, PATIENCE).unwrap();
    let again = cluster.client.reset_partition(first, PATIENCE).unwrap_err();
    assert_eq!(again.status(), Status::Refused);
    assert_eq!(inside.reset_lost(PATIENCE).unwrap(), lost - 1);
    assert_eq!(cluster.client.reset_lost(PATIENCE).unwrap(), 0);
    cluster.client.wait_settled(PATIENCE).unwrap();
    assert!(cluster.client.health().unwrap().ok);
    for key in gone {
        assert_eq!(cluster.client.get(key, &ReadOptions::default()).unwrap(), None);
        inside.put(key, b"new", &WriteOptions::default()).unwrap();
        let value = cluster.client.get(key, &ReadOptions::default()).unwrap();
        assert_eq!(value.unwrap(), b"new");
    }
}

#[test]
fn a_drop_can_be_called_off() {
    let cluster = Cluster::new(params(2), &["a", "b", "c"]);
    let keys = fill(&cluster.client);
    let refused = cluster.client.abort_drop("c", PATIENCE).unwrap_err();
    assert_eq!(refused.status(), Status::Refused);
    // Called off from inside of the progress callback, so that it is certainly under way.
    let mut called_off = false;
    let (client, other) = (&cluster.client, &cluster.nodes[0].1);
    let mut on_progress = |_: &ringkv::Progress| {
        if !called_off && cluster.state("c") == Some(MemberState::Leaving) {
            called_off = other.abort_drop("c", PATIENCE).is_ok();
        }
        true
    };
    let options = ChangeOptions { on_progress: Some(&mut on_progress), ..forced() };
    let result = client.drop_node("c", options);
    match (called_off, result) {
        (true, Err(error)) => {
            assert_eq!(error.status(), Status::Aborted, "{error}");
            assert_eq!(cluster.state("c"), Some(MemberState::Up));
            client.wait_settled(PATIENCE).unwrap();
            assert!(client.health().unwrap().ok);
        }
        // It was gone before it could be called off.
        (false, Ok(_)) => assert_eq!(cluster.state("c"), None),
        (called_off, result) => panic!("{called_off} {result:?}"),
    }
    for key in &keys {
        let value = client.get(key, &ReadOptions::default()).unwrap();
        assert_eq!(value.as_ref(), Some(key));
    }
}

#[test]
fn a_ring_without_leases_says_so_and_works() {
    let cluster = Cluster::new(Params { leases: false, ..params(3) }, &["a", "b", "c"]);
    assert!(!cluster.client.info().unwrap().params.leases);
    for key in fill(&cluster.client) {
        let value = cluster.nodes[2].1.get(&key, &ReadOptions::default()).unwrap();
        assert_eq!(value, Some(key));
    }
}

/// What a client still takes for a member may be a node of another ring by now, with the same ids.
#[test]
fn a_ring_is_changed_by_its_own_members_only() {
    let mut cluster = Cluster::new(params(3), &["a", "b", "c", "d"]);
    let address = cluster.nodes[0].1.address();
    cluster.crash(&["a"]);
    until("the death of a", || cluster.state("a") == Some(MemberState::Down));
    let listen = address.clone();
    let other = Ring::start(NodeConfig { listen, ..Default::default() }).unwrap();
    let ids: Vec<Ring> = (0..2)
        .map(|_| {
            let start = Start::Join(vec![address.clone()]);
            Ring::start(NodeConfig { start, ..Default::default() }).unwrap()
        })
        .collect();
    let info = cluster.client.info().unwrap();
    let dead = info.members.iter().find(|member| member.node.name == "a").unwrap();
    assert!(!dead.reachable, "another node is at its address");
    cluster.client.drop_node("c", wait()).unwrap();
    assert_eq!(cluster.state("c"), None);
    assert_eq!(other.info().unwrap().members.len(), 1 + ids.len());
}

/// Each ends as soon as it has left; the last one is told that it is, and stays for the others.
#[test]
fn all_but_one_may_leave_at_once() {
    for _ in 0..5 {
        let cluster = Cluster::new(params(2), &["a", "b", "c", "d"]);
        let leave = |(name, node): (&'static str, Ring)| {
            std::thread::spawn(move || {
                let left = node.drop_node(name, forced()).map_err(|error| error.status());
                if left.is_ok() {
                    node.close();
                }
                (left.map(|_| ()), node)
            })
        };
        let threads: Vec<_> = cluster.nodes.into_iter().map(leave).collect();
        let ends: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
        let mut ends: Vec<_> = ends.iter().map(|(left, _)| *left).collect();
        ends.sort_by_key(|left| left.is_err());
        assert_eq!(ends, [Ok(()), Ok(()), Ok(()), Err(Status::Refused)]);
    }
}

/// Passes connections on to a node, but not those for data: they are handed out instead, each with
/// when it came.
fn hold_back_data(listener: TcpListener, node: String) -> Receiver<(Instant, TcpStream)> {
    let (held, receiver) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let (node, held) = (node.clone(), held.clone());
            std::thread::spawn(move || pass_on(stream, &node, &held));
        }
    });
    receiver
}

/// A frame with its length in front.
fn read_frame(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut frame = vec![0; 4];
    stream.read_exact(&mut frame)?;
    let length = u32::from_le_bytes([frame[0], frame[1], frame[2], frame[3]]);
    frame.resize(4 + length as usize, 0);
    stream.read_exact(&mut frame[4..])?;
    Ok(frame)
}

/// Errors end a connection, as they do between nodes.
fn pass_on(
    mut dialler: TcpStream,
    node: &str,
    held: &Sender<(Instant, TcpStream)>,
) -> std::io::Result<()> {
    let came = Instant::now();
    let frame = read_frame(&mut dialler)?;
    if Hello::decode(&frame[4..]).is_ok_and(|hello| hello.role == Role::PeerData) {
        let _ = held.send((came, dialler)); // The test may have ended.
        return Ok(());
    }
    let mut node = TcpStream::connect(node)?;
    node.write_all(&frame)?;
    let (mut from_node, mut to_dialler) = (node.try_clone()?, dialler.try_clone()?);
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut from_node, &mut to_dialler);
        let _ = to_dialler.shutdown(std::net::Shutdown::Both);
    });
    std::io::copy(&mut dialler, &mut node)?;
    node.shutdown(std::net::Shutdown::Both)
}

/// A hello bears the id of a member; its answer would bind that connection to the next one.
#[test]
fn who_leaves_does_not_wait_for_answers_to_what_it_said_as_a_member() {
    /// A node gives such connections up anyway after a while.
    const CLEARLY_SOONER: Duration = Duration::from_millis(HANDSHAKE_TIMEOUT_MS - 300);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let advertise = listener.local_addr().unwrap().to_string();
    let listen = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let config = NodeConfig { listen: listen.clone(), params: params(1), ..Default::default() };
    let first = Ring::start(NodeConfig { advertise: Some(advertise.clone()), ..config }).unwrap();
    let held = hold_back_data(listener, listen);
    let start = Start::Join(vec![advertise]);
    let second = Ring::start(NodeConfig { start, ..Default::default() }).unwrap();
    let begun = Instant::now();
    loop {
        let (came, mut connection) = held.recv_timeout(PATIENCE).unwrap();
        first.drop_node(&second.address(), wait()).unwrap();
        connection.set_read_timeout(Some(CLEARLY_SOONER)).unwrap();
        let heard = connection.read_to_end(&mut Vec::new()).map_err(|error| error.kind());
        // On a busy machine it may have come too long before the drop.
        if came.elapsed() < CLEARLY_SOONER {
            return assert_eq!(heard, Ok(0), "it hangs up");
        }
        assert!(begun.elapsed() < PATIENCE, "{heard:?} each time, too late");
        first.add_node(&second.address(), ChangeOptions { wait: false, ..wait() }).unwrap();
    }
}

/// Answers as a voter that was deposed and does not know it: what it admits is not decided, and the
/// id belongs to another member by now.
fn admit_falsely(mut joiner: TcpStream, map: &RingMap) -> std::io::Result<()> {
    let say = |joiner: &mut TcpStream, payload: &[u8]| {
        joiner.write_all(&[&(payload.len() as u32).to_le_bytes()[..], payload].concat())
    };
    read_frame(&mut joiner)?;
    let (cluster, mid, map_ver) = (map.cluster, MemberId(1), map.ver);
    let mut payload = Vec::new();
    Welcome::Accepted { cluster, mid, map_ver }.encode(&mut payload);
    say(&mut joiner, &payload)?;
    loop {
        let frame = read_frame(&mut joiner)?;
        let mut payload = Vec::new();
        match ControlMsg::decode(&frame[4..]) {
            Ok(ControlMsg::MapWanted { .. }) => {
                ControlMsg::MapFull(Box::new(map.clone())).encode(&mut payload);
            }
            Ok(ControlMsg::Submit { id, .. }) => {
                let (admitted, status) = (MemberId(2), Status::Ok.code());
                let answer = ControlMsg::Submitted { id, admitted, status, text: String::new() };
                answer.encode(&mut payload);
            }
            _ => {} // It takes itself for a member.
        }
        if !payload.is_empty() {
            say(&mut joiner, &payload)?;
        }
    }
}

#[test]
fn a_joiner_is_only_the_member_that_the_map_says_it_is() {
    let voter = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = voter.local_addr().unwrap().to_string();
    let info = |name: &str, addr: &str| JoinInfo {
        name: name.into(),
        addr: addr.into(),
        weight: 1,
        ..JoinInfo::default()
    };
    let mut ring = Coordinator::create(ClusterId(7), params(1), info("a", &address));
    ring.operate(&Command::Join(info("b", "127.0.0.1:9"))).unwrap();
    ring.propose(&|_| true);
    let map = RingMap::clone(ring.map());
    std::thread::spawn(move || {
        for joiner in voter.incoming().map_while(Result::ok) {
            let _ = admit_falsely(joiner, &map); // It hangs up when it has its answers.
        }
    });
    let (start, start_timeout) = (Start::Join(vec![address]), Duration::from_millis(500));
    let joined = Ring::start(NodeConfig { start, start_timeout, ..Default::default() });
    assert_eq!(joined.map(|ring| ring.address()).map_err(|e| e.status()), Err(Status::Timeout));
}
