//! The bytes between client and server, written down a second time.

use std::io::Read;

pub const GET: i32 = 1;
pub const PUT: i32 = 2;
pub const ADD: i32 = 3;
pub const DROP: i32 = 4;
/// What the first server always sent.
pub const OLD_REPLY_BYTES: usize = 4096;

/// Stand where the first programs had padding.
const TO_SERVER: u32 = 0x524b_5631;
const TO_NODE: u32 = 0x524b_5632;
const REPLY_MARK: &[u8] = b"ringkv\x001";
const WORD: usize = size_of::<usize>();
pub const HEADER_BYTES: usize = 8 + 2 * WORD;

/// What a client sends.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: i32,
    pub padding: u32,
    pub key: Vec<u8>,
    pub value: Vec<u8>,
}

/// What a marked reply says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Done,
    Error,
}

impl Request {
    pub fn new(method: i32, key: &[u8], value: &[u8]) -> Request {
        Request { method, padding: 0, key: key.to_vec(), value: value.to_vec() }
    }

    /// The same from a client of the new kind.
    pub fn marked(&self) -> Request {
        Request { padding: TO_SERVER, ..self.clone() }
    }

    /// The same from a server of the new kind.
    pub fn marked_for_node(&self) -> Request {
        Request { padding: TO_NODE, ..self.clone() }
    }

    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = self.header();
        bytes.extend_from_slice(&self.key);
        bytes.extend_from_slice(&self.value);
        bytes
    }

    pub fn header(&self) -> Vec<u8> {
        let mut bytes = self.method.to_ne_bytes().to_vec();
        bytes.extend_from_slice(&self.padding.to_ne_bytes());
        bytes.extend_from_slice(&self.key.len().to_ne_bytes());
        bytes.extend_from_slice(&self.value.len().to_ne_bytes());
        bytes
    }

    /// Reads what a client sends.
    pub fn read(from: &mut impl Read) -> Request {
        let mut header = [0; HEADER_BYTES];
        from.read_exact(&mut header).expect("a header");
        let Head { method, padding, key_size, value_size } = Head::read(&header);
        let mut key = vec![0; key_size];
        let mut value = vec![0; value_size];
        from.read_exact(&mut key).expect("the key");
        from.read_exact(&mut value).expect("the value");
        Request { method, padding, key, value }
    }
}

/// What a request begins with.
pub struct Head {
    pub method: i32,
    pub padding: u32,
    pub key_size: usize,
    pub value_size: usize,
}

impl Head {
    pub fn read(header: &[u8; HEADER_BYTES]) -> Head {
        let word = |at: usize| usize::from_ne_bytes(header[at..at + WORD].try_into().expect("8"));
        let half = |at: usize| u32::from_ne_bytes(header[at..at + 4].try_into().expect("4"));
        Head {
            method: half(0).cast_signed(),
            padding: half(4),
            key_size: word(8),
            value_size: word(8 + WORD),
        }
    }
}

/// Takes a reply of the new kind apart; it must be complete, and nothing may follow it.
pub fn unmark(reply: &[u8]) -> (Kind, Vec<u8>) {
    let (header, bytes) = reply.split_at_checked(16 + WORD).expect("a header");
    assert_eq!(&header[..8], REPLY_MARK);
    let size = usize::from_ne_bytes(header[16..].try_into().expect("a word"));
    assert_eq!(size, bytes.len());
    let kind = match u32::from_ne_bytes(header[8..12].try_into().expect("4 bytes")) {
        0 => Kind::Done,
        1 => Kind::Error,
        other => panic!("kind {other}"),
    };
    (kind, bytes.to_vec())
}
