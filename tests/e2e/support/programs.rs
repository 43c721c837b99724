//! The programs that tests run: found, or built once and kept outside the checkout.
//!
//! `e2e/{main.go,go.mod,go.sum} ──go build──▶ ~/.cache/handfast/e2e-DIGEST/handfast-e2e`
//!
//! The folder is named by the digest of the sources and the version of Go, so each content is built once. A first build
//! takes minutes and fetches Go modules.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, Instant, SystemTime};

use crate::binary::static_release;
use crate::cache;

/// What the harness runs, and where Debian has it. `make needs` installs the same.
const TOOLS: &[(&str, &str)] = &[
    ("ip", "iproute2"),
    ("kill", "procps"),
    ("mount", "mount"),
    ("nft", "nftables"),
    ("nsenter", "util-linux"),
    ("setpriv", "util-linux"),
    ("unshare", "util-linux"),
];

/// Go below this does not fetch the toolchain that a module asks for.
const OLDEST_GO: (u32, u32) = (1, 21);

/// Names the control plane's binary to the processes inside of trials.
const CONTROL_PLANE: &str = "HANDFAST_E2E_PROGRAM";

/// Looks for every tool, and builds the control plane's program where it is not there. What is missing is said at once
/// and as a failure: tests that do not run prove nothing.
pub fn prepare() -> Result<(), String> {
    let found = |name: &str| {
        let status = Command::new("sh").args(["-c", &format!("command -v {name}")]).stdout(Stdio::null()).status();
        status.is_ok_and(|status| status.success())
    };
    let mut missing = String::new();
    for (tool, package) in TOOLS.iter().filter(|(tool, _)| !found(tool)) {
        let _ = writeln!(missing, "***   {tool} (Debian package {package})");
    }
    let go = if found("go") { go_version() } else { None };
    if go.is_none_or(|version| version < OLDEST_GO) {
        let there = go.map_or("none is here".to_owned(), |(major, minor)| format!("here is {major}.{minor}"));
        let (major, minor) = OLDEST_GO;
        let _ = writeln!(
            missing,
            "***   go {major}.{minor} or newer, which fetches the version that e2e/go.mod names ({there}; Debian 12 has it \
             in bookworm-backports: apt-get install -t bookworm-backports golang-go; or https://go.dev/dl)"
        );
    }
    if !missing.is_empty() {
        return Err(loud(&format!("these are missing (`make needs` installs what Debian has):\n{missing}")));
    }
    let namespaces = Command::new("unshare").args(if is_root() { "-n" } else { "-rn" }.split(' ')).arg("true").output();
    let namespaces = namespaces.map_err(|error| error.to_string())?;
    if !namespaces.status.success() {
        let said = String::from_utf8_lossy(&namespaces.stderr).into_owned();
        return Err(loud(&format!(
            "no namespace can be made: run them as root, or allow user namespaces.\n***   {said}"
        )));
    }
    if std::env::var_os(CONTROL_PLANE).is_none() {
        control_plane_folder(true)?;
    }
    println!("{}", handfast().about);
    Ok(())
}

/// Whether namespaces need no user namespace around them.
pub fn is_root() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    status.lines().any(|line| line.split_whitespace().take(3).eq(["Uid:", "0", "0"]))
}

/// Whether other users exist here: in a user namespace that anybody may make, there is only one.
pub fn has_users() -> bool {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap();
    map.split_whitespace().nth(2).is_some_and(|count| count == "4294967295")
}

/// The control plane, kubectl and helm in one.
pub fn control_plane() -> Command {
    static PATH: LazyLock<PathBuf> = LazyLock::new(|| match std::env::var_os(CONTROL_PLANE) {
        Some(path) => path.into(),
        None => control_plane_folder(false).unwrap().join("handfast-e2e"),
    });
    Command::new(&*PATH)
}

/// A binary of Handfast.
pub struct Binary {
    pub path: PathBuf,
    /// It needs no library, so it runs in an empty root as it does in its image.
    pub is_static: bool,
    /// Which one it is, for people.
    pub about: String,
}

