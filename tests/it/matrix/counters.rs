//! What a server has counted, before and after a row.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::binary::{Server, wait_until};

/// Samples of `/metrics`: family, then the values of the labels that matter here, each behind a space. The labels are in
/// the order of their names, as Prometheus has them.
pub type Samples = BTreeMap<String, f64>;

/// The families of which every sample is compared: whatever a row does not say does not move.
const FAMILIES: [&str; 6] =
    ["alerts", "connections_accepted", "established_without_request", "handshake_failures", "handshakes", "probes"];

/// TLS connections that are open, and those of them whose handshake goes on.
const ACTIVE: &str = "active";
const IN_PROGRESS: &str = "in_progress";

/// A moment of a server.
#[derive(Debug)]
pub struct Counters {
    samples: Samples,
    /// What `/api/failures` says.
    failures: Value,
}

impl Counters {
    /// Waits until `accepted` more connections than in `earlier` have come, and all but `open` of them have ended, and
    /// are closed.
    pub fn settled(server: &Server, earlier: Option<&Self>, accepted: f64, open: f64) -> Self {
        let earlier = earlier.map_or(0.0, |counters| sum(&counters.samples, "connections_accepted"));
        let mut samples = Samples::new();
        wait_until("every connection has one outcome", || {
            // The page is not of one moment, so nothing may have moved between two of them.
            let last = read(server);
            samples = read(server);
            let all = sum(&samples, "connections_accepted");
            let ended: f64 =
                ["handshakes", "handshake_failures", "probes"].map(|family| sum(&samples, family)).iter().sum();
            let [active, in_progress] = [ACTIVE, IN_PROGRESS].map(|gauge| sum(&samples, gauge));
            let is_still = samples == last && all >= earlier + accepted && active == open && in_progress == open;
            assert!(!is_still || ended + open >= all, "{all} connections and {open} open ones: {samples:?}");
            is_still && ended + open == all
        });
        let (status, text) = server.admin("/api/failures");
        assert_eq!(status, 200, "{text}");
        samples.retain(|name, _| ![ACTIVE, IN_PROGRESS].contains(&&**name));
        Self { samples, failures: serde_json::from_str(&text).unwrap() }
    }

    /// What has moved since, and by how much.
    pub fn since(&self, before: &Self) -> Samples {
        let moved = |(name, value): (&String, &f64)| (name.clone(), value - before.samples.get(name).unwrap_or(&0.0));
        self.samples.iter().map(moved).filter(|(_, by)| *by != 0.0).collect()
    }
    /// What `totals` of `/api/failures` has more than before: blame, host and reason.
    pub fn listed_since(&self, before: &Self) -> Samples {
        let after = self.totals();
        let mut more = before.totals();
        for (name, count) in after {
            let earlier = more.insert(name.clone(), 0.0).unwrap_or_default();
            more.insert(name, count - earlier);
        }
        more.retain(|_, by| *by != 0.0);
        more
    }

    fn totals(&self) -> Samples {
        let totals = self.failures["totals"].as_array().unwrap().iter();
        let name = |total: &Value| ["blame", "host", "reason"].map(|field| total[field].as_str().unwrap()).join(" ");
        totals.map(|total| (name(total), total["count"].as_f64().unwrap())).collect()
    }

    /// The newest entry of `/api/failures` for a host and a reason.
    pub fn newest(&self, host: &str, reason: &str) -> Option<&Value> {
        let failures = self.failures["failures"].as_array().unwrap().iter();
        let found = failures.filter(|failure| failure["host"] == host && failure["reason"] == reason);
        // Times are RFC 3339 in UTC, so their order as text is that of time.
        found.max_by_key(|failure| failure["time"].as_str().unwrap())
    }
}

fn read(server: &Server) -> Samples {
    let (_, text) = server.admin("/metrics");
    let mut samples = Samples::new();
    for (name, value) in text.lines().filter_map(sample) {
        *samples.entry(name).or_default() += value;
    }
    samples
}

fn sum(samples: &Samples, family: &str) -> f64 {
    samples.iter().filter(|(name, _)| name.split(' ').next() == Some(family)).map(|(_, value)| value).sum()
}

/// A line of the page, if it is of one of the families.
fn sample(line: &str) -> Option<(String, f64)> {
    let (name, value) = line.rsplit_once(' ')?;
    let value = value.parse().ok()?;
    let (family, labels) = name.split_once('{').unwrap_or((name, ""));
    match family {
        "handfast_connections_active" => {
            return labels.contains("listener=\"https\"").then(|| (ACTIVE.to_owned(), value));
        }
        "handfast_tls_handshakes_in_progress" => return Some((IN_PROGRESS.to_owned(), value)),
        _ => {}
    }
    let family = family.strip_prefix("handfast_tls_")?.strip_suffix("_total")?;
    if !FAMILIES.contains(&family) {
        return None;
    }
    let labels = labels.trim_end_matches('}').split(',').filter_map(|label| label.split_once('='));
    let labels = labels.filter(|(name, _)| !["resumed", "version"].contains(name));
    let name = labels.fold(family.to_owned(), |name, (_, value)| name + " " + value.trim_matches('"'));
    Some((name, value))
}
