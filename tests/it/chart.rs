//! The chart, without a cluster: what it renders to, whether that is valid, safe and what the program takes.
//!
//! `values ──helm (as a library)──▶ objects, notes or an error ──▶ schemas of Kubernetes, our own parser, rules`
//!
//! Every file of `charts/handfast/ci` is one set of values; each rule holds for all of them.

mod health;
mod migration;
mod network;
mod rbac;
mod readme;
mod schema;
mod security;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use clap::{CommandFactory as _, Parser as _};
use handfast::config::{Cli, Command as HandfastCommand, RunArgs, VersionArg};
use serde::Deserialize;
use serde_json::Value;

use crate::python::{Requirements, environment};

/// What helm makes of one set of values.
#[derive(Deserialize)]
struct Rendered {
    #[serde(default)]
    objects: Vec<Value>,
    #[serde(default)]
    notes: String,
    error: Option<String>,
    lint: Vec<Value>,
    /// By version of Kubernetes: what its schemas refuse.
    #[serde(default)]
    invalid: BTreeMap<String, Vec<String>>,
}

#[derive(Deserialize)]
struct Answer {
    defaults: Value,
    sets: BTreeMap<String, Rendered>,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn chart() -> PathBuf {
    root().join("charts/handfast")
}

fn read(path: &str) -> String {
    let path = root().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Renders sets of values, given as YAML.
fn render(sets: &BTreeMap<String, String>) -> Answer {
    render_as("edge", "ingress", sets)
}

/// Renders sets for a release and its namespace.
fn render_as(release: &str, namespace: &str, sets: &BTreeMap<String, String>) -> Answer {
    let lists = [Requirements { file: "chart/requirements.txt", built: None }];
    let mut child = Command::new(environment("chart", &lists))
        .arg(root().join("tests/chart/render.py"))
        .arg(chart())
        .args([release, namespace])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(serde_json::to_string(sets).unwrap().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Renders one set.
fn render_one(values: &str) -> Rendered {
    let (_, rendered) = render(&[("one".to_owned(), values.to_owned())].into()).sets.pop_first().unwrap();
    rendered
}

/// What the values are refused with.
fn refused(values: &str) -> String {
    render_one(values).error.unwrap_or_else(|| panic!("these were taken: {values}"))
}

/// Values that are refused, each with a part of what is said.
fn all_refused(rows: &[(&str, &str)]) {
    let sets = rows.iter().map(|(values, _)| ((*values).to_owned(), (*values).to_owned())).collect();
    let answer = render(&sets);
    for (values, expected) in rows {
        let error = answer.sets[*values].error.as_ref().unwrap_or_else(|| panic!("these were taken: {values}"));
        assert!(error.contains(expected), "{values}: {error}");
    }
}

/// The files of `ci`, rendered.
fn answer() -> &'static Answer {
    static ANSWER: LazyLock<Answer> = LazyLock::new(|| {
        let mut sets = BTreeMap::new();
        for entry in std::fs::read_dir(chart().join("ci")).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().strip_suffix("-values.yaml");
            sets.insert(name.unwrap().to_owned(), std::fs::read_to_string(&path).unwrap());
        }
        assert!(sets.len() >= 6);
        render(&sets)
    });
    &ANSWER
}

fn set(name: &str) -> &'static Rendered {
    &answer().sets[name]
}

impl Rendered {
    fn find(&self, kind: &str, name: &str) -> Option<&Value> {
        self.objects.iter().find(|object| object["kind"] == kind && object["metadata"]["name"] == name)
    }

    fn object(&self, kind: &str, name: &str) -> &Value {
        self.find(kind, name).unwrap_or_else(|| panic!("there is no {kind} {name}"))
    }

    fn kind<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Value> {
        self.objects.iter().filter(move |object| object["kind"] == kind)
    }

    /// The pods of the Deployment or the DaemonSet.
    fn pods(&self) -> &Value {
        let workload =
            self.objects.iter().find(|object| object["kind"] == "Deployment" || object["kind"] == "DaemonSet");
        &workload.unwrap()["spec"]["template"]
    }

