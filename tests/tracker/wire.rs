//! The bytes between the tracker's programs, written down a second time, and both ends of the first
//! kind: a client that uses a new connection for each request, writes three servers and reads
//! three, and servers that have a copy each and close after one answer.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use crate::process::PATIENCE;

pub const INSERT: i32 = 0;
pub const SEARCH: i32 = 1;
pub const DELETE: i32 = 2;
pub const REHASH: i32 = 3;
pub const TERMINATE: i32 = 4;
pub const JOIN: i16 = 0;
pub const LEAVE: i16 = 1;
pub const HERE: [u8; 4] = [127, 0, 0, 1];
/// The answer that says only that it could not be done.
pub const FAILED: [i32; 3] = [-1; 3];

/// Action, key, value.
pub type Message = [i32; 3];

pub fn connect(port: u16) -> TcpStream {
    let connection = TcpStream::connect(("127.0.0.1", port)).expect("somebody listens");
    connection.set_read_timeout(Some(PATIENCE)).expect("a time limit");
    connection
}

pub fn message_bytes(message: &Message) -> Vec<u8> {
    message.iter().flat_map(|field| field.to_ne_bytes()).collect()
}

pub fn message_from(bytes: &[u8]) -> Message {
    let field = |at: usize| i32::from_ne_bytes(bytes[at..at + 4].try_into().expect("4 bytes"));
    [field(0), field(4), field(8)]
}

pub fn change_bytes(action: i16, ip: [u8; 4], port: u16) -> Vec<u8> {
    [&action.to_ne_bytes()[..], &ip, &port.to_ne_bytes()].concat()
}

fn place_bytes(port: u16) -> Vec<u8> {
    [&HERE[..], &port.to_ne_bytes()].concat()
}

/// What the main server says about a key: three ports, 0 for no server.
pub fn places(tracker: u16, key: i32) -> [u16; 3] {
    let mut connection = connect(tracker);
    connection.write_all(&key.to_ne_bytes()).expect("it takes a key");
    let mut reply = [0; 18];
    connection.read_exact(&mut reply).expect("three places");
    [0, 6, 12].map(|at| {
        let port = u16::from_ne_bytes([reply[at + 4], reply[at + 5]]);
        assert_eq!(reply[at..at + 4], if port == 0 { [0; 4] } else { HERE });
        port
    })
}

/// One request on a connection of its own.
pub fn ask(server: u16, message: &Message) -> Message {
    let mut connection = connect(server);
    connection.write_all(&message_bytes(message)).expect("it takes a message");
    let mut reply = [0; 12];
    connection.read_exact(&mut reply).expect("an answer");
    message_from(&reply)
}

/// What a client of the first kind does: all three servers, whose answers must agree.
pub fn ask_three(tracker: u16, message: &Message) -> Message {
    let answers = places(tracker, message[1]).map(|server| ask(server, message));
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?} to {message:?}");
    answers[0]
}

/// One server of the first kind: its keys, and a port.
pub struct OldServer {
    pub port: u16,
    pub keys: Arc<Mutex<HashMap<i32, i32>>>,
}

impl OldServer {
    pub fn start() -> OldServer {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let keys: Arc<Mutex<HashMap<i32, i32>>> = Arc::default();
        let shared = Arc::clone(&keys);
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                let mut connection = connection.expect("a client");
                let mut request = [0; 12];
                if connection.read_exact(&mut request).is_err() {
                    continue;
                }
                let [action, key, value] = message_from(&request);
                let mut keys = shared.lock().expect("no panic");
                let value = match action {
                    INSERT => *keys.entry(key).insert_entry(value).get(),
                    SEARCH => keys.get(&key).copied().unwrap_or(-1),
                    _ => keys.remove(&key).map_or(0, |_| 0),
                };
                let _ = connection.write_all(&message_bytes(&[action, key, value]));
            }
        });
        OldServer { port, keys }
    }
}

/// A main server of the first kind that names the same three servers for each key.
pub fn start_old_tracker(listener: TcpListener, servers: [u16; 3]) {
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let mut connection = connection.expect("a client");
            if connection.read_exact(&mut [0; 4]).is_ok() {
                let _ = connection.write_all(&servers.map(place_bytes).concat());
            }
        }
    });
}
