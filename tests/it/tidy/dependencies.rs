//! The rules of `deny.toml`, held also where `cargo deny` is not installed: licences, bans and sources.
//!
//! The lists are read from `deny.toml`, so there is one place to change them.

use std::collections::BTreeSet;
use std::fs;

use cargo_metadata::{CargoOpt, Metadata, MetadataCommand};

use super::files::root;

/// What this platform builds, tests included. Other platforms' packages may not be downloaded.
fn metadata() -> Metadata {
    let version = std::process::Command::new("rustc").arg("-vV").output().unwrap();
    let version = String::from_utf8(version.stdout).unwrap();
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).unwrap();
    let options = ["--locked", "--filter-platform", host].map(str::to_owned);
    let mut command = MetadataCommand::new();
    command.current_dir(root()).features(CargoOpt::AllFeatures).other_options(options).exec().unwrap()
}

fn deny() -> String {
    fs::read_to_string(root().join("deny.toml")).unwrap()
}

/// The strings of a list in `deny.toml`, which is written so that this finds them: `name = [`, one entry a line, `]`.
fn entries(toml: &str, section: &str, name: &str) -> BTreeSet<String> {
    let section = toml.split_once(&format!("\n[{section}]\n")).unwrap_or_else(|| panic!("no [{section}]")).1;
    let section = section.split("\n[").next().unwrap();
    let list = section.split_once(&format!("{name} = [")).unwrap_or_else(|| panic!("no {name}")).1;
    let list = list.split_once("\n]").unwrap().0;
    let first_string = |line: &str| line.split('"').nth(1).map(str::to_owned);
    list.lines().filter(|line| !line.trim_start().starts_with('#')).filter_map(first_string).collect()
}

/// Whether an SPDX expression can be met with the licences we take. `/` is an old way to write `OR`.
fn is_allowed(expression: &str, allowed: &BTreeSet<String>) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let tokens: Vec<&str> = spaced.split_whitespace().collect();
    let mut at = 0;
    let result = any_of(&tokens, &mut at, allowed);
    result && at == tokens.len()
}

fn any_of(tokens: &[&str], at: &mut usize, allowed: &BTreeSet<String>) -> bool {
    let mut result = all_of(tokens, at, allowed);
    while tokens.get(*at) == Some(&"OR") {
        *at += 1;
        result |= all_of(tokens, at, allowed);
    }
    result
}

fn all_of(tokens: &[&str], at: &mut usize, allowed: &BTreeSet<String>) -> bool {
    let mut result = one(tokens, at, allowed);
    while tokens.get(*at) == Some(&"AND") {
        *at += 1;
        result &= one(tokens, at, allowed);
    }
    result
}

fn one(tokens: &[&str], at: &mut usize, allowed: &BTreeSet<String>) -> bool {
    let token = tokens.get(*at);
    *at += 1;
    // An index behind the end says that the expression is cut short, whatever its other parts allow.
    let Some(token) = token else { return false };
    if *token == "(" {
        let result = any_of(tokens, at, allowed);
        let closed = tokens.get(*at) == Some(&")");
        *at += 1;
        return result && closed;
    }
    let mut licence = (*token).to_owned();
    if tokens.get(*at) == Some(&"WITH") {
        licence = format!("{licence} WITH {}", tokens.get(*at + 1).unwrap_or(&""));
        *at += 2;
    }
    allowed.contains(&licence)
}

#[test]
fn every_licence_is_one_that_we_take() {
    let allowed = entries(&deny(), "licenses", "allow");
    let metadata = metadata();
    assert!(metadata.packages.len() > 50);
    let refused = metadata
        .packages
        .iter()
        .filter(|package| !package.license.as_ref().is_some_and(|licence| is_allowed(licence, &allowed)));
    let refused: Vec<String> = refused.map(|package| format!("{}: {:?}", package.name, package.license)).collect();
    assert!(refused.is_empty(), "{refused:?}");
}

