//! The definitions that a cluster needs before it takes Handfast's own resources: `handfast crd`, and crds/.
//!
//! `CustomResourceDefinition as JSON ──▶ YAML, the same each time`
//!
//! YAML is written by hand here: block style, keys in alphabetical order, long texts folded. That is a small part of
//! the language, and a test reads it back with the parser of the manifests.

use std::fmt::Write as _;

use serde_json::Value;

use super::tls_policy;

/// Name and text of each definition, as they stand in crds/.
pub fn files() -> Vec<(String, String)> {
    let file = |definition: &Value| {
        let name = definition["metadata"]["name"].as_str().expect("invariant: a definition has a name");
        let mut text = String::from(
            "# Printed by `handfast crd`; to install: handfast crd | kubectl apply --server-side -f -\n---\n",
        );
        write(&mut text, definition, 0);
        (format!("{name}.yaml"), text)
    };
    vec![file(tls_policy::definition())]
}

/// Column at which long texts are folded.
const WIDTH: usize = 100;

/// A value as a block that stands alone: at the beginning of a line, `indent` columns in.
fn write(out: &mut String, value: &Value, indent: usize) {
    match value {
        Value::Array(items) if !items.is_empty() => {
            for item in items {
                let start = out.len();
                write(out, item, indent + 2);
                // The item's first line begins with its indentation, whose last two columns become the dash.
                out.replace_range(start + indent..start + indent + 2, "- ");
            }
        }
        Value::Object(fields) if !fields.is_empty() => {
            for (name, value) in fields {
                let _ = write!(out, "{:indent$}{}:", "", plain_or_quoted(name));
                match value {
                    Value::Array(items) if !items.is_empty() => {
                        out.push('\n');
                        write(out, value, indent);
                    }
                    Value::Object(fields) if !fields.is_empty() => {
                        out.push('\n');
                        write(out, value, indent + 2);
                    }
                    Value::String(text) => {
                        out.push(' ');
                        write_text(out, text, indent + 2);
                    }
                    Value::Array(_) | Value::Bool(_) | Value::Null | Value::Number(_) | Value::Object(_) => {
                        let _ = writeln!(out, " {value}");
                    }
                }
            }
        }
        Value::String(text) => {
            let _ = write!(out, "{:indent$}", "");
            write_text(out, text, indent + 2);
        }
        Value::Array(_) | Value::Bool(_) | Value::Null | Value::Number(_) | Value::Object(_) => {
            let _ = writeln!(out, "{:indent$}{value}", "");
        }
    }
}

/// A text and the end of its line. Sentences are folded: there a line break means a space.
fn write_text(out: &mut String, text: &str, indent: usize) {
    let words: Vec<&str> = text.split(' ').collect();
    let can_be_folded = indent + text.len() > WIDTH
        && words.iter().all(|word| !word.is_empty() && word.chars().all(|c| !c.is_control() && !c.is_whitespace()));
    if !can_be_folded {
        let _ = writeln!(out, "{}", plain_or_quoted(text));
        return;
    }
    out.push_str(">-\n");
    let mut column = 0;
    for word in words {
        if column > 0 && column + 1 + word.len() > WIDTH {
            out.push('\n');
            column = 0;
        }
        let gap = if column == 0 { indent } else { 1 };
        let _ = write!(out, "{:gap$}{word}", "");
        column += gap + word.len();
    }
    out.push('\n');
}

/// Words that no reader of YAML takes for anything else stay as they are; everything else is quoted as in JSON, which
/// is a part of YAML.
fn plain_or_quoted(text: &str) -> String {
    const OTHERS: [&str; 10] = ["null", "true", "false", "yes", "no", "on", "off", "y", "n", "nan"];
    let is_plain = text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.ends_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/' | ' '))
        && !OTHERS.contains(&text.to_ascii_lowercase().as_str());
    if is_plain { text.to_owned() } else { Value::from(text).to_string() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn yaml(value: &Value) -> String {
        let mut text = String::new();
        write(&mut text, value, 0);
        text
    }

    #[test]
    fn blocks_are_indented_as_people_write_them() {
        let value = json!({
            "a": {"b": [1, {"c": true, "d": []}, "x: y"], "e": {}},
            "f": "no",
            "g-h": "two words",
            "$i": "^[a-z]+$",
        });
        let expected = "\"$i\": \"^[a-z]+$\"\na:\n  b:\n  - 1\n  - c: true\n    d: []\n  - \"x: y\"\n  e: {}\nf: \"no\"\n\
                        g-h: two words\n";
        assert_eq!(yaml(&value), expected);
    }

    #[test]
    fn long_sentences_are_folded_and_long_lines_of_other_kinds_are_quoted() {
        let sentence = "word: # and ".repeat(12);
        let text = yaml(&json!({"a": sentence.trim_end()}));
        assert!(
            text.starts_with("a: >-\n  word: # and word") && text.lines().all(|line| line.len() <= WIDTH),
            "{text}"
        );
        for other in [sentence.as_str(), &"two  spaces ".repeat(12), &"line\nbreak ".repeat(12)] {
            assert!(yaml(&json!({"a": other})).starts_with("a: \""), "{other}");
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let odd =
            ["", " ", "- a", "#", "'", "\"", "\\", "1.0", "0x10", "~", "null", "YES", "a: b", "ä €", "\u{1}", "\t"];
        let value = json!({
            "texts": odd,
            "keys": odd.iter().map(|key| ((*key).to_owned(), json!([[1], [], {"a": null}]))).collect::<serde_json::Map<_, _>>(),
            "folded": format!("{}: {} #{}", "a ".repeat(60).trim_end(), "- b ".repeat(40).trim_end(), "x".repeat(200)),
        });
        for value in [&value, tls_policy::definition()] {
            let read: Value = serde_saphyr::from_str(&yaml(value)).unwrap();
            assert_eq!(&read, value);
        }
    }
}
