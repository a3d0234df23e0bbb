//! The list of historic bugs: number, what some client did, and why nothing of the kind is planted if so.

/// Row, what it was, why it is not here.
pub(super) const ROWS: &[(&str, &str, &str)] = &[
    ("1", "automatic commits take in what was fetched and not returned", ""),
    ("2", "an empty aborted transaction hides later committed records of the fetch", ""),
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
    ("16", "OffsetFetch omits a partition; a late answer to a heartbeat while leaving", ""),
    ("17", "an internal event eats the reader's wakeup", ""),
    ("18", "close or drop hang", ""),
    ("19", "a member that the group has put out goes on", ""),
    ("20", "hostile or damaged bytes are taken, or abort", ""),
    ("21", "a fetch that is wanted is orphaned by an early exit", ""),
    (
        "22",
        "a waiter is registered after what it waits for has happened",
        "the core has no waiters but the reader and the driver: see row 17",
    ),
    ("23", "an instance that ends loops hotly", ""),
    ("24", "of two commits the later one is applied first", ""),
    ("25", "the shared search for the coordinator ends with one caller", ""),
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
    ("30", "stale claims are trusted by the leader", "survives: see below"),
    ("31", "the fetch session and the broker's come apart", ""),
    ("32", "no progress past a batch without records for the reader", ""),
    ("33", "what is paused is returned later", ""),
    (
        "34",
        "a second poll deadlocks while the first blocks a rebalance",
        "a second reader is a compile error",
    ),
    ("35", "a lower leader epoch is refused for ever", "held by a test of `cluster`"),
    ("36", "out of range below a follower's log start spins", "held by `tests/tests/followers.rs`"),
    ("37", "errors of a whole fetch, or of a partition, are asked again hotly", ""),
    ("38", "a user's hook that calls again deadlocks", "the core calls nobody"),
    ("39", "a fetch of markers alone is repeated without a pause", ""),
    ("40", "the budget is not kept, or kept by fetching again and again", ""),
];

/// Bugs that were planted, survived, and are not planted any more: name, and why the oracle cannot see them.
pub(super) const UNSEEN: &[(&str, &str)] = &[
    (
        "believes as the leader the first who claims a partition, however old the claim (row 30)",
        "executed in one seed of fifty; that both owners read is a matter of less than a round trip, and no seed has shown it yet: an open hole. The golden vectors of the assignors hold it",
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
