//! Handfast as a plain process with an address of its own, without a pod around it: the quick way for tests that are
//! not about the chart.

use std::net::SocketAddr;

use super::network::{Cut, Sandbox};
use super::process::Process;
use super::{ControlPlane, programs, wait_until};
use crate::binary::{page, sum};

/// A running controller. It is killed when this is dropped.
pub struct Handfast {
    pub process: Process,
    pub sandbox: Sandbox,
    pub http: SocketAddr,
    pub https: SocketAddr,
    pub admin: SocketAddr,
}

impl Handfast {
    /// `handfast run` with an administrator's kubeconfig, unless `args` name another one. It listens on ports 80, 443 and
    /// 10254 of an address of its own. Does not wait for anything.
    pub fn start(plane: &ControlPlane, args: &[&str]) -> Self {
        Self::start_in(Sandbox::new(plane.number), plane, args)
    }

    /// As [`Self::start`], at an address that is there already: that of a predecessor, for example.
    pub fn start_in(sandbox: Sandbox, plane: &ControlPlane, args: &[&str]) -> Self {
        let at = |port: u16| SocketAddr::from((sandbox.address, port));
        let (http, https, admin) = (at(80), at(443), at(10254));
        let mut command = sandbox.enter();
        command.arg(&programs::handfast().path).arg("run").args(args).env_clear();
        for (flag, address) in [("--http", http), ("--https", https), ("--admin", admin)] {
            command.args([flag, &address.to_string()]);
        }
        command.args(["--admin-expose-api", "--access-log", "off"]);
        if !args.contains(&"--kubeconfig") {
            command.arg("--kubeconfig").arg(plane.kubeconfig());
        }
        let process = Process::start(&format!("handfast-{}", sandbox.address), &mut command);
        Self { process, sandbox, http, https, admin }
    }

    /// Ends the process, and keeps its address for the next one.
    pub fn end(self) -> Sandbox {
        self.process.kill();
        self.sandbox
    }

    /// Waits until it is ready.
    pub fn wait_until_ready(&self) {
        wait_until("Handfast is ready", || {
            assert!(self.process.is_running(), "Handfast has ended:\n{}", self.process.said());
            self.is_ready()
        });
    }

    pub fn is_ready(&self) -> bool {
        handfast::demo::client::get_plain(self.admin, "localhost", "/readyz").is_ok_and(|answer| answer.status == 200)
    }

    /// A page of the admin listener.
    pub fn admin(&self, path: &str) -> (u16, String) {
        page(self.admin, path)
    }

    /// The sum of a metric's samples whose labels contain all of `labels`.
    pub fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        sum(&self.admin("/metrics").1, name, labels)
    }

    /// Waits until the log has a line with this text.
    pub fn wait_for_line(&self, text: &str) {
        wait_until(&format!("{text:?} in {}", self.process.log.display()), || self.process.said().contains(text));
    }

    /// Drops all packets between it and the API server until the value is dropped. The test and the node still reach it.
    pub fn cut_off(&self, plane: &ControlPlane) -> Cut {
        self.sandbox.cut_off_from(plane.address)
    }

    /// Resident memory, in bytes.
    pub fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    }
}
