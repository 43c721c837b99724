//! A value against a schema, as the API server holds it: types, values, lengths, required fields.
//!
//! `schema × value ──▶ faults, each with its path and what to write instead`
//!
//! The schema in question is our own, so only the keywords that it uses are known here; a test holds the two together.
//! Unknown fields are no fault: the API server drops them, and the reader of manifests reports them.

use serde_json::Value;

use super::rules;
use super::{Fault, nearest};
use crate::quote::{Quoted, may_hold_a_key};

/// Everything in `value` that the schema does not take. `path` is where the value stands.
pub(super) fn faults(schema: &Value, value: &Value, path: &str) -> Vec<Fault> {
    let mut faults = Vec::new();
    check(schema, value, path, &mut faults);
    faults
}

/// Takes out the fields without a value, as the API server does: they say nothing. An item of a list stays.
pub(crate) fn prune_nulls(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(prune_nulls),
        Value::Object(fields) => {
            fields.retain(|_, value| !value.is_null());
            fields.values_mut().for_each(prune_nulls);
        }
        Value::Bool(_) | Value::Null | Value::Number(_) | Value::String(_) => {}
    }
}

fn check(schema: &Value, value: &Value, path: &str, faults: &mut Vec<Fault>) {
    let mut fault = |message: String| faults.push(Fault { path: path.to_owned(), message });
    let wanted = schema["type"].as_str().unwrap_or_default();
    let fits = match value {
        Value::Array(_) => wanted == "array",
        Value::Bool(_) => wanted == "boolean",
        Value::Null => false,
        Value::Number(number) => wanted == "integer" && (number.is_i64() || number.is_u64()),
        Value::Object(_) => wanted == "object",
        Value::String(_) => wanted == "string",
    };
    if !fits {
        return fault(wrong_type(wanted, schema, value));
    }
    if let Some(known) = schema["enum"].as_array()
        && !known.contains(value)
    {
        return fault(not_one_of(known, value));
    }
    let limit = |keyword: &str| schema[keyword].as_u64().unwrap_or(u64::MAX);
    let least = |keyword: &str| schema[keyword].as_u64().unwrap_or_default();
    match value {
        Value::Array(items) => {
            let count = items.len() as u64;
            if count > limit("maxItems") {
                fault(format!("it has {count} items, and at most {} are allowed", limit("maxItems")));
            } else if count < least("minItems") {
                fault("it is an empty list: remove the field, or add an item".to_owned());
            }
            for (index, item) in items.iter().enumerate().take(usize::try_from(limit("maxItems")).unwrap_or(usize::MAX))
            {
                check(&schema["items"], item, &format!("{path}[{index}]"), faults);
            }
        }
        Value::Number(number) => {
            let low = schema["minimum"].as_i64().unwrap_or(i64::MIN);
            let high = schema["maximum"].as_i64().unwrap_or(i64::MAX);
            // What does not fit is larger than any limit.
            if !(low..=high).contains(&number.as_i64().unwrap_or(i64::MAX)) {
                fault(format!("it is {value}, and must be from {low} to {high}"));
            }
        }
        Value::Object(fields) => {
            let count = fields.len() as u64;
            if count > limit("maxProperties") {
                fault(format!("it has {count} entries, and at most {} are allowed", limit("maxProperties")));
            }
            let required = schema["required"].as_array().map(Vec::as_slice).unwrap_or_default();
            for name in required.iter().filter_map(Value::as_str).filter(|name| !fields.contains_key(*name)) {
                let unknown =
                    fields.keys().map(String::as_str).filter(|field| schema["properties"].get(field).is_none());
                let message = match nearest(name, unknown) {
                    Some(written) => format!("it is missing (is {} a misspelling of it?)", shown(written)),
                    None => "it is missing".to_owned(),
                };
                faults.push(Fault { path: join(path, name), message });
            }
            for (name, value) in fields {
                let schema = schema["properties"].get(name).or_else(|| schema.get("additionalProperties"));
                if let Some(schema) = schema {
                    check(schema, value, &join(path, name), faults);
                }
            }
        }
        Value::String(text) => {
            let count = text.chars().count() as u64;
            if count > limit("maxLength") {
                fault(format!("it has {count} characters, and at most {} are allowed", limit("maxLength")));
            } else if count < least("minLength") {
                fault("it is empty".to_owned());
            } else if let Some(pattern) = schema["pattern"].as_str() {
                let pattern = rules::pattern(pattern);
                if !(pattern.holds)(text) {
                    fault(format!("it is {}, and {}", shown(text), pattern.wanted));
                }
            }
        }
        Value::Bool(_) | Value::Null => {}
    }
}

