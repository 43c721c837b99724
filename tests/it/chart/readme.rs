//! The README of the chart: its table of values is made from values.yaml.

use std::fmt::Write as _;

use serde_json::Value;

use super::{answer, read};
use crate::docs::holds;

/// A value with the comment above it.
struct Described {
    path: Vec<String>,
    text: String,
}

/// The values that have a comment which begins with `# --`.
fn described(yaml: &str) -> Vec<Described> {
    let mut found = Vec::new();
    let mut path: Vec<(usize, String)> = Vec::new();
    let mut comment: Option<String> = None;
    for line in yaml.lines() {
        let (indent, rest) = (line.len() - line.trim_start().len(), line.trim_start());
        if let Some(text) = rest.strip_prefix("# -- ") {
            comment = Some(text.to_owned());
        } else if let Some(text) = rest.strip_prefix("# ") {
            if let Some(comment) = &mut comment {
                let _ = write!(comment, " {text}");
            }
        } else if let Some((key, _)) = rest.split_once(':').filter(|_| !rest.starts_with(['-', '{'])) {
            path.retain(|(depth, _)| *depth < indent);
            path.push((indent, key.to_owned()));
            if let Some(text) = comment.take() {
                found.push(Described { path: path.iter().map(|(_, key)| key.clone()).collect(), text });
            }
        }
    }
    found
}

/// The paths of all values below, but for those of lists and empty maps.
fn leaves(value: &Value, path: &mut Vec<String>, found: &mut Vec<Vec<String>>) {
    match value.as_object() {
        Some(map) if !map.is_empty() => {
            for (key, value) in map {
                path.push(key.clone());
                leaves(value, path, found);
                path.pop();
            }
        }
        _ => found.push(path.clone()),
    }
}

#[test]
fn the_table_of_values_is_made_from_the_values() {
    let defaults = &answer().defaults;
    let values = described(&read("charts/handfast/values.yaml"));
    assert!(values.len() > 100);
    let written = read("charts/handfast/README.md");
    let mark = "<!-- Made from values.yaml: HANDFAST_UPDATE_DOCS=1 cargo test chart -->\n";
    let (prose, _) = written.split_once(mark).unwrap();
    let mut text = format!("{prose}{mark}\n| value | default | what it means |\n| --- | --- | --- |\n");
    for Described { path, text: meaning } in &values {
        let default = path.iter().fold(defaults, |value, key| value.get(key).unwrap_or(&Value::Null));
        let default = match default {
            Value::Null => String::new(),
            Value::String(text) if text.is_empty() => String::new(),
            Value::Object(map) if map.is_empty() => "`{}`".to_owned(),
            Value::String(text) => format!("`{text}`"),
            other => format!("`{other}`"),
        };
        let _ = writeln!(text, "| `{}` | {default} | {} |", path.join("."), meaning.replace('|', "\\|"));
    }
    holds("charts/handfast/README.md", &text);
}

#[test]
fn every_value_is_described() {
    let values = described(&read("charts/handfast/values.yaml"));
    let mut all = Vec::new();
    leaves(&answer().defaults, &mut Vec::new(), &mut all);
    assert!(all.len() > 150);
    let bare: Vec<String> = all
        .iter()
        .filter(|path| !values.iter().any(|value| path.starts_with(&value.path)))
        .map(|path| path.join("."))
        .collect();
    assert!(bare.is_empty(), "write `# -- what it means` above {bare:?}");
}
