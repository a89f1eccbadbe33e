//! The first server and the first node, as far as others notice: one request at a time, one receive
//! for each part of it, and the same bytes. What would be the end of their processes (an empty
//! connection, an answer that is longer than their memory) fails the test.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::cluster::bind;
use crate::process::PATIENCE;
use crate::wire::{ADD, DROP, GET, HEADER_BYTES, Head, OLD_REPLY_BYTES, PUT, Request};

/// How much of an answer the first server had memory for.
const SERVER_BYTES: usize = 256;

type Pairs = Arc<Mutex<BTreeMap<Vec<u8>, Vec<u8>>>>;

/// A thread that serves until it is told to end.
struct Loop {
    port: u16,
    thread: Option<JoinHandle<()>>,
    stop: Arc<Mutex<bool>>,
}

impl Loop {
    fn start(port: u16, mut serve: impl FnMut(&mut TcpStream) + Send + 'static) -> Loop {
        let listener = bind(port);
        let stop = Arc::new(Mutex::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            loop {
                let (mut connection, _) = listener.accept().expect("somebody comes");
                if *stopped.lock().expect("no panic") {
                    return;
                }
                connection.set_read_timeout(Some(PATIENCE)).expect("a time limit");
                serve(&mut connection);
            }
        });
        Loop { port, thread: Some(thread), stop }
    }

    /// Ends it; it must not have failed.
    fn end(mut self) {
        *self.stop.lock().expect("no panic") = true;
        let woken = TcpStream::connect(("127.0.0.1", self.port));
        let ended = self.thread.take().expect("not ended before").join();
        assert!(woken.is_ok() && ended.is_ok(), "the old program at {} has failed", self.port);
    }
}

/// The first node.
pub struct OldNode {
    serving: Loop,
    pairs: Pairs,
}

impl OldNode {
    /// With the server that it sends its pairs to.
    pub fn start(port: u16, server: u16) -> OldNode {
        let pairs = Pairs::default();
        let held = Arc::clone(&pairs);
        let serving = Loop::start(port, move |connection| node(connection, &held, server));
        OldNode { serving, pairs }
    }

    pub fn name(&self) -> String {
        format!("localhost:{}", self.serving.port)
    }

    /// How many pairs it holds.
    pub fn len(&self) -> usize {
        self.pairs.lock().expect("no panic").len()
    }

    /// It can neither take nor send pairs while that is held.
    pub fn hold(&self) -> MutexGuard<'_, impl Sized> {
        self.pairs.lock().expect("no panic")
    }

    pub fn wait_empty(&self) {
        let asked = Instant::now();
        while self.len() > 0 {
            assert!(asked.elapsed() < PATIENCE, "the old node keeps its pairs");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub fn end(self) {
        self.serving.end();
    }
}

fn node(connection: &mut TcpStream, pairs: &Pairs, server: u16) {
    let request = receive(connection).expect("an old node ends when it gets no request");
    match request.method {
        GET => {
            let mut found = pairs.lock().expect("no panic").get(&request.key).cloned();
            if let Some(value) = &mut found {
                value.push(0);
            }
            let _ = connection.write_all(found.as_deref().unwrap_or(b"no result\0"));
        }
        PUT => {
            pairs.lock().expect("no panic").insert(request.key, request.value);
            let _ = connection.write_all(b"successful");
        }
        DROP => loop {
            let first = |pairs: &BTreeMap<Vec<u8>, Vec<u8>>| {
                pairs.first_key_value().map(|(key, value)| Request::new(PUT, key, value))
            };
            let Some(put) = first(&pairs.lock().expect("no panic")) else { break };
            // It waits for no answer.
            send(
                &mut TcpStream::connect(("127.0.0.1", server)).expect("the server is there"),
                &put,
            );
            pairs.lock().expect("no panic").remove(&put.key);
        },
        other => panic!("an old node ends at method {other}"),
    }
}

/// The first server.
pub struct OldServer {
    serving: Loop,
}

impl OldServer {
    pub fn start(port: u16, nodes: &[&str]) -> OldServer {
        let mut nodes: Vec<String> = nodes.iter().map(|name| (*name).to_owned()).collect();
        OldServer { serving: Loop::start(port, move |connection| server(connection, &mut nodes)) }
    }

    /// The port is free then.
    pub fn end(self) {
        self.serving.end();
    }
}

fn server(connection: &mut TcpStream, nodes: &mut Vec<String>) {
    let Some(request) = receive(connection) else { return };
    nodes.sort_by_key(|name| position(name));
    let key = String::from_utf8_lossy(&request.key).into_owned();
    match request.method {
        GET | PUT => {
            // Of short keys each is at the last node. The header goes on as it came.
            let reply = talk(nodes.last().expect("a node"), &request);
            assert!(reply.len() <= SERVER_BYTES, "an old server ends at {} bytes", reply.len());
            let mut bytes = [b'#'; OLD_REPLY_BYTES];
            bytes[..reply.len()].copy_from_slice(&reply);
            let _ = connection.write_all(&bytes);
        }
        ADD => {
            nodes.push(key.clone());
            nodes.sort_by_key(|name| position(name));
            let at = nodes.iter().position(|name| *name == key).expect("just added");
            unload(&nodes[(at + 1) % nodes.len()]);
        }
        DROP => {
            nodes.retain(|name| *name != key);
            unload(&key);
        }
        other => println!("method is: {other}"),
    }
}

/// The place of a node in an old server's list.
pub fn position(name: &str) -> u64 {
    let step = |hash: u64, byte: u8| hash.wrapping_mul(33).wrapping_add(byte.into());
    name.bytes().filter(|byte| *byte != b':').fold(5381, step)
}

fn talk(node: &str, request: &Request) -> Vec<u8> {
    let mut to = TcpStream::connect(node).expect("the node is there");
    to.set_read_timeout(Some(PATIENCE)).expect("a time limit");
    send(&mut to, request);
    let mut reply = vec![0; OLD_REPLY_BYTES];
    let got = to.read(&mut reply).expect("an answer");
    reply.truncate(got);
    reply
}

/// It closes at once, without a look at what the node says.
fn unload(node: &str) {
    let mut to = TcpStream::connect(node).expect("the node is there");
    send(&mut to, &Request { padding: 0x7fff, ..Request::new(DROP, b"", b"") });
}

fn send(to: &mut TcpStream, request: &Request) {
    for part in [&request.header(), &request.key, &request.value] {
        to.write_all(part).expect("the other side takes it");
    }
}

/// One receive for each part, whatever comes; nothing if the other side sends nothing.
fn receive(from: &mut TcpStream) -> Option<Request> {
    let mut header = [0; HEADER_BYTES];
    let got = from.read(&mut header).expect("a request");
    if got == 0 {
        return None;
    }
    assert_eq!(got, HEADER_BYTES, "an old program takes the front for the whole");
    let Head { method, padding, key_size, value_size } = Head::read(&header);
    let mut part = |size: usize| {
        let mut bytes = vec![0; size];
        if size > 0 {
            let got = from.read(&mut bytes).expect("the rest of the request");
            assert_eq!(got, size, "an old program takes the front for the whole");
        }
        bytes
    };
    let key = part(key_size);
    let value = part(value_size);
    assert!(key.len() < SERVER_BYTES && value.len() < SERVER_BYTES);
    Some(Request { method, padding, key, value })
}
