//! Python programs that tests run, each set of them in an environment of its own.
//!
//! `lists of versions and digests ──pip──▶ ~/.cache/handfast/NAME-DIGEST`
//!
//! The folder is named by the digest of the lists, so each content of them is installed once, and nothing is changed
//! that a running test uses.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::binary::program;
use crate::cache;

/// A list of what pip installs, and how.
pub struct Requirements {
    /// Its file, below `tests`.
    pub file: &'static str,
    /// The one package that is built from source, with nothing but what earlier lists have installed. All others are
    /// wheels.
    pub built: Option<&'static str>,
}

/// The interpreter of the environment that has what the lists pin, and nothing else.
pub fn environment(name: &str, lists: &[Requirements]) -> PathBuf {
    let path = |list: &Requirements| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(list.file);
    let mut content: Vec<u8> = lists.iter().flat_map(|list| fs::read(path(list)).unwrap()).collect();
    content.extend(program("python3").arg("--version").output().unwrap().stdout);
    let environment = cache::folder(name, &content);
    let python = environment.join("bin/python");
    let made = cache::complete(&environment, || {
        run(name, program("python3").args(["-m", "venv"]).arg(&environment), "Debian package python3-venv");
        for list in lists {
            let mut pip = Command::new(&python);
            pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--require-hashes"]);
            pip.args(["--only-binary", ":all:"]);
            if let Some(package) = list.built {
                pip.args(["--no-build-isolation", "--no-binary", package]);
            }
            pip.arg("--requirement").arg(path(list));
            run(name, &mut pip, "it needs a package index: PyPI, or a mirror that pip.conf or PIP_INDEX_URL names");
        }
        Ok(())
    });
    made.unwrap();
    python
}

fn run(name: &str, command: &mut Command, remedy: &str) {
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(
        output.status.success(),
        "{name} cannot be installed ({remedy}); {command:?} says: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}