/// What stands there instead of what should, and how to write that.
fn wrong_type(wanted: &str, schema: &Value, value: &Value) -> String {
    let found = match value {
        Value::Array(_) => "a sequence",
        Value::Bool(_) => "true or false",
        Value::Null => "empty",
        Value::Number(number) if number.is_f64() => "a number with a fraction",
        Value::Number(_) => "a number",
        Value::Object(_) => "a mapping",
        Value::String(_) => "text",
    };
    let (wanted, advice) = match (wanted, value) {
        ("array", Value::String(text)) => ("a sequence", format!(": write [{}]", shown(text))),
        ("array", _) => ("a sequence", String::new()),
        ("boolean", Value::String(text)) => match text.to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" => ("true or false", ": write true, without quotes".to_owned()),
            "false" | "no" | "off" => ("true or false", ": write false, without quotes".to_owned()),
            _ => ("true or false", String::new()),
        },
        ("boolean", _) => ("true or false", String::new()),
        ("integer", Value::String(text)) if text.parse::<i64>().is_ok() => {
            ("a whole number", format!(": write {text}, without quotes"))
        }
        ("integer", _) => ("a whole number", String::new()),
        ("string", _) => match schema["enum"].as_array() {
            Some(known) => ("text", format!(": one of {}", list(known))),
            None if value.is_array() || value.is_object() => ("text", String::new()),
            None => ("text", format!(": write \"{value}\", in quotes")),
        },
        _ => ("a mapping", String::new()),
    };
    format!("it is {found}, expected {wanted}{advice}")
}

fn not_one_of(known: &[Value], value: &Value) -> String {
    const SHORT: usize = 8;
    let text = value.as_str().unwrap_or_default();
    if known.len() <= SHORT {
        return format!("it is {}, expected one of {}", shown(text), list(known));
    }
    let advice = match nearest(text, known.iter().filter_map(Value::as_str)) {
        Some(name) => format!(" (do you mean {name}?)"),
        None => format!(": it is one of {} names, such as {}", known.len(), list(&known[..2])),
    };
    format!("there is no {}{advice}", shown(text))
}

