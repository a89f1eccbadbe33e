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
    /// ...
    NoShadow,
    /// ...
    ShadowLease,
    /// ...
    ShadowBarrier,
    /// ...
    OldCfg,
    /// ...
    StaleAck,
    /// ...
    NoReconcile,
    /// ...
    NoLeaseWait,
    /// ...
    PreviousOnly,
    /// ...
    NoneSkipped,
    /// ...
    RecoveringRelinquish,
    /// ...
    AnyRelinquish,
    /// ...
    NoEpoch,
    /// ...
    ControlEpoch,
    /// ...
    LeaseFromReceipt,
    /// ...
    CachedNow,
    /// ...
    PromiseLate,
    /// ...
    PromiseShort,
    /// ...
    OldConfirmation,
    /// ...
    DirtyRead,
    /// ...
    DirtyCondition,
    /// ...
    HeldAck,
    /// ...
    SyncTwice,
    /// ...
    LostChunk,
    /// ...
    NoLid,
    /// ...
    OlderStream,
    /// ...
    LearnerWiped,
    /// ...
    StaleMap,
    /// ...
    ShadowDropped,
    /// ...
    EarlyStream,
    /// ...
    BackupRead,
    /// ...
    Amnesia,
    /// ...
    NoDedupe,
    /// ...
    NoDedupePending,
    /// ...
    CloseUnseen,
    /// ...
    CloseUnlogged,
    /// ...
    OpenAny,
    /// ...
    OpenRetry,
    /// ...
    OpenAlways,
    /// ...
    RecordOfOne,
    /// ...
    Reissue,
    /// ...
    FailureUnlogged,
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

    /// Those of replication, leases and sessions.
    pub const REPLICA: [Mutant; 41] = [
        Mutant::NoShadow,
        Mutant::ShadowLease,
        Mutant::ShadowBarrier,
        Mutant::OldCfg,
        Mutant::StaleAck,
        Mutant::NoReconcile,
        Mutant::NoLeaseWait,
        Mutant::PreviousOnly,
        Mutant::NoneSkipped,
        Mutant::RecoveringRelinquish,
        Mutant::AnyRelinquish,
        Mutant::NoEpoch,
        Mutant::ControlEpoch,
        Mutant::LeaseFromReceipt,
        Mutant::CachedNow,
        Mutant::PromiseLate,
        Mutant::PromiseShort,
        Mutant::OldConfirmation,
        Mutant::DirtyRead,
        Mutant::DirtyCondition,
        Mutant::HeldAck,
        Mutant::SyncTwice,
        Mutant::LostChunk,
        Mutant::NoLid,
        Mutant::OlderStream,
        Mutant::LearnerWiped,
        Mutant::StaleMap,
        Mutant::ShadowDropped,
        Mutant::EarlyStream,
        Mutant::BackupRead,
        Mutant::Amnesia,
        Mutant::NoDedupe,
        Mutant::NoDedupePending,
        Mutant::CloseUnseen,
        Mutant::CloseUnlogged,
        Mutant::OpenAny,
        Mutant::OpenRetry,
        Mutant::OpenAlways,
        Mutant::RecordOfOne,
        Mutant::Reissue,
        Mutant::FailureUnlogged,
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
            Mutant::NoShadow => "no shadow",
            Mutant::ShadowLease => "shadow lease",
            Mutant::ShadowBarrier => "shadow barrier",
            Mutant::OldCfg => "old configuration",
            Mutant::StaleAck => "stale ack",
            Mutant::NoReconcile => "no reconcile",
            Mutant::NoLeaseWait => "no lease wait",
            Mutant::PreviousOnly => "wait for the previous only",
            Mutant::NoneSkipped => "none skipped",
            Mutant::RecoveringRelinquish => "relinquish while recovering",
            Mutant::AnyRelinquish => "any relinquish",
            Mutant::NoEpoch => "no epoch stamp",
            Mutant::ControlEpoch => "control epoch",
            Mutant::LeaseFromReceipt => "lease from receipt",
            Mutant::CachedNow => "cached now",
            Mutant::PromiseLate => "promise after the answer",
            Mutant::PromiseShort => "short promise",
            Mutant::OldConfirmation => "old confirmation",
            Mutant::DirtyRead => "dirty read",
            Mutant::DirtyCondition => "dirty condition",
            Mutant::HeldAck => "ack of one copy",
            Mutant::SyncTwice => "sync cuts twice",
            Mutant::LostChunk => "lost chunk",
            Mutant::NoLid => "no learner instance",
            Mutant::OlderStream => "older stream",
            Mutant::LearnerWiped => "learner wiped",
            Mutant::StaleMap => "stale map",
            Mutant::ShadowDropped => "shadow dropped",
            Mutant::EarlyStream => "stream while recovering",
            Mutant::BackupRead => "backup read",
            Mutant::Amnesia => "amnesia",
            Mutant::NoDedupe => "no dedupe",
            Mutant::NoDedupePending => "no dedupe of the pending",
            Mutant::CloseUnseen => "close unseen",
            Mutant::CloseUnlogged => "close unlogged",
            Mutant::OpenAny => "any number opens",
            Mutant::OpenRetry => "a retry opens",
            Mutant::OpenAlways => "any message opens",
            Mutant::RecordOfOne => "record of one copy",
            Mutant::Reissue => "reissue",
            Mutant::FailureUnlogged => "failure unlogged",
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
            Mutant::NoShadow => "L5: a learner is needed for each commit before it may count",
            Mutant::ShadowLease => "R1: a counted learner must have given a lease",
            Mutant::ShadowBarrier => "R2: a counted learner must confirm a barrier",
            Mutant::OldCfg => "A2: entries of an older configuration are refused",
            Mutant::StaleAck => {
                "W3: an acknowledgement of another configuration counts for nothing"
            }
            Mutant::NoReconcile => {
                "N1: a new primary serves when all in-sync replicas share its list"
            }
            Mutant::NoLeaseWait => "N1: a new primary waits for its predecessors' leases to end",
            Mutant::PreviousOnly => "N1: all predecessors count, not only the last one",
            Mutant::NoneSkipped => "N1: configurations that were skipped had a primary, too",
            Mutant::RecoveringRelinquish => "A5: only one that served says that it stopped",
            Mutant::AnyRelinquish => "N3: only the word of the primary just before counts",
            Mutant::NoEpoch => {
                "E1: a lease of somebody who knows of a newer configuration does not count"
            }
            Mutant::ControlEpoch => "T2: leases count by the maps that every partition follows",
            Mutant::LeaseFromReceipt => "E2: a lease counts from when it was asked for",
            Mutant::CachedNow => "R1: the clock is read after the request arrived",
            Mutant::PromiseLate => "E6: a promise is recorded before the answer is sent",
            Mutant::PromiseShort => "E1: a promise is kept for longer than any clock counts on it",
            Mutant::OldConfirmation => "R2: only the answers to the barrier of a read confirm it",
            Mutant::DirtyRead => "W2: no answer shows what is not committed",
            Mutant::DirtyCondition => "W2: conditions are evaluated on everything in the list",
            Mutant::HeldAck => "W4: a write is answered when enough replicas are in sync",
            Mutant::SyncTwice => "P3: only the first reconciliation of a configuration cuts",
            Mutant::LostChunk => "L4, L8: a snapshot of which a piece was lost is made again",
            Mutant::NoLid => "L2: a snapshot belongs to one stay as learner",
            Mutant::OlderStream => {
                "L2: the stream of an older primary does not take the place of a newer one"
            }
            Mutant::LearnerWiped => "L6: a stay that goes on keeps what it has",
            Mutant::StaleMap => "A4: a map from before my stay does not end it",
            Mutant::ShadowDropped => "L7: only the map ends the part of a counted learner",
            Mutant::EarlyStream => "E4: only a primary that serves adds replicas",
            Mutant::BackupRead => "F1: only the primary answers reads",
            Mutant::Amnesia => "B2: who lost its memory is another member",
            Mutant::NoDedupe => "S2: what was executed is not executed again",
            Mutant::NoDedupePending => "S2: what is in the log is not executed again",
            Mutant::CloseUnseen => "S1d: a session whose end is in the log is not there",
            Mutant::CloseUnlogged => "S1e: the end of a session is an entry of the log",
            Mutant::OpenAny => "S1c: only number 1 opens a session",
            Mutant::OpenRetry => "S1b: only the first message of number 1 opens a session",
            Mutant::OpenAlways => "S1c: what names an unknown session is refused",
            Mutant::RecordOfOne => {
                "S2': a record is told again only if enough replicas are in sync"
            }
            Mutant::Reissue => "S6': what may have been executed is not sent under another name",
            Mutant::FailureUnlogged => "S4: a condition that failed is an entry of the log",
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
