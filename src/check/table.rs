//! A report for people.
//!
//! `Report ──▶ hosts with their findings, what touches no host, what many share, the verdict`
//!
//! What many objects or hosts have in common is shown once, in full, behind the hosts; there only its code stands.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt::{Result, Write as _};

use super::summary::counted;
use super::traffic::served;
use super::{Finding, HostReport, Report, Verdict, write_total};
use crate::compile::{Effect, Severity};
use crate::snapshot::Traffic;

/// How to print a report.
#[derive(Clone, Copy, Debug, Default)]
pub struct Form {
    /// Without what is well: hosts that work, and findings of severity info.
    pub is_quiet: bool,
    /// Counts in place of hosts and objects.
    pub is_summary: bool,
}

/// From how many places on a finding is told together.
const MANY: usize = 4;

/// What makes findings the same, whatever they are about.
type Group<'a> = (&'static str, &'static str, &'static str, &'a str, &'a str);

fn group(finding: &Finding) -> Group<'_> {
    (finding.severity, finding.code, finding.effect, &finding.message, &finding.remedy)
}

/// Where a finding stands.
#[derive(Default)]
struct Places<'a> {
    subjects: BTreeSet<&'a str>,
    hosts: BTreeSet<&'a str>,
    /// How often it would be printed.
    count: usize,
}

impl Report {
    /// For people, in full.
    pub fn table(&self) -> String {
        self.text(Form::default())
    }

    /// For people.
    pub fn text(&self, form: Form) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = self.write(&mut text, form);
        text
    }

    fn write(&self, out: &mut String, form: Form) -> Result {
        if form.is_summary {
            out.push_str(&self.summary.table(form.is_quiet));
        } else {
            self.write_objects(out, form)?;
        }
        if self.hosts.iter().any(|host| host.endpoints_assumed) {
            writeln!(
                out,
                "\nThe input has no EndpointSlice, so Services are taken to have endpoints. The paths of a Service \
                 without endpoints answer 503."
            )?;
        }
        let all = || self.objects.iter().flat_map(|object| &object.findings);
        let count = |severity: Severity| all().filter(|finding| finding.severity == severity.code()).count();
        if !out.is_empty() {
            out.push('\n');
        }
        let hosts = [(self.hosts.len(), "host")];
        write_total(out, self.verdict.code(), &hosts, count(Severity::Error), count(Severity::Warning), &self.at);
        Ok(())
    }

    fn write_objects(&self, out: &mut String, form: Form) -> Result {
        let is_told = |finding: &&Finding| !(form.is_quiet && finding.severity == Severity::Info.code());
        let told: HashSet<&Finding> = self.hosts.iter().flat_map(|host| &host.findings).collect();
        let mut groups: HashMap<Group<'_>, Places<'_>> = HashMap::new();
        for host in &self.hosts {
            for finding in host.findings.iter().filter(is_told) {
                let places = groups.entry(group(finding)).or_default();
                places.count += 1;
                places.subjects.insert(&finding.subject);
                places.hosts.insert(&host.host);
            }
        }
        for finding in self.objects.iter().flat_map(|object| &object.findings).filter(is_told) {
            if !told.contains(finding) {
                let places = groups.entry(group(finding)).or_default();
                places.count += 1;
                places.subjects.insert(&finding.subject);
            }
        }
        let is_common = |finding: &Finding| groups.get(&group(finding)).is_some_and(|places| places.count >= MANY);

        let width = self.hosts.iter().map(|host| host.host.chars().count()).max().unwrap_or_default();
        // Hosts that are served the same way are told together: ten thousand may share a wildcard's certificate.
        let mut seen: HashMap<*const (), &str> = HashMap::new();
        let mut trees: HashMap<&str, &str> = HashMap::new();
        for host in self.hosts.iter().filter(|host| !(form.is_quiet && host.is_well())) {
            writeln!(out, "{} {:width$}  {}", host.mark(), host.host, host.words)?;
            let line = served(host.serving, host.policy.as_ref(), &host.certificates);
            if !line.is_empty() {
                writeln!(out, "    {line}")?;
            }
            let (common, own): (Vec<&Finding>, Vec<&Finding>) =
                host.findings.iter().filter(is_told).partition(|finding| is_common(finding));
            write_findings(out, own)?;
            if !common.is_empty() {
                let codes: BTreeSet<&str> = common.iter().map(|finding| finding.code).collect();
                writeln!(out, "    as others, below: {}", codes.into_iter().collect::<Vec<_>>().join(", "))?;
            }
            if !host.tree.is_empty() {
                match trees.entry(&host.tree) {
                    Entry::Occupied(first) => writeln!(out, "    │ the chain of {}", first.get())?,
                    Entry::Vacant(place) => {
                        out.push_str(&host.tree);
                        place.insert(&host.host);
                    }
                }
            }
            let Some(clients) = &host.clients else { continue };
            let mut once = |identity, what: &str, text: &str| match seen.entry(identity) {
                Entry::Occupied(first) => writeln!(out, "    {what}: as for {}", first.get()),
                Entry::Vacant(place) => {
                    out.push_str(text);
                    place.insert(&host.host);
                    Ok(())
                }
            };
            once(clients.identity(), "clients", clients.text())?;
            if let Some(shadow) = &host.shadow {
                once(shadow.identity(), &format!("shadow policy {}", shadow.policy()), shadow.text())?;
            }
        }
        let mut heading = if out.is_empty() { "" } else { "\n" };
        for object in &self.objects {
            let is_new = |finding: &&Finding| !told.contains(*finding) && !is_common(finding);
            let findings: Vec<&Finding> = object.findings.iter().filter(is_told).filter(is_new).collect();
            if !findings.is_empty() {
                writeln!(out, "{heading}{} {}", object.verdict.mark(), object.subject)?;
                write_findings(out, findings)?;
                heading = "";
            }
        }
        let mut common: Vec<(Group<'_>, Places<'_>)> =
            groups.into_iter().filter(|(_, places)| places.count >= MANY).collect();
        let rank = |severity: &str| ["error", "warning", "info"].iter().position(|one| *one == severity);
        common.sort_by(|((severity, code, _, message, _), one), ((other, other_code, _, other_message, _), places)| {
            (rank(severity), std::cmp::Reverse(one.count), code, message).cmp(&(
                rank(other),
                std::cmp::Reverse(places.count),
                other_code,
                other_message,
            ))
        });
        if !common.is_empty() {
            writeln!(out, "{}On several hosts or objects:", if out.is_empty() { "" } else { "\n" })?;
        }
        for ((severity, code, effect, message, remedy), places) in common {
            writeln!(out, "    {severity} {code}: {message}{}", in_brackets(effect))?;
            writeln!(out, "      on {}", list(&places.subjects, "object"))?;
            if !places.hosts.is_empty() {
                writeln!(out, "      hosts: {}", list(&places.hosts, "host"))?;
            }
            writeln!(out, "      remedy: {remedy}")?;
        }
        Ok(())
    }
}