    fn container(&self) -> &Value {
        &self.pods()["spec"]["containers"][0]
    }

    fn args(&self) -> Vec<&str> {
        texts(&self.container()["args"])
    }

    fn has_arg(&self, arg: &str) -> bool {
        self.args().contains(&arg)
    }

    /// What the program makes of the container's arguments.
    fn run(&self) -> RunArgs {
        let args = ["handfast"].into_iter().chain(self.args());
        let cli = Cli::try_parse_from(args).unwrap_or_else(|error| panic!("{error}\n{:?}", self.args()));
        let HandfastCommand::Run(run) = cli.command else { panic!("{:?}", self.args()) };
        *run
    }
}

fn texts(list: &Value) -> Vec<&str> {
    list.as_array().into_iter().flatten().map(|text| text.as_str().unwrap()).collect()
}

#[test]
fn every_set_of_values_renders_without_a_word_of_lint_to_objects_that_kubernetes_takes() {
    for (name, rendered) in &answer().sets {
        assert_eq!(rendered.error, None, "{name}");
        assert!(rendered.lint.is_empty(), "{name}: {:?}", rendered.lint);
        assert_eq!(rendered.invalid.len(), 2, "{name}");
        for (version, refused) in &rendered.invalid {
            assert!(refused.is_empty(), "{name}, Kubernetes {version}: {refused:#?}");
        }
        assert!(rendered.objects.len() >= 10 && rendered.notes.contains("rollout status"), "{name}");
    }
    let unknown = "extraObjects: [{apiVersion: v1, kind: Service, metadata: {name: x}, spec: {port: 1}}]";
    assert!(
        render_one(unknown).invalid.values().all(|refused| refused.len() == 1),
        "a field that does not exist passes"
    );
}

#[test]
fn the_program_takes_the_arguments_of_every_set() {
    for (name, rendered) in &answer().sets {
        let run = rendered.run();
        assert_eq!(run.source.as_deref(), Some("cluster"), "{name}");
        let command = Cli::command();
        let known: Vec<_> =
            command.find_subcommand("run").unwrap().get_arguments().filter_map(|arg| arg.get_env()).collect();
        let variables = rendered.container()["env"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap());
        for variable in variables.filter(|variable| variable.starts_with("HANDFAST_")) {
            assert!(known.iter().any(|known| *known == variable), "{name}: {variable}");
        }
    }
    assert!(set("daemonset-host-network").container()["env"].to_string().contains("limits.cpu"));
}

#[test]
fn the_chart_knows_every_option_of_run_and_no_other() {
    let path = "charts/handfast/templates/_args.tpl";
    let helpers = read(path);
    let begin = "define \"handfast.flags\" -}}\n";
    let (before, rest) = helpers.split_once(begin).unwrap();
    let (_, after) = rest.split_once("{{- end").unwrap();
    let command = Cli::command();
    let run = command.find_subcommand("run").unwrap();
    let mut known: Vec<&str> = run.get_arguments().filter_map(|arg| arg.get_long()).collect();
    known.retain(|name| !matches!(*name, "help" | "version"));
    known.sort_unstable();
    let list: String = known.iter().map(|name| format!("- {name}\n")).collect();
    crate::docs::holds(path, &format!("{before}{begin}{list}{{{{- end{after}"));
}

#[test]
fn the_end_of_a_pod_leaves_time_for_every_step_of_it() {
    let check = |name: &str, rendered: &Rendered| {
        let run = rendered.run();
        let steps = run.timeouts.unready_delay + run.timeouts.drain_timeout;
        let grace = rendered.pods()["spec"]["terminationGracePeriodSeconds"].as_u64().unwrap();
        assert!(steps.as_secs() + 10 <= grace, "{name}: {steps:?} of {grace} s");
        assert!(run.timeouts.unready_delay.as_secs() >= 5, "{name}: nobody can have forgotten the pod by then");
    };
    for (name, rendered) in &answer().sets {
        check(name, rendered);
    }
    check("short", &render_one("controller: {terminationGracePeriodSeconds: 40}"));
    let error = refused("controller: {terminationGracePeriodSeconds: 29}");
    assert!(error.contains("must be at least 15 more than unreadyDelaySeconds"), "{error}");
}

#[test]
fn what_belongs_together_has_the_same_names() {
    for (name, rendered) in &answer().sets {
        let pods = rendered.pods();
        let ports = rendered.container()["ports"].as_array().unwrap();
        let has_port = |port: &Value| ports.iter().any(|one| one["name"] == *port || one["containerPort"] == *port);
        for service in rendered.kind("Service") {
            for port in service["spec"]["ports"].as_array().unwrap() {
                assert!(has_port(&port["targetPort"]), "{name}: {port}");
            }
        }
        for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
            assert!(has_port(&rendered.container()[probe]["httpGet"]["port"]), "{name}: {probe}");
        }
        assert_eq!(rendered.container()["readinessProbe"]["httpGet"]["path"], "/readyz", "{name}");
        // Whatever selects our pods selects these, and not the pod of `helm test`.
        let test = &rendered.object("Pod", "edge-handfast-test-ready")["metadata"]["labels"];
        let selectors = rendered.objects.iter().filter_map(|object| match object["kind"].as_str().unwrap() {
            "Service" => Some(&object["spec"]["selector"]),
            "Deployment" | "DaemonSet" | "PodDisruptionBudget" => Some(&object["spec"]["selector"]["matchLabels"]),
            "NetworkPolicy" => Some(&object["spec"]["podSelector"]["matchLabels"]),
            _ => None,
        });
        for selector in selectors {
            let selects =
                |labels: &Value| selector.as_object().unwrap().iter().all(|(key, value)| labels[key] == *value);
            assert!(selects(&pods["metadata"]["labels"]) && !selects(test), "{name}: {selector}");
        }
        let mounts = rendered.container()["volumeMounts"].as_array().unwrap().iter();
        let volumes = pods["spec"]["volumes"].as_array().unwrap();
        for mount in mounts {
            assert!(volumes.iter().any(|volume| volume["name"] == mount["name"]), "{name}: {mount}");
        }
        let run = rendered.run();
        if let Some(secret) = run.cluster.last_good_secret {
            rendered.object("Secret", &secret);
        }
        if let Some(address) = run.webhook.webhook_addr {
            assert!(has_port(&address.port().into()), "{name}");
            for webhook in rendered.object("ValidatingWebhookConfiguration", "edge-handfast-webhook")["webhooks"]
                .as_array()
                .unwrap()
            {
                let service = &webhook["clientConfig"]["service"];
                assert_eq!(service["namespace"], "ingress", "{name}");
                rendered.object("Service", service["name"].as_str().unwrap());
            }
            if run.webhook.webhook_cert.is_none() {
                rendered.object("Secret", &run.webhook.webhook_secret);
                rendered.object("Service", &run.webhook.webhook_service);
                rendered.object("ValidatingWebhookConfiguration", &run.webhook.webhook_configuration);
            }
        }
        if let Some((namespace, service)) = run.status.publish_service {
            assert_eq!(namespace, "ingress", "{name}");
            rendered.object("Service", &service);
        }
    }
}

