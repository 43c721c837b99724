//! One test in namespaces of its own.
//!
//! `outside: setpriv ▶ unshare ▶ sh ▶ this program again ──▶ inside: loopback up, the test, exit status`
//!
//! The chain of processes ends from either end: if the outer one dies, the kernel kills `unshare` and that the first
//! process of the new process namespace, and with it everything inside. `sh` is that first process because somebody has
//! to wait for orphans. Network interfaces, firewall rules and mounts go with their namespaces.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{PoisonError, RwLock};
use std::time::{Duration, Instant};

use libtest_mimic::Failed;

use super::process::run;
use super::{network, programs, soak};

/// Names the trial in its inner process.
const TRIAL: &str = "HANDFAST_E2E_TRIAL";
/// Where the inner process and all that it starts write.
const FOLDER: &str = "HANDFAST_E2E_FOLDER";

/// Topics whose trials wait most of the time: some run at once. All others run alone, because two cores are soon busy with
/// two control planes, and what is measured should be measured alone.
const PATIENT: &[&str] = &["outages::"];

/// How many trials run at once, at most.
pub const AT_ONCE: usize = 3;

static TURN: RwLock<()> = RwLock::new(());

/// One test.
#[derive(Clone)]
pub struct Trial {
    /// With the name of its crate.
    pub path: &'static str,
    pub run: fn(),
}

/// Lists the tests of a module.
macro_rules! trials {
    ($($name:ident),* $(,)?) => {
        /// The tests of this module.
        pub fn trials() -> Vec<$crate::support::trial::Trial> {
            vec![$($crate::support::trial::Trial {
                path: concat!(module_path!(), "::", stringify!($name)),
                run: $name,
            }),*]
        }
    };
}
pub(crate) use trials;

impl Trial {
    /// As `cargo test NAME` takes it.
    pub fn name(&self) -> &'static str {
        self.path.split_once("::").unwrap().1
    }

    /// The trial as seen from outside: start it inside, wait, show what it said if it failed.
    pub fn outside(self, show: bool) -> libtest_mimic::Trial {
        let name = self.name();
        libtest_mimic::Trial::test(name, move || {
            if PATIENT.iter().any(|topic| name.starts_with(topic)) {
                let _turn = TURN.read().unwrap_or_else(PoisonError::into_inner);
                return run_outside(name, show);
            }
            let _turn = TURN.write().unwrap_or_else(PoisonError::into_inner);
            run_outside(name, show)
        })
    }
}

/// The trial that this process is inside of.
pub fn inside() -> Option<String> {
    std::env::var(TRIAL).ok()
}

/// For what processes say: kept until the next run of the trial.
pub fn logs() -> PathBuf {
    PathBuf::from(std::env::var_os(FOLDER).expect("only inside a trial")).join("logs")
}

/// For everything else: in memory, gone at the end.
pub fn scratch() -> PathBuf {
    PathBuf::from(std::env::var_os(FOLDER).expect("only inside a trial")).join("run")
}

/// Prepares the namespaces and runs the test. A failed test is a panic.
pub fn run_inside(trial: Trial) {
    run(Command::new("mount").args(["-t", "tmpfs", "-o", "mode=0755", "tmpfs"]).arg(scratch()));
    fs::create_dir(scratch().join("tmp")).unwrap();
    network::prepare();
    (trial.run)();
}

fn run_outside(name: &str, show: bool) -> Result<(), Failed> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("e2e").join(name.replace("::", "."));
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(folder.join("logs"))?;
    fs::create_dir_all(folder.join("run"))?;
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "unshare"]);
    if !programs::is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    command.args(["--net", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--mount-proc"]);
    command.args(["sh", "-c", "\"$0\"; exit $?"]).arg(std::env::current_exe()?);
    command.env(TRIAL, name).env(FOLDER, &folder).env("TMPDIR", folder.join("run/tmp")).stdin(Stdio::null());
    let output = folder.join("logs/test.log");
    if !show {
        let file = File::create(&output)?;
        command.stdout(file.try_clone()?).stderr(file);
    }
    let limit = Duration::from_secs(if soak() { 3600 } else { 600 });
    let started = Instant::now();
    let mut child = command.spawn()?;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if started.elapsed() > limit {
            child.kill()?;
            child.wait()?;
            return Err(failure(name, &folder, &format!("not done within {limit:?}")));
        }
        std::thread::park_timeout(Duration::from_millis(10));
    };
    if status.success() {
        return Ok(());
    }
    Err(failure(name, &folder, &format!("ended with {status}")))
}

/// What the test said, and the end of what its processes said.
fn failure(name: &str, folder: &Path, what: &str) -> Failed {
    const LINES: usize = 15;
    let logs = folder.join("logs");
    let mut text = format!("{name} {what}. Everything that was logged is in {}\n", logs.display());
    let own = fs::read_to_string(logs.join("test.log")).unwrap_or_default();
    text.push_str(&own);
    let mut files: Vec<PathBuf> =
        fs::read_dir(&logs).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    files.sort();
    for file in files.iter().filter(|file| !file.ends_with("test.log")) {
        let content = String::from_utf8_lossy(&fs::read(file).unwrap_or_default()).into_owned();
        let lines: Vec<&str> = content.lines().collect();
        text.push_str(&format!("--- the last lines of {}\n", file.file_name().unwrap_or_default().to_string_lossy()));
        for line in &lines[lines.len().saturating_sub(LINES)..] {
            let end = line.char_indices().nth(400).map_or(line.len(), |(index, _)| index);
            text.push_str(&line[..end]);
            text.push('\n');
        }
    }
    Failed::from(text)
}
