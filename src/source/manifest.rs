//! Text to objects: what `kubectl apply` would accept, and a clear word about everything else.
//!
//! `bytes ──▶ documents ──by apiVersion and kind──▶ Object, or a Diagnostic about the file`
//!
//! Pure: the directory source and `handfast check` read files and call this. The rules are the API server's, so that a
//! directory that works here works in a cluster: `stringData` wins over `data`, a number is no annotation value,
//! duplicate keys are refused. Every complaint names file, document and line; none quotes a value of a Secret.
//!
//! Hostile input costs bounded time and stack: the YAML library limits nodes and aliases, and the reader of documents
//! limits depth after aliases are expanded.

mod complete;
mod document;
mod foreign;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::core::v1::{Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::{Ingress, IngressClass};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::{Metadata, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use crate::api::annotations::{edit_distance, is_label, is_subdomain};
use crate::api::tls_policy::{self, TlsPolicy, TlsPolicySpec};
use crate::compile::{Diagnostic, Effect, Kind, Object, ObjectKey, Problem, Scope, SecretObject};
use crate::quote::may_hold_a_key;

use document::Document;

/// What a file holds.
#[derive(Debug, Default)]
pub struct Manifest {
    /// The objects of its valid documents, in the file's order.
    pub objects: Vec<Object>,
    /// What is wrong with the others, and what is odd about the valid ones.
    pub diagnostics: Vec<Diagnostic>,
    /// Documents that name an object and are not valid: where [`Manifest::diagnostics`] says so, and which object. Who
    /// has an older version of the object can keep it.
    pub broken: Vec<(usize, ObjectKey)>,
    /// Objects that lack a part without which they do nothing, and which: the file may be cut off there.
    pub incomplete: BTreeMap<ObjectKey, Incomplete>,
    /// Some document is not valid, so that others may be hidden in or behind it.
    pub damaged: bool,
    /// Documents and items of lists, whatever they are.
    pub documents: usize,
    /// apiVersion and kind of the documents that are not used.
    pub unknown: BTreeSet<String>,
    /// The last document, if it is of an unknown kind and may be cut off: its apiVersion and kind.
    pub cut: Option<String>,
}

/// What an object lacks.
#[derive(Debug, PartialEq, Eq)]
pub struct Incomplete {
    /// Where in the file, for people.
    pub place: String,
    /// What is missing.
    pub error: String,
}

/// Parses a file. A scope that ends with `.json` is JSON, everything else is YAML.
///
/// The error is for a file that is neither: nothing in it can be trusted to be complete.
pub fn parse(scope: &Scope, bytes: &[u8]) -> Result<Manifest, Box<Diagnostic>> {
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => {
            let good = &bytes[..error.valid_up_to()];
            let line = 1 + good.iter().filter(|byte| **byte == b'\n').count();
            return Err(unreadable(scope, &format!("line {line} is not valid UTF-8: save the file as UTF-8 text")));
        }
    };
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let documents = if has_ending(&scope.0, ".json") { document::json(text) } else { document::yaml(text) };
    let documents = documents.map_err(|error| {
        let advice = if text.contains("{{") { TEMPLATE } else { "" };
        unreadable(scope, &format!("{}{advice}", brief(&error)))
    })?;
    let mut reader = ManifestReader { scope, place: String::new(), manifest: Manifest::default() };
    let last = documents.len();
    for (index, Document { line, value }) in documents.into_iter().enumerate() {
        if index + 1 == last {
            reader.manifest.cut = cut(text, &value);
        }
        let line = line.map(|line| format!(" (line {line})")).unwrap_or_default();
        reader.place = format!("document {}{line}", index + 1);
        reader.read(value);
    }
    Ok(reader.manifest)
}

/// True if a file's name ends so, in any letter case.
pub(super) fn has_ending(name: &str, ending: &str) -> bool {
    let at = name.len().checked_sub(ending.len());
    at.and_then(|at| name.get(at..)).is_some_and(|end| end.eq_ignore_ascii_case(ending))
}

const TEMPLATE: &str = "; it looks like a template: render it first (helm template …)";

/// apiVersion and kind of a document of an unknown kind that may be the beginning of another: it names no object, its
/// kind is the beginning of one that is used, or the text ends with its kind.
fn cut(text: &str, document: &Value) -> Option<String> {
    let field = |name: &str| document.get(name).and_then(Value::as_str).unwrap_or_default();
    let (api_version, kind) = (field("apiVersion"), field("kind"));
    let is_known = |kind: &str| kind == "List" || Form::of(kind.strip_suffix("List").unwrap_or(kind)).is_some();
    if kind.is_empty() || is_known(kind) {
        return None;
    }
    let names_no_object = document.pointer("/metadata/name").is_none_or(|name| !name.is_string());
    let begins_a_known_kind = "List".starts_with(kind) || FORMS.iter().any(|form| form.kind.name().starts_with(kind));
    let is_cut = names_no_object || begins_a_known_kind || text.trim_end().ends_with(kind);
    is_cut.then(|| kind_text(api_version, kind))
}

fn kind_text(api_version: &str, kind: &str) -> String {
    brief(format!("{api_version} {kind}").trim())
}

/// The diagnostic for a file of which nothing can be used.
pub(super) fn unreadable(scope: &Scope, error: &str) -> Box<Diagnostic> {
    Box::new(Diagnostic {
        subject: ObjectKey::new(Kind::File, "", &scope.0),
        field: Box::default(),
        problem: Problem::UnreadableFile { error: error.to_owned() },
        effect: Effect::RouteDropped,
        hosts: Vec::new(),
    })
}

struct ManifestReader<'a> {
    scope: &'a Scope,
    /// The document at hand, for people: `document 2 (line 14)`.
    place: String,
    manifest: Manifest,
}

