//! Sizes and numbers at their limits, and what has only one permitted form.

use crate::base::limits::{
    APPEND_ENTRIES_MAX, HELLO_FRAME_BYTES_MAX, KEY_BYTES_MAX, MEMBERS_MAX, NAME_BYTES_MAX,
    PARTITIONS_MAX, SCAN_PAGE_ITEMS_MAX, SESSION_WINDOW_MAX, SESSIONS_PER_PARTITION_MAX,
};
use crate::base::{Cfg, ClusterId, LearnerId, MemberId, PartitionId, Seq, StreamId, Ver};
use crate::ring::{HashKind, MapDelta, Member, Params, Part, RingMap};
use crate::wire::codec::Writer;
use crate::wire::{
    ClientMsg, Command, ControlMsg, DecodeError, Effect, EntryRef, Hello, Item, JoinInfo, Op,
    Outcome, Page, PeerMsg, Reply, Request, Role, ServerMsg, Session, SessionRecord, Welcome,
};

fn payload(encode: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    encode(&mut out);
    out
}

fn client(op: Op<'_>) -> Vec<u8> {
    payload(|out| ClientMsg::Request { id: 7, request: Request::new(Ver(3), op) }.encode(out))
}

fn append(entries: Vec<EntryRef<'_>>) -> Vec<u8> {
    let msg = PeerMsg::Append {
        pid: PartitionId(1),
        cfg: Cfg(2),
        strm: StreamId(0),
        sync: false,
        prev: Seq(0),
        prev_ecfg: Cfg(0),
        commit: Seq(0),
        last: Seq(1 << 40),
        entries,
    };
    payload(|out| msg.encode(out))
}

