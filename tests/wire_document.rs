//! `docs/WIRE.md` says what the encoder does.

extern crate ringkv;

#[expect(dead_code, reason = "the generators of damaged messages are for other tests")]
#[path = "../src/wire/tests/messages.rs"]
mod messages;

/// In a module of this name, like all tests of the codec.
mod wire {
    use std::collections::BTreeSet;

    use proptest::strategy::{Strategy, ValueTree};
    use proptest::test_runner::TestRunner;
    use ringkv::base::{Cfg, ClusterId, MemberId, PartitionId, Seq, StreamId, Ver, limits};
    use ringkv::wire::{
        ClientMsg, Effect, EntryRef, Hello, Op, Outcome, PeerMsg, Reply, Request, Role, ServerMsg,
        Session, Welcome,
    };

    use super::messages::{Message, message};

    fn page() -> String {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/WIRE.md");
        std::fs::read_to_string(path).expect("the page is in the tree")
    }

    fn frame(message: &Message<'_>) -> Vec<u8> {
        let payload = message.encode();
        let mut frame = (payload.len() as u32).to_le_bytes().to_vec();
        frame.extend(payload);
        frame
    }

    /// The bytes at the start of each line of the example; an empty line ends a frame.
    fn example(page: &str) -> Vec<Vec<u8>> {
        let (_, after) = page.split_once("```hex\n").expect("the example begins");
        let (block, _) = after.split_once("```").expect("the example ends");
        let byte = |word: &str| match word.len() {
            2 => u8::from_str_radix(word, 16).ok(),
            _ => None,
        };
        let bytes = |line: &str| line.split(' ').map_while(byte).collect::<Vec<_>>();
        block.split("\n\n").map(|frame| frame.lines().flat_map(bytes).collect()).collect()
    }

