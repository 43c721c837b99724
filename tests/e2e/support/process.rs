//! Processes that a test starts: their output goes to a file, and they end with the value that started them.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;

use super::{trial, wait_until};

/// Runs a command to its end; fails with what it said if it fails.
pub fn run(command: &mut Command) -> String {
    let (text, succeeded) = outcome(command);
    assert!(succeeded, "{command:?} failed: {text}");
    text
}

/// Runs a command to its end: what it said on both streams, and whether it succeeded.
pub fn outcome(command: &mut Command) -> (String, bool) {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (text, output.status.success())
}

/// A process that is killed when this is dropped.
pub struct Process {
    pub log: PathBuf,
    pid: u32,
    child: Mutex<Child>,
}

impl Process {
    /// Starts it; both output streams are appended to the log `name`.
    pub fn start(name: &str, command: &mut Command) -> Self {
        let log = trial::logs().join(format!("{name}.log"));
        let file = File::options().create(true).append(true).open(&log).unwrap();
        command.stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file);
        let child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        Self { log, pid: child.id(), child: Mutex::new(child) }
    }

    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// All that it has written so far, and its predecessors with the same log.
    pub fn said(&self) -> String {
        said(&self.log)
    }

    /// Sends a signal by its name without `SIG`.
    pub fn signal(&self, name: &str) {
        // The child is not reaped while this is held, so the number cannot be another process's.
        let mut child = self.child.lock().unwrap();
        if child.try_wait().unwrap().is_none() {
            crate::binary::signal(self.pid, name);
        }
    }

    /// The first child of this process: what `unshare --fork` runs.
    pub fn child(&self) -> Option<u32> {
        let list = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", self.pid)).ok()?;
        list.split_whitespace().next()?.parse().ok()
    }

    /// Ends what `unshare --fork` runs, and with it its process namespace; else the process itself.
    pub fn kill_group(&self) {
        match self.child() {
            Some(child) => drop(outcome(Command::new("kill").arg("-KILL").arg(child.to_string()))),
            None => drop(self.child.lock().unwrap().kill()),
        }
    }

    /// The exit status, once it has ended.
    pub fn ended(&self) -> Option<ExitStatus> {
        self.child.lock().unwrap().try_wait().unwrap()
    }

    pub fn is_running(&self) -> bool {
        self.ended().is_none()
    }

    /// Waits for the end.
    pub fn wait(&self) -> ExitStatus {
        wait_until(&format!("{} ends", self.log.display()), || !self.is_running());
        self.ended().unwrap()
    }

    /// Ends it at once, also if it is stopped.
    pub fn kill(&self) {
        let mut child = self.child.lock().unwrap();
        let _ = child.kill();
        let _ = child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The content of a log.
pub fn said(log: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(log).unwrap_or_default()).into_owned()
}
