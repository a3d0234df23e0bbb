//! Configuration from the property files of other clients.
//!
//! Each dialect is a table ([`java`], [`librdkafka`]) with one line for every property of that client: it sets
//! something, has no effect here (and why), or is refused (and why). Nothing is passed over in silence.

mod draft;
mod java;
mod librdkafka;
mod values;

use std::collections::BTreeMap;
use std::fmt;

use super::{Builder, ConfigError, ConfigProblem};
use draft::Draft;

/// Whose property names, words and defaults a configuration is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Dialect {
    /// The Java client's (`org.apache.kafka.clients.consumer.ConsumerConfig`), as of Kafka 4.3.
    Java,
    /// librdkafka's, and with it confluent-kafka's and rdkafka's, as of 2.15.
    Librdkafka,
}

/// Something in a configuration that its author should know, though it is no error.
///
/// Each is logged once when the consumer is started.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConfigWarning {
    /// A property that is known and changes nothing here.
    NoEffect {
        /// The property's name.
        property: &'static str,
        /// Why not, and what to do instead.
        why: &'static str,
    },
    /// A property that is not set, and whose default is another one in the other clients.
    Default {
        /// The property's name.
        property: &'static str,
        /// The value that is used: the default of the dialect.
        used: &'static str,
        /// What others do without it.
        others: &'static str,
    },
}

impl fmt::Display for ConfigWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoEffect { property, why } => write!(f, "{property} has no effect: {why}"),
            Self::Default { property, used, others } => {
                write!(
                    f,
                    "{property} is not set, so that it is {used}; {others}; set it to say which is meant"
                )
            }
        }
    }
}

/// One property of a dialect.
struct Property {
    name: &'static str,
    effect: Effect,
}

/// What a property does here.
enum Effect {
    /// Sets something; the text of the error says what is wrong with the value.
    Set(fn(&mut Draft, &str) -> Result<(), String>),
    /// Nothing, which is said once.
    Nothing(&'static str),
    /// It cannot be ignored and is not there.
    Refused(&'static str),
}

const fn set(name: &'static str, set: fn(&mut Draft, &str) -> Result<(), String>) -> Property {
    Property { name, effect: Effect::Set(set) }
}

const fn nothing(name: &'static str, why: &'static str) -> Property {
    Property { name, effect: Effect::Nothing(why) }
}

const fn refused(name: &'static str, why: &'static str) -> Property {
    Property { name, effect: Effect::Refused(why) }
}

// Reasons that several properties share.
const PRODUCERS: &str = "it is a setting of producers";
const NEEDS_TLS: &str = "it needs TLS, and security.protocol is plaintext";
const NEEDS_SASL: &str = "it needs SASL, and security.protocol has none";
const CALLBACK: &str = "there are no callbacks: what happens comes as an event of the reads";
const SHARE: &str = "it is a setting of share groups";
const SOCKET: &str = "sockets are left to the operating system, but for TCP_NODELAY, which is on";

impl Dialect {
    fn table(self) -> &'static [Property] {
        match self {
            Self::Java => java::TABLE,
            Self::Librdkafka => librdkafka::TABLE,
        }
    }

    const fn other(self) -> (Self, &'static str) {
        match self {
            Self::Java => (Self::Librdkafka, "librdkafka"),
            Self::Librdkafka => (Self::Java, "Java"),
        }
    }

    fn find(self, name: &str) -> Option<&'static Property> {
        self.table().iter().find(|p| p.name == name)
    }

    /// The error for a name that is not in the table.
    fn unknown(self, name: &str) -> ConfigProblem {
        let nearest = self
            .table()
            .iter()
            .map(|p| (distance(name, p.name), p.name))
            .min()
            .filter(|&(distance, _)| distance <= 2 + name.len() / 4)
            .map(|(_, name)| name);
        let (other, whose) = self.other();
        let of = other.find(name).map(|_| whose);
        ConfigProblem::UnknownProperty { name: name.to_owned(), nearest, of }
    }
}

