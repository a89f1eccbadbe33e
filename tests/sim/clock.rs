//! The clocks of members: none shows the same as another, and none runs at quite the right rate.

use ringkv::base::{Nanos, Rng};

/// The clock of one member, which runs on while the member is paused.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    offset: u64,
    /// Its seconds per thousand real ones.
    permille: u64,
}

impl Clock {
    /// A clock that is wrong by at most so much: often by just that, since limits are where errors
    /// show.
    pub fn draw(rng: &mut Rng, spread_permille: u64) -> Self {
        let offset = rng.below(1 << 40);
        let permille = match rng.below(4) {
            0 => 1000 - spread_permille,
            1 => 1000 + spread_permille,
            _ => 1000 - spread_permille + rng.below(2 * spread_permille + 1),
        };
        Self { offset, permille }
    }

    /// What it shows at a moment.
    pub fn read(&self, now: Nanos) -> Nanos {
        Nanos(self.offset + now.0 / 1000 * self.permille + now.0 % 1000 * self.permille / 1000)
    }

    /// The first moment at which it shows that, or more.
    pub fn when(&self, shown: Nanos) -> Nanos {
        if shown == Nanos::NEVER {
            return shown;
        }
        let run = shown.0.saturating_sub(self.offset);
        Nanos((u128::from(run) * 1000).div_ceil(u128::from(self.permille)) as u64)
    }
}
