//! A report as counts: how many hosts and Ingresses stand where, and what would be lost.
//!
//! `Report × findings ──▶ Summary ──▶ one screen, or JSON`

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde::Serialize;

use super::{HostReport, ObjectReport};
use crate::compile::{Diagnostic, ObjectKey, Problem};
use crate::snapshot::Traffic;

/// Counts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Hosts by what their requests get.
    pub hosts: BTreeMap<&'static str, usize>,
    /// Ingresses by what requests for their paths get.
    pub ingresses: BTreeMap<&'static str, usize>,
    /// Ingresses that are not served because of their class, by class.
    pub other_classes: BTreeMap<String, usize>,
    /// Findings by code, the worst first, then the most frequent.
    pub findings: Vec<FindingCount>,
    /// Annotations that do not do what they say, the most frequent first.
    pub annotations: Vec<AnnotationCount>,
}

/// How often a finding comes up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FindingCount {
    /// Its code.
    pub code: &'static str,
    /// `info`, `warning` or `error`.
    pub severity: &'static str,
    /// How many there are.
    pub count: usize,
    /// The objects to repair.
    pub objects: usize,
    /// The hosts that are named under it.
    pub hosts: usize,
}

/// How often an annotation does not do what it says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AnnotationCount {
    /// With its prefix.
    pub annotation: String,
    /// What comes of it: `not_supported` (its paths answer 503, or a canary takes no traffic), `ignored`, `unknown` or
    /// `wrong_value`.
    pub outcome: &'static str,
    /// On how many Ingresses.
    pub ingresses: usize,
}

/// Counts everything.
pub(super) fn summary(
    hosts: &[HostReport],
    objects: &[ObjectReport],
    other_classes: impl Iterator<Item = String>,
    told: &[&Diagnostic],
) -> Summary {
    let mut summary = Summary::default();
    for host in hosts {
        *summary.hosts.entry(host.traffic.code()).or_default() += 1;
    }
    for traffic in objects.iter().filter_map(|object| object.traffic) {
        *summary.ingresses.entry(traffic.code()).or_default() += 1;
    }
    for class in other_classes {
        *summary.other_classes.entry(class).or_default() += 1;
    }
    let mut annotations: BTreeMap<(&'static str, &str), BTreeSet<&ObjectKey>> = BTreeMap::new();
    for diagnostic in told {
        if let Some(found) = annotation(&diagnostic.problem) {
            annotations.entry(found).or_default().insert(&diagnostic.subject);
        }
    }
    let count = |((outcome, annotation), on): ((&'static str, &str), BTreeSet<&ObjectKey>)| AnnotationCount {
        annotation: annotation.to_owned(),
        outcome,
        ingresses: on.len(),
    };
    summary.annotations = annotations.into_iter().map(count).collect();
    summary.annotations.sort_by_key(|one| std::cmp::Reverse(one.ingresses));
    summary.count_findings(hosts, objects);
    summary
}

/// What comes of annotations that do not do what they say, the worst first, with a heading for people.
const OUTCOMES: [(&str, &str); 4] = [
    ("not_supported", "annotations that are not supported: to be safe, their paths answer 503"),
    ("wrong_value", "annotations with a wrong value"),
    ("ignored", "annotations that are ignored"),
    ("unknown", "annotations that do not exist"),
];

fn annotation(problem: &Problem) -> Option<(&'static str, &str)> {
    match problem {
        Problem::Canary { annotation } | Problem::RestrictingAnnotation { annotation } => {
            Some(("not_supported", annotation))
        }
        Problem::BadAnnotation { annotation, .. } => Some(("wrong_value", annotation)),
        Problem::UnsupportedAnnotation { annotation } => Some(("ignored", annotation)),
        Problem::UnknownAnnotation { annotation, .. } => Some(("unknown", annotation)),
        _ => None,
    }
}

impl Summary {
    /// Counts findings again: of a host and of an object the same one counts once.
    pub(super) fn count_findings(&mut self, hosts: &[HostReport], objects: &[ObjectReport]) {
        let mut counts: BTreeMap<&'static str, (FindingCount, BTreeSet<&str>)> = BTreeMap::new();
        for object in objects {
            for finding in &object.findings {
                let (count, subjects) = counts.entry(finding.code).or_insert_with(|| {
                    let (code, severity) = (finding.code, finding.severity);
                    (FindingCount { code, severity, count: 0, objects: 0, hosts: 0 }, BTreeSet::new())
                });
                count.count += 1;
                subjects.insert(&object.subject);
            }
        }
        for host in hosts {
            let codes: BTreeSet<&str> = host.findings.iter().map(|finding| finding.code).collect();
            for code in codes {
                if let Some((count, _)) = counts.get_mut(code) {
                    count.hosts += 1;
                }
            }
        }
        let counted = counts.into_values().map(|(count, subjects)| FindingCount { objects: subjects.len(), ..count });
        self.findings = counted.collect();
        let rank = |severity: &str| ["error", "warning", "info"].iter().position(|one| *one == severity);
        self.findings.sort_by_key(|one| (rank(one.severity), std::cmp::Reverse(one.count)));
    }

    /// For people: what fits on one screen.
    pub(super) fn table(&self, is_quiet: bool) -> String {
        let mut out = String::new();
        // Writing to a String cannot fail.
        let _ = self.write_table(&mut out, is_quiet);
        out
    }

    fn write_table(&self, out: &mut String, is_quiet: bool) -> std::fmt::Result {
        for (what, counts) in [("hosts", &self.hosts), ("Ingresses", &self.ingresses)] {
            writeln!(out, "{:>6}  {what}", counts.values().sum::<usize>())?;
            for traffic in Traffic::ALL {
                let Some(count) = counts.get(traffic.code()) else { continue };
                write!(out, "{count:>10}  {}", traffic.words())?;
                if what == "Ingresses" && traffic == Traffic::NotServed && !self.other_classes.is_empty() {
                    let classes: Vec<String> =
                        self.other_classes.iter().map(|(class, count)| format!("{class}: {count}")).collect();
                    write!(out, " ({})", classes.join(", "))?;
                }
                out.push('\n');
            }
        }
        let findings: Vec<&FindingCount> =
            self.findings.iter().filter(|one| !(is_quiet && one.severity == "info")).collect();
        if !findings.is_empty() {
            let width = findings.iter().map(|one| one.code.len()).max().unwrap_or_default();
            writeln!(out, "\n{:>6}  findings", findings.iter().map(|one| one.count).sum::<usize>())?;
            for FindingCount { code, severity, count, objects, hosts } in findings {
                writeln!(
                    out,
                    "{count:>10}  {severity:7}  {code:width$}  on {}, {}",
                    counted(*objects, "object"),
                    counted(*hosts, "host")
                )?;
            }
        }
        for (outcome, heading) in OUTCOMES {
            let of_outcome: Vec<&AnnotationCount> =
                self.annotations.iter().filter(|one| one.outcome == outcome).collect();
            if !of_outcome.is_empty() {
                writeln!(out, "\n{:>6}  {heading}", of_outcome.len())?;
            }
            for AnnotationCount { annotation, ingresses, .. } in of_outcome {
                writeln!(out, "{ingresses:>10}  {annotation}")?;
            }
        }
        Ok(())
    }
}

/// `1 host`, `2 hosts`.
pub(super) fn counted(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}
