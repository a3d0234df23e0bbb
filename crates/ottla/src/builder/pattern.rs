//! What is subscribed to at the start: topics, or a pattern.

use ottla_core::Error;
use ottla_core::client::Command;
use ottla_core::config::GroupProtocol;
use ottla_core::pattern::TopicPattern;

use super::Builder;

impl Builder {
    /// The command that subscribes.
    pub(super) fn first_subscription(&self) -> Result<Option<Command>, Error> {
        let pattern = match &self.pattern {
            Some(pattern) => Some(pattern.clone()),
            None => self.subscription.iter().any(|t| self.is_pattern(t)).then(|| self.searched()),
        };
        if let Some(pattern) = pattern {
            let pattern = topic_pattern(&pattern, self.group.protocol)?;
            return Ok(Some(Command::SubscribePattern(pattern)));
        }
        Ok((!self.subscription.is_empty()).then(|| Command::Subscribe(self.subscription.clone())))
    }

    pub(super) fn is_pattern(&self, topic: &str) -> bool {
        self.carets_are_patterns && topic.starts_with('^')
    }

    /// As librdkafka takes a list: what begins with `^` is searched for in a name, the rest are names.
    fn searched(&self) -> String {
        let one = |topic: &String| match self.is_pattern(topic) {
            true => format!(".*?(?:{topic}).*"),
            // Of what a name may hold, the dot alone means something else.
            false => topic.replace('.', r"\."),
        };
        self.subscription.iter().map(one).collect::<Vec<_>>().join("|")
    }
}

/// A pattern that is matched here, unless the brokers do it.
pub(crate) fn topic_pattern(text: &str, protocol: GroupProtocol) -> Result<TopicPattern, Error> {
    match protocol {
        GroupProtocol::Consumer => TopicPattern::for_brokers(text),
        _ => TopicPattern::new(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Consumer, Dialect};

    fn pattern(builder: &Builder) -> TopicPattern {
        match builder.first_subscription() {
            Ok(Some(Command::SubscribePattern(pattern))) => pattern,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn names_that_begin_with_a_caret_are_patterns_in_librdkafkas_dialect_alone() {
        let properties = [("bootstrap.servers", "a:1"), ("group.id", "g")];
        let topics = ["^orders", "in.voices"];
        let librdkafka = Builder::from_properties(Dialect::Librdkafka, properties).unwrap().subscribe(topics);
        librdkafka.validate().unwrap();
        let matched = pattern(&librdkafka);
        for (topic, expected) in [
            ("orders", true),
            ("orders-eu", true),
            ("my-orders", false),
            ("in.voices", true),
            ("in-voices", false),
            ("in.voices2", false),
        ] {
            assert_eq!(matched.matches(topic), expected, "{topic}");
        }
        let java = Builder::from_properties(Dialect::Java, properties).unwrap().subscribe(topics);
        let error = java.validate().unwrap_err().to_string();
        assert!(error.contains("subscribe_pattern takes patterns"), "{error}");
    }

    #[test]
    fn the_last_of_topics_and_pattern_counts() {
        let builder = || Consumer::builder("a:1").group("g");
        assert_eq!(pattern(&builder().subscribe(["a"]).subscribe_pattern("b.*")).as_str(), "b.*");
        let topics = builder().subscribe_pattern("b.*").subscribe(["a"]).first_subscription();
        assert!(matches!(topics, Ok(Some(Command::Subscribe(topics))) if topics == ["a"]));
    }

    #[test]
    fn only_brokers_can_say_what_a_pattern_for_them_means() {
        let builder = Consumer::builder("a:1").group("g").subscribe_pattern("(");
        assert!(builder.validate().unwrap_err().to_string().contains("subscribe_pattern: "));
        builder.clone().group_protocol(GroupProtocol::Auto).validate().unwrap_err();
        builder.group_protocol(GroupProtocol::Consumer).validate().unwrap();
    }
}