#[test]
fn secrets_that_the_controller_fills_come_without_data_so_that_an_upgrade_leaves_them_alone() {
    let mut seen = 0;
    for (name, rendered) in &answer().sets {
        for secret in rendered.kind("Secret") {
            assert!(secret.get("data").is_none() && secret.get("stringData").is_none(), "{name}: {secret}");
            seen += 1;
        }
        for configuration in rendered.kind("ValidatingWebhookConfiguration") {
            let bundle = configuration["webhooks"][0]["clientConfig"].get("caBundle");
            assert_eq!(bundle.is_some(), name == "webhook-given", "{name}");
        }
    }
    assert!(seen >= answer().sets.len());
}

#[test]
fn names_fit_and_are_those_of_the_release() {
    let long = render_one(&format!(
        "fullnameOverride: {}\ncontroller: {{admissionWebhooks: {{enabled: true}}}}",
        "x".repeat(70)
    ));
    assert_eq!(long.error, None);
    for object in &long.objects {
        let name = object["metadata"]["name"].as_str().unwrap();
        assert!(name.len() <= 63, "{name}");
    }
    assert!(set("default").find("Deployment", "edge-handfast").is_some());
    let elsewhere = render_one("namespaceOverride: edge");
    for object in &elsewhere.objects {
        let namespace = object["metadata"].get("namespace");
        assert!(namespace.is_none_or(|namespace| namespace == "edge"), "{object}");
    }
    assert!(elsewhere.has_arg("--publish-service=edge/edge-handfast"));
}

