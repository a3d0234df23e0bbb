//! The list of historic bugs: number, what some client did, and why nothing of the kind is planted if so.

use ottla_core::planted::Bug;

/// Row, what it was, why it is not here.
pub(super) const ROWS: &[(&str, &str, &str)] = &[
    ("1", "automatic commits take in what was fetched and not returned", ""),
    (
        "2",
        "an empty aborted transaction hides later committed records of the fetch",
        "whatever the transaction holds",
    ),
    ("3", "an unsorted list of aborted transactions delivers aborted records", ""),
    ("4", "a late answer with the committed offset overrides a seek", ""),
    ("5", "what was fetched before a seek, pause or rebalance is skipped or mixed", ""),
    ("6", "resuming what is not paused jumps back; seek, pause, resume loses the seek", ""),
    ("7", "an answer to a fetch of another offset is taken", ""),
    ("8", "a lost connection, a timeout or DNS resets the offset", ""),
    ("9", "a leader with an equal or unknown epoch is not moved to; requests without end meanwhile", ""),
    ("10", "out of range on a follower is asked about at the follower", "held by `tests/tests/followers.rs`"),
    ("11", "a commit in a rebalance loses the assignment; a failed commit sticks", ""),
    ("12", "events move the position; an offset of an old assignment is committed", ""),
    ("13", "commits without a leader epoch are dropped in silence", ""),
    ("14", "cooperative rebalances without end", ""),
    ("15", "a compacted tail or an emptied batch sticks", ""),
    (
        "16",
        "OffsetFetch omits a partition; a topic id that nobody can name; a late answer to a heartbeat while leaving",
        "the last of them survives: see below",
    ),
    ("17", "an internal event eats the reader's wakeup", ""),
    ("18", "close or drop hang", ""),
    ("19", "a member that the group has put out goes on", ""),
    (
        "20",
        "hostile or damaged bytes are taken, or abort",
        "held by the fuzz targets and `tests/tests/hostile_*.rs`; `CorruptTaken` is near it",
    ),
    (
        "21",
        "a fetch that is wanted is orphaned by an early exit",
        "there is no early exit; one without an answer",
    ),
    (
        "22",
        "a waiter is registered after what it waits for has happened",
        "the core has no waiters but the reader and the driver: see row 17",
    ),
    ("23", "an instance that ends loops hotly", ""),
    ("24", "of two commits the later one is applied first", ""),
    (
        "25",
        "the shared search for the coordinator ends with one caller",
        "nobody can cancel it; one without an answer",
    ),
    ("26", "commit and join wait for each other", ""),
    (
        "27",
        "the commit of what is being processed; the last commit is never sent; offsets of one topic for another",
        "",
    ),
    (
        "28",
        "what is kept in a rebalance before its offset is known never starts; what is kept is announced twice",
        "",
    ),
    ("29", "a pending revocation is forgotten, two owners; a partition told twice rewinds its cursor", ""),
    ("30", "stale claims are trusted by the leader", "`StaleClaims` survives: see below"),
    ("31", "the fetch session and the broker's come apart", ""),
    ("32", "no progress past a batch without records for the reader", ""),
    ("33", "what is paused is returned later", ""),
    (
        "34",
        "a second poll deadlocks while the first blocks a rebalance",
        "a second reader is a compile error",
    ),
    (
        "35",
        "a lower leader epoch is refused for ever; with -1 no truncation is seen",
        "the former is held by a test of `cluster`",
    ),
    ("36", "out of range below a follower's log start spins", "held by `tests/tests/followers.rs`"),
    ("37", "errors of a whole fetch, or of a partition, are asked again hotly", ""),
    ("38", "a user's hook that calls again deadlocks", "the core calls nobody"),
    ("39", "a fetch of markers alone is repeated without a pause", ""),
    (
        "40",
        "the budget is not kept, or kept by fetching again and again",
        "that little is fetched again no invariant says",
    ),
];

/// Bugs that can be planted by name and that no seed has shown: what of [`UNSEEN`] is a hole in the workload.
pub(super) const OPEN: &[Bug] = &[Bug::StaleClaims];

/// Bugs that were planted, survived, and are not planted any more: name, and why the oracle cannot see them.
pub(super) const UNSEEN: &[(&str, &str)] = &[
    (
        "`StaleClaims`: believes as the leader the first who claims a partition, however old the claim (row 30)",
        "executed in 17 of 400 seeds, and no partition went to two because of it: an open hole. The golden vectors of the assignors hold it",
    ),
    (
        "takes the answer to a heartbeat of before it left (row 16, KIP-848)",
        "survived 300 seeds: whoever has left owns nothing that it could commit, and its next join is answered right behind it on the same connection",
    ),
    (
        "does not tell everything again after a heartbeat that may not have been heard (KIP-848)",
        "survived 120 seeds: the group puts out who does not give back within its rebalance timeout, and who joins tells everything; the bound of L1 has room for that",
    ),
    (
        "takes a commit for done that the answer leaves out",
        "the simulated coordinator has carried it out all the same, so nothing is lost; `UnknownEpochNotCommitted` is the same with a request that leaves it out, too",
    ),
    (
        "tells the end of a partition while records of it wait",
        "which high watermark a client has been told is not known to the oracle; the unit tests of `delivery` hold it",
    ),
    (
        "does not wake the driver when there is room to fetch again",
        "not tried: every other input, a heartbeat at the latest, looks at everything; the unit tests of the ledger hold it",
    ),
];