/// The binary that runs in pods: the one that HANDFAST_BINARY names; or the static one of `make static`, unless the
/// tests' own one is newer; or the tests' own one.
pub fn handfast() -> &'static Binary {
    static BINARY: LazyLock<Binary> = LazyLock::new(|| {
        let own = PathBuf::from(env!("CARGO_BIN_EXE_handfast"));
        let modified =
            |path: &Path| fs::metadata(path).and_then(|data| data.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
        let path = match std::env::var_os("HANDFAST_BINARY") {
            Some(named) => named.into(),
            None => {
                let release = static_release();
                let is_wanted = std::env::var_os("HANDFAST_OPTIMIZED").is_some();
                if is_wanted || modified(&release) > modified(&own) { release } else { own }
            }
        };
        assert!(path.exists(), "{} is missing: `make static` makes the one for tests", path.display());
        let is_static = !needs_interpreter(&fs::read(&path).unwrap());
        let note = if is_static { "static" } else { "not static: its pods see the libraries of this machine" };
        let about = format!("pods run {} ({note})", path.display());
        Binary { path, is_static, about }
    });
    &BINARY
}

/// Whether an ELF file names a dynamic linker (System V ABI, program header PT_INTERP).
fn needs_interpreter(file: &[u8]) -> bool {
    const PT_INTERP: usize = 3;
    let number =
        |at: usize, size: usize| file[at..at + size].iter().rev().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
    let (offset, size, count) = (number(0x20, 8), number(0x36, 2), number(0x38, 2));
    (0..count).any(|index| number(offset + index * size, 4) == PT_INTERP)
}

/// Major and minor version of the Go at hand.
fn go_version() -> Option<(u32, u32)> {
    // In a folder without a module, so that it speaks of itself.
    let output = Command::new("go").arg("version").current_dir("/").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let mut numbers =
        text.split_whitespace().nth(2)?.strip_prefix("go")?.split('.').map_while(|part| part.parse().ok());
    Some((numbers.next()?, numbers.next()?))
}

/// `go` with arguments, in the module of the control plane's program.
pub fn go(args: &[&str]) -> Command {
    let mut command = Command::new("go");
    command.args(args).current_dir(e2e());
    let (major, minor) = go_version().unwrap_or(OLDEST_GO);
    let wanted = module_line("go ");
    let mut numbers = wanted.split('.').map_while(|part| part.parse::<u32>().ok());
    if (Some(major), Some(minor)) < (numbers.next(), numbers.next()) {
        // Debian's Go is told to use nothing but itself.
        command.env("GOTOOLCHAIN", "auto");
    }
    command
}

/// A file of the checkout.
pub fn checkout(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn e2e() -> PathBuf {
    checkout("e2e")
}

/// The rest of the line of go.mod that begins with this, but for blanks.
fn module_line(start: &str) -> String {
    let text = fs::read_to_string(e2e().join("go.mod")).unwrap();
    let line = text.lines().find_map(|line| line.trim_start().strip_prefix(start));
    line.unwrap_or_else(|| panic!("e2e/go.mod says nothing about {start}")).trim().to_owned()
}

/// The folder with the program, which is built first where it is not there and that is wanted.
fn control_plane_folder(build: bool) -> Result<PathBuf, String> {
    let mut content = Vec::new();
    for name in ["main.go", "go.mod", "go.sum"] {
        content.extend(fs::read(e2e().join(name)).unwrap());
    }
    content.extend(module_line("go ").into_bytes());
    if let Some((major, minor)) = go_version() {
        content.extend(format!("{major}.{minor}").into_bytes());
    }
    let folder = cache::folder("e2e", &content);
    if build {
        cache::complete(&folder, || build_control_plane(&folder))?;
    }
    Ok(folder)
}

fn build_control_plane(folder: &Path) -> Result<(), String> {
    println!("building a control plane in {}: minutes the first time", folder.display());
    let started = Instant::now();
    // Without it the API server says that it is v0.0.0, and clients misjudge it.
    let version = module_line("k8s.io/kubernetes ");
    let flags = format!("-s -w -X k8s.io/component-base/version.gitVersion={version}");
    let output = folder.join("handfast-e2e");
    let output = output.to_str().ok_or("the cache has a name that is not text")?;
    // Paths are trimmed for both, so that vet finds in Go's cache what build has put there.
    for args in [
        &["build", "-trimpath", "-buildvcs=false", "-ldflags", &flags, "-o", output, "."][..],
        &["vet", "-trimpath", "-buildvcs=false", "."],
    ] {
        let output = go(args).stdin(Stdio::null()).output().map_err(|error| error.to_string())?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            return Err(loud(&format!(
                "go {} fails (it needs Go modules: the public proxy, or one that GOPROXY names, and 6 GB for its \
                 caches):\n{said}",
                args[0]
            )));
        }
    }
    println!("built in {:.0?}", Duration::from_secs(started.elapsed().as_secs()));
    Ok(())
}

fn loud(text: &str) -> String {
    let line = "*".repeat(100);
    format!("\n{line}\n*** The end-to-end tests cannot run: {}\n{line}\n", text.trim_end())
}
