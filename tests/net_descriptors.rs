//! Descriptors belong to a whole process, so what counts them or uses them up runs in a process of
//! its own: one test here, which starts itself again with few descriptors for its second part.

#![allow(clippy::unwrap_used)] // as in every test

use std::io::Read;
use std::net::TcpStream;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ringkv::net::blocking::{Lanes, connect};
use ringkv::net::*;

const PATIENCE: Duration = Duration::from_secs(20);
const FEW: &str = "RINGKV_TEST_FEW_DESCRIPTORS";

#[test]
fn connections_leak_no_descriptor_and_running_out_of_them_is_survived() {
    if std::env::var_os(FEW).is_some() {
        return survives_running_out();
    }
    let before = open_descriptors();
    churn();
    assert_eq!(open_descriptors(), before);

    let program = std::env::current_exe().unwrap();
    let run = Command::new("sh")
        .args(["-c", "ulimit -n 64; exec \"$0\" --nocapture"])
        .arg(program)
        .env(FEW, "1")
        .output()
        .unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
}

fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Serves what it accepts, dials what it is told to, and counts what ended.
#[derive(Default)]
struct Counting {
    accepted: usize,
    closed: usize,
    failed: usize,
    links: Vec<Arc<Link>>,
    turns: usize,
}

impl Handler for Counting {
    fn on_accept(&mut self, ctx: &mut Context, _: ListenerId, socket: Socket) {
        self.accepted += 1;
        // The links stay alive after the end: they must not keep the descriptors.
        self.links.push(ctx.add(socket, ConnectionOptions::default()).unwrap());
    }
    fn on_frame(&mut self, _: &mut Context, link: &Arc<Link>, frame: &[u8]) -> Flow {
        let _ = link.push_frame(|buffer| buffer.extend_from_slice(frame));
        link.flush();
        Flow::Close(CloseReason::Local("served".into()))
    }
    fn on_closed(&mut self, _: &mut Context, _: &Arc<Link>, _: CloseReason) {
        self.closed += 1;
    }
    fn on_connected(&mut self, ctx: &mut Context, _: DialId, socket: Socket) {
        self.links.push(ctx.add(socket, ConnectionOptions::default()).unwrap());
    }
    fn on_connect_failed(&mut self, _: &mut Context, _: DialId, _: ringkv::Error) {
        self.failed += 1;
    }
    fn on_turn_end(&mut self, _: &mut Context, _: ringkv::base::Nanos) {
        self.turns += 1;
    }
}

/// Hundreds of connections of every kind and every ending, while every link is kept.
fn churn() {
    let path = std::env::temp_dir().join(format!("ringkv-fd-{}.sock", sys::random_u64()));
    let free = Listener::bind(&"127.0.0.1:0".parse().unwrap(), Budget::new(1)).unwrap();
    let refused = free.address().clone();
    drop(free);
    for address in ["127.0.0.1:0".parse().unwrap(), Address::Unix(path)] {
        let mut reactor = Reactor::new(ReactorOptions::default()).unwrap();
        let budget = Budget::new(1000);
        let listener = Listener::bind(&address, Arc::clone(&budget)).unwrap();
        let address = listener.address().clone();
        reactor.context().listen(listener).unwrap();
        let mut handler = Counting::default();
        let target = address.clone();
        let clients = std::thread::spawn(move || {
            for number in 0..200 {
                serve_and_leave(&target, number % 2 == 0);
            }
        });
        for _ in 0..50 {
            reactor.context().dial(&refused, PATIENCE);
        }
        let deadline = Instant::now() + PATIENCE;
        while handler.closed < 200 || budget.used() > 0 || handler.failed < 50 {
            let (closed, failed) = (handler.closed, handler.failed);
            assert!(Instant::now() < deadline, "{closed} closed, {failed} failed");
            reactor.turn(&mut handler, Duration::from_millis(100)).unwrap();
        }
        clients.join().unwrap();
        assert_eq!((handler.accepted, handler.closed), (200, 200));
        // One dialled connection and one accepted one end with the loop.
        reactor.context().dial(&address, PATIENCE);
        while handler.links.len() < 202 {
            reactor.turn(&mut handler, PATIENCE).unwrap();
        }
        drop(reactor);
        assert!(handler.links.iter().all(|link| link.is_closed()));
        let _kept = handler;
    }
}

/// One client: either waits for its answer and the end, or leaves before.
fn serve_and_leave(address: &Address, stays: bool) {
    let mut lanes = Lanes::new();
    let socket = connect(address, PATIENCE).unwrap();
    let link = lanes.add(socket, ConnectionOptions::default());
    if stays {
        link.push_frame(|buffer| buffer.extend_from_slice(b"hello")).unwrap();
        while !lanes.is_empty() {
            lanes.wait(PATIENCE, |_, _| ()).unwrap();
        }
    }
}

/// With no descriptor left the loop neither spins nor dies, and accepts again when there is one.
fn survives_running_out() {
    let mut reactor = Reactor::new(ReactorOptions::default()).unwrap();
    let listener = Listener::bind(&"127.0.0.1:0".parse().unwrap(), Budget::new(1000)).unwrap();
    let Some(Endpoint::Tcp(address)) = listener.address().literal().map(|mut all| all.remove(0))
    else {
        panic!("a TCP address")
    };
    reactor.context().listen(listener).unwrap();
    let mut handler = Counting::default();
    let mut clients = Vec::new();
    while let Ok(client) = TcpStream::connect(address) {
        clients.push(client);
    }
    assert!(clients.len() > 10 && std::fs::File::open("/dev/null").is_err());
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(250) {
        reactor.turn(&mut handler, Duration::from_millis(250)).unwrap();
    }
    assert_eq!(handler.accepted, 0);
    assert!(handler.turns < 20, "it spins: {} turns", handler.turns);

    let mut last = clients.pop().unwrap();
    clients.truncate(5);
    while handler.accepted < 6 {
        reactor.turn(&mut handler, PATIENCE).unwrap();
    }
    drop(reactor);
    assert_eq!(last.read(&mut [0]).unwrap_or(0), 0);
}