    fn request(op: Op<'_>) -> Message<'_> {
        Message::Client(ClientMsg::Request { id: 1, request: Request::new(Ver(3), op) })
    }

    fn reply(reply: Reply<'_>) -> Message<'_> {
        Message::Server(ServerMsg::Reply { id: 1, reply })
    }

    fn put<'a>(key: &'a [u8], value: &'a [u8]) -> Message<'a> {
        request(Op::Put { key, value, ttl_ms: 0, if_absent: false })
    }

    #[test]
    fn the_example_is_what_is_sent() {
        let hello = Hello {
            role: Role::Client,
            cluster: ClusterId::default(),
            generation: 0,
            from: MemberId::ZERO,
            to: MemberId::ZERO,
        };
        let welcome = Welcome::Accepted {
            cluster: ClusterId(0x0011_2233_4455_6677_0123_4567_89ab_cdef),
            mid: MemberId(1),
            map_ver: Ver(3),
        };
        let conversation = [
            Message::Hello(hello),
            Message::Welcome(welcome),
            put(b"greeting", b"hello"),
            reply(Reply::Done),
        ];
        let sent: Vec<Vec<u8>> = conversation.iter().map(frame).collect();
        assert_eq!(example(&page()), sent);
    }

    /// What precedes the fields when a variant is printed for debugging: its name.
    fn name(variant: &impl std::fmt::Debug) -> String {
        format!("{variant:?}").chars().take_while(char::is_ascii_alphanumeric).collect()
    }

    /// The rows that the page must have because of this message.
    fn rows(message: &Message<'_>) -> Vec<String> {
        let payload = message.encode();
        let typed = |name: String| format!("| 0x{:02X} | `{name}` |", payload[0]);
        let inner = |name: String| format!("| {} | `{name}` |", payload[9]);
        let submitted = |name: String| format!("| {} | `{name}` |", payload[17]);
        match message {
            Message::Hello(_) => Vec::new(),
            Message::Welcome(msg) => vec![format!("| {} | `{}` |", payload[0], name(msg))],
            Message::Client(msg) => match msg {
                ClientMsg::Request { request, .. } => {
                    vec![typed(name(msg)), inner(name(&request.op))]
                }
                _ => vec![typed(name(msg))],
            },
            Message::Server(msg) => match msg {
                ServerMsg::Reply { reply, .. } => vec![typed(name(msg)), inner(name(reply))],
                _ => vec![typed(name(msg))],
            },
            Message::Control(msg) => match msg {
                ringkv::wire::ControlMsg::Submit { command, .. } => {
                    vec![typed(name(msg)), submitted(name(command))]
                }
                ringkv::wire::ControlMsg::Group { msg: inside, .. } => {
                    vec![typed(name(msg)), inner(name(inside))]
                }
                _ => vec![typed(name(msg))],
            },
            Message::Peer(msg) => vec![typed(name(msg))],
        }
    }

    #[test]
    fn every_number_is_on_the_page() {
        let (page, mut runner) = (page(), TestRunner::deterministic());
        let mut wanted = BTreeSet::new();
        for _ in 0..4000 {
            let message = message().new_tree(&mut runner).expect("no filter rejects").current();
            wanted.extend(rows(&message));
        }
        let missing: Vec<_> = wanted.iter().filter(|row| !page.contains(*row)).collect();
        assert!(missing.is_empty(), "{missing:#?}");
        // Two of the handshake, 12 + 13 + 9 types, 8 operations, 19 replies, 16 commands, 4 of the
        // group.
        assert_eq!(wanted.len(), 83);
    }

    fn grouped(number: usize) -> String {
        let digits = number.to_string();
        let group = |(at, digit): (usize, char)| match (digits.len() - at) % 3 {
            0 if at > 0 => vec![',', digit],
            _ => vec![digit],
        };
        digits.chars().enumerate().flat_map(group).collect()
    }

    #[test]
    fn every_limit_is_on_the_page() {
        let page = page();
        let limits = [
            ("key, bytes", limits::KEY_BYTES_MAX),
            ("value that a ring can be created for, bytes", limits::VALUE_BYTES_MAX),
            ("payload in the handshake, bytes", limits::HELLO_FRAME_BYTES_MAX),
            ("payload on client and data connections, bytes", limits::FRAME_BYTES_MAX),
            ("payload on control connections, bytes", limits::CONTROL_FRAME_BYTES_MAX),
            ("entries of an `Append`", limits::APPEND_ENTRIES_MAX),
            ("entries of a group's `Append`", limits::GROUP_APPEND_ENTRIES_MAX),
            ("pairs of a `Page`", limits::SCAN_PAGE_ITEMS_MAX),
            ("members, voters, addresses of an `Invite`", limits::MEMBERS_MAX),
            ("rows, partitions of a `Stats`", limits::PARTITIONS_MAX as usize),
            ("name, address or zone of a joiner, bytes", limits::NAME_BYTES_MAX),
            ("requests under way on one connection", limits::PIPELINE_MAX),
            ("sessions that a partition remembers", limits::SESSIONS_PER_PARTITION_MAX),
            ("operations of one session under way", limits::SESSION_WINDOW_MAX as usize),
            ("handshake, milliseconds", limits::HANDSHAKE_TIMEOUT_MS as usize),
        ];
        for (what, limit) in limits {
            let row = format!("| {what} | {} |", grouped(limit));
            assert!(page.contains(&row), "{row}");
        }
    }

    fn append(entries: usize) -> Message<'static> {
        let effect = Effect::Put { key: b"k", value: b"v", expires_at_ms: 0 };
        let entry = |seq| EntryRef {
            ecfg: Cfg(1),
            seq: Seq(seq),
            session: Session::default(),
            effect,
            outcome: Outcome::Done,
        };
        Message::Peer(PeerMsg::Append {
            pid: PartitionId(1),
            cfg: Cfg(1),
            strm: StreamId::ZERO,
            sync: false,
            prev: Seq::ZERO,
            prev_ecfg: Cfg::ZERO,
            commit: Seq::ZERO,
            last: Seq(entries as u64),
            entries: (1..=entries as u64).map(entry).collect(),
        })
    }

    #[test]
    fn every_cost_is_on_the_page() {
        let page = page();
        let ack = Message::Peer(PeerMsg::Ack {
            pid: PartitionId(1),
            cfg: Cfg(1),
            strm: StreamId::ZERO,
            matched: Seq(1),
            snap_ok: false,
        });
        let len = |message: &Message<'_>| frame(message).len();
        let costs = [
            ("put without a session", len(&put(b"k", b"v")) - 2),
            ("its reply", len(&reply(Reply::Done))),
            ("get without a session", len(&request(Op::Get { key: b"k" })) - 1),
            ("its reply, if there is a value", len(&reply(Reply::Value(b"v"))) - 1),
            ("`Append` of one entry", len(&append(1)) - 2),
            ("each further entry", len(&append(2)) - len(&append(1)) - 2),
            ("`Ack`", len(&ack)),
        ];
        for (what, cost) in costs {
            let row = format!("| {what} | {cost} |");
            assert!(page.contains(&row), "{row}");
        }
    }
}
