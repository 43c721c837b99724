//! The `handfast` command: arguments in, exit status out.

use std::process::ExitCode;

use handfast::config::Cli;

fn main() -> ExitCode {
    // kube and other libraries ask for a process-wide provider; our own code passes it explicitly. A second
    // installation cannot happen.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    handfast::app::main(Cli::read())
}