impl Builder {
    /// A configuration in the names, the words and the *defaults* of another client.
    ///
    /// What the file leaves out is what it is without it in that client, not ottla's own default: a librdkafka
    /// file without `isolation.level` means `read_committed`, and one without `auto.offset.reset` `latest`.
    /// `enable.auto.offset.store=false` with automatic commits becomes [`Commit::Manual`](crate::Commit::Manual)
    /// whose marks ([`CommitToken::mark`](crate::CommitToken::mark)) are committed every
    /// `auto.commit.interval.ms`. The typed setters go on from there, and win.
    ///
    /// What the file cannot mean here is told by [`warnings`](Self::warnings), which are also logged at the
    /// start; what came out by [`describe_effective`](Self::describe_effective).
    ///
    /// # Errors
    ///
    /// [`ConfigError`] with every problem at once: unknown names with the nearest known one, values that are
    /// none, two names for one thing with different values, and what cannot be ignored and is not supported.
    ///
    /// # Examples
    ///
    /// ```
    /// use ottla::{Builder, Dialect};
    ///
    /// let file = [("bootstrap.servers", "localhost:9092"), ("group.id", "billing"), ("fetch.wait.max.ms", "100")];
    /// let builder = Builder::from_properties(Dialect::Librdkafka, file)?.subscribe(["orders"]);
    /// builder.validate()?;
    ///
    /// let error = Builder::from_properties(Dialect::Librdkafka, [("grop.id", "billing")]).unwrap_err();
    /// assert!(error.to_string().contains("did you mean \"group.id\""));
    /// # Ok::<(), ottla::ConfigError>(())
    /// ```
    pub fn from_properties<K, V>(
        dialect: Dialect,
        properties: impl IntoIterator<Item = (K, V)>,
    ) -> Result<Self, ConfigError>
    where
        K: AsRef<str>,
        V: AsRef<str>,
    {
        let mut problems = Vec::new();
        let mut given: BTreeMap<&'static str, String> = BTreeMap::new();
        for (name, value) in properties {
            match dialect.find(name.as_ref()) {
                Some(property) => {
                    given.insert(property.name, value.as_ref().trim().to_owned());
                }
                None => problems.push(dialect.unknown(name.as_ref())),
            }
        }
        let mut draft = Draft::new(dialect);
        // In the order of the table, whatever the order of the map.
        for Property { name, effect } in dialect.table() {
            let Some(value) = given.get(name) else { continue };
            match effect {
                Effect::Set(set) => {
                    if let Err(why) = set(&mut draft, value) {
                        problems.push(ConfigProblem::Invalid { setting: name, why });
                    }
                }
                Effect::Nothing(why) => draft.warn(ConfigWarning::NoEffect { property: name, why }),
                // Not set at all is what an empty value says.
                Effect::Refused(_) if value.is_empty() => {}
                Effect::Refused(why) => {
                    problems.push(ConfigProblem::Invalid { setting: name, why: (*why).to_owned() });
                }
            }
        }
        same_value(&given, &mut problems);
        ConfigError::new(problems)?;
        Ok(draft.finish(|name| given.contains_key(name)))
    }

    /// What is worth knowing about this configuration; empty unless it came
    /// [from properties](Self::from_properties).
    pub fn warnings(&self) -> &[ConfigWarning] {
        &self.warnings
    }
}

/// Two names for one thing.
const ALIASES: [(&str, &str); 3] = [
    ("bootstrap.servers", "metadata.broker.list"),
    ("max.partition.fetch.bytes", "fetch.message.max.bytes"),
    ("sasl.mechanism", "sasl.mechanisms"),
];

fn same_value(given: &BTreeMap<&'static str, String>, problems: &mut Vec<ConfigProblem>) {
    for (setting, with) in ALIASES {
        if let (Some(one), Some(other)) = (given.get(setting), given.get(with))
            && one != other
        {
            let why = "they are two names for one thing and have different values; keep one".to_owned();
            problems.push(ConfigProblem::Conflict { setting, with, why });
        }
    }
}

/// How many letters must be added, left out or changed to make one of the other.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, &y) in b.iter().enumerate() {
            let changed = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests;
