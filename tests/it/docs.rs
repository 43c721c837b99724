//! Documents that are made from tables in the code. `HANDFAST_UPDATE_DOCS=1 cargo test docs` writes them.

use std::fmt::Write as _;
use std::path::Path;

use handfast::api::{annotations, tls_policy};
use handfast::compile::Change;
use handfast::explain::{self, Kind, Topic};
use handfast::metrics::{self, Metrics, Values};
use handfast::source;
use handfast::tls::reason::Reason;

pub(crate) fn holds(path: &str, text: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if std::env::var_os("HANDFAST_UPDATE_DOCS").is_some() {
        std::fs::write(&file, text).unwrap();
    }
    let found = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(found == text, "{path} is not what the code says: HANDFAST_UPDATE_DOCS=1 cargo test docs");
}

/// Bars end a cell of a table, also in code; and so does the end of a line.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

#[test]
fn the_page_of_annotations_is_made_from_their_table() {
    let mut text = String::from(
        "# Annotations\n\n\
        <!-- Made from src/api/annotations/table.rs: HANDFAST_UPDATE_DOCS=1 cargo test docs -->\n\n\
        Each name works as `handfast.dev/NAME` and as `nginx.ingress.kubernetes.io/NAME`; the first wins.\n\
        Annotations that are not supported are always reported. `ignored`: it has no effect and gets a warning.\n\
        `restricting`: it restricts access or changes which requests reach a backend, so to be safe the paths of the\n\
        Ingress answer 503. `handfast explain NAME` says why, and what to do instead. The first five are Handfast's own\n\
        and work only as `handfast.dev/NAME`.\n\n\
        | name | value | default | state | what it does |\n| --- | --- | --- | --- | --- |\n",
    );
    let mut write = |table| {
        for [name, value, default, state, doc] in annotations::rows(table) {
            let cells = [value, default, state, doc].map(cell).join(" | ");
            let _ = writeln!(text, "| `{name}` | {cells} |");
        }
    };
    write(annotations::OWN);
    write(annotations::TABLE);
    holds("docs/annotations.md", &text);
}

#[test]
fn the_alerts_are_rules_about_metrics_and_codes_that_exist() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/alerts.yaml");
    let output = crate::binary::program("promtool").args(["check", "rules"]).arg(&path).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    // The first failures of a kind are the ones to hear of.
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/alerts.test.yaml");
    let output = crate::binary::program("promtool").args(["test", "rules"]).arg(cases).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = std::fs::read_to_string(path).unwrap();
    let metrics = include_str!("../../src/metrics.rs");
    let words = |text: &str| -> Vec<String> {
        text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).map(str::to_owned).collect()
    };
    let named: Vec<String> = words(&text).into_iter().filter(|word| word.starts_with("handfast_")).collect();
    assert!(named.len() >= 5);
    for name in named {
        assert!(metrics.contains(&format!("\"{name}\"")), "{name}");
    }
    let lists =
        ["finding=~\"", "reason=~\""].map(|label| text.lines().filter_map(move |line| line.split(label).nth(1)));
    for codes in lists.into_iter().flatten() {
        let codes = codes.split('"').next().unwrap();
        for code in codes.split('|') {
            assert!(explain::topics().iter().any(|topic| topic.code == code), "{code}");
        }
    }
}

/// Where a metric belongs on its page.
fn section(name: &str) -> &'static str {
    let begins = |words: &[&str]| words.iter().any(|word| name.trim_start_matches("handfast_").starts_with(word));
    if begins(&["tls_", "worker_tls_"]) {
        "TLS"
    } else if begins(&["connections_active", "http_", "upstream_"]) {
        "HTTP"
    } else if begins(&["certificate_", "compile", "diagnostics", "host_", "snapshot_"]) {
        "Configuration"
    } else {
        "Process"
    }
}

