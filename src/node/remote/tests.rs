//! A client against nodes that misbehave on purpose: threads that speak the protocol by script.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::AtomicUsize;
use std::time::Instant;

use super::*;
use crate::base::{Cfg, PartitionId, Result};
use crate::node::drive::drive;
use crate::ring::{Member, Params, Part};
use crate::wire::{Hello, Op, Reply, Request, Session, Welcome};

const PATIENCE: Duration = Duration::from_secs(20);
const GET: Op<'static> = Op::Get { key: b"k" };
const PUT: Op<'static> = Op::Put { key: b"k", value: b"v", ttl_ms: 0, if_absent: false };

/// What a fake node does about a request: writes its answers, and says whether to go on.
type Script = dyn Fn(u64, &Request<'_>, &mut Vec<u8>) -> bool + Send + Sync;

/// Some fake nodes, members 1, 2, ... of one ring of one partition, and the map that they give.
struct Fakes {
    map: Arc<Mutex<RingMap>>,
    addresses: Vec<String>,
    requests: Vec<Arc<AtomicUsize>>,
}

impl Fakes {
    /// One node for each script; the first is primary.
    fn start(scripts: Vec<Box<Script>>) -> Self {
        let listeners: Vec<TcpListener> =
            scripts.iter().map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let addresses: Vec<String> =
            listeners.iter().map(|l| l.local_addr().unwrap().to_string()).collect();
        let map = Arc::new(Mutex::new(map_of(&addresses)));
        let mut requests = Vec::new();
        for (at, (listener, script)) in listeners.into_iter().zip(scripts).enumerate() {
            let (map, script) = (Arc::clone(&map), Arc::<Script>::from(script));
            let count = Arc::new(AtomicUsize::new(0));
            requests.push(Arc::clone(&count));
            std::thread::spawn(move || {
                for stream in listener.incoming() {
                    let (map, script) = (Arc::clone(&map), Arc::clone(&script));
                    let (stream, count) = (stream.unwrap(), Arc::clone(&count));
                    let mid = MemberId(at as u64 + 1);
                    std::thread::spawn(move || serve(stream, mid, &map, &*script, &count));
                }
            });
        }
        Self { map, addresses, requests }
    }

    fn client(&self, seed: usize) -> Client {
        Client::connect(&self.addresses[seed], ClientConfig { timeout: PATIENCE }).unwrap()
    }

    /// The ring agrees on something new.
    fn change(&self, edit: impl FnOnce(&mut RingMap)) {
        let mut map = self.map.lock();
        map.ver = Ver(map.ver.0 + 1);
        edit(&mut map);
    }

    fn requests(&self, node: usize) -> usize {
        self.requests[node].load(Ordering::SeqCst)
    }
}

fn map_of(addresses: &[String]) -> RingMap {
    let member = |(at, addr): (usize, &String)| {
        let member = Member {
            name: format!("n{}", at + 1),
            addr: addr.clone(),
            zone: String::new(),
            weight: 1,
            position: at as u64,
            boot: 0,
            durable: false,
            state: MemberState::Up,
        };
        (MemberId(at as u64 + 1), member)
    };
    let isr = (1..=addresses.len() as u64).map(MemberId).collect();
    let part = Part { cfg: Cfg(1), primary: MemberId(1), isr, goal: isr, ..Part::default() };
    RingMap {
        cluster: ClusterId(7),
        generation: 0,
        ver: Ver(1),
        epoch: Ver(1),
        params: Params { partitions: 1, ..Params::default() },
        required: 1,
        next_mid: MemberId(99),
        members: addresses.iter().enumerate().map(member).collect(),
        parts: vec![part],
        voters: vec![MemberId(1)],
        voters_since: Ver::ZERO,
    }
}

fn serve(
    mut stream: TcpStream,
    mid: MemberId,
    map: &Mutex<RingMap>,
    script: &Script,
    count: &AtomicUsize,
) {
    let Some(hello) = read_frame(&mut stream) else { return };
    let hello = Hello::decode(&hello).unwrap();
    assert!(hello.to == MemberId::ZERO || hello.cluster == ClusterId(7));
    let mut out = Vec::new();
    let cluster = map.lock().cluster;
    let welcome = Welcome::Accepted { cluster, mid, map_ver: map.lock().ver };
    frame(&mut out, |out| welcome.encode(out));
    while stream.write_all(&out).is_ok() {
        out.clear();
        let Some(bytes) = read_frame(&mut stream) else { return };
        match ClientMsg::decode(&bytes).unwrap() {
            ClientMsg::MapWanted { id, have } => {
                let map = map.lock().clone();
                let map = (map.ver > have).then(|| Box::new(map));
                frame(&mut out, |out| ServerMsg::Map { id, map }.encode(out));
            }
            ClientMsg::Request { id, request } => {
                count.fetch_add(1, Ordering::SeqCst);
                if !script(id, &request, &mut out) {
                    return;
                }
            }
            other => panic!("not expected here: {other:?}"),
        }
    }
}

fn read_frame(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).ok()?;
    let mut frame = vec![0; u32::from_le_bytes(length) as usize];
    stream.read_exact(&mut frame).ok()?;
    Some(frame)
}

