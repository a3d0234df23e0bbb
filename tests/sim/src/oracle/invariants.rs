//! The invariants of the project's list: which are checked in every seed, and why the others are not.

/// Name, what it says, and why it is off if it is.
pub const INVARIANTS: [(&str, &str, Option<&str>); 25] = [
    ("S1", "content, headers, timestamp, epoch as written", None),
    ("S2", "offsets increase", None),
    ("S3", "nothing is left out", None),
    ("S4", "where a row begins", None),
    ("S5", "below the watermark, never aborted, never control", None),
    ("S6", "only inside an ownership", None),
    ("S7", "one owner", None),
    ("S8", "commits of done work only", None),
    ("S9", "the leader epoch of a commit", None),
    ("S10", "commits of owned partitions only", None),
    ("S11", "commits do not go back", None),
    ("S12", "a reset has a cause", None),
    ("S13", "truncation is told once", Some("until truncation is detected")),
    ("S14", "positions; pause, resume, seek in any order", None),
    ("S15", "nothing is lost, what is done is committed", None),
    ("L1", "everything is read in time", None),
    ("L2", "close is bounded", None),
    ("L3", "no hot loop", None),
    ("L4", "whoever waits while there are records is given them", None),
    (
        "L5",
        "a broker that is away for less than a session",
        Some("a rebalance may have other causes here; `groups_on_broker` holds it alone"),
    ),
    ("R1", "memory is bounded", None),
    ("R2", "no panic", None),
    ("R3", "sockets are bounded", None),
    ("X1", "no secret in any text", Some("until there are secrets: security")),
    ("X2", "nothing is sent before the server is verified", Some("until TLS and SASL: security")),
];
