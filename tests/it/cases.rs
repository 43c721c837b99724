//! `tests/cases/NAME/*.yaml` to what is served and what is reported.
//!
//! Each folder is also a valid `--source` directory, but for its certificates. The first line of `manifests.yaml` may
//! set options (`# options: host-ownership=namespace`); without it they are those of a directory source.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use handfast::api::annotations::{Annotation, HANDFAST, NGINX, OWN, State, TABLE};
use handfast::compile::{Change, Compiled, Compiler, HostOwnership, Options, Problem, Scope};
use handfast::tls::chain::TrustAnchors;

use handfast::tls::Version;

use crate::manifests::{NOW, at, intermediates, objects, trust_anchors};

#[test]
fn each_case_compiles_to_what_stands_beside_it() {
    insta::glob!("../cases", "*/manifests.yaml", |path| {
        let folder = path.parent().unwrap();
        let mut settings = insta::Settings::clone_current();
        settings.set_snapshot_path(folder);
        settings.set_prepend_module_to_snapshot(false);
        settings.remove_snapshot_suffix();
        settings.remove_input_file();
        settings.set_omit_expression(true);
        settings.bind(|| insta::assert_snapshot!("expected", describe(&compile(folder))));
    });
}

#[test]
fn each_problem_appears_in_a_case() {
    // The sources report these, and their own tests show them.
    let elsewhere = [
        "ingress-nginx-config",
        "invalid-document",
        "kind-not-watched",
        "manifests-vanished",
        "misspelt-kind",
        "no-manifests",
        "objects-kept",
        "tool-file",
        "unknown-field",
        "unknown-kind",
        "unreadable-directory",
        "unreadable-file",
    ];
    let codes: Vec<&str> = Problem::all().map(|about| about.code).collect();
    let mut seen: BTreeSet<String> = elsewhere.map(str::to_owned).into();
    for folder in folders() {
        for diagnostic in compile(&folder).diagnostics.iter() {
            let code = diagnostic.problem.code();
            assert!(!diagnostic.problem.remedy().is_empty(), "{code}");
            let message = diagnostic.problem.to_string();
            // Whatever shows it adds the full stop.
            assert!(!message.ends_with('.'), "{message}");
            // It begins a sentence, or with a name as users write it.
            let first = message.split(' ').next().unwrap_or_default();
            let is_prose = first.bytes().all(|byte| byte.is_ascii_lowercase());
            assert!(!is_prose || diagnostic.field.starts_with("metadata.annotations"), "{message}");
            seen.insert(code.to_owned());
        }
    }
    let missing: Vec<_> = codes.into_iter().filter(|code| !seen.contains(*code)).collect();
    assert!(missing.is_empty(), "without a case: {missing:?}");
}

#[test]
fn each_working_annotation_appears_in_a_case() {
    let texts: String = folders().iter().flat_map(|folder| files(folder)).map(|(_, text)| text).collect();
    let unused = |prefix: &str, name: &str| !texts.contains(&format!("{prefix}{name}:"));
    let is_working = |state: State| matches!(state, State::Working(..));
    let working = |table: &'static [Annotation]| table.iter().filter(|row| is_working(row.state)).map(|row| row.name);
    let mut missing: Vec<&str> = working(TABLE).filter(|name| unused(NGINX, name)).collect();
    missing.extend(working(OWN).filter(|name| unused(HANDFAST, name)));
    assert!(missing.is_empty(), "without a case: {missing:?}");
}

#[test]
fn the_table_has_exactly_the_names_that_ingress_nginx_has() {
    let names: Vec<&str> = include_str!("../ingress-nginx-annotations.txt").lines().collect();
    assert_eq!(names.len(), 138);
    assert_eq!(TABLE.iter().map(|row| row.name).collect::<Vec<_>>(), names);
}

pub(crate) fn folders() -> Vec<PathBuf> {
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let mut folders: Vec<PathBuf> = fs::read_dir(cases).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    assert!(folders.len() >= 60, "{}", folders.len());
    folders
}