fn frame(out: &mut Vec<u8>, append: impl FnOnce(&mut Vec<u8>)) {
    let mut payload = Vec::new();
    append(&mut payload);
    out.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    out.extend_from_slice(&payload);
}

fn reply(out: &mut Vec<u8>, id: u64, reply: Reply<'_>) {
    frame(out, |out| ServerMsg::Reply { id, reply }.encode(out));
}

/// Executes what it is asked.
fn obliging() -> Box<Script> {
    Box::new(|id, request, out| {
        let answer = match request.op {
            Op::Get { .. } | Op::GetLocal { .. } => Reply::Value(b"v"),
            Op::Probe { .. } => Reply::Here(MemberId(1)),
            _ => Reply::Done,
        };
        reply(out, id, answer);
        true
    })
}

/// Takes requests and never answers.
fn silent() -> Box<Script> {
    Box::new(|_, _, _| true)
}

/// Hangs up at the first request.
fn rude() -> Box<Script> {
    Box::new(|_, _, _| false)
}

/// What came of one operation: the value (empty for `Done`), or the status.
type Outcome = std::result::Result<Vec<u8>, Status>;

fn run(client: &Client, lookup: Lookup, op: Op<'_>, timeout: Duration) -> Outcome {
    let until = boottime() + timeout;
    let mut outcome = None;
    let mut session = client.session(lookup, until).map_err(|error| error.status())?;
    let mut done = |_, result: Result<&Reply<'_>>| {
        outcome = Some(result.map_err(|error| error.status()).map(|reply| match reply {
            Reply::Value(value) => value.to_vec(),
            Reply::Done => Vec::new(),
            other => panic!("not expected here: {other:?}"),
        }));
    };
    let driven = drive(&mut session, &[op], until, &mut crate::base::Rng::new(1), &mut done);
    driven.map_err(|error| error.status())?;
    outcome.unwrap()
}

#[test]
fn redirects_are_followed_and_the_new_map_is_learnt() {
    let moved: Box<Script> = Box::new(|id, _, out| {
        reply(out, id, Reply::Retry { primary: MemberId(2), map_ver: Ver(2) });
        true
    });
    let fakes = Fakes::start(vec![moved, obliging()]);
    let client = fakes.client(0);
    fakes.change(|map| map.parts[0].primary = MemberId(2));
    assert_eq!(run(&client, Lookup::Direct, PUT, PATIENCE), Ok(vec![]));
    assert_eq!((fakes.requests(0), fakes.requests(1)), (1, 1));
    assert_eq!(client.map().ver, Ver(2));
    assert_eq!(run(&client, Lookup::Direct, GET, PATIENCE), Ok(b"v".to_vec()));
    assert_eq!((fakes.requests(0), fakes.requests(1)), (1, 2));
}

