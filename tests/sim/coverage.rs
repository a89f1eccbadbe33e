//! What has to happen sometimes. A simulator that saw no promotion has tested none, so the long
//! run prints how often it saw each of these.

macro_rules! coverage {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// How often each rare thing happened.
        #[derive(Clone, Copy, Debug, Default)]
        pub struct Coverage {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Coverage {
            /// Adds another run.
            pub fn add(&mut self, other: &Self) {
                $(self.$name += other.$name;)*
            }

            /// All counts with their names.
            pub fn fields(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name),)*]
            }
        }
    };
}

coverage! {
    /// Processes that died.
    crashes,
    /// Those whose machine died with them, so that nobody was told.
    silent_crashes,
    /// Those that died with half of what they had to say unsaid.
    crashes_in_mid_speech,
    /// Nodes that came back as another member.
    restarts,
    /// Members declared dead.
    downs,
    /// Of these, the living ones.
    false_downs,
    /// Members that were taken back.
    returns,
    /// Members whose place was given away.
    aways,
    /// Connections that were refused, which is telling.
    refused,
    /// Suspicions that reached the coordinator.
    suspicions,
    /// Replicas that became primary by the word of the one before them.
    successions,
    /// Replicas that became primary without it.
    promotions,
    /// Promotions that waited while the old primary could still have answered a read.
    waits_that_mattered,
    /// Reads that were answered at once.
    reads_at_once,
    /// Reads that had to wait.
    reads_later,
    /// Reads answered at once by a primary that had been replaced and could not know it.
    reads_at_the_old,
    /// Barriers that were sent.
    barriers,
    /// Leases that were given.
    leases,
    /// Partitions that waited for their only copy.
    stalled,
    /// Partitions whose last copy died.
    lost,
    /// Operations that were told so.
    data_lost,
    /// Messages of a broken connection that arrived after the next one was there.
    ghosts,
    /// Senseless commands that the coordinator followed.
    meddling,
    /// Directed attacks.
    attacks,
}