#[test]
fn names_that_yaml_takes_for_something_else_stay_names() {
    let values = "fullnameOverride: \"on\"\n\
        controller: {admissionWebhooks: {enabled: true}, metrics: {serviceMonitor: {enabled: true}}}";
    let (_, rendered) =
        render_as("123", "y", &[("one".to_owned(), values.to_owned())].into()).sets.pop_first().unwrap();
    assert_eq!((&rendered.error, rendered.lint.len()), (&None, 0), "{:?}", rendered.lint);
    assert!(rendered.invalid.values().all(Vec::is_empty), "{:?}", rendered.invalid);
    for object in &rendered.objects {
        let own = &object["metadata"];
        assert!(own["name"].is_string() && own.get("namespace").is_none_or(|namespace| namespace == "y"), "{object}");
        assert_eq!(own["labels"]["app.kubernetes.io/instance"], "123", "{object}");
        for subject in object["subjects"].as_array().into_iter().flatten() {
            assert!(subject["name"] == "on" && subject["namespace"] == "y", "{object}");
        }
    }
    let monitor = rendered.object("ServiceMonitor", "on");
    assert_eq!(monitor["spec"]["selector"]["matchLabels"]["app.kubernetes.io/instance"], "123");
    // Services begin with a letter.
    let (_, digits) = render_as("123", "y", &[("one".to_owned(), String::new())].into()).sets.pop_first().unwrap();
    let error = digits.error.unwrap();
    assert!(error.contains("123-handfast is not a valid name of a Service: set fullnameOverride"), "{error}");
}

#[test]
fn the_notes_lead_to_the_port_that_there_is() {
    assert!(set("default").notes.contains(" 10254 &\n  handfast failures\n"), "{}", set("default").notes);
    let notes = render_one("controller: {metrics: {port: 10255}}").notes;
    assert!(notes.contains(" 10255 &\n  handfast failures --admin 127.0.0.1:10255\n"), "{notes}");
}

#[test]
fn the_notes_say_where_the_image_has_to_come_from() {
    let version = env!("CARGO_PKG_VERSION");
    let nowhere = format!("No public registry has its image, handfast:{version}.");
    let foreign = "controller: {image: {registry: registry.k8s.io, image: ingress-nginx/controller, tag: v1.15.1}}";
    for values in ["", foreign, "controller: {image: {tag: edge}}"] {
        let notes = render_one(values).notes;
        let line = nowhere.replace(version, if values.contains("edge") { "edge" } else { version });
        assert!(notes.contains(&line) && notes.contains("name that in controller.image.registry"), "{values}: {notes}");
    }
    for values in ["controller: {image: {registry: reg.example.com}}", "global: {image: {registry: reg.example.com}}"] {
        let notes = render_one(values).notes;
        let line = format!("Its image is reg.example.com/handfast:{version}. Every node");
        assert!(notes.contains(&line) && !notes.contains("No public registry"), "{values}: {notes}");
    }
}

