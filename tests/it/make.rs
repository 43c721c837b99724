//! `make needs`, with programs of our own in the place of those that it looks for.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Stdio;

use crate::binary::program;

/// A program that does nothing but `script`.
fn stand_in(folder: &Path, name: &str, script: &str) {
    let path = folder.join(name);
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// What `make needs` says where go does `script`, and every other tool is there.
fn needs(script: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let makefile = fs::read_to_string(root.join("Makefile")).unwrap();
    let (_, tools) = makefile.split_once("TOOLS := ").unwrap();
    let (tools, _) = tools.split_once("\n\n").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let names = tools.split_whitespace().filter_map(|tool| tool.split_once(':')).map(|(name, _)| name);
    for name in names.chain(["cargo", "go"]) {
        stand_in(folder.path(), name, if name == "go" { script } else { "exit 0" });
    }
    let mut make = program("make");
    let path = format!("{}:{}", folder.path().display(), std::env::var("PATH").unwrap());
    let output = make.args(["--no-print-directory", "needs"]).current_dir(root).env("PATH", path);
    let output = output.env_remove("MAKEFLAGS").stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_go_that_fetches_newer_ones_is_new_enough_whatever_its_help_has() {
    // From 1.21 on there is a variable for it; older ones print an empty line for what they do not know.
    for value in ["auto", "local", "go1.26.0+auto"] {
        let newer = format!("[ \"$*\" = 'env GOTOOLCHAIN' ] && echo '{value}'");
        assert_eq!(needs(&newer), "", "{value}");
    }
    for older in ["[ \"$1\" = env ] && echo", "exit 2"] {
        let said = needs(older);
        assert!(said.contains("TOO OLD: go"), "{older}: {said}");
    }
}
