//! What is wrong with a configuration.

use std::error::Error;
use std::fmt;

/// Everything that is wrong with a configuration, all of it at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    problems: Vec<ConfigProblem>,
}

/// One thing that is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConfigProblem {
    /// A value that the setting cannot have.
    Invalid {
        /// The setter's name.
        setting: &'static str,
        /// What is wrong and what to change.
        why: String,
    },
    /// A setting that needs another one.
    Needs {
        /// The setter's name.
        setting: &'static str,
        /// The setter that is missing.
        needs: &'static str,
    },
    /// A property that the dialect does not have.
    UnknownProperty {
        /// The name as it was given.
        name: String,
        /// The known name that is most like it.
        nearest: Option<&'static str>,
        /// The client that does have it.
        of: Option<&'static str>,
    },
    /// Two settings that contradict each other.
    Conflict {
        /// The setter's name.
        setting: &'static str,
        /// The other one's name.
        with: &'static str,
        /// What is wrong and what to change.
        why: String,
    },
}

impl ConfigError {
    pub(super) fn new(problems: Vec<ConfigProblem>) -> Result<(), Self> {
        if problems.is_empty() { Ok(()) } else { Err(Self { problems }) }
    }

    /// The problems, at least one.
    pub fn problems(&self) -> &[ConfigProblem] {
        &self.problems
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, problem) in self.problems.iter().enumerate() {
            if at > 0 {
                f.write_str("; ")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

impl fmt::Display for ConfigProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid { setting, why } => write!(f, "{setting}: {why}"),
            Self::Needs { setting, needs } => write!(f, "{setting} needs {needs}"),
            Self::UnknownProperty { name, nearest, of } => {
                write!(f, "unknown property {name:?}")?;
                if let Some(of) = of {
                    write!(f, " (it is one of {of}'s)")?;
                }
                nearest.map_or(Ok(()), |nearest| write!(f, "; did you mean {nearest:?}?"))
            }
            Self::Conflict { setting, with, why } => write!(f, "{setting} does not fit {with}: {why}"),
        }
    }
}

impl Error for ConfigError {}