impl ManifestReader<'_> {
    /// One document, or one item of a list.
    fn read(&mut self, value: Value) {
        self.manifest.documents += 1;
        let Value::Object(mut fields) = value else {
            let found = name_of_type(&value);
            return self.invalid(None, Effect::None, format!("it is {found}, not an object with apiVersion and kind"));
        };
        let text = |name: &str| fields.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (api_version, kind) = (text("apiVersion"), text("kind"));
        if kind.is_empty() {
            // A file that holds objects has one that is broken, whatever its name.
            if self.manifest.objects.is_empty()
                && let Some(tool) = Tool::of(&self.scope.0, &api_version)
            {
                // If it was a file of objects until now, it may be cut off.
                self.manifest.damaged = true;
                return self.tool_file(tool);
            }
            return self.invalid(None, Effect::None, "it has no kind".to_owned());
        }
        if let Some(item_kind) = kind.strip_suffix("List")
            && (item_kind.is_empty() || Form::of(item_kind).is_some())
        {
            return self.read_list(fields.remove("items"), &api_version, item_kind);
        }
        if foreign::is_config_of_ingress_nginx(&api_version, &kind, &fields) {
            self.manifest.unknown.insert(kind_text(&api_version, &kind));
            let name = fields.get("metadata").and_then(|metadata| metadata.get("name")).and_then(Value::as_str);
            let name = brief(name.unwrap_or_default());
            return self.report(Problem::IngressNginxConfig { name }, Effect::None);
        }
        let Some(form) = Form::of(&kind) else { return self.unknown_kind(&api_version, &kind) };
        if is_foreign(&api_version) {
            return self.unknown_kind(&api_version, &kind);
        }
        form.default_namespace(&mut fields);
        let key = form.key(&fields);
        let subject = key.as_ref().map_or_else(|| kind.clone(), ToString::to_string);
        let effect = form.effect_of_loss();
        if api_version != form.api_version {
            let found =
                if api_version.is_empty() { "there is none".to_owned() } else { format!("it is {api_version:?}") };
            let changed = match form.kind == Kind::Ingress && api_version.ends_with("/v1beta1") {
                true => "; there, backend.serviceName and servicePort are backend.service.name and service.port.number",
                false => "",
            };
            let error = format!("{subject}: apiVersion must be {:?}, {found}{changed}", form.api_version);
            return self.invalid(key, effect, error);
        }
        if form.kind == Kind::Secret {
            fold_string_data(&mut fields);
        }
        if form.kind == Kind::TlsPolicy
            && let Err(error) = check_policy(&mut fields)
        {
            return self.invalid(key, effect, format!("{subject}: {error}"));
        }
        let value = Value::Object(fields);
        let object = match (form.object)(&value) {
            Ok(object) => object,
            Err(_) => {
                let (path, reason) = culprit(&value, form);
                return self.invalid(key, effect, format!("{subject}: {path}: {reason}"));
            }
        };
        if let Err(error) = check_names(object.metadata(), form) {
            return self.invalid(key, effect, format!("{subject}: {error}"));
        }
        let unknown = unknown_fields(&value, &(form.text)(&object));
        if form.kind == Kind::TlsPolicy
            && let Err(error) = refuse_unknown_settings(&unknown)
        {
            return self.invalid(key, effect, format!("{subject}: {error}"));
        }
        for path in unknown {
            self.report(Problem::UnknownField { name: format!("{subject} {path}") }, Effect::None);
        }
        if let Some(error) = complete::missing(&object) {
            let incomplete = Incomplete { place: self.place.clone(), error: format!("{subject}: {error}") };
            self.manifest.incomplete.insert(object.key(), incomplete);
        }
        self.manifest.objects.push(trim(object));
    }

    /// The items of a `List`, or of a list of one kind, whose items may leave out apiVersion and kind.
    fn read_list(&mut self, items: Option<Value>, api_version: &str, item_kind: &str) {
        let items = match items {
            Some(Value::Array(items)) => items,
            None | Some(Value::Null) => Vec::new(),
            Some(other) => {
                let found = name_of_type(&other);
                return self.invalid(None, Effect::None, format!("items of the list is {found}, not a sequence"));
            }
        };
        let place = std::mem::take(&mut self.place);
        for (index, mut item) in items.into_iter().enumerate() {
            self.place = format!("{place} items[{index}]");
            if let (Value::Object(fields), false) = (&mut item, item_kind.is_empty()) {
                for (name, value) in [("apiVersion", api_version), ("kind", item_kind)] {
                    fields.entry(name).or_insert_with(|| value.into());
                }
            }
            self.read(item);
        }
        self.place = place;
    }

    /// A document that is for another program, and no object.
    fn tool_file(&mut self, tool: &Tool) {
        let problem = Problem::ToolFile { tool: tool.name };
        // Once for all documents of the file.
        if !self.manifest.diagnostics.iter().any(|diagnostic| diagnostic.problem == problem) {
            self.report(problem, Effect::None);
        }
    }

    fn unknown_kind(&mut self, api_version: &str, kind: &str) {
        if let Some(form) = Form::almost(kind).filter(|_| !is_foreign(api_version)) {
            // It is broken rather than unknown: its object may have been there before.
            self.manifest.damaged = true;
            let problem = Problem::MisspeltKind { kind: brief(kind), meant: form.kind.name() };
            return self.report(problem, form.effect_of_loss());
        }
        let kind = kind_text(api_version, kind);
        self.manifest.unknown.insert(kind.clone());
        if let Some(tool) = Tool::of(&self.scope.0, api_version) {
            return self.tool_file(tool);
        }
        self.report(Problem::UnknownKind { kind }, Effect::None);
    }

    fn invalid(&mut self, key: Option<ObjectKey>, effect: Effect, error: String) {
        if let Some(key) = &key {
            self.manifest.broken.push((self.manifest.diagnostics.len(), key.clone()));
        }
        self.manifest.damaged = true;
        let advice = if error.contains("{{") { TEMPLATE } else { "" };
        let error = format!("{}{advice}", brief(&error));
        self.report(Problem::InvalidDocument { object: key, error }, effect);
    }

    fn report(&mut self, problem: Problem, effect: Effect) {
        self.manifest.diagnostics.push(Diagnostic {
            subject: ObjectKey::new(Kind::File, "", &self.scope.0),
            field: self.place.as_str().into(),
            problem,
            effect,
            hosts: Vec::new(),
        });
    }
}