#[test]
fn iterative_lookups_begin_at_the_seed() {
    let elsewhere: Box<Script> = Box::new(|id, request, out| {
        assert!(request.redirect);
        reply(out, id, Reply::Retry { primary: MemberId(1), map_ver: Ver(1) });
        true
    });
    let fakes = Fakes::start(vec![obliging(), elsewhere]);
    let client = fakes.client(1);
    assert_eq!(run(&client, Lookup::Iterative, GET, PATIENCE), Ok(b"v".to_vec()));
    assert_eq!((fakes.requests(0), fakes.requests(1)), (1, 1));
    assert_eq!(run(&client, Lookup::Direct, GET, PATIENCE), Ok(b"v".to_vec()));
    assert_eq!((fakes.requests(0), fakes.requests(1)), (2, 1));
}

/// Attempt, whether it opens, and session of each request.
type Heard = Arc<Mutex<Vec<(u8, bool, Session)>>>;

/// Answers as told and keeps what it was asked.
fn recorder(
    answers: impl Fn() -> Option<Reply<'static>> + Send + Sync + 'static,
) -> (Box<Script>, Heard) {
    let heard = Heard::default();
    let ours = Arc::clone(&heard);
    let script: Box<Script> = Box::new(move |id, request, out| {
        ours.lock().push((request.attempt, request.opens, request.session));
        let answer = answers();
        answer.map(|answer| reply(out, id, answer)).is_some()
    });
    (script, heard)
}

/// S1b, S2: under its number, and never with the right to open its session a second time.
#[test]
fn a_write_whose_connection_breaks_is_sent_again() {
    let (rude, first) = recorder(|| None);
    let (kind, second) = recorder(|| Some(Reply::Done));
    let fakes = Fakes::start(vec![rude, kind]);
    let client = fakes.client(0);
    fakes.change(|map| map.parts[0].primary = MemberId(2));
    assert_eq!(run(&client, Lookup::Direct, PUT, PATIENCE), Ok(vec![]));
    let ((attempt, opens, session), again) = (first.lock()[0], second.lock()[0]);
    assert_eq!((attempt, opens, session.number), (0, true, 1));
    assert_eq!(again, (1, false, session));
    assert_eq!(run(&client, Lookup::Direct, PUT, PATIENCE), Ok(vec![]));
    let next = Session { number: 2, floor: 2, ..session };
    assert_eq!(second.lock()[1], (0, false, next));
}

/// S6': nobody can tell what became of the first message.
#[test]
fn a_write_that_nobody_knows_of_is_unknown_if_it_was_sent_before() {
    let (forgetful, heard) = recorder(|| Some(Reply::SessionUnknown));
    let fakes = Fakes::start(vec![rude(), forgetful]);
    let client = fakes.client(0);
    fakes.change(|map| map.parts[0].primary = MemberId(2));
    assert_eq!(run(&client, Lookup::Direct, PUT, PATIENCE), Err(Status::ConnectionLost));
    assert_eq!(heard.lock().len(), 1);
    // And a read goes elsewhere without further ado.
    let fakes = Fakes::start(vec![rude(), obliging()]);
    let client = fakes.client(0);
    fakes.change(|map| map.parts[0].primary = MemberId(2));
    assert_eq!(run(&client, Lookup::Direct, GET, PATIENCE), Ok(b"v".to_vec()));
}

/// S6': one that was only ever refused goes on in another session.
#[test]
fn a_write_of_a_forgotten_session_begins_anew() {
    let turn = AtomicUsize::new(0);
    let (forgetful, heard) = recorder(move || match turn.fetch_add(1, Ordering::SeqCst) {
        1 => Some(Reply::SessionUnknown),
        _ => Some(Reply::Done),
    });
    let fakes = Fakes::start(vec![forgetful]);
    let client = fakes.client(0);
    assert_eq!(run(&client, Lookup::Direct, PUT, PATIENCE), Ok(vec![]));
    assert_eq!(run(&client, Lookup::Direct, PUT, PATIENCE), Ok(vec![]));
    let heard = heard.lock();
    let numbers: Vec<_> = heard.iter().map(|(_, opens, s)| (*opens, s.number)).collect();
    assert_eq!(numbers, [(true, 1), (false, 2), (true, 1)]);
    assert_ne!(heard[0].2.sid, heard[2].2.sid);
}

