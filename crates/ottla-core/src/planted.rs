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
        EmptyAbortHides "2" "does not see the marker that ends an aborted transaction"
        AbortedDelivered "3" "looks at the first aborted transaction of an answer only"
        LateLoadOverridesSeek "4" "takes an offset that was looked up for an ownership that is over"
        SeekKeepsQueue "5" "keeps what was buffered when it seeks"
        ResumeJumpsBack "6" "goes back to what is done when something is resumed that is not paused"
        SeekLostByResume "6" "forgets a seek of what is paused"
        StaleFetchTaken "7" "takes the answer to a fetch of another offset and another ownership"
        ResetOnDisconnect "8" "resets what it fetches when a fetch is not answered"
        SameEpochIgnored "9" "does not move to a leader of the same or of no leader epoch"
        FailedCommitSticks "11" "a commit that was not answered stays in the way of all others"
        CommitLosesAssignment "11" "gives up everything when a commit meets a rebalance, and does not join again"
        EofMovesPosition "12" "moves the position when it tells the end of a partition"
        OldOwnershipCommitted "12" "sends what was to be committed for an ownership that is over"
        UnknownEpochNotCommitted "13" "leaves out what is committed without a leader epoch, and says that it is done"
        RejoinsForEver "14" "joins again after each rebalance"
        EmptiedBatchSticks "15" "does not get past a batch that compaction has emptied"
        OffsetFetchOmits "16" "takes a partition that OffsetFetch leaves out for one without a committed offset"
        LostWakeup "17" "forgets the waiting reader when a commit is answered"
        CloseHangs "18" "waits for the answer to LeaveGroup beyond the deadline of the close"
        Zombie "19" "does not care that the group does not know it any more"
        CorruptTaken "20" "does not look at checksums"
        OrphanedFetch "21" "waits for ever for a fetch that was not answered"
        BusyLoop "23" "wants to be called again at once while it leaves"
        CommitsOvertake "24" "sends a commit that was not answered behind the ones that waited for it"
        FindingGivenUp "25" "does not search for the coordinator again after a search that was not answered"
        CommitWaitsForJoin "26" "commits nothing while it gives something back, which waits for the commit"
        CommitsUnreturned "27" "takes what the user has let go of for done before it comes back"
        MixedUpCommits "27" "mixes up the offsets of partitions with the same number"
        CloseUncommitted "27" "does not commit what is done when it closes"
        LookupsForgotten "28" "forgets what positions it looks up when it joins again"
        AssignsTwice "28" "tells what is kept in a rebalance as assigned once more"
        DuplicateRewinds "29" "goes back to what is committed with what is kept in a rebalance"
        RevocationForgotten "29" "goes on with what the group has taken back"
        SessionErrorIgnored "31" "takes a fetch session for open that the broker has refused"
        SessionIgnoresEpoch "31" "does not count the requests of a fetch session"
        ControlBatchSticks "32" "does not get past a control batch"
        PausedDelivered "33" "hands out what was buffered when the partition was paused"
        HotFetchErrors "37" "does not wait after an error of a partition"
        MarkersFetchedAgain "39" "fetches an answer without records for the reader again, at once"
        BudgetIgnored "40" "fetches as if there was always room"
        NotValidated "-" "fetches on from a new leader without asking whether its log is the same"
        DivergenceIgnored "-" "goes on where it was when the leader says that its log is another one"
        FetchEpochNotSent "-" "does not name the leader epoch when it fetches"
        CommitOneTooFar "-" "commits one more than what is done"
        CommitGoesBack "-" "commits an offset although a higher one is on its way"
        FutureEpochCommitted "-" "commits the leader epoch behind that of the record"
        RefusedIsCommitted "-" "says that a commit is done which was refused"
        SeekCommitsOld "-" "commits what was done before a seek as if it was after it"
        TokenUnchecked "-" "takes a token of before a seek"
        RevocationUncommitted "-" "does not commit what is done when it is revoked"
        MarksIgnoreGaps "-" "takes everything before a mark for done"
        DropOnResume "-" "forgets what was buffered when it is resumed"
        RevokedDelivered "-" "hands out what was buffered when it was revoked"
        EvictedNotRefetched "-" "does not fetch again what made room while it was paused"
        SkipsAtHand "-" "leaves out a record between two small reads"
        ResetToEnd "-" "resets to the end where the beginning is configured"
        SessionNeverEnds "-" "does not end its session when it hears nothing"
        HeartbeatsStop "-" "sends no heartbeats"
        JoinsWhileRevoking "-" "joins while it still gives something back"
        LeaveNotSent "-" "does not tell the group that it leaves"
        PauseIgnored "33" "does nothing when it is told to pause, and says that it is done"
        SeekIgnored "5" "does nothing when it is told to seek, and says that it is done"
        UnsubscribeKeeps "-" "keeps what it has when it unsubscribes, and says that it is done"
        ReconnectsHot "23" "connects again at once, however often it is refused"
        FatalOnDisconnect "8" "gives up for good when a fetch is not answered"
        CommitNeverTold "25" "does not tell what became of a commit that failed"
        OldOffsetTold "4" "tells one less than what is committed to whoever asks"
        SocketsLeak "-" "leaves connections open that it is done with"
    }
}