#[test]
fn the_page_of_metrics_is_made_from_what_is_registered() {
    let linked = |text: &str| {
        let pages = ["findings.md", "handshake-failures.md"].into_iter();
        pages.fold(cell(text), |text, page| text.replace(&format!("docs/{page}"), &format!("[{page}]({page})")))
    };
    let mut text = String::from(
        "# Metrics\n\n\
        <!-- Made from src/metrics.rs: HANDFAST_UPDATE_DOCS=1 cargo test docs -->\n\n\
        `/metrics` of the admin listener, in the text format of Prometheus. Names and values of labels are stable. With\n\
        `--metrics-per-host=false` the series of all hosts are put together under an empty `host`. Rules for alerts:\n\
        [alerts.yaml](alerts.yaml).\n\n\
        Every connection to the TLS listener is counted once, so at any moment\n\n\
        ```text\n\
        handfast_tls_connections_accepted_total = sum(handfast_tls_handshakes_total) + sum(handfast_tls_handshake_failures_total)\n\
        \u{20}                                       + handfast_tls_probes_total + handfast_tls_handshakes_in_progress\n\
        ```\n\n\
        up to connections that change state while they are read; and `handfast_worker_tls_connections_accepted_total`, `…_ended_total` say the same of\n\
        each worker. The series of a host go with the host.\n\n\
        A series appears with its first event, at 1. `rate()` and `increase()` need two samples and take that first event for\n\
        nothing: a failure that happens once is in no rate. Where one is enough to be told, ask for series that were not there\n\
        before: `sum by (host, reason) (handfast_tls_handshake_failures_total) unless sum by (host, reason)\n\
        (handfast_tls_handshake_failures_total offset 5m)`.\n",
    );
    let metrics = Metrics::default();
    let mut labels: Vec<(&str, Values, Vec<&str>)> = Vec::new();
    for title in ["TLS", "HTTP", "Configuration", "Process"] {
        let _ = write!(text, "\n## {title}\n\n| metric | type | labels | meaning |\n| --- | --- | --- | --- |\n");
        for about in metrics.about().iter().filter(|about| section(&about.name) == title) {
            let names: Vec<String> = about.labels.iter().map(|label| format!("`{label}`")).collect();
            let _ =
                writeln!(text, "| `{}` | {} | {} | {} |", about.name, about.kind, names.join(", "), cell(&about.help));
            for label in &about.labels {
                let values = metrics::values(&about.name, label).unwrap();
                match labels.iter_mut().find(|(known, same, _)| known == label && *same == values) {
                    Some((_, _, metrics)) => metrics.push(&about.name),
                    None => labels.push((label, values, vec![&about.name])),
                }
            }
        }
    }
    labels.sort_by_key(|(label, _, _)| *label);
    text += "\n## Labels\n\nNo value comes from the network.\n\n| label | of | values |\n| --- | --- | --- |\n";
    for (label, values, metrics) in &labels {
        let shared = labels.iter().filter(|(other, _, _)| other == label).count() > 1;
        let of = if shared {
            metrics.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
        } else {
            "all".into()
        };
        let values = match values {
            Values::Named(what) => linked(what),
            Values::Words(words) => words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", "),
        };
        let _ = writeln!(text, "| `{label}` | {of} | {values} |");
    }
    let _ = write!(text, "\n## {}\n\n| word | meaning | what to do |\n| --- | --- | --- |\n", Kind::Outcome.title());
    for Topic { code, meaning, remedy, .. } in explain::topics().into_iter().filter(|topic| topic.kind == Kind::Outcome)
    {
        let _ = writeln!(text, "| `{code}` | {} | {} |", cell(meaning), cell(remedy));
    }
    holds("docs/metrics.md", &text);
}