fn entry(effect: Effect<'_>) -> EntryRef<'_> {
    EntryRef {
        ecfg: Cfg(1),
        seq: Seq(1),
        session: Session::default(),
        effect,
        outcome: Outcome::Done,
    }
}

fn chunk(key: &[u8]) -> Vec<u8> {
    let items = vec![Item { key, value: b"v", ver: Seq(1), expires_at_ms: 0 }];
    let msg = PeerMsg::SnapChunk { pid: PartitionId(1), strm: StreamId(9), index: 0, items };
    payload(|out| msg.encode(out))
}

fn page(items: Vec<(&[u8], &[u8])>) -> Vec<u8> {
    let reply = Reply::Page(Page { next: None, items });
    payload(|out| ServerMsg::Reply { id: 1, reply }.encode(out))
}

#[test]
fn keys_have_one_to_4096_bytes_wherever_they_stand() {
    for (len, sound) in [(0, false), (1, true), (KEY_BYTES_MAX, true), (KEY_BYTES_MAX + 1, false)] {
        let key = &vec![b'k'; len][..];
        let ops = [
            Op::Get { key },
            Op::GetLocal { key },
            Op::Probe { key },
            Op::Delete { key },
            Op::Put { key, value: b"v", ttl_ms: 0, if_absent: false },
            Op::Cas { key, expected: Some(b"u"), value: b"v", ttl_ms: 0 },
            Op::Incr { key, delta: -1, ttl_ms: 0 },
        ];
        for op in ops {
            assert_eq!(ClientMsg::decode(&client(op)).is_ok(), sound, "{op:?}");
        }
        for expires_at_ms in [0, 5] {
            let put = entry(Effect::Put { key, value: b"v", expires_at_ms });
            assert_eq!(PeerMsg::decode(&append(vec![put])).is_ok(), sound);
        }
        let delete = append(vec![entry(Effect::Delete { key })]);
        assert_eq!(PeerMsg::decode(&delete).is_ok(), sound);
        assert_eq!(PeerMsg::decode(&chunk(key)).is_ok(), sound);
        assert_eq!(ServerMsg::decode(&page(vec![(key, b"v")])).is_ok(), sound);
    }
}

#[test]
fn batches_are_bounded() {
    let entries = |n| append(vec![entry(Effect::None); n]);
    assert!(PeerMsg::decode(&entries(APPEND_ENTRIES_MAX)).is_ok());
    assert_eq!(PeerMsg::decode(&entries(APPEND_ENTRIES_MAX + 1)), Err(DecodeError("entries")));

    let items = |n| page(vec![(b"k", b""); n]);
    assert!(ServerMsg::decode(&items(SCAN_PAGE_ITEMS_MAX)).is_ok());
    assert_eq!(ServerMsg::decode(&items(SCAN_PAGE_ITEMS_MAX + 1)), Err(DecodeError("items")));

    let sessions = |n, results: u64| {
        let results = (1..=results).map(|number| (number, Outcome::Done)).collect();
        let record = SessionRecord { sid: 1, floor: 1, last: Seq(1), results };
        let msg = PeerMsg::SnapSessions {
            pid: PartitionId(1),
            strm: StreamId(9),
            index: 0,
            sessions: vec![record; n],
        };
        payload(|out| msg.encode(out))
    };
    let (many, window) = (SESSIONS_PER_PARTITION_MAX, SESSION_WINDOW_MAX);
    assert!(PeerMsg::decode(&sessions(many, window)).is_ok());
    assert_eq!(PeerMsg::decode(&sessions(many + 1, 0)), Err(DecodeError("sessions")));
    assert_eq!(PeerMsg::decode(&sessions(1, window + 1)), Err(DecodeError("results")));

    let seeds = |n| {
        let msg = ClientMsg::Invite { id: 1, cluster: ClusterId(1), seeds: vec![""; n] };
        payload(|out| msg.encode(out))
    };
    assert!(ClientMsg::decode(&seeds(MEMBERS_MAX)).is_ok());
    assert_eq!(ClientMsg::decode(&seeds(MEMBERS_MAX + 1)), Err(DecodeError("seeds")));
}

#[test]
fn entries_end_at_the_last_position_at_the_latest() {
    let mut bytes = append(vec![entry(Effect::None); 2]);
    // `last` stands before the count and the two entries of 10 bytes.
    let at = bytes.len() - 2 * 10 - 4 - 8;
    bytes[at..at + 8].copy_from_slice(&2u64.to_le_bytes());
    assert!(PeerMsg::decode(&bytes).is_ok());
    bytes[at..at + 8].copy_from_slice(&1u64.to_le_bytes());
    assert_eq!(PeerMsg::decode(&bytes), Err(DecodeError("entries beyond last")));
    // `prev` at the end of the numbers: no position overflows.
    let prev = at - 24;
    bytes[prev..prev + 8].copy_from_slice(&u64::MAX.to_le_bytes());
    bytes[at..at + 8].copy_from_slice(&u64::MAX.to_le_bytes());
    assert_eq!(PeerMsg::decode(&bytes), Err(DecodeError("entries beyond last")));
}

#[test]
fn names_of_a_joiner_have_at_most_255_bytes() {
    let join = |name: usize, addr: usize, zone: usize| {
        let text = |len| "n".repeat(len);
        let info = JoinInfo {
            name: text(name),
            addr: text(addr),
            zone: text(zone),
            ..JoinInfo::default()
        };
        let origin = MemberId::ZERO;
        let command = Command::Join(info);
        payload(|out| ControlMsg::Submit { id: 1, origin, command }.encode(out))
    };
    let (max, more) = (NAME_BYTES_MAX, NAME_BYTES_MAX + 1);
    assert!(ControlMsg::decode(&join(max, max, max)).is_ok());
    assert_eq!(ControlMsg::decode(&join(more, 0, 0)), Err(DecodeError("name")));
    assert_eq!(ControlMsg::decode(&join(0, more, 0)), Err(DecodeError("addr")));
    assert_eq!(ControlMsg::decode(&join(0, 0, more)), Err(DecodeError("zone")));
}

#[test]
fn a_refusal_fits_in_a_frame_of_the_handshake() {
    let text = "é".repeat(HELLO_FRAME_BYTES_MAX);
    let refused = Welcome::Refused { status: -306, not_a_member: false, text: text.clone() };
    let bytes = payload(|out| refused.encode(out));
    assert!(bytes.len() <= HELLO_FRAME_BYTES_MAX);
    let Ok(Welcome::Refused { text: cut, .. }) = Welcome::decode(&bytes) else {
        panic!("a cut refusal decodes");
    };
    assert!(text.starts_with(&cut) && cut.len() > HELLO_FRAME_BYTES_MAX - 16);
}

#[test]
fn a_native_connection_is_known_by_its_first_byte() {
    let hello = Hello {
        role: Role::Client,
        cluster: ClusterId::default(),
        generation: 0,
        from: MemberId::ZERO,
        to: MemberId::ZERO,
    };
    // The length of the first frame: no command of another protocol begins with this byte.
    assert_eq!(payload(|out| hello.encode(out)).len(), usize::from(b'+'));
}

#[test]
fn flags_that_mean_nothing_are_refused() {
    let flags = 10; // After the message's type, its id and the operation.
    let get = client(Op::Get { key: b"k" });
    for bit in 3..8 {
        let mut bytes = get.clone();
        bytes[flags] |= 1 << bit;
        assert_eq!(ClientMsg::decode(&bytes), Err(DecodeError("flags")));
    }
    let mut twice_forwarded = get;
    twice_forwarded[flags + 1] = 2;
    assert_eq!(ClientMsg::decode(&twice_forwarded), Err(DecodeError("flags")));
}

#[test]
fn numbers_kept_for_later_are_refused() {
    for op in [0, 9, 0xFF] {
        let mut bytes = client(Op::Get { key: b"k" });
        bytes[9] = op;
        assert_eq!(ClientMsg::decode(&bytes), Err(DecodeError("op")));
    }
    for number in [0x2D, 0x2E] {
        assert_eq!(PeerMsg::decode(&[number]), Err(DecodeError("peer message type")));
    }
    assert_eq!(ControlMsg::decode(&[0x49]), Err(DecodeError("control message type")));
}

#[test]
fn a_session_counts_from_one_and_its_floor_is_not_above_the_number() {
    let of = |number, floor| {
        let session = Session { sid: 7, number, floor };
        let request = Request { session, ..Request::new(Ver(3), Op::Delete { key: b"k" }) };
        let bytes = payload(|out| ClientMsg::Request { id: 7, request }.encode(out));
        ClientMsg::decode(&bytes).map(|_| ()).map_err(|error| error.0)
    };
    assert_eq!(of(1, 1), Ok(()));
    assert_eq!(of(u64::MAX, u64::MAX), Ok(()));
    assert_eq!(of(0, 0), Err("floor"));
    assert_eq!(of(1, 0), Err("floor"));
    assert_eq!(of(1, 2), Err("floor"));
}

#[test]
fn the_last_page_has_no_cursor() {
    let mut bytes = page(vec![(b"k", b"v")]);
    assert!(ServerMsg::decode(&bytes).is_ok());
    // Behind the message's type, its id, the reply and `more`.
    bytes[11] = 1;
    assert_eq!(ServerMsg::decode(&bytes), Err(DecodeError("cursor")));
}

#[test]
fn an_entry_that_never_expires_has_the_other_tag() {
    let put = Effect::Put { key: b"k", value: b"v", expires_at_ms: 5 };
    let mut bytes = append(vec![entry(put)]);
    let at = bytes.len() - (2 + 1) - (4 + 1) - 8;
    assert_eq!(bytes[at], 5);
    bytes[at] = 0;
    assert_eq!(PeerMsg::decode(&bytes), Err(DecodeError("expiry")));
}

fn member() -> Member {
    Member {
        name: String::new(),
        addr: String::new(),
        zone: String::new(),
        weight: 1,
        position: 0,
        boot: 0,
        durable: false,
        state: Default::default(),
    }
}

fn map() -> RingMap {
    let part =
        Part { primary: MemberId(1), isr: [MemberId(1)].into_iter().collect(), ..Part::default() };
    RingMap {
        cluster: ClusterId(1),
        generation: 0,
        ver: Ver(1),
        epoch: Ver(1),
        params: Params { partitions: 2, ..Params::default() },
        required: 1,
        next_mid: MemberId(3),
        members: [(MemberId(1), member()), (MemberId(2), member())].into(),
        parts: vec![part.clone(), part],
        voters: vec![MemberId(1)],
        voters_since: Ver::ZERO,
    }
}

fn decoded(map: RingMap) -> Result<RingMap, DecodeError> {
    let bytes = payload(|out| ControlMsg::MapFull(Box::new(map)).encode(out));
    match ControlMsg::decode(&bytes)? {
        ControlMsg::MapFull(map) => Ok(*map),
        other => panic!("{other:?}"),
    }
}

#[test]
fn unsound_maps_are_refused() {
    assert_eq!(decoded(map()), Ok(map()));
    let refused = |spoil: fn(&mut RingMap)| {
        let mut map = map();
        spoil(&mut map);
        decoded(map).expect_err("a spoilt map is refused").0
    };
    assert_eq!(refused(|m| m.params.partitions = 0), "params");
    assert_eq!(refused(|m| m.params.partitions = 3), "params");
    assert_eq!(refused(|m| m.params.partitions = 2 * PARTITIONS_MAX), "params");
    assert_eq!(refused(|m| m.params.hash = HashKind::Crc16), "params");
    assert_eq!(refused(|m| m.params.copies = 0), "params");
    assert_eq!(refused(|m| m.params.copies = 8), "params");
    assert_eq!(refused(|m| m.params.min_insync = 0), "params");
    assert_eq!(refused(|m| m.params.min_insync = 4), "params");
    assert_eq!(refused(|m| m.params.value_bytes_max = u32::MAX), "params");
    assert_eq!(refused(|m| drop(m.parts.pop())), "number of parts");
    assert_eq!(refused(|m| m.parts[1].isr = Default::default()), "map invariants");
    assert_eq!(refused(|m| m.parts[1].primary = MemberId(2)), "map invariants");
    assert_eq!(refused(|m| m.parts[1].cfg = Cfg(2)), "map invariants");
    assert_eq!(refused(|m| m.epoch = Ver(2)), "map invariants");
    let twice = |m: &mut RingMap| m.parts[0].learners = vec![(MemberId(2), LearnerId(1)); 2];
    assert_eq!(refused(twice), "learner");
    assert_eq!(refused(|m| drop(m.members.insert(MemberId::ZERO, member()))), "order of members");
    let crowd = |m: &mut RingMap| {
        m.members = (1..=MEMBERS_MAX as u64 + 1).map(|mid| (MemberId(mid), member())).collect();
    };
    assert_eq!(refused(crowd), "members");
}

#[test]
fn a_member_is_listed_once() {
    let mut bytes = payload(|out| ControlMsg::MapFull(Box::new(map())).encode(out));
    let mid = |mid: u64| mid.to_le_bytes();
    // The second member begins with its id; a shorter pattern would be found elsewhere.
    let second = [&mid(2)[..], &[0; 6], &1u32.to_le_bytes()].concat();
    let at = bytes.windows(second.len()).position(|bytes| bytes == second).unwrap();
    assert!(ControlMsg::decode(&bytes).is_ok());
    bytes[at..at + 8].copy_from_slice(&mid(1));
    assert_eq!(ControlMsg::decode(&bytes), Err(DecodeError("order of members")));
}

#[test]
fn a_row_may_name_a_member_that_is_forgotten() {
    let mut lost = map();
    lost.members.remove(&MemberId(1));
    assert_eq!(decoded(lost.clone()), Ok(lost));
}

#[test]
fn rows_of_a_delta_ascend() {
    let mut later = map();
    (later.ver, later.epoch) = (Ver(2), Ver(2));
    later.parts.iter_mut().for_each(|part| part.cfg = Cfg(2));
    let mut delta = MapDelta::between(&map(), &later);
    let decoded = |delta: &MapDelta| {
        let bytes = payload(|out| ControlMsg::MapDelta(Box::new(delta.clone())).encode(out));
        ControlMsg::decode(&bytes).map(|_| ())
    };
    assert_eq!(decoded(&delta), Ok(()));
    delta.parts.swap(0, 1);
    assert_eq!(decoded(&delta), Err(DecodeError("order of parts")));
    delta.parts[1] = delta.parts[0].clone();
    assert_eq!(decoded(&delta), Err(DecodeError("order of parts")));
}

#[test]
fn texts_are_unicode() {
    let mut bytes = vec![0x1B];
    bytes.put_u64(1);
    bytes.put_u32(0);
    bytes.put_short_bytes(&[0xC3]);
    assert_eq!(ServerMsg::decode(&bytes), Err(DecodeError("text")));
}
