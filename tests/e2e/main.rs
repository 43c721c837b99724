//! End-to-end tests: Handfast against a real API server, in network namespaces of their own.
//!
//! `cargo test ──▶ one trial after another ──unshare──▶ the same program again, inside ──▶ one test`
//!
//! Those that mostly wait (outages) run three at a time.
//!
//! Each trial runs in namespaces that end with it (network, processes, mounts), so whatever a test starts, mounts or
//! leaves behind is gone when it ends: also when it fails, hangs, or when somebody presses Ctrl-C. Tests may use fixed
//! addresses and ports, because nobody else is there. What the processes of a trial wrote is kept below
//! `target/tmp/e2e/TRIAL` until its next run.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    unreachable_pub,
    reason = "tests may"
)]

#[allow(dead_code, reason = "shared with the integration tests")]
#[path = "../it/backend.rs"]
mod backend;
#[allow(dead_code, reason = "shared with the integration tests")]
#[path = "../it/binary.rs"]
mod binary;
#[path = "../it/cache.rs"]
mod cache;
mod certmanager;
mod chart;
mod conformance;
mod control_plane;
mod last_good;
mod node;
mod outages;
mod rolling;
mod scale;
mod status;
#[allow(dead_code, reason = "what tests may use")]
mod support;
mod times;
mod webhook;

use std::process::ExitCode;

use libtest_mimic::Arguments;

use support::{programs, trial};

/// Every test, by topic.
fn trials() -> Vec<trial::Trial> {
    [
        certmanager::trials(),
        chart::trials(),
        conformance::trials(),
        control_plane::trials(),
        last_good::trials(),
        node::trials(),
        outages::trials(),
        rolling::trials(),
        scale::trials(),
        status::trials(),
        times::trials(),
        webhook::trials(),
    ]
    .concat()
}

fn main() -> ExitCode {
    if let Some(name) = trial::inside() {
        let found = trials().into_iter().find(|trial| trial.name() == name);
        trial::run_inside(found.unwrap_or_else(|| panic!("no test is called {name}")));
        return ExitCode::SUCCESS;
    }
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(trial::AT_ONCE);
    let show = arguments.nocapture;
    let tests: Vec<_> = trials().into_iter().map(|trial| trial.outside(show)).collect();
    let wanted = tests.iter().any(|test| !arguments.is_filtered_out(test)) && !arguments.list;
    if wanted && let Err(missing) = programs::prepare() {
        eprintln!("{missing}");
        return ExitCode::FAILURE;
    }
    libtest_mimic::run(&arguments, tests).exit_code()
}
