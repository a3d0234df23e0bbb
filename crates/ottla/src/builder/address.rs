//! Bootstrap addresses: `host:port`, `[v6]:port`, several with commas between them.

/// The addresses in `text`, or what is wrong with the first that is none.
pub(super) fn parse(text: &str) -> Result<Vec<(String, u16)>, String> {
    text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(parse_one).collect()
}

fn parse_one(text: &str) -> Result<(String, u16), String> {
    if let Some((scheme, rest)) = text.split_once("://") {
        return Err(format!(
            "{text:?} begins with a listener's name; leave {scheme}:// out and write {rest:?}"
        ));
    }
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, after) =
                rest.split_once(']').ok_or_else(|| format!("{text:?} has no closing bracket"))?;
            (host, after.strip_prefix(':'))
        }
        None if text.matches(':').count() > 1 => {
            return Err(format!("{text:?} looks like an IPv6 address; write it as [address]:port"));
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    if host.is_empty() {
        return Err(format!("{text:?} has no host; write host:port"));
    }
    let port =
        port.ok_or_else(|| format!("{text:?} has no port; write {text}:9092 if it is Kafka's usual one"))?;
    match port.parse::<u16>() {
        Ok(port) if port != 0 => Ok((host.to_owned(), port)),
        _ => Err(format!("{text:?} has the port {port:?}, which is no number from 1 to 65535")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_people_write_them() {
        let all = parse("kafka-1:9092, 10.0.0.1:9093,[::1]:9094,").unwrap();
        let expected = [("kafka-1", 9092), ("10.0.0.1", 9093), ("::1", 9094)];
        assert_eq!(all, expected.map(|(host, port)| (host.to_owned(), port)));
    }

    #[test]
    fn what_is_no_address_is_explained() {
        for (text, part) in [
            ("localhost", "has no port"),
            ("localhost:0", "1 to 65535"),
            ("localhost:http", "\"http\""),
            ("localhost:99999", "1 to 65535"),
            (":9092", "has no host"),
            ("::1", "[address]:port"),
            ("[::1:9092", "closing bracket"),
            ("[::1]", "has no port"),
            ("PLAINTEXT://localhost:9092", "leave PLAINTEXT:// out"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
