//! Options of `check`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use rustls::pki_types::UnixTime;

use super::{CompileArgs, time};
use crate::api::annotations::edit_distance;
use crate::explain::{self, Kind};

/// Options of `check`.
#[derive(Args, Clone, Debug)]
pub struct CheckArgs {
    /// Directory of manifests, one file, or `-` for standard input. Default: ./manifests.
    #[arg(value_name = "PATH")]
    pub path: Option<PathBuf>,

    /// The same as PATH, which wins.
    #[arg(long, env = "HANDFAST_SOURCE", value_name = "PATH")]
    pub source: Option<PathBuf>,

    /// What is done with Ingresses and certificates.
    #[command(flatten)]
    pub compile: CompileArgs,

    /// How to print the result.
    #[arg(long, env = "HANDFAST_OUTPUT", default_value = "table", value_name = "FORM")]
    pub output: OutputFormat,

    /// Check as of this time instead of now: a date (midnight UTC) or an RFC 3339 time.
    #[arg(long, env = "HANDFAST_AT", value_name = "TIME", value_parser = time)]
    pub at: Option<UnixTime>,

    /// Also show which known clients can connect to each host, with what, and why others cannot.
    ///
    /// A host that locks clients out, although another policy or certificate would let them in, gets the warning
    /// clients-locked-out. `handfast clients` lists the clients and their ids.
    #[arg(long, env = "HANDFAST_CLIENTS", num_args = 0..=1, default_missing_value = "true", default_value = "false", value_name = "BOOL")]
    pub clients: bool,

    /// Judge the Ingresses of this class as served, whichever controller it belongs to, as `run` would with the same option;
    /// repeatable, or comma separated.
    #[arg(long, env = "HANDFAST_ADOPT_CLASS", value_name = "NAME,…", value_delimiter = ',')]
    pub adopt_class: Vec<String>,

    /// Leave out findings of this code, as if they had not been found; repeatable, or comma separated.
    #[arg(long, env = "HANDFAST_IGNORE", value_name = "CODE,…", value_delimiter = ',', value_parser = finding)]
    pub ignore: Vec<String>,

    /// Leave out of the table what is well: hosts that work or are not served, and findings of severity info.
    #[arg(long, env = "HANDFAST_QUIET", num_args = 0..=1, default_missing_value = "true", default_value = "false", value_name = "BOOL")]
    pub quiet: bool,

    /// Print counts in place of hosts and objects: how many hosts and Ingresses stand where, each finding, and each
    /// annotation that is not supported or ignored.
    #[arg(long, env = "HANDFAST_SUMMARY", num_args = 0..=1, default_missing_value = "true", default_value = "false", value_name = "BOOL")]
    pub summary: bool,

    /// Lowest severity that makes the exit status 1.
    #[arg(long, env = "HANDFAST_FAIL_ON", default_value = "error", value_name = "SEVERITY")]
    pub fail_on: FailOn,
}

/// Which findings make `check` fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FailOn {
    /// Errors.
    Error,
    /// Errors and warnings.
    Warning,
}

/// How `check` prints its result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OutputFormat {
    /// One JSON document.
    Json,
    /// SARIF 2.1.0, for sites that show findings beside the lines of a change.
    Sarif,
    /// Only what would be served, as text (the format of /debug/snapshot).
    Snapshot,
    /// A table for people.
    Table,
}

/// The code of a finding that `check` can report.
fn finding(text: &str) -> Result<String, String> {
    let topics = explain::topics();
    let is_reported = |kind: Kind| match kind {
        Kind::Chain | Kind::Client | Kind::Object => true,
        Kind::Handshake | Kind::Outcome | Kind::Server => false,
    };
    let codes = || topics.iter().filter(|topic| is_reported(topic.kind)).map(|topic| topic.code);
    if codes().any(|code| code == text) {
        return Ok(text.to_owned());
    }
    let nearest = codes().map(|code| (edit_distance(code, text), code)).min();
    let meant = nearest.map(|(_, code)| format!(" Do you mean {code}?")).unwrap_or_default();
    Err(format!("No finding has the code {text:?}.{meant} `handfast explain` lists all of them"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_codes_of_findings_can_be_left_out_and_the_nearest_is_named() {
        assert_eq!(finding("unsupported-annotation").as_deref(), Ok("unsupported-annotation"));
        assert_eq!(finding("host-answers-503").as_deref(), Ok("host-answers-503"));
        let error = finding("unsuported-anotation").unwrap_err();
        assert!(error.contains("Do you mean unsupported-annotation?"), "{error}");
        assert!(finding("unknown-host").is_err(), "that is a reason of handshakes");
    }
}
