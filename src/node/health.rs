//! Whether a ring is as it should be, and if not what is wrong, in sentences.

use super::info::{Survey, copies_due, survey, under_replicated};
use super::report::Health;
use super::source::Source;
use crate::base::{MemberId, Result};
use crate::ring::{MemberState, Part, PartState};

/// Whether every partition can take a write now, and if not why.
pub(super) fn health(source: &Source) -> Result<Health> {
    Ok(judge(&survey(source)?))
}

fn judge(survey: &Survey) -> Health {
    let map = &survey.map;
    let served = |part: &&Part| {
        part.state == PartState::Ok
            && part.isr.len() >= usize::from(map.required)
            && part.isr.iter().all(|mid| survey.is_reachable(mid))
    };
    let unwritable = (map.parts.len() - map.parts.iter().filter(served).count()) as u32;
    let lacking = under_replicated(map);
    let coordinator = coordinator(survey);
    let has_coordinator = coordinator.is_none();
    let mut reasons = members(survey);
    reasons.extend(partitions(survey, unwritable, lacking));
    reasons.extend(coordinator);
    let (due, wanted) = (copies_due(map), usize::from(map.params.copies));
    if due < wanted {
        reasons.push(format!(
            "the ring has nodes for {due} of the {wanted} copies of each key: add nodes"
        ));
    }
    Health { ok: unwritable == 0 && lacking == 0 && has_coordinator, unwritable, reasons }
}

/// Who is not as it should be.
fn members(survey: &Survey) -> Vec<String> {
    let mut reasons = Vec::new();
    for (mid, member) in &survey.map.members {
        let who = format!("{} at {}", member.name, member.addr);
        let is_reachable = survey.is_reachable(*mid);
        match member.state {
            MemberState::Down if is_reachable => reasons.push(format!(
                "{who} was declared dead and answers again: it is taken back in a moment"
            )),
            MemberState::Away if is_reachable => {
                reasons.push(format!("{who} was away and answers again: it is taken back soon"));
            }
            MemberState::Down => {
                reasons
                    .push(format!("{who} is down: its copies are made elsewhere if it stays so"));
            }
            MemberState::Away => reasons.push(format!(
                "{who} is away, and its copies are made elsewhere: start it again, or drop it with \
                 force"
            )),
            MemberState::Up | MemberState::Leaving if !is_reachable => {
                reasons.push(format!("{who} does not answer"));
            }
            MemberState::Leaving => reasons.push(format!("{who} is leaving the ring")),
            MemberState::Up => {}
        }
    }
    reasons
}

/// Which partitions cannot do what.
fn partitions(survey: &Survey, unwritable: u32, lacking: u32) -> Vec<String> {
    let map = &survey.map;
    let mut reasons = Vec::new();
    let count = |wanted: &dyn Fn(&Part) -> bool| {
        map.parts.iter().filter(|part| wanted(part)).count() as u32
    };
    let lost = count(&|part| part.state == PartState::Lost);
    if lost > 0 {
        let lost = counted(lost);
        reasons.push(format!(
            "{lost} lost all copies: the keys answer an error until 'ringkv reset' lets it all \
             start again, empty"
        ));
    }
    for (mid, member) in &map.members {
        let waits = |part: &Part| part.state == PartState::Stalled && part.primary == *mid;
        let stalled = count(&waits);
        if stalled > 0 {
            let (stalled, name) = (counted(stalled), &member.name);
            reasons.push(format!("{stalled} without any copy but that of {name}, which is dead"));
        }
    }
    let required = usize::from(map.required);
    let few = count(&|part| part.state == PartState::Ok && part.isr.len() < required);
    if few > 0 {
        let few = counted(few);
        reasons.push(format!("{few} with fewer than the {required} copies that a write needs"));
    }
    if unwritable > 0 {
        reasons.push(format!("{unwritable} of {} partitions take no write now", map.parts.len()));
    }
    if lacking > 0 {
        reasons.push(format!("{} with fewer copies than there should be", counted(lacking)));
    }
    reasons
}

/// What keeps the ring from changing its map, if something does.
fn coordinator(survey: &Survey) -> Option<String> {
    let map = &survey.map;
    let is_led = |mid: &MemberId| survey.stats.get(mid).is_some_and(|stats| stats.leader == *mid);
    if map.voters.iter().any(is_led) {
        return None;
    }
    const MEANWHILE: &str = "changes of the ring wait, reads and writes go on";
    let silent: Vec<&MemberId> =
        map.voters.iter().filter(|mid| !survey.is_reachable(**mid)).collect();
    if silent.len() * 2 < map.voters.len() {
        return Some(format!("the coordinator has no leader at the moment: {MEANWHILE}"));
    }
    let name = |mid: &&MemberId| map.members.get(*mid).map(|member| member.name.as_str());
    let names: Vec<&str> = silent.iter().filter_map(name).collect();
    Some(format!(
        "the coordinator has no majority, {} of its {} voters do not answer ({}): {MEANWHILE}",
        silent.len(),
        map.voters.len(),
        names.join(", ")
    ))
}

