//! The family `subscription`: the bytes inside JoinGroup and SyncGroup.

use std::path::Path;

use ottla_wire::DecodeErrorKind;
use ottla_wire::consumer_protocol::{Assignment, Subscription};
use serde_json::{Value, json};

use super::{Report, files, hex, lines, unhex};

/// Runs every vector of the family in `dir`.
pub fn run(dir: &Path) -> Report {
    let mut report = Report::new("subscription");
    for file in files(dir, "subscription") {
        let name = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        for line in lines(&file) {
            let id = line["id"].as_str().unwrap_or("no id").to_owned();
            let outcome = match name.split('.').next() {
                Some("subscription") => subscription(&line),
                Some("assignment") => assignment(&line),
                Some("decode") => decode(&line),
                Some("userdata") => super::assign::userdata_line(&line),
                _ => Err(format!("no reader for {name}")),
            };
            report.count(&id, outcome);
        }
    }
    report
}

/// `[["topic", 1], ["topic", 2]]` as topics with their partitions; what stands together is grouped.
pub(crate) fn partitions(list: &Value) -> Result<Vec<(String, Vec<i32>)>, String> {
    let mut grouped: Vec<(String, Vec<i32>)> = Vec::new();
    for pair in list.as_array().ok_or("no partitions")? {
        let topic = pair[0].as_str().ok_or("no topic")?;
        let partition = pair[1].as_i64().and_then(|p| i32::try_from(p).ok()).ok_or("no partition")?;
        match grouped.last_mut() {
            Some((last, partitions)) if last == topic => partitions.push(partition),
            _ => grouped.push((topic.to_owned(), vec![partition])),
        }
    }
    Ok(grouped)
}

fn flat(partitions: &[(String, Vec<i32>)]) -> Value {
    let pairs = partitions.iter().flat_map(|(topic, list)| list.iter().map(move |p| json!([topic, p])));
    Value::from(pairs.collect::<Vec<_>>())
}

/// The subscription that `value` describes.
pub(crate) fn subscription_of(value: &Value) -> Result<Subscription, String> {
    let topics = value["topics"].as_array().ok_or("no topics")?;
    Ok(Subscription {
        topics: topics.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        user_data: value["userData"].as_str().map(|data| unhex(data).into()),
        owned_partitions: partitions(&value["ownedPartitions"])?,
        generation_id: value["generationId"].as_i64().and_then(|g| i32::try_from(g).ok()),
        rack_id: value["rackId"].as_str().map(str::to_owned),
    })
}

fn subscription_json(subscription: &Subscription) -> Value {
    json!({
        "topics": subscription.topics,
        "userData": subscription.user_data.as_deref().map(hex),
        "ownedPartitions": flat(&subscription.owned_partitions),
        "generationId": subscription.generation_id,
        "rackId": subscription.rack_id,
    })
}

fn assignment_json(assignment: &Assignment) -> Value {
    json!({
        "partitions": flat(&assignment.partitions),
        "userData": assignment.user_data.as_deref().map(hex),
    })
}

fn version(line: &Value) -> Result<i16, String> {
    line["version"].as_i64().and_then(|v| i16::try_from(v).ok()).ok_or_else(|| "no version".to_owned())
}

fn same(what: &str, ours: &Value, theirs: &Value) -> Result<(), String> {
    if ours == theirs { Ok(()) } else { Err(format!("{what} {ours}")) }
}

fn subscription(line: &Value) -> Result<(), String> {
    let bytes = subscription_of(&line["value"])?.encode(version(line)?).map_err(|e| e.to_string())?;
    same("written", &Value::from(hex(&bytes)), &line["hex"])?;
    let read = Subscription::decode(&bytes).map_err(|e| e.to_string())?;
    same("read", &subscription_json(&read), &line["decoded"])
}

fn assignment(line: &Value) -> Result<(), String> {
    let value = &line["value"];
    let user_data = value["userData"].as_str().map(|data| unhex(data).into());
    let assignment = Assignment { partitions: partitions(&value["partitions"])?, user_data };
    let bytes = assignment.encode(version(line)?).map_err(|e| e.to_string())?;
    same("written", &Value::from(hex(&bytes)), &line["hex"])?;
    let read = Assignment::decode(&bytes).map_err(|e| e.to_string())?;
    same("read", &assignment_json(&read), &line["decoded"])
}

fn decode(line: &Value) -> Result<(), String> {
    let bytes = unhex(line["hex"].as_str().ok_or("no hex")?);
    let read = match line["kind"].as_str() {
        Some("subscription") => Subscription::decode(&bytes).map(|read| subscription_json(&read)),
        Some("assignment") => Assignment::decode(&bytes).map(|read| assignment_json(&read)),
        _ => return Err("no kind".to_owned()),
    };
    match read {
        Ok(read) if line["error"].is_null() => same("read", &read, &line["decoded"]),
        Ok(read) => Err(format!("accepted what Java refuses: {read}")),
        Err(_) if !line["error"].is_null() => Ok(()),
        // Java puts U+FFFD where a string is not UTF-8; refusing is as good.
        Err(e) if e.kind == DecodeErrorKind::Utf8 && line["decoded"].to_string().contains('\u{fffd}') => {
            Ok(())
        }
        Err(why) => Err(format!("refused: {why}")),
    }
}
