//! Topics by a regular expression.

use std::fmt;
use std::sync::Arc;

use regex_lite::Regex;

use crate::{Error, ErrorKind};

/// The longest string of the protocol.
const LONGEST: usize = i16::MAX as usize;

/// A regular expression that names of topics match as a whole, as in Java.
///
/// The syntax is that of RE2, which the brokers have as well (KIP-848): no lookaround and no backreferences, so that
/// matching takes linear time whatever the expression is.
#[derive(Clone)]
pub struct TopicPattern {
    text: Arc<str>,
    /// `None`: only brokers can say what it means.
    regex: Option<Regex>,
}

impl TopicPattern {
    /// A pattern that is matched here.
    ///
    /// # Errors
    /// Kind `ApiMisuse`: what is wrong with the expression.
    pub fn new(text: &str) -> Result<Self, Error> {
        let misuse = |why: String| Error::new(ErrorKind::ApiMisuse, why);
        let pattern = Self::for_brokers(text)?;
        // On its own first: it must not close the group that is put around it.
        let refused = |e: regex_lite::Error| {
            misuse(format!("{text:?} is no regular expression for topics: {e}")).with_source(e)
        };
        Regex::new(text).map_err(refused)?;
        match Regex::new(&whole(text)) {
            Ok(regex) => Ok(Self { regex: Some(regex), ..pattern }),
            Err(e) => Err(refused(e)),
        }
    }

    /// A pattern that brokers match; what is wrong with it, they say.
    ///
    /// # Errors
    /// Kind `ApiMisuse` for what cannot be sent.
    pub fn for_brokers(text: &str) -> Result<Self, Error> {
        if text.is_empty() || text.len() > LONGEST {
            let why = format!("a pattern has 1 to {LONGEST} bytes, not {}", text.len());
            return Err(Error::new(ErrorKind::ApiMisuse, why));
        }
        Ok(Self { text: text.into(), regex: None })
    }

    /// The expression.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it can be matched here.
    pub fn is_local(&self) -> bool {
        self.regex.is_some()
    }

    /// Whether the whole name matches.
    pub fn matches(&self, topic: &str) -> bool {
        self.regex.as_ref().is_some_and(|regex| regex.is_match(topic))
    }
}

fn whole(text: &str) -> String {
    format!(r"\A(?:{text})\z")
}

impl fmt::Debug for TopicPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TopicPattern({:?})", self.text)
    }
}

impl PartialEq for TopicPattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for TopicPattern {}

/// Whether a name is one that a topic can have, by the broker's own rule.
pub(crate) fn is_topic_name(name: &str) -> bool {
    let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    (1..=249).contains(&name.len()) && !matches!(name, "." | "..") && name.bytes().all(legal)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, topic: &str) -> bool {
        TopicPattern::new(pattern).unwrap().matches(topic)
    }

    #[test]
    fn the_whole_name_matches_as_in_java() {
        assert!(
            matches("orders", "orders") && !matches("orders", "orders-eu") && !matches("orders", "my-orders")
        );
        assert!(matches("orders-.*", "orders-eu") && !matches("^orders", "orders-eu"));
        assert!(matches("^orders$", "orders"));
        // The alternation is inside.
        assert!(matches("a|b", "b") && !matches("a|b", "ab") && !matches("a|b", "ac"));
        assert!(matches("(?i)ORDERS", "orders"));
        assert!(!matches("orders(?m)$", "orders\nother"));
    }

    #[test]
    fn what_is_no_expression_is_refused() {
        for bad in ["(", ")", "a)(?:b", "*", r"(a)\1", "(?=a)", "", "(?x)a #"] {
            let error = TopicPattern::new(bad).map(|p| p.matches("ab")).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ApiMisuse, "{bad}");
        }
        assert!(TopicPattern::for_brokers(&"a".repeat(LONGEST + 1)).is_err());
        let brokers = TopicPattern::for_brokers(r"\p{N}+").unwrap();
        assert!(!brokers.is_local() && !brokers.matches("1"));
    }
}
