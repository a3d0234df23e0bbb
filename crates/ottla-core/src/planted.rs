//! Bugs on purpose: each is one that some Kafka client has had, and the simulator's oracle has to find every one of
//! them. Only with the feature `planted`, which no build but the simulator's has.
//!
//! A planted branch is one line at the place where the bug would be: `if planted!(CommitPosition) { … }`. Without
//! the feature it is `if false`.

/// Whether this bug is planted.
#[cfg(feature = "planted")]
macro_rules! planted {
    ($bug:ident) => {
        $crate::planted::hit($crate::planted::Bug::$bug)
    };
}

/// Whether this bug is planted: never.
#[cfg(not(feature = "planted"))]
macro_rules! planted {
    ($bug:ident) => {
        $crate::planted::never()
    };
}

pub(crate) use planted;

#[cfg(not(feature = "planted"))]
#[inline(always)]
pub(crate) const fn never() -> bool {
    false
}

#[cfg(feature = "planted")]
pub use on::{Bug, hit, hits, plant};

#[cfg(feature = "planted")]
mod on {
    use std::cell::Cell;

    thread_local! {
        static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
        static HITS: Cell<u64> = const { Cell::new(0) };
    }

    /// From now on this thread's clients have this bug, or none; the count of [`hits`] begins anew.
    pub fn plant(bug: Option<Bug>) {
        PLANTED.set(bug);
        HITS.set(0);
    }

    /// How often the planted branch was executed.
    pub fn hits() -> u64 {
        HITS.get()
    }

    /// Whether this bug is planted; counts if so.
    pub fn hit(bug: Bug) -> bool {
        let planted = PLANTED.get() == Some(bug);
        if planted {
            HITS.set(HITS.get() + 1);
        }
        planted
    }

    macro_rules! bugs {
        ($($name:ident $row:literal $text:literal)*) => {
            /// A planted bug.
            #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
            pub enum Bug {
                $(#[doc = $text] $name,)*
            }

            impl Bug {
                /// All of them: with the row of the list of historic bugs (`-` if it is none of them), and what it
                /// does.
                pub const ALL: &[(Self, &str, &str)] = &[$((Self::$name, $row, $text),)*];
            }
        };
    }

    bugs! {
        CommitPosition "1" "commits the position instead of what is done"
        EmptyAbortHides "2" "an aborted transaction hides what its producer commits later"
        AbortedDelivered "3" "hands out records of aborted transactions"
        LateLoadOverridesSeek "4" "a committed offset that is loaded late overrides a seek"
        SeekKeepsQueue "5" "a seek keeps what was fetched before"
        ResumeJumpsBack "6" "resuming a partition that is not paused goes back to what is done"
        SeekLostByResume "6" "a seek of a paused partition is lost when it is resumed"
        StaleFetchTaken "7" "takes an answer that was asked for at another offset"
        ResetOnDisconnect "8" "resets to the policy when a lookup fails"
        SameEpochIgnored "9" "a new leader under the same epoch is ignored"
        FailedCommitSticks "11" "a commit whose answer was lost is never sent again"
        EofMovesPosition "12" "an answer without records moves the position"
        OldOwnershipCommitted "12" "commits an offset of an ownership that has ended"
        UnknownEpochNotCommitted "13" "an offset without a leader epoch is dropped from the commit"
        RejoinsForEver "14" "joins again after each assignment"
        EmptiedBatchSticks "15" "a batch without records is not passed over"
        OffsetFetchOmits "16" "a partition that an OffsetFetch leaves out is never asked for again"
        LostWakeup "17" "an event eats the wake-up of the reader"
        CloseHangs "18" "close waits for the coordinator for ever"
        Zombie "19" "goes on when the coordinator does not know the member any more"
        OrphanedFetch "21" "a fetch that fails leaves its broker busy for ever"
        BusyLoop "23" "retries without a backoff"
        CommitsOvertake "24" "the next commit does not wait for the one before it"
        FindingGivenUp "25" "a search for the coordinator that fails ends it"
        CommitsUnreturned "27" "automatic commits take in what the reader has not come back from"
        MixedUpCommits "27" "the offset of one partition is committed for another"
        LookupsForgotten "28" "a rebalance forgets the lookups of kept partitions"
        DuplicateRewinds "29" "a partition that is assigned again is begun anew"
        StaleClaims "30" "claims partitions of a generation that was lost"
        SessionIgnoresEpoch "31" "goes on with a fetch session that the broker has forgotten"
        ControlBatchSticks "32" "a batch of control records is not passed over"
        PausedDelivered "33" "hands out records of paused partitions"
        HotFetchErrors "37" "a fetch that is refused is sent again at once"
        BudgetIgnored "40" "fetches more than there is room for"
        CorruptTaken "20" "does not look at checksums"
        DropOnResume "-" "drops what was buffered when a partition is resumed"
        RevokedDelivered "-" "hands out records after a revocation"
        CommitOneTooFar "-" "commits one offset too far"
        FutureEpochCommitted "-" "commits a leader epoch that is not the record's"
        SessionNeverEnds "-" "does not notice that its session is over"
        AssignsTwice "-" "as leader gives a partition to two members"
        JoinsWhileRevoking "-" "joins without waiting for open revocations, and claims nothing"
        SkipsAtHand "-" "skips a record when a batch is split"
        EvictedNotRefetched "-" "paused data that was evicted is not fetched again"
        SeekCommitsOld "-" "a seek keeps what was done before it"
        RevocationUncommitted "-" "gives partitions back without committing what is done"
        MarksIgnoreGaps "-" "a mark counts for everything before it"
        SocketsLeak "-" "connections that fail are not closed"
        TokenUnchecked "-" "a token of another ownership is accepted"
        ResetToEnd "-" "earliest goes to the end"
        HeartbeatsStop "-" "no heartbeat while the reader is away"
    }
}
