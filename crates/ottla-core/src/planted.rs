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
    }
}