#[test]
fn the_page_of_handshake_failures_is_made_from_the_reasons() {
    let mut text = String::from(
        "# Why TLS handshakes fail\n\n\
        <!-- Made from src/tls/reason.rs: HANDFAST_UPDATE_DOCS=1 cargo test docs -->\n\n\
        Every connection to the TLS port that does not become usable is counted once in\n\
        `handfast_tls_handshake_failures_total{host,reason,blame}`. A connection that ends before its first byte is a\n\
        probe (`handfast_tls_probes_total`). `handfast failures` shows the last ones, with what the client offered and what\n\
        else is known; `--log debug` has a line for each.\n\n\
        The table says who must act if nothing more is known (the label `blame`). The ClientHello and the chain often say\n\
        more. If client and host have nothing in common, it is the certificate if one with another kind of key would let\n\
        the client in, the policy if the preset `intermediate` would, and otherwise the client. If a client rejects a chain\n\
        that is complete, valid, for the name and leads to a root, it is the client. The remedy is then as exact.\n\n\
        Of several causes the first in this order is reported: not TLS, malformed, host unknown or without TLS, version, suite,\n\
        signature schemes, group, certificate, application protocol. `established-without-request` is not a failure and is counted\n\
        in `handfast_tls_established_without_request_total{host}`.\n\n\
        | reason | who must act | alert we send | what to do |\n| --- | --- | --- | --- |\n",
    );
    for reason in Reason::ALL {
        let alert =
            reason.alert().map_or_else(|| "none".to_owned(), |alert| format!("{} ({alert:?})", u8::from(alert)));
        let _ = writeln!(text, "| `{reason}` | {} | {alert} | {} |", reason.blame().label(), cell(reason.remedy()));
    }
    holds("docs/handshake-failures.md", &text);
}

#[test]
fn the_page_of_findings_is_made_from_their_tables() {
    let mut text = String::from(
        "# Findings\n\n\
        <!-- Made from src/tls/chain/table.rs, src/compile/about.rs, src/check/clients.rs, src/check/traffic.rs and src/probe/findings.rs: HANDFAST_UPDATE_DOCS=1 cargo test docs -->\n\n\
        What `handfast check`, `handfast chain`, `handfast probe`, the log and `handfast_diagnostics{severity,reason}` report. Codes are\n\
        stable. Severity never decides what is served. But a finding for which a host does not get its own certificate (effect\n\
        `default`, `host-refused` or `last-good`) is an error there, whatever its row says. `handfast explain CODE` prints a row\n\
        of these tables.\n",
    );
    for kind in [Kind::Chain, Kind::Object, Kind::Client, Kind::Server] {
        let _ = write!(
            text,
            "\n## {}\n\n| code | severity | what it is | who must act | what to do |\n| --- | --- | --- | --- | --- |\n",
            kind.title()
        );
        for topic in explain::topics().into_iter().filter(|topic| topic.kind == kind) {
            let Topic { code, weight, meaning, fault, remedy, .. } = topic;
            let _ = writeln!(text, "| `{code}` | {weight} | {} | {} | {} |", cell(meaning), cell(fault), cell(remedy));
        }
    }
    text.push_str("\n## Failed handshakes\n\nThey have [their own page](handshake-failures.md).\n");
    holds("docs/findings.md", &text);
}

#[test]
fn the_fields_on_the_page_of_policies_are_those_of_the_definition() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/tls-policy.md");
    let written = std::fs::read_to_string(path).unwrap();
    let mark = "<!-- Made from src/api/tls_policy.rs: HANDFAST_UPDATE_DOCS=1 cargo test docs -->\n";
    let (prose, _) = written.split_once(mark).unwrap();
    let mut text = format!("{prose}{mark}\n| field | value | what it means |\n| --- | --- | --- |\n");
    for tls_policy::Field { path, value, required, description } in tls_policy::fields() {
        let required = if required { ", required" } else { "" };
        let _ = writeln!(text, "| `{path}` | {}{required} | {} |", cell(&value), cell(&description));
    }
    holds("docs/tls-policy.md", &text);
}

#[test]
fn the_examples_on_the_page_of_policies_are_taken_without_a_word() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/tls-policy.md");
    let text = std::fs::read_to_string(path).unwrap();
    let blocks: Vec<&str> = text.split("```yaml\n").skip(1).map(|block| block.split_once("```").unwrap().0).collect();
    assert!(blocks.len() >= 8);
    for block in blocks {
        for change in source::directory::read_one("example.yaml", block.as_bytes()).unwrap() {
            match change {
                Change::Replace(_, objects) => assert!(!objects.is_empty(), "{block}"),
                Change::Rejected(_, diagnostics) if diagnostics.is_empty() => {}
                Change::Delete(..) | Change::Rejected(..) | Change::Upsert(..) => panic!("{change:?}\n{block}"),
            }
        }
    }
}

