use super::*;
use crate::base::{ClusterId, MemberId};
use crate::ring::Params;
use crate::{NodeRef, Progress};

fn member(id: u64, name: &str, position: u64) -> MemberInfo {
    MemberInfo {
        node: NodeRef { mid: MemberId(id), name: name.into(), addr: format!("127.0.0.1:{id}") },
        position,
        weight: 1,
        reachable: true,
        coordinator: id == 1,
        copies: 4096,
        share: 1.0 / 3.0,
        keys_held: 48_561,
        ..Default::default()
    }
}

fn three() -> RingInfo {
    RingInfo {
        cluster: ClusterId(0xabcd << 96),
        version: 7,
        params: Params::default(),
        required: 2,
        members: vec![
            member(1, "north", 0),
            member(2, "south", 1 << 63),
            member(3, "south too", (1 << 63) + 1),
        ],
        keys: 48_561,
        bytes: 3 << 20,
        under_replicated: 0,
        lost: 0,
        moving: None,
    }
}

#[test]
fn every_member_is_on_the_circle_and_in_the_table() {
    let drawn = ring(&three());
    let lines: Vec<&str> = drawn.lines().collect();
    assert!(lines[1].contains('A'), "position 0 is on top:\n{drawn}");
    let bottom = lines[ROWS];
    assert!(bottom.contains('B') && bottom.contains('C'), "neighbours both show:\n{drawn}");
    assert!(drawn.contains("48,561 keys"), "{drawn}");
    assert!(drawn.contains("north *"), "{drawn}");
    assert!(!drawn.contains('!'), "nothing to warn of:\n{drawn}");
    assert!(lines.iter().all(|line| *line == line.trim_end()), "no trailing blanks");
}

#[test]
fn too_few_copies_and_movements_show() {
    let mut info = three();
    info.members.truncate(1);
    info.required = 1;
    info.moving = Some(Progress { copies_done: 50, copies_total: 200 });
    let drawn = ring(&info);
    assert!(drawn.contains("! every key has one copy only"), "{drawn}");
    assert!(drawn.contains("25 %, 50 of 200 copies"), "{drawn}");
    info.members = three().members[..2].to_vec();
    info.members[1].reachable = false;
    info.lost = 1;
    let drawn = ring(&info);
    assert!(drawn.contains("2 copies instead of 3"), "{drawn}");
    assert!(drawn.contains("south does not answer"), "{drawn}");
    assert!(drawn.contains("all copies of 1 partition are lost"), "{drawn}");
}

#[test]
fn large_and_empty_rings_are_drawn_too() {
    let mut info = three();
    info.members = (0..300).map(|id| member(id, &format!("n{id}"), id << 55)).collect();
    assert!(ring(&info).lines().count() >= 300);
    info.members.clear();
    assert!(ring(&info).contains("0 nodes"));
}

#[test]
fn bars_have_one_width() {
    for part in [0.0, 0.01, 0.5, 0.99, 1.0, 7.0, f64::NAN] {
        assert_eq!(bar(part, 20).chars().count(), 20, "{part}");
    }
}
