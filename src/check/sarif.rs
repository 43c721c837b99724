//! A report as SARIF 2.1.0, which code hosting sites show beside the lines of a change.
//!
//! `Report + where objects are defined ──▶ one SARIF run`
//!
//! Objects are logical locations. Where the file of an object is known it is the physical one, because GitHub shows
//! nothing without a file.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Finding, Report};
use crate::explain::{self, Kind, Topic};

/// The whole log. `files` has the file of each object, both as the report and the source name them.
pub fn log(report: &Report, files: &BTreeMap<String, String>) -> Value {
    let findings: Vec<&Finding> = report.objects.iter().flat_map(|object| &object.findings).collect();
    let topics: Vec<Topic> = explain::topics()
        .into_iter()
        .filter(|topic| topic.kind != Kind::Handshake && findings.iter().any(|finding| finding.code == topic.code))
        .collect();
    let rules: Vec<Value> = topics.iter().map(rule).collect();
    let results = findings.iter().map(|finding| {
        let rule = topics.iter().position(|topic| topic.code == finding.code);
        result(finding, rule, files)
    });
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {
                "name": "handfast",
                "semanticVersion": env!("CARGO_PKG_VERSION"),
                "rules": rules,
            }},
            "results": results.collect::<Vec<_>>(),
            "properties": {"summary": report.summary},
            "columnKind": "utf16CodeUnits",
        }],
    })
}

fn rule(topic: &Topic) -> Value {
    let name: String = topic.code.split('-').map(capitalised).collect();
    json!({
        "id": topic.code,
        "name": name,
        "shortDescription": {"text": topic.meaning.split_inclusive(". ").next().unwrap_or(topic.meaning).trim_end()},
        "fullDescription": {"text": topic.meaning},
        "help": {"text": format!("Who must act: {}. What to do: {}.", topic.fault, topic.remedy)},
        "defaultConfiguration": {"level": level(topic.weight)},
    })
}

fn result(finding: &Finding, rule: Option<usize>, files: &BTreeMap<String, String>) -> Value {
    let subject = &finding.subject;
    let file = files.get(subject).map(String::as_str).or_else(|| subject.strip_prefix("File "));
    let mut location = json!({"logicalLocations": [{"fullyQualifiedName": subject, "kind": "resource"}]});
    if let Some(file) = file {
        location["physicalLocation"] = json!({
            "artifactLocation": {"uri": uri(file)},
            "region": {"startLine": line(&finding.message).unwrap_or(1)},
        });
    }
    let mut result = json!({
        "ruleId": finding.code,
        "level": level(finding.severity),
        "message": {"text": format!("{subject}: {} What to do: {}.", finding.message, finding.remedy)},
        "locations": [location],
        "properties": {"effect": finding.effect},
    });
    if let Some(rule) = rule {
        result["ruleIndex"] = rule.into();
    }
    result
}

fn level(severity: &str) -> &'static str {
    match severity {
        "error" => "error",
        "warning" => "warning",
        _ => "note",
    }
}

/// The line in `document 2 (line 14): …`, which findings about files begin with.
fn line(message: &str) -> Option<u64> {
    let (_, rest) = message.split_once("line ")?;
    rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// A relative path as a URI reference (RFC 3986 section 4.2).
fn uri(path: &str) -> String {
    let byte = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    path.bytes().map(byte).collect()
}

fn capitalised(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map(|first| first.to_ascii_uppercase()).into_iter().chain(letters).collect()
}