#[test]
fn on_bare_metal_the_addresses_of_nodes_are_published_and_never_a_cluster_ip() {
    // What the chart's README says for bare metal.
    let readme = read("charts/handfast/README.md");
    let recipe = ["controller.kind=DaemonSet", "controller.hostPort.enabled=true", "controller.service.type=ClusterIP"];
    for value in recipe {
        assert!(readme.contains(&format!("--set {value}")), "{value}");
    }
    let at_nodes = [
        "controller: {kind: DaemonSet, hostPort: {enabled: true}, service: {type: ClusterIP}}",
        "controller: {kind: DaemonSet, hostPort: {enabled: true}, service: {type: NodePort}}",
        "controller: {hostNetwork: true, service: {type: ClusterIP}}",
        "controller: {hostNetwork: true, service: {enabled: false}}",
    ];
    for values in at_nodes {
        let rendered = render_one(values);
        let published = rendered.has_arg("--publish-node-addresses=true");
        assert!(published, "{values}: {:?} {:?}", rendered.error, rendered.args());
        assert!(!rendered.args().iter().any(|arg| arg.starts_with("--publish-service")), "{values}");
        let notes = &rendered.notes;
        assert!(notes.contains("addresses are those of the nodes") && !notes.contains("get service"), "{notes}");
        let rules = rendered.kind("ClusterRole").map(|role| role["rules"].to_string()).collect::<String>();
        assert!(rules.contains("nodes"), "{values}: they have to be read");
    }
    for values in [
        "controller: {hostPort: {enabled: true}}",
        "controller: {hostPort: {enabled: true}, service: {type: ClusterIP, externalIPs: [192.0.2.1]}}",
        "controller: {hostPort: {enabled: true}, service: {type: ClusterIP}, publishService: {pathOverride: edge/lb}}",
        "controller: {service: {type: NodePort}}",
    ] {
        let rendered = render_one(values);
        let service = rendered.args().iter().any(|arg| arg.starts_with("--publish-service"));
        assert!(service && !rendered.has_arg("--publish-node-addresses=true"), "{values}: {:?}", rendered.args());
    }
}

#[test]
fn the_floor_and_the_policy_that_is_tried_out_reach_the_program() {
    let policies = render_one("controller: {minTlsVersion: TLSv1.3, defaultShadowTlsPolicy: ops/next}").run();
    let policies = policies.compile.policies;
    assert_eq!(policies.min_tls_version, VersionArg::Tls13);
    assert_eq!(policies.default_shadow_tls_policy, Some(("ops".to_owned(), "next".to_owned())));
    assert_eq!(set("default").run().compile.policies.min_tls_version, VersionArg::Tls12);
}

#[test]
fn what_is_written_twice_says_the_same() {
    let version = env!("CARGO_PKG_VERSION");
    let about = read("charts/handfast/Chart.yaml");
    assert!(about.contains(&format!("\nappVersion: {version}\n")), "{about}");
    assert!(about.contains(&format!("image: handfast:{version}\n")), "{about}");
    let dockerfile = read("Dockerfile");
    assert!(dockerfile.contains(&format!("org.opencontainers.image.version=\"{version}\"")), "{dockerfile}");
    let image = format!("handfast:{version}");
    assert_eq!(set("default").container()["image"], *image);
    let description = format!("org.opencontainers.image.description=\"{}\"", env!("CARGO_PKG_DESCRIPTION"));
    assert!(dockerfile.contains(&description), "{dockerfile}");
    let rust = format!("rust:{}-slim", env!("CARGO_PKG_RUST_VERSION"));
    assert!(dockerfile.contains(&rust), "{dockerfile}");
    for entry in std::fs::read_dir(root().join("crds")).unwrap() {
        let file = format!("crds/{}", entry.unwrap().file_name().to_str().unwrap());
        crate::docs::holds(&format!("charts/handfast/{file}"), &read(&file));
    }
    crate::docs::holds("charts/handfast/files/alerts.yaml", &read("docs/alerts.yaml"));
}

#[test]
fn alerts_and_definitions_come_with_it_where_they_are_asked_for() {
    let rules = &set("scaled").object("PrometheusRule", "edge-handfast")["spec"]["groups"];
    let named = |alert: &str| rules.to_string().contains(&format!("\"alert\":\"{alert}\""));
    assert!(named("HandfastCertificateExpires") && named("HandfastAway"), "{rules}");
    // Prometheus fills in these, not helm.
    assert!(rules.to_string().contains("{{ $labels.host }}"));
    assert_eq!(set("default").kind("CustomResourceDefinition").count(), 0);
    let with = render_one("crds: {install: true}");
    let definition = with.object("CustomResourceDefinition", "tlspolicies.handfast.dev");
    assert_eq!(definition["metadata"]["annotations"]["helm.sh/resource-policy"], "keep");
    let known: Value = serde_saphyr::from_str(&read("crds/tlspolicies.handfast.dev.yaml")).unwrap();
    assert_eq!(definition["spec"], known["spec"]);
}

