//! What decoding may cost: however a frame lies, the memory spent on it stays near its own size.
//!
//! Here and not beside the decoders, because the crate that counts replaces the allocator of the
//! whole test program.

extern crate ringkv;

#[path = "../src/wire/tests/messages.rs"]
mod messages;

/// In a module of this name, so that the filter `wire::` finds these tests as well.
mod wire {
    use std::hint::black_box;

    use proptest::prelude::*;

    use ringkv::base::{ClusterId, MemberId, Ver};
    use ringkv::ring::{Member, MemberState, Params, Part, RingMap};
    use ringkv::wire::{ControlMsg, Welcome};

    use super::messages::{KINDS, Kind, Message, damaged, message, noise};

    /// Memory that a byte of a frame may cost. The worst is an entry without an effect: 10 bytes
    /// in a frame, 112 in memory.
    const BYTES_PER_BYTE: u64 = 12;
    /// What even the smallest frame may cost: a map's first member takes a whole tree node.
    const BYTES_PER_FRAME: u64 = 2048;

    /// The most that decoding, and holding, the message takes at any moment.
    fn cost(kind: Kind, payload: &[u8]) -> (bool, u64) {
        let mut accepted = false;
        let info = allocation_counter::measure(|| {
            accepted = black_box(Message::decode(kind, payload)).is_some();
        });
        assert_eq!(info.bytes_current, 0, "nothing is kept");
        (accepted, info.bytes_max)
    }

    fn is_cheap(payload: &[u8]) -> Result<(), TestCaseError> {
        let allowed = BYTES_PER_BYTE * payload.len() as u64 + BYTES_PER_FRAME;
        for kind in KINDS {
            let (_, cost) = cost(kind, payload);
            prop_assert!(cost <= allowed, "{cost} bytes for {} as {kind:?}", payload.len());
        }
        Ok(())
    }

    proptest! {
        #[test]
        fn messages_are_cheap(message in message()) {
            is_cheap(&message.encode())?;
        }

        #[test]
        fn damaged_messages_are_cheap((_, payload) in damaged()) {
            is_cheap(&payload)?;
        }

        #[test]
        fn arbitrary_bytes_are_cheap(payload in noise()) {
            is_cheap(&payload)?;
        }
    }

    #[test]
    fn the_counter_counts() {
        let text = "x".repeat(100);
        let msg = Welcome::Refused { status: 0, not_a_member: false, text };
        let (accepted, cost) = cost(Kind::Welcome, &Message::Welcome(msg).encode());
        assert!(accepted);
        assert_eq!(cost, 100);
    }

    /// A message that ends in a count and `count` times the same element.
    fn repeated(head: &[&[u8]], count: u32, element: &[u8]) -> Vec<u8> {
        let mut payload = head.concat();
        payload.extend_from_slice(&count.to_le_bytes());
        (0..count).for_each(|_| payload.extend_from_slice(element));
        payload
    }

    /// What comes before the count, the element, and how many are permitted.
    type Case<'a> = (Kind, &'a [&'a [u8]], &'a [u8], Option<u32>);

    /// Each collection, of the smallest elements, with as many as are permitted and many more.
    #[test]
    fn frames_of_the_smallest_elements_are_cheap() {
        let entry = [0, 0, 1, 0, 0, 0, 0, 0, 0, 0];
        let item = [&[1, 0, b'k'][..], &[0; 20]].concat();
        let pair = [1, 0, b'k', 0, 0, 0, 0];
        // The last two are refused, but only after memory for their elements was reserved.
        let cases: [Case<'_>; 7] = [
            (Kind::Peer, &[&[0x20], &[0; 45], &[0xFF; 8]], &entry, Some(4096)),
            (Kind::Peer, &[&[0x24], &[0; 16]], &item, Some(u32::MAX)),
            (Kind::Server, &[&[0x18], &[0; 8], &[4, 0], &[0; 12]], &pair, Some(4096)),
            (Kind::Server, &[&[0x1A], &[0; 56]], &[0; 20], Some(65_536)),
            (Kind::Client, &[&[0x13], &[0; 24]], &[0; 2], Some(1024)),
            (Kind::Control, &[&[0x44], &[0; 53]], &[0; 8], None),
            (Kind::Control, &[&[0x44], &[0; 58]], &[0; 36], None),
        ];
        for (kind, head, element, permitted) in cases {
            for count in [1024, 1025, 4096, 4097, 65_536, 65_537, 1 << 19] {
                let payload = repeated(head, count, element);
                let (accepted, cost) = cost(kind, &payload);
                assert_eq!(accepted, permitted.is_some_and(|max| count <= max), "{count} {kind:?}");
                let allowed = BYTES_PER_BYTE * payload.len() as u64 + BYTES_PER_FRAME;
                assert!(cost <= allowed, "{cost} bytes for {} as {kind:?}", payload.len());
            }
        }
    }

    #[test]
    fn the_largest_map_of_the_smallest_rows_is_cheap() {
        let member = Member {
            name: String::new(),
            addr: String::new(),
            zone: String::new(),
            weight: 1,
            position: 0,
            boot: 0,
            durable: false,
            state: MemberState::Up,
        };
        let part = Part {
            primary: MemberId(1),
            isr: [MemberId(1)].into_iter().collect(),
            ..Part::default()
        };
        let map = RingMap {
            cluster: ClusterId(1),
            generation: 0,
            ver: Ver(1),
            epoch: Ver(1),
            params: Params { partitions: 65_536, ..Params::default() },
            required: 1,
            next_mid: MemberId(2000),
            members: (1..=1024).map(|mid| (MemberId(mid), member.clone())).collect(),
            parts: vec![part; 65_536],
            voters: vec![MemberId(1)],
            voters_since: Ver::ZERO,
        };
        let payload = Message::Control(ControlMsg::MapFull(Box::new(map))).encode();
        let (accepted, cost) = cost(Kind::Control, &payload);
        assert!(accepted);
        assert!(cost <= BYTES_PER_BYTE * payload.len() as u64, "{cost} for {}", payload.len());
    }
}
