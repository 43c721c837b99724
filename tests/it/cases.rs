//! `tests/cases/NAME/*.yaml` to what is served and what is reported.
//!
//! Each folder is also a valid `--source` directory, but for its certificates. The first line of `manifests.yaml` may
//! set options (`# options: host-ownership=namespace`); without it they are those of a directory source.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use handfast::api::annotations::{State, TABLE};
use handfast::compile::{Change, Compiled, Compiler, HostOwnership, Options, Problem, Scope};

use crate::manifests::{NOW, at, objects};

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
    let mut seen: BTreeSet<String> =
        ["invalid-document", "unknown-field", "unknown-kind", "unreadable-file"].map(str::to_owned).into();
    for folder in folders() {
        for diagnostic in compile(&folder).diagnostics.iter() {
            let code = diagnostic.problem.code();
            let is_chain = matches!(diagnostic.problem, Problem::Chain(_));
            assert!(is_chain || Problem::CODES.contains(&code), "{code} is missing in Problem::CODES");
            assert!(!diagnostic.problem.remedy().is_empty(), "{code}");
            let message = diagnostic.problem.to_string();
            assert!(!message.ends_with('.'), "{message}");
            seen.insert(code.to_owned());
        }
    }
    let missing: Vec<_> = Problem::CODES.iter().filter(|code| !seen.contains(**code)).collect();
    assert!(missing.is_empty(), "without a case: {missing:?}");
    assert!(Problem::CODES.is_sorted());
}

#[test]
fn each_working_annotation_appears_in_a_case() {
    let texts: String = folders().iter().flat_map(|folder| files(folder)).map(|(_, text)| text).collect();
    let used = |name: &str| texts.contains(&format!("nginx.ingress.kubernetes.io/{name}:"));
    let is_working = |state: State| matches!(state, State::Working(..));
    let missing: Vec<_> =
        TABLE.iter().filter(|row| is_working(row.state) && !used(row.name)).map(|row| row.name).collect();
    assert!(missing.is_empty(), "without a case: {missing:?}");
}

#[test]
fn the_table_has_exactly_the_names_that_ingress_nginx_has() {
    let names: Vec<&str> = include_str!("../ingress-nginx-annotations.txt").lines().collect();
    assert_eq!(names.len(), 138);
    assert_eq!(TABLE.iter().map(|row| row.name).collect::<Vec<_>>(), names);
}

fn folders() -> Vec<PathBuf> {
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let mut folders: Vec<PathBuf> = fs::read_dir(cases).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    assert!(folders.len() >= 45, "{}", folders.len());
    folders
}

/// Names and texts of a case's manifests, sorted.
fn files(folder: &Path) -> Vec<(String, String)> {
    let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let yaml = paths.filter(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
    let mut files: Vec<_> = yaml.map(|path| (name(&path), fs::read_to_string(&path).unwrap())).collect();
    files.sort();
    files
}

fn compile(folder: &Path) -> Compiled {
    let files = files(folder);
    let mut options = Options { watch_without_class: true, report_other_classes: true, ..Options::default() };
    let header = files.iter().find_map(|(_, text)| text.lines().next()?.strip_prefix("# options: "));
    for word in header.into_iter().flat_map(str::split_whitespace) {
        match word.split_once('=').unwrap_or((word, "")) {
            ("allow-external-name", "") => options.allow_external_name = true,
            ("allow-loopback-endpoints", "") => options.allow_loopback_endpoints = true,
            ("default-tls-secret", secret) => {
                let (namespace, name) = secret.split_once('/').unwrap();
                options.default_tls_secret = Some((namespace.to_owned(), name.to_owned()));
            }
            ("host-ownership", "namespace") => options.host_ownership = HostOwnership::Namespace,
            ("only-with-class", "") => {
                options.watch_without_class = false;
                options.report_other_classes = false;
            }
            other => panic!("{}: unknown option {other:?}", folder.display()),
        }
    }
    let mut compiler = Compiler::new(options);
    for (name, text) in files {
        compiler.apply(Change::Replace(Scope(name.into()), objects(&text)));
    }
    compiler.compile(at(NOW))
}

/// What is served, then what is reported with the hosts that it touches.
fn describe(compiled: &Compiled) -> String {
    let mut text = without_fingerprints(&compiled.snapshot.render());
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
    text
}

/// Certificates are made anew each time; nothing else in a rendering is 64 letters long and hexadecimal.
fn without_fingerprints(text: &str) -> String {
    let is_fingerprint = |word: &str| word.len() == 64 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
    let words = text.split_inclusive([' ', '\n']);
    words.map(|word| if is_fingerprint(word.trim_end()) { "[fingerprint] " } else { word }).collect()
}
