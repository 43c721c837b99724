//! Other words for our flags and commands: what people know from other programs, and the right word here.
//!
//! `error of clap ──flag or command that does not exist──▶ the same error with the nearest right one`
//!
//! clap compares spellings only, so it finds `--outptu` but not `--format`.

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Command, CommandFactory, Parser};

use super::Cli;

/// A flag that does not exist, and the flags that are meant by it: the first one that the command has.
const FLAGS: &[(&str, &[&str])] = &[
    ("--CAfile", &["--trust-anchors"]),
    ("--address", &["--admin", "--https"]),
    ("--admin-address", &["--admin"]),
    ("--admin-port", &["--admin"]),
    ("--apiserver-host", &["--kubeconfig"]),
    ("--ca", &["--trust-anchors"]),
    ("--ca-bundle", &["--trust-anchors"]),
    ("--ca-file", &["--trust-anchors"]),
    ("--cacert", &["--trust-anchors"]),
    ("--cafile", &["--trust-anchors"]),
    ("--class", &["--ingress-class"]),
    ("--count", &["--limit"]),
    ("--date", &["--at"]),
    ("--debug", &["--log"]),
    ("--default-certificate", &["--default-tls-secret"]),
    ("--default-ssl-certificate", &["--default-tls-secret"]),
    ("--dir", &["--source", "--directory"]),
    ("--directory", &["--source"]),
    ("--domain", &["--name", "--sni", "--host"]),
    ("--file", &["--source"]),
    ("--filename", &["--source"]),
    ("--format", &["--output", "--log-format"]),
    ("--health-port", &["--admin"]),
    ("--healthz-port", &["--admin"]),
    ("--host", &["--name", "--sni"]),
    ("--hostname", &["--name", "--sni", "--host"]),
    ("--http-port", &["--http"]),
    ("--https-port", &["--https"]),
    ("--json", &["--output json", "--log-format json"]),
    ("--kube-config", &["--kubeconfig"]),
    ("--lines", &["--limit"]),
    ("--listen", &["--https"]),
    ("--log-level", &["--log"]),
    ("--manifests", &["--source"]),
    ("--metrics", &["--admin"]),
    ("--metrics-address", &["--admin"]),
    ("--metrics-port", &["--admin"]),
    ("--namespace", &["--watch-namespace"]),
    ("--namespaces", &["--watch-namespace"]),
    ("--now", &["--at"]),
    ("--number", &["--limit"]),
    ("--out", &["--output"]),
    ("--path", &["--source"]),
    ("--port", &["--https", "--admin"]),
    ("--private-key", &["--key"]),
    ("--proxy", &["--trusted-proxies"]),
    ("--recursive", &["--source"]),
    ("--roots", &["--trust-anchors"]),
    ("--server", &["--admin"]),
    ("--server-name", &["--sni", "--name"]),
    ("--servername", &["--sni", "--name"]),
    ("--shutdown-grace-period", &["--unready-delay"]),
    ("--state", &["--state-dir"]),
    ("--strict", &["--fail-on warning"]),
    ("--tail", &["--limit"]),
    ("--threads", &["--workers"]),
    ("--time", &["--at"]),
    ("--timeout", &["--wait", "--handshake-timeout"]),
    ("--trusted-networks", &["--trusted-proxies"]),
    ("--update-status", &["--no-status"]),
    ("--url", &["--admin"]),
    ("--use-proxy-protocol", &["--proxy-protocol"]),
    ("--validating-webhook", &["--webhook-addr"]),
    ("--validating-webhook-certificate", &["--webhook-cert"]),
    ("--validating-webhook-key", &["--webhook-key"]),
    ("--verbose", &["--log"]),
    ("--verbosity", &["--log"]),
    ("--wait-for", &["--wait"]),
    ("--warnings-as-errors", &["--fail-on warning"]),
    ("--watch", &["--follow"]),
    ("-f", &["--source", "--follow"]),
    ("-k", &["--key", "--kubeconfig"]),
    ("-n", &["--watch-namespace", "--limit"]),
    ("-o", &["--output"]),
    ("-v", &["--log"]),
    ("-w", &["--follow"]),
];

/// A command that does not exist, and the one that is meant by it.
const COMMANDS: &[(&str, &str)] = &[
    ("analyze", "check"),
    ("certificate", "chain"),
    ("completion", "completions"),
    ("controller", "run"),
    ("crds", "crd"),
    ("describe", "explain"),
    ("errors", "failures"),
    ("health", "ready"),
    ("lint", "check"),
    ("logs", "failures"),
    ("scan", "probe"),
    ("serve", "run"),
    ("server", "run"),
    ("start", "run"),
    ("status", "ready"),
    ("test", "check"),
    ("try", "demo"),
    ("validate", "check"),
    ("verify", "chain"),
];