/// A program whose own files lie between manifests, and hold no objects.
struct Tool {
    name: &'static str,
    /// The API group of its documents, if they have one.
    group: Option<&'static str>,
    /// Names of its files in lower case, without their endings. Such a name says nothing about objects of ours, which are
    /// read from any file.
    files: &'static [&'static str],
    /// Beginnings and ends of further names, parted from the rest by a `-` or a `.`.
    ends: &'static [&'static str],
}

static TOOLS: [Tool; 2] = [
    Tool { name: "Helm", group: None, files: &["chart", "requirements", "values", "values.schema"], ends: &["values"] },
    Tool { name: "Kustomize", group: Some("kustomize.config.k8s.io"), files: &["kustomization"], ends: &[] },
];

impl Tool {
    /// The tool whose document this is, by the name of the file or by the document's group.
    fn of(file: &str, api_version: &str) -> Option<&'static Tool> {
        let file = file.to_ascii_lowercase();
        let stem = file.rsplit_once('.').map_or(&*file, |(stem, _)| stem);
        let group = api_version.split_once('/').map(|(group, _)| group);
        let is_parted = |rest: Option<&str>, by: fn(&str) -> bool| rest.is_some_and(by);
        TOOLS.iter().find(|tool| {
            let has_end = |end: &&str| {
                is_parted(stem.strip_prefix(end), |rest| rest.starts_with(['-', '.']))
                    || is_parted(stem.strip_suffix(end), |rest| rest.ends_with(['-', '.']))
            };
            (tool.group.is_some() && tool.group == group) || tool.files.contains(&stem) || tool.ends.iter().any(has_end)
        })
    }
}