fn list(known: &[Value]) -> String {
    known.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// A value in quotes, of bounded length.
fn shown(text: &str) -> String {
    const LIMIT: usize = 60;
    if may_hold_a_key(text) {
        return Quoted(text).to_string();
    }
    match text.char_indices().nth(LIMIT) {
        Some((at, _)) => format!("{:?}…", &text[..at]),
        None => format!("{text:?}"),
    }
}

fn join(path: &str, name: &str) -> String {
    match path {
        "" => name.to_owned(),
        _ => format!("{path}.{name}"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Faults of a policy's spec, one per line.
    fn said(spec: Value) -> String {
        let faults = faults(super::super::schema::spec(), &spec, "spec");
        faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn values_of_the_wrong_type_are_told_with_what_to_write() {
        for (spec, expected) in [
            (json!(7), "spec: it is a number, expected a mapping"),
            (json!({"preset": 7}), r#"spec.preset: it is a number, expected text: one of "intermediate", "modern""#),
            (
                json!({"minVersion": 1.3}),
                r#"spec.minVersion: it is a number with a fraction, expected text: one of "TLSv1.2", "TLSv1.3""#,
            ),
            (
                json!({"cipherSuites": "HIGH:!aNULL"}),
                r#"spec.cipherSuites: it is text, expected a sequence: write ["HIGH:!aNULL"]"#,
            ),
            (json!({"groups": [1]}), r#"spec.groups[0]: it is a number, expected text: write "1", in quotes"#),
            (json!({"groups": [null]}), r#"spec.groups[0]: it is empty, expected text: write "null", in quotes"#),
            (
                json!({"sessionTickets": "off"}),
                "spec.sessionTickets: it is text, expected true or false: write false, without quotes",
            ),
            (
                json!({"hsts": {"maxAge": "300"}}),
                "spec.hsts.maxAge: it is text, expected a whole number: write 300, without quotes",
            ),
            (json!({"hsts": {"maxAge": "1y"}}), "spec.hsts.maxAge: it is text, expected a whole number"),
            (
                json!({"hsts": {"maxAge": 1.5}}),
                "spec.hsts.maxAge: it is a number with a fraction, expected a whole number",
            ),
            (json!({"chain": true}), "spec.chain: it is true or false, expected a mapping"),
        ] {
            assert_eq!(said(spec), expected);
        }
    }

    #[test]
    fn values_that_do_not_exist_are_told_with_those_that_do() {
        for (spec, expected) in [
            (
                json!({"minVersion": "TLSv1.1"}),
                r#"spec.minVersion: it is "TLSv1.1", expected one of "TLSv1.2", "TLSv1.3""#,
            ),
            (json!({"alpn": ["h3"]}), r#"spec.alpn[0]: it is "h3", expected one of "h2", "http/1.1""#),
            (
                json!({"findingActions": {"expired": "refuse"}}),
                r#"spec.findingActions.expired: it is "refuse", expected one of "holdLastGood", "reject", "serve""#,
            ),
            (
                json!({"requiredClients": ["java8u31"]}),
                r#"spec.requiredClients[0]: there is no "java8u31" (do you mean java-8u31?)"#,
            ),
            (
                json!({"clientAuth": {"mode": "required", "caSecret": "Our_CA"}}),
                "spec.clientAuth.caSecret: it is \"Our_CA\", and must be a name of lower-case letters, digits, '-' and '.'",
            ),
        ] {
            assert_eq!(said(spec), expected);
        }
        assert!(said(json!({"requiredClients": ["netscape"]})).contains("one of 4"));
        assert!(said(json!({"preset": "x".repeat(10_000)})).len() < 200);
    }

    #[test]
    fn missing_fields_and_limits_are_told() {
        let long = "a".repeat(254);
        let many = vec!["X25519"; 65];
        for (spec, expected) in [
            (json!({"hsts": {}}), "spec.hsts.maxAge: it is missing"),
            (json!({"hsts": {"maxage": 1}}), "spec.hsts.maxAge: it is missing (is \"maxage\" a misspelling of it?)"),
            (json!({"hsts": {"preload": true}}), "spec.hsts.maxAge: it is missing"),
            (json!({"clientAuth": {"mode": "optional"}}), "spec.clientAuth.caSecret: it is missing"),
            (json!({"hsts": {"maxAge": -1}}), "spec.hsts.maxAge: it is -1, and must be from 0 to 315360000"),
            (
                json!({"hsts": {"maxAge": u64::MAX}}),
                "spec.hsts.maxAge: it is 18446744073709551615, and must be from 0 to 315360000",
            ),
            (json!({"groups": []}), "spec.groups: it is an empty list: remove the field, or add an item"),
            (json!({"groups": many}), "spec.groups: it has 65 items, and at most 64 are allowed"),
            (json!({"groups": [""]}), "spec.groups[0]: it is empty"),
            (
                json!({"clientAuth": {"mode": "optional", "caSecret": long}}),
                "spec.clientAuth.caSecret: it has 254 characters, and at most 253 are allowed",
            ),
        ] {
            assert_eq!(said(spec), expected);
        }
    }

    #[test]
    fn several_faults_are_told_together_and_what_is_right_is_not_told() {
        let spec = json!({"preset": "old", "hsts": {"maxAge": "x"}, "alpn": []});
        assert_eq!(said(spec).lines().count(), 2);
        assert_eq!(said(json!({})), "");
        assert_eq!(said(json!({"noSuchField": 1})), "");
    }

    #[test]
    fn fields_without_a_value_are_taken_out_and_items_are_not() {
        let mut value = json!({"a": null, "b": {"c": null, "d": [null, {"e": null}]}});
        prune_nulls(&mut value);
        assert_eq!(value, json!({"b": {"d": [null, {}]}}));
    }
}