/// Parses the command line. An error names the nearest flag or command that exists.
pub(super) fn parse(arguments: &[OsString]) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(arguments).map_err(|error| suggest(error, arguments))
}

fn suggest(mut error: clap::Error, arguments: &[OsString]) -> clap::Error {
    let text = |error: &clap::Error, kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        Some(_) | None => None,
    };
    if let (ErrorKind::InvalidSubcommand, Some(wrong)) = (error.kind(), text(&error, ContextKind::InvalidSubcommand))
        && let Some((_, right)) = COMMANDS.iter().find(|(name, _)| *name == wrong)
    {
        error.insert(ContextKind::SuggestedSubcommand, ContextValue::Strings(vec![(*right).to_owned()]));
    }
    if let (ErrorKind::UnknownArgument, Some(wrong)) = (error.kind(), text(&error, ContextKind::InvalidArg))
        && let Some(right) = meant(&wrong, arguments)
    {
        error.insert(ContextKind::SuggestedArg, ContextValue::String(right.to_owned()));
        // Without this, clap also advises to pass the flag as a value.
        error.remove(ContextKind::Suggested);
    }
    error
}

/// The flag of this command that is meant by one that it does not have.
fn meant(wrong: &str, arguments: &[OsString]) -> Option<&'static str> {
    let cli = Cli::command();
    let mut names = arguments.iter().skip(1).filter_map(|argument| argument.to_str());
    let command = names.find_map(|name| cli.find_subcommand(name))?;
    let (_, rights) = FLAGS.iter().find(|(name, _)| *name == wrong)?;
    rights.iter().copied().find(|right| has(command, right))
}

/// Whether a command has the flag of `--flag` or `--flag value`.
fn has(command: &Command, right: &str) -> bool {
    let flag = right.split(' ').next().and_then(|flag| flag.strip_prefix("--"));
    command.get_arguments().any(|argument| argument.get_long().is_some() && argument.get_long() == flag)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(arguments: &[&str]) -> String {
        let arguments: Vec<OsString> = ["handfast"].iter().chain(arguments).map(OsString::from).collect();
        parse(&arguments).unwrap_err().to_string()
    }

    #[test]
    fn a_wrong_flag_gets_the_one_that_is_meant() {
        for (arguments, right) in [
            (&["check", "--format", "json"][..], "'--output'"),
            (&["check", "--format=json"], "'--output'"),
            (&["check", "-o", "json"], "'--output'"),
            (&["failures", "--json"], "'--output json'"),
            (&["run", "--json"], "'--log-format json'"),
            (&["run", "--namespace", "shop"], "'--watch-namespace'"),
            (&["run", "--default-ssl-certificate", "a/b"], "'--default-tls-secret'"),
            (&["check", "--strict"], "'--fail-on warning'"),
            (&["probe", "a.example", "--servername", "b.example"], "'--sni'"),
            (&["chain", "a.pem", "--host", "b.example"], "'--name'"),
            (&["run", "--log-level", "debug"], "'--log'"),
            // What clap finds by spelling stays.
            (&["check", "--outptu", "json"], "'--output'"),
        ] {
            let text = error(arguments);
            assert!(text.contains(right), "{arguments:?}: {text}");
            assert_eq!(text.matches("tip:").count(), 1, "{arguments:?}: {text}");
        }
        assert!(error(&["validate"]).contains("'check'") && error(&["serve"]).contains("'run'"));
        assert!(!error(&["check", "--no-such-flag-at-all"]).contains("'--output'"));
    }

    #[test]
    fn the_tables_lead_from_words_that_do_not_exist_to_words_that_do() {
        let cli = Cli::command();
        let commands: Vec<&Command> = cli.get_subcommands().collect();
        for (wrong, rights) in FLAGS {
            for right in *rights {
                let taking: Vec<&&Command> = commands.iter().filter(|command| has(command, right)).collect();
                assert!(!taking.is_empty(), "no command has {right}");
                assert!(taking.iter().any(|command| !has(command, wrong)), "{wrong} exists wherever {right} does");
            }
        }
        for (wrong, right) in COMMANDS {
            assert!(cli.find_subcommand(right).is_some() && cli.find_subcommand(wrong).is_none(), "{wrong}");
        }
        assert!(FLAGS.is_sorted_by(|a, b| a.0 < b.0) && COMMANDS.is_sorted_by(|a, b| a.0 < b.0));
    }
}
