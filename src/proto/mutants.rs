//! Rules that can be switched off, one at a time, so that the tests can be tested.
//!
//! A simulator that finds nothing says little until it has found what was put there. Each
//! [`Mutant`] takes one rule out of the protocols; with the cargo feature `mutants` a test program
//! switches it on for the whole process and must then find a violation. Without the feature
//! [`on`] is constantly false and costs nothing.

/// One rule that can be taken out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Mutant {
    /// See [`Mutant::rule`]; the same for all.
    GroupVoteKept = 1,
    /// ...
    GroupUpToDate,
    /// ...
    GroupCurrentTerm,
    /// ...
    GroupLogMatching,
    /// ...
    GroupTruncation,
    /// ...
    GroupQuorum,
    /// ...
    GroupFirstSeal,
    /// ...
    GroupBaseAtSeal,
    /// ...
    GroupCfgTag,
    /// ...
    GroupDraft,
    /// ...
    GroupSkip,
}

impl Mutant {
    /// Those of the coordinator's group.
    pub const GROUP: [Mutant; 11] = [
        Mutant::GroupVoteKept,
        Mutant::GroupUpToDate,
        Mutant::GroupCurrentTerm,
        Mutant::GroupLogMatching,
        Mutant::GroupTruncation,
        Mutant::GroupQuorum,
        Mutant::GroupFirstSeal,
        Mutant::GroupBaseAtSeal,
        Mutant::GroupCfgTag,
        Mutant::GroupDraft,
        Mutant::GroupSkip,
    ];

    /// A short name.
    pub fn name(self) -> &'static str {
        match self {
            Mutant::GroupVoteKept => "vote kept",
            Mutant::GroupUpToDate => "up to date",
            Mutant::GroupCurrentTerm => "current term",
            Mutant::GroupLogMatching => "log matching",
            Mutant::GroupTruncation => "truncation",
            Mutant::GroupQuorum => "quorum",
            Mutant::GroupFirstSeal => "first seal",
            Mutant::GroupBaseAtSeal => "base at seal",
            Mutant::GroupCfgTag => "configuration tag",
            Mutant::GroupDraft => "draft",
            Mutant::GroupSkip => "skip",
        }
    }

    /// The rule that it takes out.
    pub fn rule(self) -> &'static str {
        match self {
            Mutant::GroupVoteKept => "a voter votes once in a term",
            Mutant::GroupUpToDate => "a vote goes to a log that is not behind the voter's own",
            Mutant::GroupCurrentTerm => "a leader counts copies of entries of its own term only",
            Mutant::GroupLogMatching => "entries are taken only where the logs agree before them",
            Mutant::GroupTruncation => "an entry of another term is replaced, with all behind it",
            Mutant::GroupQuorum => "decisions and elections take a majority",
            Mutant::GroupFirstSeal => "nothing behind a seal is proposed or counts",
            Mutant::GroupBaseAtSeal => "a configuration starts from what is decided at the seal",
            Mutant::GroupCfgTag => "messages of another configuration are not listened to",
            Mutant::GroupDraft => "a draft ends with the lead",
            Mutant::GroupSkip => "what a given state contains already is skipped",
        }
    }
}

/// Whether a rule is switched off.
#[cfg(not(feature = "mutants"))]
#[inline(always)]
pub const fn on(_: Mutant) -> bool {
    false
}

#[cfg(feature = "mutants")]
static ACTIVE: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);

/// Whether a rule is switched off.
#[cfg(feature = "mutants")]
pub fn on(mutant: Mutant) -> bool {
    ACTIVE.load(std::sync::atomic::Ordering::Relaxed) == mutant as u32
}

/// Switches one rule off, in the whole process, and every other one on again.
#[cfg(feature = "mutants")]
pub fn activate(mutant: Option<Mutant>) {
    let number = mutant.map_or(0, |mutant| mutant as u32);
    ACTIVE.store(number, std::sync::atomic::Ordering::Relaxed);
}
