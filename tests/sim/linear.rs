//! Whether a history of one key is linearizable.
//!
//! The search of Wing and Gong with Lowe's memory of visited configurations: take any operation
//! that was called before every pending answer, apply it, go on. A configuration is the set of
//! operations that were taken and the value that the key has then; each is visited once.
//!
//! An operation without an answer is *open*: it may take effect at any time after its call, or
//! never. Expiry is an open operation too (see [`Action::Expire`]). Answers that change nothing
//! are taken as soon as they fit, which keeps the search small and loses no order: an operation
//! that does not change the value can always move to the earliest point where it fits.
//!
//! Two more cuts, without which a dozen open writes take minutes. Values are unique, so a value
//! that is left never comes back: leaving it while an answered read of it is still to come is a
//! dead end. And open operations that nobody can tell apart (deletions; writes of a value that no
//! answer shows) are taken in the order of their calls: any other order can be exchanged into it.

use std::collections::{HashMap, HashSet};

/// Values are unique in a history, so a number stands for each.
pub type Value = u64;

/// What was asked, and what was answered if there was an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Read this, or saw the key absent. Without an answer it says nothing: leave it out.
    Get(Option<Value>),
    /// Stored this value.
    Put(Value),
    /// Stored this value if the key was absent; `Some(true)` if it says that it did.
    PutIfAbsent(Value, Option<bool>),
    /// Removed the key; `Some(true)` if it says that there was one.
    Delete(Option<bool>),
    /// Stored the second value if the key had the first; `Some(true)` if it says that it did.
    Cas(Option<Value>, Value, Option<bool>),
    /// Added this, at least 1, and says the sum. A key that is added to is not otherwise written,
    /// so its values are unique as well.
    Incr(u64, Option<Value>),
    /// The time of this value is over: from its call on, the key may become absent if it still
    /// has this value. Always open.
    Expire(Value),
}

/// One operation. Times are any numbers that grow; an answer at the time of a call is later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operation {
    /// When it was called.
    pub called: u64,
    /// When it was answered; `None` if it is open.
    pub answered: Option<u64>,
    /// What it did.
    pub action: Action,
}

/// What the search found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// There is an order.
    Linearizable,
    /// There is none.
    Violation,
    /// The search was given up.
    Unresolved,
}

/// Operations of one history, at most.
pub const OPERATIONS_MAX: usize = 128;
/// Configurations that are visited before the search is given up.
const CONFIGURATIONS_MAX: usize = 500_000;

/// Searches for an order of `history` that starts with the key absent.
pub fn check(history: &[Operation]) -> Verdict {
    assert!(history.len() <= OPERATIONS_MAX, "one bit for each operation");
    let mut operations = history.to_vec();
    operations.sort_by_key(|operation| operation.called);
    let answered = operations.iter().enumerate().filter(|(_, o)| o.answered.is_some());
    let wanted = answered.fold(0u128, |set, (at, _)| set | (1 << at));
    let readers = readers(&operations);
    let twins = twins(&operations, &readers);
    let mut visited = HashSet::new();
    let mut stack = vec![(0u128, None)];
    while let Some((taken, value)) = stack.pop() {
        let taken = take_unchanging(&operations, taken, value);
        if taken & wanted == wanted {
            return Verdict::Linearizable;
        }
        if !visited.insert((taken, value)) {
            continue;
        }
        if visited.len() > CONFIGURATIONS_MAX {
            return Verdict::Unresolved;
        }
        let awaited = value.and_then(|value| readers.get(&value)).copied().unwrap_or(0);
        if awaited & !taken != 0 {
            continue; // Whatever comes next leaves a value that is still to be read.
        }
        // Open operations are pushed first, so that they are tried last.
        for open in [true, false] {
            for (at, operation) in callable(&operations, taken) {
                if operation.answered.is_none() != open || twins[at] & !taken != 0 {
                    continue;
                }
                if let Some(next) = changed(operation.action, value) {
                    stack.push((taken | (1 << at), next));
                }
            }
        }
    }
    Verdict::Violation
}

/// For each value the operations that read it.
fn readers(operations: &[Operation]) -> HashMap<Value, u128> {
    let mut readers = HashMap::new();
    for (at, operation) in operations.iter().enumerate() {
        if let Action::Get(Some(value)) = operation.action {
            *readers.entry(value).or_default() |= 1 << at;
        }
    }
    readers
}