/// A table of the fields of each object in a schema, the outermost first.
fn tables(schema: &serde_json::Value, text: &mut String) {
    let kind = |field: &serde_json::Value| -> String {
        let one = |node: &serde_json::Value| match (node["$ref"].as_str(), node["type"].as_str()) {
            (Some(name), _) => name.rsplit('/').next().unwrap().to_owned(),
            (None, Some(kind)) => kind.to_owned(),
            (None, None) => String::new(),
        };
        let nullable = field["anyOf"].as_array().map(|any| one(&any[0]) + " or null");
        match (nullable, &field["type"]) {
            (Some(kind), _) => kind,
            (None, serde_json::Value::Array(kinds)) => {
                kinds.iter().filter_map(|kind| kind.as_str()).collect::<Vec<_>>().join(" or ")
            }
            (None, _) if field["type"] == "array" => format!("list of {}", one(&field["items"])),
            (None, _) if field["additionalProperties"].is_object() => {
                format!("map from text to {}", one(&field["additionalProperties"]))
            }
            (None, _) => one(field),
        }
    };
    let mut table = |name: &str, schema: &serde_json::Value| {
        let _ = write!(
            text,
            "\n{}\n\n| field of {name} | form | meaning |\n| --- | --- | --- |\n",
            schema["description"].as_str().unwrap_or_default()
        );
        for (field, schema) in schema["properties"].as_object().unwrap() {
            let meaning = schema["description"].as_str().unwrap_or_default();
            let _ = writeln!(text, "| `{field}` | {} | {} |", kind(schema), cell(meaning));
        }
    };
    table(schema["title"].as_str().unwrap(), schema);
    for (name, schema) in schema["$defs"].as_object().into_iter().flatten() {
        table(name, schema);
    }
}

#[test]
fn the_page_of_the_api_is_made_from_its_types() {
    use handfast::admin::{PAGES, keylog};
    use handfast::failures::report::{FailuresReport, HostsReport, ShadowReport};
    let mut text = String::from(
        "# The API of the admin listener\n\n\
        <!-- Made from src/failures/report.rs and src/admin/: HANDFAST_UPDATE_DOCS=1 cargo test docs -->\n\n\
        JSON for people and programs that look into a running controller; `handfast failures` shows it in a terminal. The\n\
        pages answer loopback peers (`kubectl port-forward` arrives there), everyone with `--admin-expose-api`, and never a\n\
        web page of another site. A parameter that a page does not know is a 400, a host that is not configured a 404 with the\n\
        one that is written most like it. Fields are added and never renamed.\n\n\
        What is kept is bounded: of each host and reason the newest failure of eight clients (of 32 for unknown names), 8,192 in\n\
        all. A scanner that fails a thousand times in one way takes one place, and cannot push out the one client that fails in\n\
        another; of clients that fail in the same way, those that offer the same make room first.\n\
        `/api/keylog` answers with 403 unless `--allow-keylog` is given, and with 429 where eight selections are on.\n",
    );
    let schemas = [
        ("GET /api/failures", schemars::schema_for!(FailuresReport)),
        ("GET /api/hosts", schemars::schema_for!(HostsReport)),
        ("GET /api/shadow", schemars::schema_for!(ShadowReport)),
        ("GET /api/keylog", schemars::schema_for!(keylog::Shown)),
        ("POST /api/keylog", schemars::schema_for!(keylog::Begun)),
        ("DELETE /api/keylog", schemars::schema_for!(keylog::Ended)),
    ];
    let of_api = || PAGES.iter().filter(|page| page.path.starts_with("/api/"));
    assert_eq!(of_api().count(), schemas.len());
    for (title, schema) in schemas {
        let page = of_api().find(|page| title == format!("{} {}", page.method, page.path)).expect(title);
        let _ = write!(text, "\n## {title}\n\n");
        let parameters: Vec<String> =
            page.parameters.iter().map(|parameter| format!("`{}` ({})", parameter.name, parameter.takes)).collect();
        match parameters.as_slice() {
            [] => text.push_str("It takes no parameters.\n"),
            parameters => drop(writeln!(text, "Parameters: {}.", parameters.join(", "))),
        }
        let mut tabled = String::new();
        tables(&schema.to_value(), &mut tabled);
        text += &tabled.replace(&format!("`{title}`: "), "The answer: ");
    }
    holds("docs/api.md", &text);
}

