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

/// Whether this bug is planted, where that alone changes nothing yet: does not count.
#[cfg(feature = "planted")]
macro_rules! planting {
    ($bug:ident) => {
        $crate::planted::is_planted($crate::planted::Bug::$bug)
    };
}

/// Whether this bug is planted: never.
#[cfg(not(feature = "planted"))]
macro_rules! planting {
    ($bug:ident) => {
        $crate::planted::never()
    };
}

pub(crate) use {planted, planting};

#[cfg(not(feature = "planted"))]
#[inline(always)]
pub(crate) const fn never() -> bool {
    false
}

#[cfg(feature = "planted")]
pub use on::{Bug, Members, hit, hits, is_planted, plant};

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

    /// Whether this bug is planted.
    pub fn is_planted(bug: Bug) -> bool {
        PLANTED.get() == Some(bug)
    }

    /// The same; counts if so.
    pub fn hit(bug: Bug) -> bool {
        let planted = is_planted(bug);
        if planted {
            HITS.set(HITS.get() + 1);
        }
        planted
    }

    /// Whose bug it is: members of which protocol have the code that it is in.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
    pub enum Members {
        /// Of either.
        Both,
        /// Of the classic protocol.
        Classic,
        /// Of the consumer protocol (KIP-848).
        Consumer,
    }

    macro_rules! bugs {
        ($($members:ident $name:ident $row:literal $text:literal)*) => {
            /// A planted bug.
            #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
            pub enum Bug {
                $(#[doc = $text] $name,)*
            }

            impl Bug {
                /// All of them: with the row of the list of historic bugs (`-` if it is none of them), and what it
                /// does.
                pub const ALL: &[(Self, &str, &str)] = &[$((Self::$name, $row, $text),)*];

                /// Who has it.
                pub fn members(self) -> Members {
                    match self {
                        $(Self::$name => Members::$members,)*
                    }
                }
            }
        };
    }

    bugs! {
        Both CommitPosition "1" "commits the position instead of what is done"
        Both EmptyAbortHides "2" "does not see the marker that ends an aborted transaction"
        Both AbortedDelivered "3" "takes the list of aborted transactions for sorted by where they begin"
        Both LateLoadOverridesSeek "4" "takes an offset that was looked up for an ownership that is over"
        Both SeekKeepsQueue "5" "keeps what was buffered when it seeks"
        Both ResumeJumpsBack "6" "goes back to what is done when something is resumed that is not paused"
        Both SeekLostByResume "6" "forgets a seek of what is paused"
        Both StaleFetchTaken "7" "takes the answer to a fetch of another offset and another ownership"
        Both ResetOnDisconnect "8" "resets what it fetches when a fetch is not answered"
        Classic SameEpochIgnored "9" "does not move to a leader of the same or of no leader epoch"
        Both FailedCommitSticks "11" "a commit that was not answered stays in the way of all others"
        Both CommitLosesAssignment "11" "gives up everything when a commit meets a rebalance, and does not join again"
        Both EofMovesPosition "12" "moves the position when it tells the end of a partition"
        Both OldOwnershipCommitted "12" "sends what was to be committed for an ownership that is over"
        Both UnknownEpochNotCommitted "13" "leaves out what is committed without a leader epoch, and says that it is done"
        Classic RejoinsForEver "14" "joins again after each rebalance"
        Both EmptiedBatchSticks "15" "does not get past a batch that compaction has emptied"
        Both OffsetFetchOmits "16" "takes a partition that OffsetFetch leaves out for one without a committed offset"
        Both LostWakeup "17" "forgets the waiting reader when a commit is answered"
        Both CloseHangs "18" "waits for the answer to LeaveGroup beyond the deadline of the close"
        Both Zombie "19" "does not care that the group does not know it any more"
        Both CorruptTaken "-" "does not look at checksums"
        Both OrphanedFetch "21" "waits for ever for a fetch that was not answered"
        Both BusyLoop "23" "wants to be called again at once while it leaves"
        Both CommitsOvertake "24" "sends a commit that was not answered behind the ones that waited for it"
        Both FindingGivenUp "25" "does not search for the coordinator again after a search that was not answered"
        Classic CommitWaitsForJoin "26" "commits nothing while it gives something back, which waits for the commit"
        Both CommitsUnreturned "27" "takes what the user has let go of for done before it comes back"
        Both MixedUpCommits "27" "mixes up the offsets of partitions with the same number"
        Both CloseUncommitted "27" "does not commit what is done when it closes"
        Classic LookupsForgotten "28" "forgets what positions it looks up when it joins again"
        Both AssignsTwice "28" "tells what is kept in a rebalance as assigned once more"
        Both DuplicateRewinds "29" "goes back to what is committed with what is kept in a rebalance"
        Both RevocationForgotten "29" "goes on with what the group has taken back"
        Both SessionErrorIgnored "31" "takes a fetch session for open that the broker has refused"
        Both SessionIgnoresEpoch "31" "does not count the requests of a fetch session"
        Both ControlBatchSticks "32" "does not get past a control batch"
        Both PausedDelivered "33" "hands out what was buffered when the partition was paused"
        Classic StaleClaims "30" "believes as the leader the first who claims a partition, however old the claim"
        Both HotFetchErrors "37" "does not wait after an error of a partition"
        Both HotRefusals "37" "does not wait after an error of a whole fetch"
        Both MarkersFetchedAgain "39" "fetches an answer without records for the reader again, at once"
        Both BudgetIgnored "40" "fetches as if there was always room"
        Both NotValidated "-" "fetches on from a new leader without asking whether its log is the same"
        Both DivergenceIgnored "-" "goes on where it was when the leader says that its log is another one"
        Both FetchEpochNotSent "-" "does not name the leader epoch when it fetches"
        Both CommitOneTooFar "-" "commits one more than what is done"
        Both CommitGoesBack "-" "commits an offset although a higher one is on its way"
        Both FutureEpochCommitted "-" "commits the leader epoch behind that of the record"
        Both RefusedIsCommitted "-" "says that a commit is done which was refused"
        Both SeekCommitsOld "-" "commits what was done before a seek as if it was after it"
        Both TokenUnchecked "-" "takes a token of before a seek"
        Both RevocationUncommitted "-" "does not commit what is done when it is revoked"
        Both MarksIgnoreGaps "-" "takes everything before a mark for done"
        Both DropOnResume "-" "forgets what was buffered when it is resumed"
        Both RevokedDelivered "-" "hands out what was buffered when it was revoked"
        Both EvictedNotRefetched "-" "does not fetch again what made room while it was paused"
        Both SkipsAtHand "-" "leaves out a record between two small reads"
        Both ResetToEnd "-" "resets to the end where the beginning is configured"
        Classic SessionNeverEnds "-" "does not end its session when it hears nothing"
        Both HeartbeatsStop "-" "sends no heartbeats"
        Classic JoinsWhileRevoking "-" "joins while it still gives something back"
        Both LeaveNotSent "-" "does not tell the group that it leaves"
        Both PauseIgnored "33" "does nothing when it is told to pause, and says that it is done"
        Both SeekIgnored "5" "does nothing when it is told to seek, and says that it is done"
        Both UnsubscribeKeeps "-" "keeps what it has when it unsubscribes, and says that it is done"
        Both ReconnectsHot "23" "connects again at once, however often it is refused"
        Both FatalOnDisconnect "8" "gives up for good when a fetch is not answered"
        Both CommitNeverTold "25" "does not tell what became of a commit that failed"
        Both OldOffsetTold "4" "tells one less than what is committed to whoever asks"
        Both SocketsLeak "-" "leaves connections open that it is done with"
        Both BareCommits "35" "commits an offset of the user's own without the leader epoch under which it was read"
        Consumer TopicIdStranded "16" "does not wait for the name of a topic id that metadata does not know yet"
        Consumer RevocationCleared "29" "says with its next heartbeat that it owns no more what it is still giving back"
        Consumer FreshIdWhenFenced "29" "takes a new member id when its epoch is fenced"
        Consumer EpochNotTaken "-" "stays at the member epoch that it joined with"
        Consumer SubscriptionUntold "-" "does not tell of a subscription that changes while it is a member"
    }
}