/// For each operation the earlier ones that cannot be told apart from it.
fn twins(operations: &[Operation], readers: &HashMap<Value, u128>) -> Vec<u128> {
    let names = |action, value| match action {
        Action::Expire(old) => old == value,
        Action::Cas(expected, _, _) => expected == Some(value),
        _ => false,
    };
    let named = |value| operations.iter().any(|o| names(o.action, value));
    let class = |operation: &Operation| match operation.action {
        _ if operation.answered.is_some() => None,
        Action::Delete(_) => Some(0),
        Action::Put(v) if !readers.contains_key(&v) && !named(v) => Some(1),
        Action::PutIfAbsent(v, _) if !readers.contains_key(&v) && !named(v) => Some(2),
        Action::Incr(delta @ 1..=3, _) => Some(2 + delta as usize),
        _ => None,
    };
    let mut seen = [0u128; 6];
    let of = |(at, operation): (usize, &Operation)| {
        let Some(class) = class(operation) else { return 0 };
        let earlier: u128 = seen[class];
        seen[class] |= 1 << at;
        earlier
    };
    operations.iter().enumerate().map(of).collect()
}

/// The operations not taken yet that were called before every answer not taken yet.
fn callable(
    operations: &[Operation],
    taken: u128,
) -> impl Iterator<Item = (usize, &Operation)> + '_ {
    let free = move |at: usize| taken & (1 << at) == 0;
    let pending = operations.iter().enumerate().filter(move |(at, _)| free(*at));
    let first_answer = pending.filter_map(|(_, o)| o.answered).min().unwrap_or(u64::MAX);
    let called = operations.iter().enumerate().take_while(move |(_, o)| o.called <= first_answer);
    called.filter(move |(at, _)| free(*at))
}

/// Takes every answered operation that fits and changes nothing.
fn take_unchanging(operations: &[Operation], mut taken: u128, value: Option<Value>) -> u128 {
    loop {
        let fits = |action: Action| match action {
            Action::Get(read) => read == value,
            Action::PutIfAbsent(_, Some(false)) => value.is_some(),
            Action::Delete(Some(false)) => value.is_none(),
            Action::Cas(expected, _, Some(false)) => value != expected,
            _ => false,
        };
        let found = callable(operations, taken).find(|(_, o)| fits(o.action)).map(|(at, _)| at);
        match found {
            Some(at) => taken |= 1 << at,
            None => return taken,
        }
    }
}