impl HostReport {
    /// Nothing to do about it.
    fn is_well(&self) -> bool {
        self.verdict == Verdict::Ok && matches!(self.traffic, Traffic::Works | Traffic::NotServed)
    }

    fn mark(&self) -> char {
        let of_traffic = match self.traffic {
            Traffic::NotServed | Traffic::Works => Verdict::Ok,
            Traffic::Answers503Partly | Traffic::WorksWithLosses => Verdict::Warning,
            Traffic::Answers503 | Traffic::RefusesTls => Verdict::Error,
        };
        match self.verdict.max(of_traffic) {
            Verdict::Ok if self.traffic == Traffic::NotServed => '-',
            Verdict::Ok if self.endpoints_assumed => '?',
            verdict => verdict.mark(),
        }
    }
}

/// All of a few, or how many and the first.
fn list(names: &BTreeSet<&str>, what: &str) -> String {
    const SHOWN: usize = 5;
    let shown: Vec<&str> = names.iter().take(SHOWN).copied().collect();
    match names.len().checked_sub(SHOWN) {
        Some(more @ 1..) => format!("{}: {} and {more} more", counted(names.len(), what), shown.join(", ")),
        _ => shown.join(", "),
    }
}

fn in_brackets(effect: &str) -> String {
    if effect == Effect::None.code() { String::new() } else { format!(" ({effect})") }
}

fn write_findings(out: &mut String, findings: Vec<&Finding>) -> Result {
    for finding in findings {
        let effect = in_brackets(finding.effect);
        writeln!(out, "    {} {}: {}: {}{effect}", finding.severity, finding.code, finding.subject, finding.message)?;
        writeln!(out, "      remedy: {}", finding.remedy)?;
    }
    Ok(())
}