fn counted(partitions: u32) -> String {
    match partitions {
        1 => "1 partition".into(),
        more => format!("{more} partitions"),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::base::{ClusterId, Ver};
    use crate::proto::Coordinator;
    use crate::ring::{Params, ReplicaSet, RingMap};
    use crate::wire::client::NodeStats;
    use crate::wire::{Command, JoinInfo};

    /// Three members that hold everything, answer, and take the first for the leader.
    fn survey_of_three() -> Survey {
        let join = |name: &str| JoinInfo {
            name: name.into(),
            addr: format!("{name}:1"),
            weight: 1,
            ..JoinInfo::default()
        };
        let params = Params { partitions: 8, ..Params::default() };
        let mut first = Coordinator::create(ClusterId(7), params, join("a"));
        for name in ["b", "c"] {
            first.operate(&Command::Join(join(name))).expect("a new name");
        }
        let mut map = first.draft().expect("a single voter leads").clone();
        let all: ReplicaSet = (1..=3).map(MemberId).collect();
        map.parts.iter_mut().for_each(|part| part.isr = all);
        map.voters = (1..=3).map(MemberId).collect();
        map.voters_since = Ver(2);
        map.required = 2;
        let stats =
            |mid| (MemberId(mid), NodeStats { leader: MemberId(1), ..NodeStats::default() });
        Survey { stats: (1..=3).map(stats).collect(), map: Arc::new(map) }
    }

    fn change(survey: &mut Survey, work: impl FnOnce(&mut RingMap)) {
        work(Arc::make_mut(&mut survey.map));
    }

    fn silence(survey: &mut Survey, mid: u64) {
        survey.stats.remove(&MemberId(mid));
    }

    fn sentences(survey: &Survey) -> String {
        let health = judge(survey);
        assert!(!health.ok);
        health.reasons.join("\n")
    }

    #[test]
    fn a_sound_ring_has_nothing_to_tell() {
        let health = judge(&survey_of_three());
        assert_eq!(health, Health { ok: true, unwritable: 0, reasons: Vec::new() });
    }

    #[test]
    fn a_silent_member_stops_writes_until_it_is_declared_dead() {
        let mut survey = survey_of_three();
        silence(&mut survey, 3);
        assert_eq!(judge(&survey).unwritable, 8);
        assert!(sentences(&survey).contains("c at c:1 does not answer"));
        change(&mut survey, |map| {
            map.members.get_mut(&MemberId(3)).expect("c").state = MemberState::Down;
            for part in &mut map.parts {
                part.isr.remove(MemberId(3));
            }
        });
        assert_eq!(judge(&survey).unwritable, 0);
        let told = sentences(&survey);
        assert!(told.contains("c at c:1 is down"), "{told}");
        assert!(told.contains("8 partitions with fewer copies than there"), "{told}");
    }

    #[test]
    fn what_waits_and_what_is_lost_is_told_apart() {
        let mut survey = survey_of_three();
        change(&mut survey, |map| {
            map.parts[0].isr = [MemberId(2)].into_iter().collect();
            map.parts[0].primary = MemberId(2);
            map.parts[0].state = PartState::Stalled;
            map.parts[1].state = PartState::Lost;
            map.parts[2].isr = [MemberId(1)].into_iter().collect();
        });
        let told = sentences(&survey);
        assert!(told.contains("1 partition without any copy but that of b"), "{told}");
        assert!(told.contains("1 partition lost all copies"), "{told}");
        assert!(told.contains("1 partition with fewer than the 2 copies"), "{told}");
        assert_eq!(judge(&survey).unwritable, 3);
    }

    #[test]
    fn without_a_majority_changes_wait_and_writes_go_on() {
        let mut survey = survey_of_three();
        change(&mut survey, |map| {
            let mine: ReplicaSet = [MemberId(3)].into_iter().collect();
            map.required = 1;
            map.parts.iter_mut().for_each(|part| (part.isr, part.primary) = (mine, MemberId(3)));
        });
        silence(&mut survey, 1);
        assert!(sentences(&survey).contains("no leader at the moment"));
        silence(&mut survey, 2);
        let told = sentences(&survey);
        assert!(told.contains("no majority, 2 of its 3 voters do not answer (a, b)"), "{told}");
        assert_eq!(judge(&survey).unwritable, 0);
    }
}