/// How one kind is read and written.
struct Form {
    kind: Kind,
    api_version: &'static str,
    object: fn(&Value) -> Result<Object, serde_json::Error>,
    /// The object as a document again, to see which fields it took.
    text: fn(&Object) -> Value,
}

impl Form {
    fn of(kind: &str) -> Option<&'static Form> {
        FORMS.iter().find(|form| form.kind.name() == kind)
    }

    /// The form whose kind differs by letter case or one edit only.
    fn almost(kind: &str) -> Option<&'static Form> {
        let is_near = |name: &str| name.eq_ignore_ascii_case(kind) || edit_distance(name, kind) == 1;
        FORMS.iter().find(|form| is_near(form.kind.name()))
    }

    /// As `kubectl` does without `--namespace`; objects of the whole cluster have none.
    fn default_namespace(&self, fields: &mut Map<String, Value>) {
        let Some(Value::Object(metadata)) = fields.get_mut("metadata") else { return };
        if !self.kind.is_namespaced() {
            metadata.remove("namespace");
        } else if metadata.get("namespace").is_none_or(|namespace| namespace.is_null() || namespace == "") {
            metadata.insert("namespace".into(), "default".into());
        }
    }

    /// Which object the document is about, if it says so, whatever else is wrong with it.
    fn key(&self, fields: &Map<String, Value>) -> Option<ObjectKey> {
        let metadata = fields.get("metadata")?;
        let name = metadata.get("name")?.as_str()?;
        let namespace = if self.kind.is_namespaced() { metadata.get("namespace")?.as_str()? } else { "" };
        Some(ObjectKey::new(self.kind, namespace, name))
    }

    /// What it means for traffic if an object of this kind is not there.
    fn effect_of_loss(&self) -> Effect {
        match self.kind {
            Kind::EndpointSlice | Kind::Ingress | Kind::Service => Effect::RouteDropped,
            // The hosts that need a Secret or a policy have a diagnostic of their own.
            Kind::File | Kind::IngressClass | Kind::Other | Kind::Secret | Kind::TlsPolicy => Effect::None,
        }
    }
}

