//! `handfast failures` in the terminal: reports as text.
//!
//! `FailuresReport, ShadowReport ──▶ blocks of lines, worst to read last`
//!
//! Pure. Texts that clients chose (server names, application protocols) are printed with control characters escaped.

use std::collections::HashMap;
use std::fmt::Write as _;

use super::report::{Entry, FailuresReport, ShadowReport};

/// Everything: examples from the oldest to the newest, then the totals.
pub fn table(report: &FailuresReport) -> String {
    let mut out = String::new();
    for one in report.failures.iter().rev() {
        out.push_str(&entry(one));
    }
    let Some(totals) = &report.totals else {
        out.push_str("\nNo counts per host, because Handfast runs with --metrics-per-host=false.\n");
        return out;
    };
    if totals.is_empty() && report.failures.is_empty() {
        return "No handshake has failed.\n".to_owned();
    }
    if report.omitted > 0 {
        let _ = writeln!(out, "\n{} older examples are not shown. Use --limit to see more.", report.omitted);
    }
    if !totals.is_empty() {
        out.push_str("\nTotals since the start\n");
    }
    let mut totals = totals.clone();
    totals.sort_by_key(|total| std::cmp::Reverse(total.count));
    for total in totals {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "{:>9}  {:<32} {:<28} {}", total.count, nobody(&total.host), total.reason, total.blame);
    }
    out
}

/// One example as a block of lines.
pub fn entry(entry: &Entry) -> String {
    let mut out = String::new();
    let sni = match &entry.sni {
        Some(sni) if *sni != entry.host => format!(" (asked for {})", escaped(sni)),
        Some(_) => String::new(),
        None => " (no server name)".to_owned(),
    };
    let times = if entry.count > 1 { format!(" ×{} since {}", entry.count, entry.first) } else { String::new() };
    let _ = writeln!(
        out,
        "{}  {}{sni}  {}  who must act: {}  client {}{times}",
        entry.time,
        nobody(&entry.host),
        entry.reason,
        entry.blame,
        entry.client
    );
    let alerts = [("sent", &entry.alert_sent), ("received", &entry.alert_received)];
    let mut facts: Vec<String> =
        alerts.iter().filter_map(|(verb, alert)| Some(format!("alert {verb}: {}", alert.as_ref()?))).collect();
    if let Some(offered) = &entry.offered {
        facts.push(format!("offered: {}", offered.versions.join(", ")));
    }
    facts.extend(entry.looks_like.as_ref().map(|name| format!("looks like {name}")));
    facts.extend(entry.ja4.as_ref().map(|ja4| format!("JA4 {ja4}")));
    for (what, text) in [("", &Some(facts.join("; "))), ("", &entry.detail)] {
        if let Some(text) = text.as_ref().filter(|text| !text.is_empty()) {
            let _ = writeln!(out, "    {what}{}", escaped(text));
        }
    }
    if let Some(host) = &entry.nearest_host {
        let _ = writeln!(out, "    do you mean {host}?");
    }
    let _ = writeln!(out, "    remedy: {}", entry.remedy);
    out
}

/// What shadow policies would have done.
pub fn shadow(report: &ShadowReport) -> String {
    let mut out = String::new();
    if report.hosts.is_empty() {
        return "No host tries a policy. Name one with the annotation handfast.dev/shadow-tls-policy. If you have named one, \
                `handfast check` says what is wrong with it.\n"
            .to_owned();
    }
    for host in &report.hosts {
        match &host.outcomes {
            Some(outcomes) => {
                let all: u64 = outcomes.values().sum();
                let lost = outcomes.iter().filter(|(outcome, _)| outcome.starts_with("lost-"));
                let lost: u64 = lost.map(|(_, count)| count).sum();
                let (name, policy) = (&host.host, &host.policy);
                let _ = writeln!(
                    out,
                    "{name}  shadow policy {policy}: {lost} of {all} ClientHellos connect now and would fail"
                );
                for (outcome, count) in outcomes {
                    let _ = writeln!(out, "{count:>9}  {outcome}");
                }
            }
            None => {
                let _ = writeln!(
                    out,
                    "{}  shadow policy {}: no counts per host, because of --metrics-per-host=false; {} examples",
                    host.host,
                    host.policy,
                    host.lost.len()
                );
            }
        }
        if let Some(not_judged) = &host.not_judged {
            let _ = writeln!(out, "    not judged: {not_judged}");
        }
        for one in host.lost.iter().rev() {
            for line in entry(one).lines() {
                let _ = writeln!(out, "    {line}");
            }
        }
    }
    out
}