/// What the README shows of `handfast failures`, from what the program makes of two clients.
#[test]
fn the_example_of_failures_is_what_the_program_prints() {
    use handfast::failures::{Failure, Failures, report, view};
    use handfast::tls::chain::{Outline, OutlineEnd};
    use handfast::tls::negotiate::CredentialKind;
    use handfast::tls::policy::{Policy, Settings};
    use handfast::tls::{TlsSummary, clients::client, preflight, rejection};
    let time = |text: &str| std::time::SystemTime::from(text.parse::<jiff::Timestamp>().unwrap());
    let store = Failures::new(1);
    let metrics = Metrics::default();
    let fail = |one: Failure, count: u64| {
        let labels = ["shop.example.com", one.reason.label(), one.blame.label()];
        metrics.tls_handshake_failures.with_label_values(&labels).inc_by(count);
        store.record(0, one);
    };
    let failure = |at: &str, address: &str, id: &str, reason: Reason| Failure {
        time: time(at),
        client: address.into(),
        server_name: Some("shop.example.com".into()),
        host: Some("shop.example.com".parse().unwrap()),
        reason,
        blame: reason.blame(),
        alert_sent: reason.alert(),
        alert_received: None,
        offer: Some(Box::new(client(id).unwrap().offer.clone())),
        served: None,
        detail: "".into(),
        remedy: reason.remedy().into(),
    };
    let end = OutlineEnd::Missing { issuer: "CN=E7".into(), is_public: true };
    let chain = TlsSummary {
        fingerprint: "".into(),
        names: vec!["shop.example.com".into()],
        not_before: rustls::pki_types::UnixTime::since_unix_epoch(std::time::Duration::ZERO),
        not_after: rustls::pki_types::UnixTime::since_unix_epoch(std::time::Duration::MAX),
        key: "ecdsa-p256".into(),
        chain_length: 1,
        outline: std::sync::Arc::new(Outline { end, ..Outline::default() }),
    };
    let reason = Reason::RejectedUnknownCa;
    let rejection = rejection::explain(reason, &chain, Some("shop.example.com"), chain.not_before).unwrap();
    let rejected = |at: &str| Failure {
        blame: rejection.blame,
        alert_received: Some(rustls::AlertDescription::UnknownCA),
        detail: rejection.detail.clone().into(),
        remedy: rejection.remedy.clone().into(),
        ..failure(at, "192.0.2.7", "curl-7-88-1-openssl-3-0", reason)
    };
    fail(rejected("2026-11-27T09:58:40.001Z"), 1);
    (0..311).for_each(|_| fail(rejected("2026-11-27T10:14:07.214Z"), 1));
    let reason = Reason::NoSharedVersion;
    let old = failure("2026-11-27T10:14:09.876Z", "198.51.100.3", "java-8u161", reason);
    let modern = Policy::new(Settings::modern()).unwrap();
    let offer = old.offer.clone().unwrap();
    let explained = preflight::explain(reason, &modern, &[CredentialKind::EcdsaP256], &offer);
    let detail = "the client's newest version is TLS 1.2".into();
    fail(Failure { blame: explained.blame, remedy: explained.remedy.into(), detail, ..old }, 1);
    let host = "shop.example.com".parse().unwrap();
    let report = report::failures(&store, &metrics, &Default::default(), Some(&host), 50);

    let readme = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let (before, rest) = readme.split_once("$ handfast failures --host shop.example.com").unwrap();
    let (command, rest) = rest.split_once('\n').unwrap();
    let (_, after) = rest.split_once("```").unwrap();
    let example = format!("$ handfast failures --host shop.example.com{command}\n{}", view::table(&report));
    holds("README.md", &format!("{before}{example}```{after}"));
}
