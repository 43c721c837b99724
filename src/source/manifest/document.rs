//! YAML and JSON text to documents, within limits.
//!
//! One reader serves both formats. It refuses duplicate keys (JSON readers usually keep the last one, and then two
//! programs see two different objects), and it limits depth where the values are made: the YAML library limits the
//! depth of the text, which aliases to aliases can multiply.

use std::fmt;

use serde::Deserialize;
use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use serde_saphyr::Spanned;

/// One document that is not empty.
#[derive(Debug)]
pub(super) struct Document {
    /// Line on which it starts, from 1.
    pub(super) line: Option<u64>,
    pub(super) value: Value,
}

/// The documents of a YAML stream. Empty documents are left out.
pub(super) fn yaml(text: &str) -> Result<Vec<Document>, String> {
    let options = serde_saphyr::options! {
        // Snippets quote lines of the file, and these can be secret.
        with_snippet: false,
        budget: serde_saphyr::budget! {
            max_depth: MAX_DEPTH,
            // A file may hold ten thousand objects; the limit on its size bounds the work.
            max_documents: 100_000,
            max_events: 8_000_000,
            max_nodes: 4_000_000,
        },
    };
    let documents = serde_saphyr::from_multiple_with_options::<Spanned<Limited>>(text, options);
    let documents = documents.map_err(|error| {
        let line = error.location().map(|location| format!("line {}: ", location.line()));
        // The other formatter gives advice to programs that use the library.
        let text = error.render_with_formatter(&serde_saphyr::UserMessageFormatter);
        format!("{}{}", line.unwrap_or_default(), without_position(&text))
    })?;
    let document = |document: Spanned<Limited>| Document {
        line: Some(document.referenced.line()).filter(|line| *line > 0),
        value: document.value.0,
    };
    Ok(documents.into_iter().map(document).filter(|document| !document.value.is_null()).collect())
}

/// The documents of a JSON file: usually one, or several one after the other.
pub(super) fn json(text: &str) -> Result<Vec<Document>, String> {
    let mut documents = Vec::new();
    for value in serde_json::Deserializer::from_str(text).into_iter::<Limited>() {
        let value =
            value.map_err(|error| format!("line {}: {}", error.line(), without_position(&error.to_string())))?;
        documents.push(Document { line: None, value: value.0 });
    }
    Ok(documents.into_iter().filter(|document| !document.value.is_null()).collect())
}

/// More than any object needs, and little enough for the smallest stack.
const MAX_DEPTH: usize = 64;

/// Libraries put the position into the message; ours begins with it.
fn without_position(message: &str) -> &str {
    let message = message.split(" at line ").next().unwrap_or(message);
    match message.strip_prefix("error: ").unwrap_or(message).split_once(": ") {
        Some((position, rest)) if position.starts_with("line ") => rest,
        _ => message,
    }
}

/// A value of limited depth without duplicate keys.
#[derive(Debug)]
struct Limited(Value);

impl<'de> Deserialize<'de> for Limited {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Node { depth: 0 }.deserialize(deserializer).map(Limited)
    }
}

#[derive(Clone, Copy)]
struct Node {
    depth: usize,
}

impl Node {
    fn child<E: de::Error>(self) -> Result<Node, E> {
        if self.depth == MAX_DEPTH {
            return Err(E::custom(format_args!("the document is nested more than {MAX_DEPTH} levels deep")));
        }
        Ok(Node { depth: self.depth + 1 })
    }
}

impl<'de> DeserializeSeed<'de> for Node {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value that JSON can write")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        self.deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let child = self.child()?;
        let mut values = Vec::new();
        while let Some(value) = items.next_element_seed(child)? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
        let child = self.child()?;
        let mut values = Map::new();
        while let Some(name) = fields.next_key::<String>()? {
            let value = fields.next_value_seed(child)?;
            if values.contains_key(&name) {
                return Err(de::Error::custom(format_args!("the key {name:?} is given twice")));
            }
            values.insert(name, value);
        }
        Ok(Value::Object(values))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(documents: Result<Vec<Document>, String>) -> Vec<Value> {
        documents.unwrap().into_iter().map(|document| document.value).collect()
    }

    #[test]
    fn empty_documents_are_left_out_and_the_others_know_their_line() {
        let documents =
            yaml("# nothing\n---\n---\na: 1\n---\n# no more\n---\nb: [yes, 0x10, 1.5, '1', null]\n").unwrap();
        let lines: Vec<_> = documents.iter().map(|document| document.line).collect();
        assert_eq!(lines, [Some(4), Some(8)]);
        assert_eq!(documents[1].value, serde_json::json!({"b": [true, 16, 1.5, "1", null]}));
        assert!(values(yaml("")).is_empty());
    }

    #[test]
    fn json_may_hold_several_documents() {
        assert_eq!(values(json("{\"a\": \"\\ud83d\\ude00\"}\n\t{\"b\": 2}\nnull")).len(), 2);
    }

    #[test]
    fn duplicate_keys_are_refused_in_both_formats() {
        for error in
            [yaml("a: 1\nb:\n  c: 1\n  c: 2\n").unwrap_err(), json("{\"b\":\n\n{\"c\": 1, \"c\": 2}}").unwrap_err()]
        {
            assert!(!error.contains("Policy") && !error.contains("Options"), "{error}");
            assert!(error.contains('c') && (error.starts_with("line 3: ") || error.starts_with("line 4: ")), "{error}");
        }
    }

    #[test]
    fn depth_is_limited_also_when_aliases_make_it() {
        let deep = 100_000;
        for text in [
            "[".repeat(deep),
            "{\"a\":".repeat(deep),
            "- ".repeat(deep),
            format!("{}{}", "[".repeat(deep), "]".repeat(deep)),
        ] {
            assert!(yaml(&text).is_err());
            assert!(json(&text).is_err());
        }
        let mut text = String::from("a0: &a0 x\n");
        for level in 1..2_000 {
            text.push_str(&format!("a{level}: &a{level} [*a{}]\n", level - 1));
        }
        let error = yaml(&text).unwrap_err();
        assert!(error.contains("nested more than") || error.contains("limit") || error.contains("budget"), "{error}");
    }

    #[test]
    fn alias_bombs_are_refused() {
        let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for level in 1..30 {
            let items = vec![format!("*a{}", level - 1); 10].join(", ");
            text.push_str(&format!("a{level}: &a{level} [{items}]\n"));
        }
        assert!(yaml(&text).is_err());
    }

    #[test]
    fn errors_begin_with_the_line_and_quote_no_line_of_the_file() {
        let error = yaml("a: 1\nkey: 'SECRET\n").unwrap_err();
        assert!(error.starts_with("line ") && !error.contains("SECRET"), "{error}");
        let error = json("{\"a\": 1,\n\"key\": SECRET}").unwrap_err();
        assert!(error.starts_with("line 2: ") && !error.contains("SECRET"), "{error}");
    }
}