/// Names and texts of a case's manifests, sorted.
pub(crate) fn files(folder: &Path) -> Vec<(String, String)> {
    let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let yaml = paths.filter(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
    let mut files: Vec<_> = yaml.map(|path| (name(&path), fs::read_to_string(&path).unwrap())).collect();
    files.sort();
    files
}

pub(crate) fn compile(folder: &Path) -> Compiled {
    let files = files(folder);
    let mut options = Options {
        watch_without_class: true,
        report_other_classes: true,
        trust_anchors: trust_anchors(),
        ..Options::default()
    };
    let header = files.iter().find_map(|(_, text)| text.lines().next()?.strip_prefix("# options: "));
    for word in header.into_iter().flat_map(str::split_whitespace) {
        match word.split_once('=').unwrap_or((word, "")) {
            ("allow-external-name", "") => options.allow_external_name = true,
            ("allow-loopback-endpoints", "") => Arc::make_mut(&mut options.reach).loopback = true,
            ("listener", address) => Arc::make_mut(&mut options.reach).listeners.push(address.parse().unwrap()),
            ("own-address", address) => Arc::make_mut(&mut options.reach).own_addresses.push(address.parse().unwrap()),
            ("own-service", service) => {
                let (namespace, name) = service.split_once('/').unwrap();
                options.own_service = Some((namespace.to_owned(), name.to_owned()));
            }
            ("default-tls-secret", secret) => {
                let (namespace, name) = secret.split_once('/').unwrap();
                options.default_tls_secret = Some((namespace.to_owned(), name.to_owned()));
            }
            ("default-tls-policy", policy) => {
                let (namespace, name) = policy.split_once('/').unwrap();
                options.default_tls_policy = Some((namespace.to_owned(), name.to_owned()));
            }
            ("default-shadow-tls-policy", policy) => {
                let (namespace, name) = policy.split_once('/').unwrap();
                options.default_shadow_tls_policy = Some((namespace.to_owned(), name.to_owned()));
            }
            ("min-tls-version", "TLSv1.3") => options.min_tls_version = Version::Tls13,
            ("adopt-class", class) => options.adopted_classes.push(class.to_owned()),
            // A bundle with the intermediate of all certificates.
            ("intermediates", "") => options.intermediates = intermediates(),
            // Nobody says whom the clients trust.
            ("only-public-anchors", "") => options.trust_anchors = Arc::new(TrustAnchors::public()),
            ("host-ownership", "namespace") => options.host_ownership = HostOwnership::Namespace,
            ("only-with-class", "") => {
                options.watch_without_class = false;
                options.report_other_classes = false;
            }
            other => panic!("{}: unknown option {other:?}", folder.display()),
        }
    }
    let mut compiler = Compiler::new(options);
    // What was there before, where that matters: an earlier state of the same file.
    if let Ok(before) = fs::read_to_string(folder.join("before.txt")) {
        compiler.apply(Change::Replace(Scope("manifests.yaml".into()), objects(&before)));
        compiler.compile(at(NOW));
    }
    for (name, text) in files {
        compiler.apply(Change::Replace(Scope(name.into()), objects(&text)));
    }
    compiler.compile(at(NOW))
}

/// What is served, then what is reported with the hosts that it touches.
fn describe(compiled: &Compiled) -> String {
    let mut text = compiled.snapshot.render();
    for diagnostic in compiled.diagnostics.iter() {
        writeln!(text, "\n{diagnostic}\n  {}: {}", diagnostic.problem.code(), diagnostic.problem.remedy()).unwrap();
        if !diagnostic.hosts.is_empty() {
            let hosts: Vec<String> = diagnostic.hosts.iter().map(ToString::to_string).collect();
            writeln!(text, "  hosts: {}", hosts.join(" ")).unwrap();
        }
    }
    if let Some(time) = compiled.recompile_at {
        writeln!(text, "\nrecompile in {}s", time.as_secs() - NOW).unwrap();
    }
    without_what_varies(&text)
}

/// Certificates are made anew each time, with new keys and signatures of varying length.
fn without_what_varies(text: &str) -> String {
    let is_hexadecimal = |word: &str| word.bytes().all(|byte| byte.is_ascii_hexdigit());
    let mut last = "";
    let mut mask = |word: &str| {
        let bare = word.trim_end().trim_end_matches([',', '.']);
        let masked = match bare.len() {
            64 if is_hexadecimal(bare) => word.replace(bare, "[fingerprint]"),
            40 if is_hexadecimal(bare) => word.replace(bare, "[key]"),
            _ if last == "has" && bare.parse::<u64>().is_ok_and(|number| number > 3_000) => {
                word.replace(bare, "[size]")
            }
            _ => word.to_owned(),
        };
        last = if bare == "has" { "has" } else { "" };
        masked
    };
    text.split_inclusive([' ', '\n']).map(&mut mask).collect()
}