static FORMS: [Form; 6] = [
    form::<EndpointSlice>(Kind::EndpointSlice, |value| Ok(Object::EndpointSlice(read::<EndpointSlice>(value)?.into()))),
    form::<Ingress>(Kind::Ingress, |value| Ok(Object::Ingress(read::<Ingress>(value)?.into()))),
    form::<IngressClass>(Kind::IngressClass, |value| Ok(Object::IngressClass(read::<IngressClass>(value)?.into()))),
    form::<Secret>(Kind::Secret, |value| Ok(Object::Secret(SecretObject(read::<Secret>(value)?.into())))),
    form::<Service>(Kind::Service, |value| Ok(Object::Service(read::<Service>(value)?.into()))),
    Form {
        kind: Kind::TlsPolicy,
        api_version: "handfast.dev/v1alpha1",
        object: |value| {
            // The other types take documents with anything left out, as the search for a fault expects. What may not
            // be left out of this one has been checked by then.
            let mut document = json!({"apiVersion": "", "kind": "", "metadata": {}, "spec": {}});
            if let (Value::Object(document), Value::Object(fields)) = (&mut document, value) {
                document.extend(fields.clone());
            }
            Ok(Object::TlsPolicy(read::<TlsPolicy>(&document)?.into()))
        },
        text: document_of,
    },
];

const fn form<K: Resource>(kind: Kind, object: fn(&Value) -> Result<Object, serde_json::Error>) -> Form {
    Form { kind, api_version: K::API_VERSION, object, text: document_of }
}

fn read<K: DeserializeOwned>(value: &Value) -> Result<K, serde_json::Error> {
    K::deserialize(value)
}

fn document_of(object: &Object) -> Value {
    fn to_value(object: &impl Serialize) -> Value {
        // These types have string keys only, so writing them cannot fail.
        serde_json::to_value(object).unwrap_or_default()
    }
    match object {
        Object::EndpointSlice(object) => to_value(&**object),
        Object::Ingress(object) => to_value(&**object),
        Object::IngressClass(object) => to_value(&**object),
        Object::Secret(object) => to_value(&*object.0),
        Object::Service(object) => to_value(&**object),
        Object::TlsPolicy(object) => to_value(&**object),
    }
}

/// True for the API groups of other programs, which may have kinds of the same name (a Knative Service, say). Core
/// groups, our own, old groups and misspelt groups without a dot are not foreign: there an error is more use than
/// silence.
fn is_foreign(api_version: &str) -> bool {
    let group = api_version.split_once('/').map_or("", |(group, _)| group);
    group.contains('.') && !group.ends_with("k8s.io") && group != "handfast.dev"
}