/// S1: what waits for the first answer of a partition keeps its order.
#[test]
fn a_batch_waits_for_the_first_answer_of_its_session() {
    let (kind, heard) = recorder(|| Some(Reply::Done));
    let fakes = Fakes::start(vec![kind]);
    let client = fakes.client(0);
    let values: Vec<[u8; 2]> = (0..300u16).map(u16::to_be_bytes).collect();
    let ops: Vec<Op<'_>> = values
        .iter()
        .map(|value| Op::Put { key: b"k", value, ttl_ms: 0, if_absent: false })
        .collect();
    let mut session = client.session(Lookup::Direct, boottime() + PATIENCE).unwrap();
    let mut answered = 0;
    let mut done = |_, result: Result<&Reply<'_>>| answered += usize::from(result.is_ok());
    let until = boottime() + PATIENCE;
    drive(&mut session, &ops, until, &mut crate::base::Rng::new(1), &mut done).unwrap();
    assert_eq!(answered, 300);
    let heard = heard.lock();
    assert!(heard.iter().map(|(_, _, session)| session.number).eq(1..=300));
    assert!(heard.iter().all(|(attempt, opens, s)| *attempt == 0 && *opens == (s.number == 1)));
    assert!(heard.iter().all(|(_, _, s)| s.number - s.floor < 64));
}

/// The node that a write was sent to has left the ring: that is proof, and the write goes on.
#[test]
fn a_write_that_meets_a_goodbye_is_executed_elsewhere() {
    let leaving: Box<Script> = Box::new(|_, _, out| {
        frame(out, |out| ServerMsg::Goodbye.encode(out));
        true
    });
    let fakes = Fakes::start(vec![leaving, obliging()]);
    let client = fakes.client(0);
    fakes.change(|map| map.parts[0].primary = MemberId(2));
    assert!(run(&client, Lookup::Direct, PUT, PATIENCE).is_ok());
    assert_eq!((fakes.requests(0), fakes.requests(1)), (1, 1));
}

#[test]
fn what_was_never_sent_is_unavailable_and_not_unknown() {
    let fakes = Fakes::start(vec![obliging()]);
    let client = fakes.client(0);
    // Nobody listens where the new primary should be.
    fakes.change(|map| {
        let mut gone = map.members[&MemberId(1)].clone();
        gone.addr = "127.0.0.1:1".into();
        map.members.insert(MemberId(5), gone);
        map.parts[0].isr.insert(MemberId(5));
        map.parts[0].primary = MemberId(5);
    });
    client.0.refresh(Ver(1), boottime() + PATIENCE);
    let outcome = run(&client, Lookup::Direct, PUT, Duration::from_millis(200));
    assert_eq!(outcome, Err(Status::Unavailable));
    // And an address where somebody else answers is no better.
    fakes.change(|map| {
        let address = map.members[&MemberId(1)].addr.clone();
        map.members.get_mut(&MemberId(5)).unwrap().addr = address;
    });
    client.0.refresh(Ver(2), boottime() + PATIENCE);
    let outcome = run(&client, Lookup::Direct, PUT, Duration::from_millis(200));
    assert_eq!(outcome, Err(Status::Unavailable));
    assert_eq!(fakes.requests(0), 0);
}

#[test]
fn an_answer_that_comes_late_is_nobodys() {
    let first: Mutex<Option<u64>> = Mutex::new(None);
    let late: Box<Script> = Box::new(move |id, _, out| {
        let before = first.lock().take();
        match before {
            None => *first.lock() = Some(id),
            Some(first) => {
                reply(out, first, Reply::Value(b"late"));
                reply(out, id, Reply::Value(b"in time"));
                reply(out, id, Reply::Value(b"once more"));
            }
        }
        true
    });
    let fakes = Fakes::start(vec![late]);
    let client = fakes.client(0);
    let short = Duration::from_millis(60);
    assert_eq!(run(&client, Lookup::Direct, GET, short), Err(Status::Timeout));
    assert_eq!(run(&client, Lookup::Direct, GET, PATIENCE), Ok(b"in time".to_vec()));
}