/// The value after an operation that changes it; `None` if it does not fit or changes nothing.
fn changed(action: Action, value: Option<Value>) -> Option<Option<Value>> {
    match action {
        Action::Put(new) => Some(Some(new)),
        Action::PutIfAbsent(new, Some(true) | None) if value.is_none() => Some(Some(new)),
        Action::Delete(Some(true) | None) if value.is_some() => Some(None),
        Action::Cas(expected, new, Some(true) | None) if value == expected => Some(Some(new)),
        Action::Incr(delta, sum) => {
            let new = value.unwrap_or(0) + delta;
            sum.is_none_or(|sum| sum == new).then_some(Some(new))
        }
        Action::Expire(old) if value == Some(old) => Some(None),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn done(called: u64, answered: u64, action: Action) -> Operation {
        Operation { called, answered: Some(answered), action }
    }

    fn open(called: u64, action: Action) -> Operation {
        Operation { called, answered: None, action }
    }

    use Action::{Cas, Delete, Expire, Get, Incr, Put, PutIfAbsent};
    use Verdict::{Linearizable, Violation};

    #[test]
    fn sequential_histories_are_judged_by_their_order() {
        let history =
            [done(1, 2, Put(1)), done(3, 4, Get(Some(1))), done(5, 6, Delete(Some(true)))];
        assert_eq!(check(&history), Linearizable);
        assert_eq!(check(&[done(1, 2, Put(1)), done(3, 4, Get(None))]), Violation);
        assert_eq!(check(&[done(1, 2, Get(Some(1))), done(3, 4, Put(1))]), Violation);
        assert_eq!(check(&[done(1, 2, Delete(Some(true)))]), Violation);
        assert_eq!(check(&[]), Linearizable);
    }

    #[test]
    fn a_value_may_not_go_back_to_an_older_one() {
        let puts = [done(1, 2, Put(1)), done(3, 10, Put(2))];
        let with = |reads: &[Operation]| check(&[&puts[..], reads].concat());
        assert_eq!(with(&[done(4, 5, Get(Some(2))), done(6, 7, Get(Some(1)))]), Violation);
        assert_eq!(with(&[done(4, 5, Get(Some(1))), done(6, 7, Get(Some(2)))]), Linearizable);
        assert_eq!(with(&[done(4, 7, Get(Some(2))), done(5, 6, Get(Some(1)))]), Linearizable);
    }

    #[test]
    fn an_acknowledged_write_may_not_be_lost() {
        let history = [done(1, 2, Put(1)), done(3, 4, Put(2)), done(5, 6, Get(Some(1)))];
        assert_eq!(check(&history), Violation);
    }

    #[test]
    fn an_open_write_may_take_effect_late_or_never_but_only_once() {
        let base = [open(1, Put(1)), done(2, 3, Put(2))];
        let with = |reads: &[Operation]| check(&[&base[..], reads].concat());
        assert_eq!(with(&[done(4, 5, Get(Some(2)))]), Linearizable);
        assert_eq!(with(&[done(4, 5, Get(Some(1)))]), Linearizable);
        assert_eq!(with(&[done(4, 5, Get(Some(2))), done(6, 7, Get(Some(1)))]), Linearizable);
        let twice =
            [done(4, 5, Get(Some(1))), done(6, 7, Delete(Some(true))), done(8, 9, Get(Some(1)))];
        assert_eq!(with(&twice), Violation);
    }

    #[test]
    fn conditions_see_what_is_there() {
        let absent = PutIfAbsent(2, Some(true));
        let exists = PutIfAbsent(2, Some(false));
        assert_eq!(check(&[done(1, 2, Put(1)), done(3, 4, absent)]), Violation);
        assert_eq!(check(&[done(1, 2, Put(1)), done(3, 4, exists)]), Linearizable);
        assert_eq!(check(&[done(1, 2, exists)]), Violation);
        assert_eq!(check(&[done(1, 2, Put(1)), done(3, 4, Delete(Some(false)))]), Violation);
        let both = [done(1, 9, PutIfAbsent(1, Some(true))), done(2, 8, absent)];
        assert_eq!(check(&both), Violation);
        let with_delete = [both[0], both[1], open(3, Delete(None))];
        assert_eq!(check(&with_delete), Linearizable);
    }

    #[test]
    fn a_swap_needs_what_it_expects() {
        let put = done(1, 2, Put(1));
        let swap = |expected, answer| done(3, 4, Cas(expected, 2, answer));
        assert_eq!(
            check(&[put, swap(Some(1), Some(true)), done(5, 6, Get(Some(2)))]),
            Linearizable
        );
        assert_eq!(check(&[put, swap(None, Some(true))]), Violation);
        assert_eq!(check(&[put, swap(Some(1), Some(false))]), Violation);
        assert_eq!(check(&[put, swap(Some(9), Some(false))]), Linearizable);
        assert_eq!(check(&[swap(None, Some(true)), done(5, 6, Get(Some(2)))]), Linearizable);
        let open = open(3, Cas(Some(1), 2, None));
        assert_eq!(check(&[put, open, done(5, 6, Get(Some(2)))]), Linearizable);
        assert_eq!(check(&[put, open, done(5, 6, Get(Some(1)))]), Linearizable);
    }

    #[test]
    fn a_sum_counts_each_addition_once() {
        let sum = |at, delta, sum| done(at, at + 1, Incr(delta, Some(sum)));
        assert_eq!(check(&[sum(1, 2, 2), sum(3, 1, 3), done(5, 6, Get(Some(3)))]), Linearizable);
        assert_eq!(check(&[sum(1, 2, 2), sum(3, 1, 5)]), Violation);
        assert_eq!(check(&[sum(1, 2, 2), sum(3, 1, 3), done(5, 6, Get(Some(4)))]), Violation);
        let maybe = [open(1, Incr(1, None)), open(2, Incr(1, None)), sum(3, 2, 3)];
        assert_eq!(check(&[&maybe[..], &[done(5, 6, Get(Some(4)))]].concat()), Linearizable);
        assert_eq!(check(&[&maybe[..], &[done(5, 6, Get(Some(5)))]].concat()), Violation);
    }

    #[test]
    fn a_value_vanishes_only_after_its_time() {
        let put = done(1, 2, Put(1));
        assert_eq!(check(&[put, open(5, Expire(1)), done(6, 7, Get(None))]), Linearizable);
        assert_eq!(check(&[put, open(5, Expire(1)), done(3, 4, Get(None))]), Violation);
        let back = [done(6, 7, Get(None)), done(8, 9, Get(Some(1)))];
        assert_eq!(check(&[put, open(5, Expire(1)), back[0], back[1]]), Violation);
    }

    #[test]
    fn many_concurrent_writes_are_still_resolved() {
        let mut history: Vec<Operation> = (0..12).map(|i| open(i, Put(i))).collect();
        history.extend((0..12).map(|i| done(100 + 2 * i, 101 + 2 * i, Get(Some(11 - i)))));
        assert_eq!(check(&history), Linearizable);
        history.push(done(300, 301, Get(Some(11))));
        history.push(done(302, 303, Get(Some(10))));
        assert_eq!(check(&history), Violation);
    }
    #[test]
    fn a_crowd_of_unknown_operations_is_no_obstacle() {
        let mut history: Vec<Operation> = (0..30).map(|i| open(i, Put(i))).collect();
        history.extend((0..30).map(|i| open(i, Delete(None))));
        history.extend((0..20).map(|i| done(100 + 4 * i, 101 + 4 * i, Put(100 + i))));
        history.extend((0..20).map(|i| done(102 + 4 * i, 103 + 4 * i, Get(Some(100 + i)))));
        assert_eq!(check(&history), Linearizable);
        history.push(done(500, 501, Get(Some(100))));
        assert_eq!(check(&history), Violation);
    }
}
