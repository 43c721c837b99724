//! The schema of the values: whatever it takes has an effect, or the notes say that it has none.

use serde_json::{Map, Value, json};

use super::{answer, chart, read, refused, render_one};

/// What somebody who has it would miss, so that it is refused.
const REFUSED: [&str; 8] = [
    "controller.addHeaders",
    "controller.customTemplate",
    "controller.extraModules",
    "controller.keda",
    "controller.proxySetHeaders",
    "defaultBackend",
    "tcp",
    "udp",
];

fn schema() -> Value {
    serde_json::from_str(&read("charts/handfast/values.schema.json")).unwrap()
}

/// Every key that the schema knows, with what it says of it.
fn keys(schema: &Value, path: &[String], found: &mut Vec<(Vec<String>, Value)>) {
    for (key, value) in schema["properties"].as_object().into_iter().flatten() {
        let path = [path, std::slice::from_ref(key)].concat();
        keys(value, &path, found);
        found.push((path, value.clone()));
    }
}

fn all_keys() -> Vec<(Vec<String>, Value)> {
    let mut found = Vec::new();
    keys(&schema(), &[], &mut found);
    assert!(found.len() > 300);
    found
}

/// Puts a value at a path.
fn put(values: &mut Value, path: &[String], value: Value) {
    let (last, parents) = path.split_last().unwrap();
    let parent = parents.iter().fold(values, |values, key| &mut values[key]);
    parent[last] = value;
}

/// Every file of the templates.
fn templates() -> String {
    let mut text = String::new();
    let mut folders = vec![chart().join("templates")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false => text += &std::fs::read_to_string(path).unwrap(),
            }
        }
    }
    text
}

#[test]
fn every_value_that_is_taken_is_used_or_named() {
    let (mut ignored, mut missed) = (json!({}), json!({}));
    let templates = templates();
    let mut names = Vec::new();
    for (path, schema) in all_keys() {
        let name = path.join(".");
        // What is not described is there for those who come from ingress-nginx.
        if schema == json!({}) {
            let values = if REFUSED.contains(&name.as_str()) { &mut missed } else { &mut ignored };
            put(values, &path, json!({"enabled": true, "configMapName": "template"}));
            names.push(name);
        } else {
            let key = path.last().unwrap();
            assert!(templates.contains(&format!(".{key}")) || templates.contains(&format!("\"{key}\"")), "{name}");
        }
    }
    assert!(names.len() > 50);
    let (notes, error) = (render_one(&ignored.to_string()).notes, refused(&missed.to_string()));
    for name in &names {
        let text = if REFUSED.contains(&name.as_str()) { &error } else { &notes };
        let is_named = text.lines().any(|line| {
            let said = line.trim().trim_start_matches("- ");
            said.strip_prefix(name.as_str()).is_some_and(|rest| rest.starts_with([' ', ':', '.']))
        });
        assert!(is_named, "{name}: {text}");
    }
    // Who has the values of ingress-nginx as they come expects nothing of them.
    let untouched =
        "controller: {adoptClass: [nginx], name: controller, image: {readOnlyRootFilesystem: false, runAsNonRoot: true, chroot: false},
        admissionWebhooks: {name: admission, service: {type: ClusterIP}, extraEnvs: []}, healthCheckPath: /healthz}";
    assert!(!render_one(untouched).notes.contains("About your values"));
    assert!(
        render_one("controller: {image: {runAsNonRoot: false}}").notes.contains("image.runAsNonRoot has no effect")
    );
}

/// Null for everything that may be left out.
fn nulls(schema: &Value, defaults: &Value) -> Value {
    let mut found = Map::new();
    for (key, schema_of_key) in schema["properties"].as_object().unwrap() {
        let Some(default) = defaults.get(key) else { continue };
        let is_required = schema["required"].as_array().into_iter().flatten().any(|required| required == key);
        if !is_required {
            found.insert(key.clone(), Value::Null);
        } else if schema_of_key.get("properties").is_some() {
            found.insert(key.clone(), nulls(schema_of_key, default));
        }
    }
    Value::Object(found)
}

#[test]
fn whatever_may_be_null_may_be_null_and_switches_off() {
    let mut values = nulls(&schema(), &answer().defaults);
    let features = [
        "autoscaling",
        "admissionWebhooks",
        "networkPolicy",
        "service.internal",
        "metrics.serviceMonitor",
        "metrics.prometheusRule",
    ];
    for feature in features {
        let path: Vec<_> = format!("controller.{feature}.enabled").split('.').map(str::to_owned).collect();
        put(&mut values, &path, json!(true));
    }
    values["controller"]["podDisruptionBudget"] = json!({"enabled": false});
    for kind in ["Deployment", "DaemonSet"] {
        values["controller"]["kind"] = json!(kind);
        values["controller"]["autoscaling"]["enabled"] = json!(kind == "Deployment");
        let rendered = render_one(&values.to_string());
        assert_eq!((&rendered.error, rendered.lint.len()), (&None, 0), "{:?}", rendered.lint);
        assert!(rendered.invalid.values().all(Vec::is_empty), "{:?}", rendered.invalid);
        for object in rendered.objects.iter().map(Value::to_string) {
            assert!(!object.contains("<nil>") && !object.contains("%!"), "{object}");
        }
        for probe in ["startupProbe", "livenessProbe", "readinessProbe", "lifecycle"] {
            assert!(rendered.container().get(probe).is_none(), "{probe}");
        }
        rendered.run();
    }
}