/// Whether an API server with our definition of the resource would take the policy. Fields without a value go, as they
/// do there, and so does the status, which is written by a controller and read by nobody here.
fn check_policy(fields: &mut Map<String, Value>) -> Result<(), String> {
    fields.remove("status");
    let Some(spec) = fields.get_mut("spec").filter(|spec| !spec.is_null()) else {
        return Err("spec is missing: write `spec: {}` for the default policy".to_owned());
    };
    tls_policy::prune_nulls(spec);
    match TlsPolicySpec::read(spec) {
        Ok(_) => Ok(()),
        Err(faults) => Err(faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")),
    }
}

/// A field of a policy that does not exist makes the policy invalid, in its spec or beside it: applied without a misspelt
/// `clientAuth`, or one that is not indented enough, it would open what was meant to be closed.
fn refuse_unknown_settings(unknown: &[String]) -> Result<(), String> {
    let is_setting = |path: &&String| !path.starts_with("metadata");
    let fault = |path: &String| match tls_policy::nearest_field(path) {
        Some(near) => format!("{path} does not exist (do you mean {near}?)"),
        None => format!("{path} does not exist: delete it, or correct its name"),
    };
    let faults: Vec<String> = unknown.iter().filter(is_setting).map(fault).collect();
    if faults.is_empty() { Ok(()) } else { Err(faults.join("; ")) }
}

/// Puts `stringData` into `data`, where it wins, and takes the line breaks out of `data`: both as the API server does.
fn fold_string_data(fields: &mut Map<String, Value>) {
    if let Some(Value::Object(data)) = fields.get_mut("data") {
        for value in data.values_mut() {
            if let Value::String(text) = value {
                text.retain(|c| !c.is_ascii_whitespace());
            }
        }
    }
    // Entries of another type stay where they are, to be refused under their own name.
    let Some(Value::Object(string_data)) = fields.get("stringData") else { return };
    if !string_data.values().all(Value::is_string)
        || !matches!(fields.get("data"), None | Some(Value::Null | Value::Object(_)))
    {
        return;
    }
    let Some(Value::Object(string_data)) = fields.remove("stringData") else { return };
    let data = fields.entry("data").or_insert(Value::Null);
    if data.is_null() {
        *data = Value::Object(Map::new());
    }
    let Value::Object(data) = data else { return };
    for (name, value) in string_data {
        data.insert(name, STANDARD.encode(value.as_str().unwrap_or_default()).into());
    }
}

/// Where a document does not have its kind's form, and why. The value is quoted, unless it may be secret.
///
/// The types accept documents with anything left out, so the document cut down to one branch fails exactly if the
/// fault is in that branch.
fn culprit(document: &Value, form: &Form) -> (String, String) {
    let fault = |path: &[&Step], value: Value| {
        let branch = path.iter().rev().fold(value, |value, step| match step {
            Step::Field(name) => Value::Object(Map::from_iter([(name.clone(), value)])),
            Step::Item(_) => Value::Array(vec![value]),
        });
        (form.object)(&branch).err().map(|error| error.to_string())
    };
    let mut path: Vec<Step> = Vec::new();
    let mut at = document;
    let mut error = fault(&[], document.clone()).unwrap_or_default();
    loop {
        let (empty, children): (Value, Vec<(Step, &Value)>) = match at {
            Value::Object(fields) => (
                Value::Object(Map::new()),
                fields.iter().map(|(name, value)| (Step::Field(name.clone()), value)).collect(),
            ),
            Value::Array(items) => (
                Value::Array(Vec::new()),
                items.iter().enumerate().map(|(index, value)| (Step::Item(index), value)).collect(),
            ),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => break,
        };
        // The fault is not inside if it stays without the inside.
        if fault(&path.iter().collect::<Vec<_>>(), empty).is_some() {
            break;
        }
        let found = children.into_iter().find_map(|(step, child)| {
            let error = fault(&path.iter().chain([&step]).collect::<Vec<_>>(), child.clone())?;
            Some((step, child, error))
        });
        let Some((step, child, inner)) = found else { break };
        path.push(step);
        at = child;
        error = inner;
    }
    let expected = error.rsplit_once("expected ").map(|(_, expected)| expected);
    let reason = match (at, form.kind) {
        (Value::String(_), Kind::Secret) if expected.is_none() => "it is not valid base64".to_owned(),
        (_, Kind::Secret) => format!("it is {}, expected {}", name_of_type(at), expected.unwrap_or("something else")),
        (Value::Bool(_) | Value::Number(_), _) if expected == Some("a string") => {
            format!("it is {}, expected a string: write \"{at}\", in quotes", name_of_type(at))
        }
        // The library quotes the value.
        _ if may_hold_a_key(&at.to_string()) => {
            format!("it is {}, expected {}", name_of_type(at), expected.unwrap_or("something else"))
        }
        _ => error,
    };
    (path_text(&path), reason)
}

enum Step {
    Field(String),
    Item(usize),
}

fn path_text(path: &[Step]) -> String {
    let mut text = String::new();
    for step in path {
        match step {
            // Names of annotations and Secret entries hold dots and slashes.
            Step::Field(name) if name.contains(['.', '/']) => text.push_str(&format!("[{name:?}]")),
            Step::Field(name) if text.is_empty() => text.push_str(name),
            Step::Field(name) => text.push_str(&format!(".{name}")),
            Step::Item(index) => text.push_str(&format!("[{index}]")),
        }
    }
    text
}

/// Fields of the document that its kind did not take. A field without a value says nothing, so it is no fault.
fn unknown_fields(document: &Value, taken: &Value) -> Vec<String> {
    fn compare(document: &Value, taken: &Value, path: &mut Vec<Step>, found: &mut Vec<String>) {
        match (document, taken) {
            (Value::Object(fields), Value::Object(taken)) => {
                for (name, value) in fields.iter().filter(|(_, value)| !value.is_null()) {
                    path.push(Step::Field(name.clone()));
                    match taken.get(name) {
                        Some(taken) => compare(value, taken, path, found),
                        None => found.push(brief(&path_text(path))),
                    }
                    path.pop();
                }
            }
            (Value::Array(items), Value::Array(taken)) => {
                for (index, (value, taken)) in items.iter().zip(taken).enumerate() {
                    path.push(Step::Item(index));
                    compare(value, taken, path, found);
                    path.pop();
                }
            }
            _ => {}
        }
    }
    let mut found = Vec::new();
    compare(document, taken, &mut Vec::new(), &mut found);
    found
}

/// Names as the API server wants them (RFC 1123), so that none can be mistaken for another in a message or a path.
fn check_names(metadata: &ObjectMeta, form: &Form) -> Result<(), String> {
    let Some(name) = metadata.name.as_deref().filter(|name| !name.is_empty()) else {
        return Err(match metadata.generate_name {
            Some(_) => "metadata.name is missing: generateName works only with `kubectl create`".into(),
            None => "metadata.name is missing".into(),
        });
    };
    let valid = match form.kind == Kind::Service {
        true => name.len() <= 63 && is_label(name),
        false => is_subdomain(name),
    };
    if !valid {
        return Err(format!("metadata.name {name:?} is not allowed: use lower-case letters, digits, '-' and '.'"));
    }
    match metadata.namespace.as_deref() {
        Some(namespace) if namespace.len() > 63 || !is_label(namespace) => {
            Err(format!("metadata.namespace {namespace:?} is not allowed: use lower-case letters, digits and '-'"))
        }
        _ => Ok(()),
    }
}

/// Without what is never used: it is large, changes without meaning, and may repeat a Secret's data.
fn trim(mut object: Object) -> Object {
    fn trim_metadata(metadata: &mut ObjectMeta) {
        metadata.managed_fields = None;
        if let Some(annotations) = &mut metadata.annotations {
            annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
        }
    }
    fn trimmed<K: Metadata<Ty = ObjectMeta> + Clone>(object: &mut Arc<K>) -> &mut K {
        let object = Arc::make_mut(object);
        trim_metadata(object.metadata_mut());
        object
    }
    match &mut object {
        Object::EndpointSlice(object) => {
            trimmed(object);
        }
        Object::Ingress(object) => trimmed(object).status = None,
        Object::IngressClass(object) => {
            trimmed(object);
        }
        Object::Secret(object) => {
            trimmed(&mut object.0);
        }
        Object::Service(object) => trimmed(object).status = None,
        Object::TlsPolicy(object) => {
            let policy = Arc::make_mut(object);
            trim_metadata(&mut policy.metadata);
            policy.status = None;
        }
    }
    object
}

fn name_of_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "empty",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a sequence",
        Value::Object(_) => "a mapping",
    }
}

/// One line of bounded length: messages end up in terminals, logs and Events.
pub(super) fn brief(text: &str) -> String {
    const LIMIT: usize = 300;
    if may_hold_a_key(text) {
        return "it may hold a private key in a wrong place, so more is not said here".to_owned();
    }
    let mut line: String = text.chars().take(LIMIT).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if line.len() < text.len() {
        line.push('…');
    }
    line
}

#[cfg(test)]
mod tests;
