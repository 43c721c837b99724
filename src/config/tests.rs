//! Tests of the command line.

use super::*;
use clap::CommandFactory;

#[test]
fn the_command_line_is_consistent_and_every_option_of_run_and_check_has_a_variable() {
    Cli::command().debug_assert();
    let command = Cli::command();
    for name in ["run", "check"] {
        let command = command.find_subcommand(name).unwrap();
        for option in command.get_arguments().filter(|option| option.get_long().is_some()) {
            let long = option.get_long().unwrap();
            if matches!(long, "help" | "version") {
                continue;
            }
            let variable = option.get_env().map(|name| name.to_string_lossy().into_owned());
            let expected = format!("HANDFAST_{}", long.replace('-', "_").to_uppercase());
            assert_eq!(variable, Some(expected), "--{long} of {name}");
        }
    }
}

#[test]
fn each_flag_of_run_stands_under_a_heading_where_a_reader_looks_for_it() {
    let command = Cli::command();
    let run = command.find_subcommand("run").unwrap();
    let heading = |flag: &str| {
        let argument = run.get_arguments().find(|argument| argument.get_long() == Some(flag)).unwrap();
        argument.get_help_heading()
    };
    for argument in run.get_arguments().filter_map(|argument| argument.get_long()) {
        assert!(argument == "help" || argument == "version" || heading(argument).is_some(), "--{argument}");
    }
    for (flag, expected) in [
        ("source", SOURCE),
        ("kubeconfig", "Cluster"),
        ("ingress-class", INGRESSES),
        ("adopt-class", INGRESSES),
        ("watch-namespace", INGRESSES),
        ("https", LISTENERS),
        ("proxy-protocol", LISTENERS),
        ("trusted-proxies", LISTENERS),
        ("default-tls-secret", TLS),
        ("default-tls-policy", TLS),
        ("trust-anchors", TLS),
        ("state-dir", STATE),
        ("last-good-secret", STATE),
        ("admin", ADMIN),
        ("allow-keylog", ADMIN),
        ("access-log", LOGS),
        ("log", LOGS),
        ("mask-clients", LOGS),
        ("metrics-per-host", LOGS),
        ("max-headers", LIMITS),
        ("drain-timeout", "Timeouts"),
        ("no-status", "Status"),
        ("webhook-addr", "Webhook"),
    ] {
        assert_eq!(heading(flag), Some(expected), "--{flag}");
    }
}

#[test]
fn nothing_is_a_value_where_it_has_a_meaning() {
    for args in
        [["--keep-alive", "0s"], ["--drain-timeout", "0s"], ["--unready-delay", "0s"], ["--last-good-ttl", "0s"]]
    {
        assert!(Cli::try_parse_from([&["handfast", "run"], &args[..]].concat()).is_ok(), "{args:?}");
    }
}

#[test]
fn the_admin_listener_is_named_by_address_name_or_url() {
    let rows = [
        ("127.0.0.1:1", "127.0.0.1:1"),
        ("127.0.0.1", "127.0.0.1:10254"),
        ("localhost:10254", "localhost:10254"),
        ("localhost", "localhost:10254"),
        ("http://localhost:10254/api/failures", "localhost:10254"),
        ("HTTP://[::1]", "[::1]:10254"),
        ("[::1]:2", "[::1]:2"),
        ("::1", "[::1]:10254"),
    ];
    for (text, expected) in rows {
        assert_eq!(admin_target(text).unwrap().to_string(), expected, "{text}");
    }
    assert!(admin_target("").is_err() && admin_target("http://").is_err());
}

#[test]
fn bad_values_say_what_to_write() {
    let error = |args: &[&str]| Cli::try_parse_from(args).unwrap_err().to_string();
    assert!(error(&["handfast", "run", "--default-tls-secret", "wild"]).contains("NAMESPACE/NAME"));
    assert!(error(&["handfast", "run", "--trusted-proxies", "10.0.0.0/99"]).contains("10.0.0.0/8"));
    assert!(error(&["handfast", "run", "--max-header-size", "1"]).contains("8KiB"));
    assert!(error(&["handfast", "run", "--keep-alive", "500000000000y"]).contains("68years"));
    assert!(error(&["handfast", "run", "--http", "8080"]).contains("[::]:8080"));
    assert!(error(&["handfast", "run", "--workers", "0"]).contains("--workers"));
    for limit in ["--max-connections", "--max-handshakes", "--max-headers"] {
        assert!(error(&["handfast", "run", limit, "0"]).contains("serve nobody"), "{limit}");
        assert!(error(&["handfast", "run", limit, "many"]).contains("a number from 1"), "{limit}");
    }
    for limit in ["handshake", "header", "body", "connect", "read", "send"] {
        let limit = format!("--{limit}-timeout");
        assert!(error(&["handfast", "run", &limit, "0s"]).contains("0s leaves no time"), "{limit}");
    }
    assert!(error(&["handfast", "failures", "--admin", "https://localhost"]).contains("plain HTTP, not https"));
    assert!(error(&["handfast", "failures", "--admin", "localhost:x"]).contains("is not a port"));
    assert!(error(&["handfast", "check", "--at", "tomorrow"]).contains("2026-12-24"));
    assert!(error(&["handfast", "check", "--at", "1960-01-01"]).contains("1970"));
    assert!(error(&["handfast", "chain", "x.pem", "--name", "a..b"]).contains("--name"));
    assert!(error(&["handfast", "probe", "shop.example:0"]).contains("from 1 to 65535"));
    assert!(error(&["handfast", "probe", "shop.example", "--sni", "192.0.2.1"]).contains("not a server name"));
}
