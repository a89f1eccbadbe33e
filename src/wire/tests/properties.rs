//! What holds of every message and of all bytes.

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use super::messages::{
    KINDS, Kind, Message, client_message, control_message, damaged, hello, message, noise,
    peer_message, server_message, welcome,
};

fn round_trip(message: Message<'static>) -> Result<(), TestCaseError> {
    let payload = message.encode();
    prop_assert_eq!(Message::decode(message.kind(), &payload), Some(message));
    Ok(())
}

/// No decoder panics, and what one accepts has this one encoding.
fn one_encoding(payload: &[u8]) -> Result<(), TestCaseError> {
    for kind in KINDS {
        if let Some(message) = Message::decode(kind, payload) {
            prop_assert_eq!(message.encode(), payload, "{:?}", message);
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn hello_round_trips(msg in hello()) {
        round_trip(Message::Hello(msg))?;
    }

    #[test]
    fn welcome_round_trips(msg in welcome()) {
        round_trip(Message::Welcome(msg))?;
    }

    #[test]
    fn client_messages_round_trip(msg in client_message()) {
        round_trip(Message::Client(msg))?;
    }

    #[test]
    fn server_messages_round_trip(msg in server_message()) {
        round_trip(Message::Server(msg))?;
    }

    #[test]
    fn control_messages_round_trip(msg in control_message()) {
        round_trip(Message::Control(msg))?;
    }

    #[test]
    fn peer_messages_round_trip(msg in peer_message()) {
        round_trip(Message::Peer(msg))?;
    }

    #[test]
    fn every_strict_prefix_is_refused(
        message in message(),
        cut in any::<prop::sample::Index>(),
    ) {
        let payload = message.encode();
        let len = payload.len();
        // All of a short message; of a long one both ends, where the lengths are, and one between.
        let ends = (0..len.min(300)).chain(len.saturating_sub(50)..len);
        for end in ends.chain([cut.index(len)]) {
            prop_assert_eq!(Message::decode(message.kind(), &payload[..end]), None);
        }
    }

    #[test]
    fn appended_bytes_are_refused(
        message in message(),
        more in prop::collection::vec(any::<u8>(), 1..9),
    ) {
        let mut payload = message.encode();
        payload.extend_from_slice(&more);
        prop_assert_eq!(Message::decode(message.kind(), &payload), None);
    }

    #[test]
    fn damaged_messages_are_refused_or_mean_what_they_say((_, payload) in damaged()) {
        one_encoding(&payload)?;
    }

    #[test]
    fn arbitrary_bytes_are_refused_or_mean_what_they_say(payload in noise()) {
        one_encoding(&payload)?;
    }
}

/// The numbers that tell the variants of a message apart: its type and, where there is one, that
/// of the operation, reply, command or entry inside.
fn numbers(kind: Kind, payload: &[u8]) -> (Kind, u8, u8) {
    let inner = match (kind, payload[0]) {
        (Kind::Client, 0x10) | (Kind::Server, 0x18) => payload[9],
        (Kind::Control, 0x45) => payload[17],
        (Kind::Peer, 0x28 | 0x29) => payload[9],
        _ => 0,
    };
    let first = if kind == Kind::Hello { payload[6] } else { payload[0] };
    (kind, first, inner)
}

#[test]
fn the_generators_reach_every_variant() {
    let mut runner = TestRunner::deterministic();
    let mut seen = BTreeSet::new();
    for _ in 0..16_000 {
        let message = message().new_tree(&mut runner).unwrap().current();
        seen.insert(numbers(message.kind(), &message.encode()));
    }
    let count = |kind| seen.iter().filter(|numbers| numbers.0 == kind).count();
    let (operations, replies, commands) = (8, 19, 16);
    assert_eq!(count(Kind::Hello), 4);
    assert_eq!(count(Kind::Welcome), 2);
    assert_eq!(count(Kind::Client), operations + 6);
    assert_eq!(count(Kind::Server), replies + 4);
    assert_eq!(count(Kind::Control), commands + 8);
    assert_eq!(count(Kind::Peer), operations + replies + 11);
}
