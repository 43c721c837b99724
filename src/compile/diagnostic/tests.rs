//! The codes of problems and their words.

use super::*;

#[test]
fn the_list_of_codes_has_every_code() {
    let source = include_str!("../diagnostic.rs");
    let (_, body) = source.split_once("pub fn code(&self)").unwrap();
    let (body, _) = body.split_once("fn severity").unwrap();
    let mut codes: Vec<&str> =
        body.lines().filter_map(|line| line.split_once("=> \"")?.1.strip_suffix("\",")).collect();
    codes.sort_unstable();
    assert_eq!(codes, Problem::all().map(|about| about.code).collect::<Vec<_>>());
}

#[test]
fn long_lists_of_names_are_shortened() {
    let names: Vec<String> = (1..=7).map(|index| index.to_string()).collect();
    assert_eq!(
        (shortened(&names[..5]), shortened(&names)),
        ("1, 2, 3, 4, 5".into(), "1, 2, 3, 4, 5 and 2 more".into())
    );
}

#[test]
fn fields_of_the_first_ingress_versions_are_translated() {
    for (name, expected) in [
        ("Ingress a/b spec.rules[0].http.paths[0].backend.serviceName", "backend.service.name"),
        ("Ingress a/b spec.rules[0].http.paths[0].backend.servicePort", "backend.service.port.number"),
        ("Ingress a/b spec.backend", "spec.defaultBackend"),
    ] {
        let remedy = Problem::UnknownField { name: name.into() }.remedy();
        assert!(remedy.contains(expected), "{remedy}");
    }
}

#[test]
fn no_remedy_claims_what_only_the_effect_knows() {
    let remedy = Problem::UnreadableFile { error: String::new() }.remedy();
    assert!(!remedy.contains("served"), "{remedy}");
}
