//! The CustomResourceDefinition of TlsPolicy, and what it says about each field.
//!
//! `the types and their comments ──kube, schemars──▶ ──this──▶ definition ──▶ handfast crd, crds/, docs/tls-policy.md`
//!
//! The derived schema is made stricter and plainer here: no field may be null (the API server then drops nulls, so
//! they mean the same as no field), there are no defaults (Handfast has them, so that a policy says only what somebody
//! wrote), lists are replaced as a whole, and the rules are in.

use std::sync::LazyLock;

use kube::CustomResourceExt as _;
use serde_json::{Value, json};

use super::TlsPolicy;
use super::rules::RULES;
use crate::tls::clients::clients;
use crate::tls::policy::Alpn;

/// The CustomResourceDefinition, as an API server takes it.
pub fn definition() -> &'static Value {
    static DEFINITION: LazyLock<Value> = LazyLock::new(|| {
        let mut definition = serde_json::to_value(TlsPolicy::crd()).expect("invariant: a definition is JSON");
        definition["spec"]["versions"][0]["additionalPrinterColumns"] = COLUMNS.map(column).into_iter().collect();
        let schema = definition.pointer_mut(SCHEMA).expect("invariant: kube puts the schema there");
        plain(schema);
        let spec = &mut schema["properties"]["spec"];
        spec["properties"]["alpn"]["items"]["enum"] = Alpn::ALL.map(Alpn::id).into_iter().collect();
        spec["properties"]["requiredClients"]["items"]["enum"] = clients().iter().map(|client| client.id).collect();
        for rule in RULES.iter() {
            let node = match rule.at {
                "" => &mut *spec,
                at => &mut spec["properties"][at],
            };
            let mut written = json!({"message": rule.message, "reason": "FieldValueInvalid", "rule": rule.cel});
            if !rule.field.is_empty() {
                written["fieldPath"] = format!(".{}", rule.field).into();
            }
            match &mut node["x-kubernetes-validations"] {
                Value::Array(rules) => rules.push(written),
                rules => *rules = Value::Array(vec![written]),
            }
        }
        let conditions = &mut schema["properties"]["status"]["properties"]["conditions"];
        conditions["x-kubernetes-list-type"] = "map".into();
        conditions["x-kubernetes-list-map-keys"] = json!(["type"]);
        definition
    });
    &DEFINITION
}

/// What `kubectl get` prints: heading, type, where it stands, and 1 if only `-o wide` prints it.
const COLUMNS: [(&str, &str, &str, u8); 5] = [
    ("Preset", "string", ".spec.preset", 0),
    ("Min version", "string", ".spec.minVersion", 0),
    ("Accepted", "string", r#".status.conditions[?(@.type=="Accepted")].status"#, 0),
    ("Reason", "string", r#".status.conditions[?(@.type=="Accepted")].reason"#, 1),
    ("Age", "date", ".metadata.creationTimestamp", 0),
];

fn column((name, kind, path, priority): (&str, &str, &str, u8)) -> Value {
    let mut column = json!({"name": name, "type": kind, "jsonPath": path});
    if priority > 0 {
        column["priority"] = priority.into();
    }
    column
}

const SCHEMA: &str = "/spec/versions/0/schema/openAPIV3Schema";

/// The schema of `spec`.
pub(super) fn spec() -> &'static Value {
    &definition().pointer(SCHEMA).expect("invariant: the schema stands there")["properties"]["spec"]
}

/// One field of `spec`, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its path below `spec`: `hsts.maxAge`.
    pub path: String,
    /// What may be written: the values, or the type and its limits.
    pub value: String,
    /// Whether it has to be there if the field above is.
    pub required: bool,
    /// What it means.
    pub description: String,
}

/// Every field of `spec`, parents before children.
pub fn fields() -> Vec<Field> {
    let mut fields = Vec::new();
    describe(spec(), "", &mut fields);
    fields
}

/// The name of a field of `spec` that is written almost as the last part of `path`, beside it. `path` begins with
/// `spec.`, and none of its fields is inside a list.
pub(crate) fn nearest_field(path: &str) -> Option<&'static str> {
    let mut parts = path.split('.');
    let (Some("spec"), Some(name)) = (parts.next(), parts.next_back()) else { return None };
    let parent = parts.try_fold(spec(), |node, part| node["properties"].get(part))?;
    super::nearest(name, parent["properties"].as_object()?.keys().map(String::as_str))
}

fn describe(node: &Value, above: &str, fields: &mut Vec<Field>) {
    let properties = node["properties"].as_object().into_iter().flatten();
    for (name, schema) in properties {
        let path = if above.is_empty() { name.clone() } else { format!("{above}.{name}") };
        let text = |name: &str| schema[name].as_str().unwrap_or_default().to_owned();
        let required = node["required"].as_array().is_some_and(|names| names.contains(&Value::from(name.as_str())));
        fields.push(Field { path: path.clone(), value: value_of(schema), required, description: text("description") });
        describe(schema, &path, fields);
    }
}

/// What may be written where the schema is, for people.
fn value_of(schema: &Value) -> String {
    const SHORT: usize = 8;
    let kind = schema["type"].as_str().unwrap_or_default();
    match (schema["enum"].as_array(), kind) {
        (Some(known), _) if known.len() <= SHORT => {
            let names = known.iter().filter_map(Value::as_str).map(|name| format!("`{name}`"));
            names.collect::<Vec<_>>().join(" | ")
        }
        (Some(known), _) => format!("one of {} names", known.len()),
        (_, "array") => {
            let most = schema["maxItems"].to_string();
            format!("list of {}, at most {most}", value_of(&schema["items"]))
        }
        (_, "integer") => format!("number from {} to {}", schema["minimum"], schema["maximum"]),
        (_, "object") => match schema.get("additionalProperties") {
            Some(inner) => format!("map from text to {}, at most {}", value_of(inner), schema["maxProperties"]),
            None => "object".to_owned(),
        },
        (_, "boolean") => "`true` | `false`".to_owned(),
        _ => "text".to_owned(),
    }
}

/// Takes out what a schema of Kubernetes must not have or ours should not, in every node.
fn plain(schema: &mut Value) {
    let Value::Object(node) = schema else { return };
    for keyword in ["default", "nullable", "title"] {
        node.remove(keyword);
    }
    if let Some(Value::String(text)) = node.get_mut("description") {
        *text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    }
    for keyword in ["maximum", "minimum"] {
        // The type of definitions has a float here, and `0.0` is no limit for people.
        if let Some(limit) = node.get(keyword).and_then(Value::as_f64) {
            node.insert(keyword.to_owned(), (limit as i64).into());
        }
    }
    if node.get("type").is_some_and(|kind| kind == "array") {
        node.insert("x-kubernetes-list-type".into(), "atomic".into());
    }
    for keyword in ["additionalProperties", "items"] {
        if let Some(inner) = node.get_mut(keyword) {
            plain(inner);
        }
    }
    if let Some(Value::Object(properties)) = node.get_mut("properties") {
        properties.values_mut().for_each(plain);
    }
}
