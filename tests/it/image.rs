//! The image, built from the Dockerfile without any registry, and the static binary in an empty root.
//!
//! Both play the demo, with real handshakes, as a user that owns nothing.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

use crate::binary::{program, static_release};

/// Who runs in the image.
const USER: u32 = 65532;

/// A line that no test may swallow.
#[expect(clippy::print_stdout, reason = "who reads the output has to know")]
fn say(text: &str) {
    println!("*** not tested: {text}");
}

/// The static binary. `make test` makes it before the tests (`make static`); without it there is nothing to test.
fn static_binary() -> Option<PathBuf> {
    let path = static_release();
    let found = path.exists();
    assert!(found || std::env::var_os("HANDFAST_OPTIMIZED").is_none(), "{} is missing: make static", path.display());
    if !found {
        say(&format!("{} is missing, `make static` makes it", path.display()));
    }
    found.then_some(path)
}

/// Whether this process may change its root, and be another user.
fn is_root() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let is_root = status.lines().any(|line| line.starts_with("Uid:\t0\t"));
    if !is_root {
        say("it takes root to be another user in another root");
    }
    is_root
}

/// A folder of the user in the image.
fn own_folder(path: &Path) {
    fs::create_dir(path).unwrap();
    chown(path, Some(USER), Some(USER)).unwrap();
}

fn succeeded(output: Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{}\n{text}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    text
}

#[test]
fn the_static_binary_serves_in_an_empty_root() {
    let Some(binary) = static_binary().filter(|_| is_root()) else { return };
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::copy(binary, folder.path().join("handfast")).unwrap();
    own_folder(&folder.path().join("demo"));
    let mut command = program("chroot");
    command.arg(format!("--userspec={USER}:{USER}")).arg(folder.path());
    let said = succeeded(command.args(["/handfast", "demo", "--once", "--directory", "/demo"]).output().unwrap());
    assert!(said.contains("handshake"), "{said}");
    let mut left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["demo", "handfast"]);
}

/// buildah with a store of its own.
struct Buildah {
    store: tempfile::TempDir,
}

impl Buildah {
    fn command(&self, args: &[&str]) -> Command {
        let mut command = program("buildah");
        command.env("STORAGE_DRIVER", "vfs").env("BUILDAH_ISOLATION", "chroot");
        command.arg("--root").arg(self.store.path().join("root"));
        command.arg("--runroot").arg(self.store.path().join("run"));
        command.args(args);
        command
    }

    fn run(&self, args: &[&str]) -> String {
        succeeded(self.command(args).output().unwrap()).trim().to_owned()
    }
}

impl Drop for Buildah {
    fn drop(&mut self) {
        // Ends what is mounted, so that the store can go.
        let _ = self.command(&["rm", "--all"]).output();
        let _ = self.command(&["rmi", "--all", "--force"]).output();
    }
}

#[test]
fn the_image_is_the_static_binary_and_nothing_else_and_serves() {
    let Some(binary) = static_binary().filter(|_| is_root()) else { return };
    let buildah = Buildah { store: tempfile::tempdir().unwrap() };
    let works = buildah.command(&["from", "scratch"]).output().unwrap();
    if !works.status.success() {
        println!("*** not tested: buildah does not work here: {}", String::from_utf8_lossy(&works.stderr));
        return;
    }
    let context = tempfile::tempdir().unwrap();
    for file in ["Dockerfile", ".dockerignore"] {
        fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join(file), context.path().join(file)).unwrap();
    }
    fs::create_dir(context.path().join("dist")).unwrap();
    fs::copy(&binary, context.path().join("dist/handfast")).unwrap();
    // It may not pull: the stage that builds is left out.
    let build =
        ["bud", "--pull-never", "--build-arg", "BINARY=context", "--build-arg", "REVISION=abc", "--tag", "handfast"];
    buildah.run(&[&build[..], &[context.path().to_str().unwrap()]].concat());

    let about: Value = serde_json::from_str(&buildah.run(&["inspect", "--type", "image", "handfast"])).unwrap();
    let config = &about["OCIv1"]["config"];
    assert_eq!(config["User"], format!("{USER}:{USER}"), "{config}");
    assert_eq!(config["Entrypoint"], serde_json::json!(["/handfast"]));
    assert_eq!(config["Cmd"], serde_json::json!(["run"]));
    let labels = config["Labels"].as_object().unwrap();
    for (label, value) in [
        ("title", "Handfast"),
        ("description", env!("CARGO_PKG_DESCRIPTION")),
        ("licenses", "Apache-2.0"),
        ("version", env!("CARGO_PKG_VERSION")),
        ("revision", "abc"),
    ] {
        assert_eq!(labels[&format!("org.opencontainers.image.{label}")], value);
    }

    let container = buildah.run(&["from", "--pull-never", "handfast"]);
    let root = PathBuf::from(buildah.run(&["mount", &container]));
    let files: Vec<_> = fs::read_dir(&root).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(files, ["handfast"]);
    assert_eq!(fs::metadata(root.join("handfast")).unwrap().permissions().mode() & 0o7777, 0o755);
    buildah.run(&["umount", &container]);

    let work = tempfile::tempdir().unwrap();
    fs::set_permissions(work.path(), fs::Permissions::from_mode(0o755)).unwrap();
    own_folder(&work.path().join("demo"));
    let volume = format!("{}:/work", work.path().display());
    // What it says can be lost on the way through buildah; its exit status and what it writes cannot.
    let demo = ["/handfast", "demo", "--once", "--directory", "/work/demo"];
    buildah.run(&[&["run", "--volume", &volume, &container, "--"][..], &demo].concat());
    assert!(fs::read_dir(work.path().join("demo")).unwrap().count() > 3);
}