/// Names of the packages that are compiled, tests included (`all`) or not (`normal`). The lock file and `cargo metadata` also name packages that no enabled
/// feature asks for (`ring`, behind a weak feature of rustls-webpki); `cargo tree` knows better.
fn built(edges: &str) -> BTreeSet<String> {
    let arguments = ["tree", "--locked", "--all-features", "--edges", edges, "--prefix", "none", "--format", "{p}"];
    let tree = std::process::Command::new(env!("CARGO")).args(arguments).current_dir(root()).output().unwrap();
    assert!(tree.status.success(), "{}", String::from_utf8_lossy(&tree.stderr));
    let lines = String::from_utf8(tree.stdout).unwrap();
    lines.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}

#[test]
fn no_banned_package_is_built() {
    let banned = entries(&deny(), "bans", "deny");
    assert!(banned.contains("ring") && banned.contains("openssl-sys"), "{banned:?}");
    let built = built("all");
    assert!(built.contains("rustls") && built.contains("tempfile"), "{built:?}");
    assert_eq!(built.intersection(&banned).collect::<Vec<_>>(), Vec::<&String>::new());
}

#[test]
fn rules_of_a_definition_are_evaluated_in_tests_only() {
    let (all, normal) = (built("all"), built("normal"));
    for name in ["cel", "kube-cel"] {
        assert!(all.contains(name) && !normal.contains(name), "{name}");
    }
    assert!(normal.contains("rustls") && normal.contains("kube-client"), "{normal:?}");
}

/// Sources in a lock file that are not on the list.
fn foreign_sources(lock: &str, allowed: &BTreeSet<String>) -> Vec<String> {
    let sources = lock.lines().filter_map(|line| line.strip_prefix("source = \"")?.strip_suffix('"'));
    let registry = |source: &str| source.strip_prefix("registry+").is_some_and(|url| allowed.contains(url));
    sources.filter(|source| !registry(source)).map(str::to_owned).collect()
}

#[test]
fn every_package_comes_from_the_registry() {
    let allowed = entries(&deny(), "sources", "allow-registry");
    let lock = fs::read_to_string(root().join("Cargo.lock")).unwrap();
    assert!(lock.contains("source = "));
    assert_eq!(foreign_sources(&lock, &allowed), Vec::<String>::new());
    let git = "source = \"git+https://example.com/x#0\"\nsource = \"registry+https://example.com/index\"\n";
    assert_eq!(foreign_sources(git, &allowed).len(), 2);
}

#[test]
fn licence_expressions_are_understood() {
    let allowed: BTreeSet<String> = ["MIT", "ISC", "Apache-2.0 WITH LLVM-exception"].map(str::to_owned).into();
    for good in [
        "MIT",
        "GPL-3.0 OR MIT",
        "GPL-3.0/MIT",
        "MIT AND ISC",
        "(GPL-3.0 OR ISC) AND MIT",
        "Apache-2.0 WITH LLVM-exception",
    ] {
        assert!(is_allowed(good, &allowed), "{good}");
    }
    for bad in
        ["", "GPL-3.0", "MIT AND GPL-3.0", "Apache-2.0", "(MIT", "MIT ISC", "MIT AND (GPL-3.0 OR GPL-2.0)", "MIT OR"]
    {
        assert!(!is_allowed(bad, &allowed), "{bad}");
    }
}

#[test]
fn lists_are_found_in_deny_toml() {
    let toml = "\n[a]\nx = [\n    # \"no\"\n    \"one\",\n    { crate = \"two\", reason = \"three\" },\n]\n\n[b]\nx = [\n    \"four\",\n]\n";
    assert_eq!(entries(toml, "a", "x"), BTreeSet::from(["one".to_owned(), "two".to_owned()]));
    assert_eq!(entries(toml, "b", "x"), BTreeSet::from(["four".to_owned()]));
}
