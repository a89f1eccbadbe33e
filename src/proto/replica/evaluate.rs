//! What a mutation does, given what is there: conditions, sums, expiry.
//!
//! Only a primary evaluates, on the newest uncommitted state (W2). What comes out is physical: an
//! effect that every replica can apply blindly, and what the client is told. A condition that
//! failed is an outcome like any other and becomes an entry (S4): it was judged by entries that are
//! not committed yet, and an older message of the same operation may still be on its way.

use super::Replica;
use crate::proto::Moment;
use crate::proto::mutants::{self, Mutant};
use crate::wire::{Effect, Op, Outcome};

/// The value of a key, and when it expires.
type Current<'a> = Option<(&'a [u8], u64)>;

impl Replica {
    /// What `op` does. `digits` is room for the value of a sum.
    pub(super) fn evaluate<'o>(
        &self,
        at: Moment,
        op: &Op<'o>,
        digits: &'o mut Vec<u8>,
    ) -> (Effect<'o>, Outcome) {
        // mutant: casfail (a failed condition that is answered and not logged)
        let put =
            |key, value, ttl_ms| Effect::Put { key, value, expires_at_ms: expiry(at, ttl_ms) };
        match *op {
            Op::Put { key, if_absent: true, .. } if self.current(at, key).is_some() => {
                (Effect::None, Outcome::Exists)
            }
            Op::Put { key, value, ttl_ms, .. } => (put(key, value, ttl_ms), Outcome::Done),
            Op::Delete { key } if self.current(at, key).is_some() => {
                (Effect::Delete { key }, Outcome::Done)
            }
            Op::Cas { key, expected, value, ttl_ms } => {
                match self.current(at, key).map(|(value, _)| value) == expected {
                    true => (put(key, value, ttl_ms), Outcome::Done),
                    false => (Effect::None, Outcome::Mismatch),
                }
            }
            Op::Incr { key, delta, ttl_ms } => {
                let current = self.current(at, key);
                // Who adds does not extend the life of what is there.
                let expires_at_ms = current.map_or(expiry(at, ttl_ms), |(_, expires)| expires);
                match sum(current, delta) {
                    Ok(number) => {
                        digits.extend_from_slice(number.to_string().as_bytes());
                        let effect = Effect::Put { key, value: digits, expires_at_ms };
                        (effect, Outcome::Number(number))
                    }
                    Err(outcome) => (Effect::None, outcome),
                }
            }
            _ => (Effect::None, Outcome::Absent),
        }
    }

    /// The value of a key once everything in the list is committed, unless it has expired.
    fn current(&self, at: Moment, key: &[u8]) -> Current<'_> {
        let newest = self.lead.as_ref().and_then(|lead| lead.overlay.find(key, &self.log));
        let newest = newest.filter(|_| !mutants::on(Mutant::DirtyCondition));
        match newest.map(|entry| entry.effect) {
            Some(Effect::Put { value, expires_at_ms, .. }) => {
                let is_live = expires_at_ms == 0 || expires_at_ms > at.unix_ms;
                is_live.then_some((value, expires_at_ms))
            }
            Some(_) => None,
            None => self.live(at, key).map(|entry| (entry.value, entry.expires_at_ms)),
        }
    }
}

fn expiry(at: Moment, ttl_ms: u64) -> u64 {
    if ttl_ms == 0 { 0 } else { at.unix_ms.saturating_add(ttl_ms) }
}

/// A value is a number if it is decimal digits, perhaps with a sign, that fit in 64 bits.
fn sum(current: Current<'_>, delta: i64) -> Result<i64, Outcome> {
    let number = match current {
        None => 0,
        Some((value, _)) => {
            let text = std::str::from_utf8(value).map_err(|_| Outcome::NotANumber)?;
            text.parse::<i64>().map_err(|_| Outcome::NotANumber)?
        }
    };
    number.checked_add(delta).ok_or(Outcome::Overflow)
}
