//! Kafka's own message definitions (JSON) → our notation.

use std::fmt::Write as _;
use std::path::Path;

use serde_json::Value;

/// Writes a `.msg` file into `into` for every JSON definition in `from`.
pub fn run(from: &Path, into: &Path) -> Result<(), String> {
    let mut count = 0;
    for entry in std::fs::read_dir(from).map_err(|e| format!("{}: {e}", from.display()))? {
        let path = entry.map_err(|e| e.to_string())?.path();
        if path.extension().is_none_or(|e| e != "json") {
            continue;
        }
        let text = std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        let json: Value = serde_json::from_str(&text).map_err(|e| format!("{}: {e}", path.display()))?;
        if json.get("fields").is_none() {
            continue;
        }
        let text = message(&json).map_err(|e| format!("{}: {e}", path.display()))?;
        let name = snake(word(&json, "name")?);
        std::fs::write(into.join(format!("{name}.msg")), text).map_err(|e| e.to_string())?;
        count += 1;
    }
    println!("imported {count} messages");
    Ok(())
}

/// `FetchRequest` → `fetch_request`.
pub fn snake(name: &str) -> String {
    let chars: Vec<char> = name.chars().collect();
    let mut out = String::new();
    for (at, c) in chars.iter().enumerate() {
        if c.is_ascii_uppercase() && at > 0 {
            let before = chars[at - 1];
            let begins_word = chars.get(at + 1).is_some_and(char::is_ascii_lowercase);
            if !before.is_ascii_uppercase() || begins_word {
                out.push('_');
            }
        }
        out.push(c.to_ascii_lowercase());
    }
    out
}

fn word<'j>(json: &'j Value, key: &str) -> Result<&'j str, String> {
    json.get(key).and_then(Value::as_str).ok_or_else(|| format!("no {key}"))
}

fn message(json: &Value) -> Result<String, String> {
    let mut out = format!("{} {}", word(json, "type")?, word(json, "name")?);
    if let Some(key) = json.get("apiKey") {
        write!(out, " key {key}").expect("string");
    }
    write!(out, " versions {} flexible {}", word(json, "validVersions")?, word(json, "flexibleVersions")?)
        .expect("string");
    if json.get("latestVersionUnstable") == Some(&Value::Bool(true)) {
        out.push_str(" unstable");
    }
    out.push_str("\n\n");
    let mut rows = Vec::new();
    fields(json, 0, &mut rows)?;
    let mut common = Vec::new();
    for definition in json.get("commonStructs").and_then(Value::as_array).into_iter().flatten() {
        let mut rows = Vec::new();
        fields(definition, 2, &mut rows)?;
        common.push((word(definition, "name")?, rows));
    }
    columns(&rows, &mut out);
    for (name, rows) in common {
        writeln!(out, "\nstruct {name}").expect("string");
        columns(&rows, &mut out);
    }
    Ok(out)
}

/// Rows of name, type, versions and the rest, in aligned columns.
fn columns(rows: &[[String; 4]], out: &mut String) {
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let (name, ty, versions) = (width(0), width(1), width(2));
    for row in rows {
        let line = format!("{:name$}  {:ty$}  {:versions$}  {}", row[0], row[1], row[2], row[3]);
        out.push_str(line.trim_end());
        out.push('\n');
    }
}

fn fields(json: &Value, indent: usize, rows: &mut Vec<[String; 4]>) -> Result<(), String> {
    for field in json.get("fields").and_then(Value::as_array).into_iter().flatten() {
        let name = word(field, "name")?;
        let versions = word(field, "versions")?;
        let mut ty = word(field, "type")?.to_owned();
        if let Some(nullable) = field.get("nullableVersions").and_then(Value::as_str) {
            ty.push('?');
            if nullable != versions {
                ty.push_str(nullable);
            }
        }
        let mut rest = Vec::new();
        if let Some(tag) = field.get("tag") {
            if field.get("taggedVersions").and_then(Value::as_str) != Some(versions) {
                return Err(format!(
                    "{name}: tagged in some versions only, the notation cannot say that yet"
                ));
            }
            rest.push(format!("tag {tag}"));
        }
        let default = match field.get("default") {
            Some(Value::String(text)) => Some(text.clone()),
            Some(other) => Some(other.to_string()),
            None => None,
        };
        if let Some(default) = default.filter(|d| !matches!(d.as_str(), "" | "0" | "false")) {
            rest.push(format!("default {default}"));
        }
        if field.get("ignorable") == Some(&Value::Bool(true)) {
            rest.push("ignorable".to_owned());
        }
        if field.get("flexibleVersions").and_then(Value::as_str) == Some("none") {
            rest.push("inflexible".to_owned());
        }
        rows.push([format!("{:indent$}{name}", ""), ty, versions.to_owned(), rest.join(" ")]);
        fields(field, indent + 2, rows)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::r#gen::schema::Message;

    #[test]
    fn what_is_imported_can_be_parsed_and_says_the_same() {
        let json = serde_json::json!({
            "name": "PingRequest", "type": "request", "apiKey": 1, "validVersions": "0-2", "flexibleVersions": "2+",
            "latestVersionUnstable": true,
            "fields": [
                {"name": "Id", "type": "string", "versions": "0+", "nullableVersions": "1+", "default": "null"},
                {"name": "Items", "type": "[]Item", "versions": "2+", "taggedVersions": "2+", "tag": 3, "ignorable": true},
            ],
            "commonStructs": [
                {"name": "Item", "versions": "2+", "fields": [{"name": "N", "type": "int64", "versions": "2+", "default": -1}]},
            ],
        });
        let text = message(&json).expect("a good definition");
        let parsed = Message::parse(&text).expect("what we wrote");
        assert!(parsed.unstable && parsed.fields[1].ignorable);
        assert_eq!(parsed.fields[0].nullable.map(|v| v.lo), Some(1));
        assert_eq!(parsed.fields[1].tag, Some(3));
        assert_eq!(parsed.structs()["Item"][0].default.as_deref(), Some("-1"));
    }

    #[test]
    fn a_field_tagged_in_some_versions_only_is_refused() {
        let json = serde_json::json!({"fields": [
            {"name": "A", "type": "int8", "versions": "0+", "taggedVersions": "2+", "tag": 0}
        ]});
        assert!(fields(&json, 0, &mut Vec::new()).is_err());
    }

    #[test]
    fn names_become_snakes() {
        assert_eq!(snake("FetchRequest"), "fetch_request");
        assert_eq!(snake("KRaftVersionRecord"), "k_raft_version_record");
        assert_eq!(snake("Enable2Pc"), "enable2_pc");
        assert_eq!(snake("LastKnownElr"), "last_known_elr");
    }
}