#[test]
fn values_that_cannot_be_are_refused_with_what_to_write() {
    let rows = [
        ("repilcaCount: 3", "additional properties 'repilcaCount' not allowed"),
        ("controller: {replicas: 3}", "additional properties 'replicas' not allowed"),
        ("controller: {kind: StatefulSet}", "'Deployment', 'DaemonSet'"),
        ("controller: {service: {ports: {http: 0}}}", "minimum"),
        ("controller: {defaultTlsSecret: wildcard}", "does not match pattern"),
        ("controller: {admissionWebhooks: {enabled: true, port: 8443}}", "two listeners have the same port"),
        ("controller: {kind: DaemonSet, autoscaling: {enabled: true}}", "a DaemonSet has as many replicas as nodes"),
        ("rbac: {scope: true}", "set controller.scope.enabled"),
        (
            "controller: {scope: {enabled: true}, admissionWebhooks: {enabled: true}}\nrbac: {scope: true}",
            "set controller.admissionWebhooks.certManager.enabled or existingSecret",
        ),
        (
            "controller: {scope: {enabled: true, namespace: shop}, defaultTlsSecret: default/wildcard}",
            "add its namespace to controller.scope.namespaces",
        ),
        ("controller: {extraArgs: {no-such-option: 1}}", "`handfast run` has no such option"),
        ("controller: {extraArgs: {watch-namespace: shop}}", "set controller.scope"),
        ("controller: {hostNetwork: true, hostPort: {enabled: true, ports: {http: 8080}}}", "leave hostPort out"),
        (
            "controller: {scope: {enabled: true, namespace: shop}, extraArgs: {default-ssl-certificate: other/x}}",
            "controller.defaultTlsSecret: other/x is outside of controller.scope",
        ),
        (
            "controller: {scope: {enabled: true, namespace: shop}, extraArgs: {default-tls-policy: other/x}}",
            "controller.defaultTlsPolicy: other/x is outside of controller.scope",
        ),
        ("controller: {minTlsVersion: TLSv1.1}", "'TLSv1.2', 'TLSv1.3'"),
        (
            "controller: {scope: {enabled: true, namespace: shop}, defaultShadowTlsPolicy: other/x}",
            "controller.defaultShadowTlsPolicy: other/x is outside of controller.scope",
        ),
        ("controller: {hostNetwork: true, image: {runAsUser: 101}}", "only user 0 may bind ports below 1024"),
        ("controller: {hostNetwork: true, podSecurityContext: {runAsUser: 101}}", "and this is 101"),
        ("controller: {hostNetwork: true, containerSecurityContext: {runAsUser: 102}}", "and this is 102"),
        ("controller: {service: {annotations: {n: 3600}}}", "got number, want string"),
        ("controller: {podLabels: {sidecar: false}}", "got boolean, want string"),
        ("controller: {electionTTL: 1s}", "does not match pattern"),
        ("fullnameOverride: my.app", "does not match pattern"),
        ("nameOverride: my.app", "does not match pattern"),
        ("controller: {service: {enableHttp: false, enableHttps: false}}", "a Service needs a port"),
        (
            "controller: {autoscaling: {enabled: true, minReplicas: 20}}",
            "minReplicas (20) is more than maxReplicas (11)",
        ),
        ("controller: {minReadySeconds: 700}", "raise controller.progressDeadlineSeconds"),
        ("controller: {minAvailable: null}", "minAvailable and controller.maxUnavailable are both empty"),
        ("controller: {metrics: {port: null}}", "missing property 'port'"),
    ];
    all_refused(&rows);
}