/// Remembers what has been printed, for `--follow`.
#[derive(Default)]
pub struct Follower {
    printed: HashMap<(String, String, String), String>,
}

impl Follower {
    /// What of a report is new or has happened again, oldest first.
    pub fn news<'a>(&mut self, entries: &'a [Entry]) -> Vec<&'a Entry> {
        let mut news: Vec<&Entry> = Vec::new();
        for one in entries.iter().rev() {
            let key = (one.host.clone(), one.reason.clone(), one.client.clone());
            if self.printed.insert(key, one.time.clone()).is_none_or(|before| before < one.time) {
                news.push(one);
            }
        }
        news
    }
}

fn nobody(host: &str) -> &str {
    if host.is_empty() { "-" } else { host }
}

fn escaped(text: &str) -> String {
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect::<Vec<_>>() } else { vec![c] }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failures::report::Total;

    fn example() -> Entry {
        Entry {
            time: "2026-11-27T10:00:01.000Z".into(),
            first: "2026-11-27T09:00:00.000Z".into(),
            count: 3,
            client: "192.0.2.7".into(),
            sni: Some("shpo.example\u{1b}".into()),
            host: String::new(),
            reason: "unknown-host".into(),
            blame: "client".into(),
            alert_sent: Some("unrecognized_name".into()),
            alert_received: None,
            ja4: None,
            looks_like: None,
            offered: None,
            served: None,
            detail: None,
            nearest_host: Some("shop.example".into()),
            remedy: "add the host".into(),
        }
    }

    #[test]
    fn an_example_is_a_block_without_control_characters() {
        assert_eq!(
            entry(&example()),
            "2026-11-27T10:00:01.000Z  - (asked for shpo.example\\u{1b})  unknown-host  who must act: client  client 192.0.2.7 \
             ×3 since 2026-11-27T09:00:00.000Z\n    alert sent: unrecognized_name\n    do you mean shop.example?\n    \
             remedy: add the host\n"
        );
    }

    #[test]
    fn totals_come_last_and_an_empty_report_says_so() {
        let total = |count, reason: &str| Total {
            host: "a.example".into(),
            reason: reason.into(),
            blame: "client".into(),
            count,
        };
        let report = FailuresReport {
            failures: vec![example()],
            omitted: 3,
            totals: Some(vec![total(2, "ssh"), total(30, "not-tls")]),
        };
        let text = table(&report);
        assert!(text.find("remedy").unwrap() < text.find("       30  a.example").unwrap(), "{text}");
        assert!(text.find("not-tls").unwrap() < text.find("  ssh").unwrap(), "{text}");
        assert_eq!(
            table(&FailuresReport { failures: vec![], omitted: 0, totals: Some(vec![]) }),
            "No handshake has failed.\n"
        );
    }

    #[test]
    fn what_was_printed_is_printed_again_only_if_it_happens_again() {
        let mut follower = Follower::default();
        let mut one = example();
        assert_eq!(follower.news(std::slice::from_ref(&one)).len(), 1);
        assert!(follower.news(std::slice::from_ref(&one)).is_empty());
        one.time = "2026-11-27T10:00:02.000Z".into();
        assert_eq!(follower.news(&[one]).len(), 1);
    }
}