#[test]
fn closing_wakes_who_waits() {
    let fakes = Fakes::start(vec![silent()]);
    let client = fakes.client(0);
    let other = client.clone();
    let blocked = std::thread::spawn(move || run(&other, Lookup::Direct, GET, PATIENCE));
    let start = Instant::now();
    while fakes.requests(0) == 0 {
        assert!(start.elapsed() < PATIENCE);
        std::thread::yield_now();
    }
    let start = Instant::now();
    client.close();
    assert_eq!(blocked.join().unwrap(), Err(Status::Closed));
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    assert_eq!(run(&client, Lookup::Direct, GET, PATIENCE), Err(Status::Closed));
}

/// A process that hangs keeps its connections open; the others know better.
#[test]
fn who_is_declared_dead_is_not_waited_for() {
    let fakes = Fakes::start(vec![silent(), obliging()]);
    let declare = |fakes: &Fakes| {
        fakes.change(|map| {
            map.members.get_mut(&MemberId(1)).unwrap().state = MemberState::Down;
            map.parts[0].primary = MemberId(2);
        });
    };
    let (reader, writer) = (fakes.client(1), fakes.client(1));
    let start = Instant::now();
    std::thread::scope(|scope| {
        let read = scope.spawn(|| run(&reader, Lookup::Direct, GET, PATIENCE));
        let written = scope.spawn(|| run(&writer, Lookup::Direct, PUT, PATIENCE));
        while fakes.requests(0) < 2 {
            assert!(start.elapsed() < PATIENCE);
            std::thread::yield_now();
        }
        declare(&fakes);
        assert_eq!(read.join().unwrap(), Ok(b"v".to_vec()));
        assert_eq!(written.join().unwrap(), Ok(vec![]));
    });
    assert!(start.elapsed() < PATIENCE / 2, "{:?}", start.elapsed());
}

#[test]
fn connecting_fails_with_every_address_that_was_tried() {
    let config = ClientConfig { timeout: PATIENCE };
    let failure = |seeds: &str| Client::connect(seeds, config.clone()).map(|_| ()).unwrap_err();
    for empty in ["", " , "] {
        assert_eq!(failure(empty).status(), Status::InvalidArgument);
    }
    assert_eq!(failure("no port").status(), Status::InvalidArgument);
    let error = failure("127.0.0.1:1,localhost:1");
    assert_eq!(error.status(), Status::Connect);
    assert!(error.message().contains("127.0.0.1:1"), "{error}");
    assert!(error.message().contains("localhost:1"), "{error}");
    let error = failure("no-such-host.invalid:7000");
    assert_eq!(error.status(), Status::UnknownHost);
    assert!(error.message().contains("no-such-host.invalid"), "{error}");

    let fakes = Fakes::start(vec![obliging()]);
    fakes.change(|map| map.cluster = ClusterId(0));
    let error = failure(&fakes.addresses[0]);
    assert_eq!(error.status(), Status::Unavailable);
    fakes.change(|map| map.cluster = ClusterId(7));
    let client = Client::connect(&format!("127.0.0.1:1, {}", fakes.addresses[0]), config).unwrap();
    assert_eq!(client.map().part(PartitionId(0)).unwrap().primary, MemberId(1));
}

#[test]
fn much_is_sent_before_the_first_answer_and_large_values_wait_for_room() {
    let fakes = Fakes::start(vec![obliging()]);
    let client = fakes.client(0);
    let until = boottime() + PATIENCE;
    let value = vec![7; 256 * 1024];
    for (count, value) in [(5000, &value[..10]), (200, &value[..])] {
        let put = Op::Put { key: b"k", value, ttl_ms: 0, if_absent: false };
        let ops = vec![put; count];
        let mut done = 0;
        let mut session = client.session(Lookup::Direct, until).unwrap();
        let mut rng = crate::base::Rng::new(1);
        let mut on_done = |_, result: Result<&Reply<'_>>| {
            assert_eq!(result.unwrap(), &Reply::Done);
            done += 1;
        };
        drive(&mut session, &ops, until, &mut rng, &mut on_done).unwrap();
        assert_eq!(done, count);
    }
    assert_eq!(fakes.requests(0), 5200);
}
