//! What can go wrong when a test drives the broker.

use std::fmt;

/// An error of the embedded broker's own API (never of the protocol: those are [`ErrorCode`](crate::ErrorCode)s
/// in answers).
#[derive(Debug)]
#[non_exhaustive]
pub enum BrokerError {
    /// No such topic, partition, node, group, api or error name; the text says which and lists near names.
    Unknown(String),
    /// The request makes no sense in the present state (topic exists, node is down, offsets out of order …).
    Invalid(String),
    /// The bytes handed to `produce_batch` are not a valid record batch.
    Corrupt(String),
    /// A socket could not be bound.
    Io(std::io::Error),
}

/// The result of the embedded broker's own API.
pub type Result<T, E = BrokerError> = std::result::Result<T, E>;

impl fmt::Display for BrokerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(text) | Self::Invalid(text) | Self::Corrupt(text) => f.write_str(text),
            Self::Io(_) => f.write_str("the broker's socket failed"),
        }
    }
}

impl std::error::Error for BrokerError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io(error) => Some(error),
            _ => None,
        }
    }
}

impl From<std::io::Error> for BrokerError {
    fn from(error: std::io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<std::convert::Infallible> for BrokerError {
    fn from(never: std::convert::Infallible) -> Self {
        match never {}
    }
}

/// Up to three names of `known` that are nearest to `name` by edit distance, for error texts.
pub(crate) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let wanted = name.to_ascii_lowercase();
    let mut ranked: Vec<(usize, &str)> =
        known.into_iter().map(|k| (distance(&wanted, &k.to_ascii_lowercase()), k)).collect();
    ranked.sort();
    ranked.iter().take(3).map(|(_, k)| *k).collect::<Vec<_>>().join(", ")
}

fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let next = (diagonal + usize::from(x != *y)).min(row[j] + 1).min(row[j + 1] + 1);
            diagonal = row[j + 1];
            row[j + 1] = next;
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_lists_the_closest_names_first() {
        assert!(
            nearest("OffsetComit", ["Fetch", "OffsetCommit", "OffsetFetch", "Produce"])
                .starts_with("OffsetCommit")
        );
    }
}
