//! New kinds of failures as a few log lines, however many handshakes fail.
//!
//! `Failures::news ──Summary──▶ Line …`
//!
//! A kind (host × reason) is told when it first comes up, and again when it goes on, at growing intervals. Lines in a
//! minute are limited; what does not fit has its turn later. Time is a parameter.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Counted, Failure, Kind, merge};
use crate::tls::reason::{Blame, Reason};

/// How often there is a look at what is new.
pub const INTERVAL: Duration = Duration::from_secs(5);

/// How long a kind that has been told stays untold if it goes on; doubles each time, up to [`LONGEST`].
const SHORTEST: Duration = Duration::from_secs(5 * 60);
const LONGEST: Duration = Duration::from_secs(4 * 3600);

/// Kinds told in a minute.
const LINES: usize = 10;
const MINUTE: Duration = Duration::from_secs(60);

/// Kinds that are remembered.
const REMEMBERED: usize = 20_000;

/// One kind to be told.
#[derive(Debug)]
pub struct Line {
    /// Host and reason.
    pub kind: Kind,
    /// Failures since it was last told.
    pub count: u64,
    /// The newest of them.
    pub newest: Arc<Failure>,
}

/// What is worth a line: everything but clients that leave without a byte where nothing is wrong with the certificate.
fn is_news(failure: &Failure) -> bool {
    failure.reason != Reason::EstablishedWithoutRequest || failure.blame == Blame::Certificate
}

impl Line {
    /// True if it is about a host of ours, or about what is in front of all of them. The rest is noise of the network more
    /// often than not; and clients that leave without a request may have wanted none.
    pub fn is_urgent(&self) -> bool {
        let is_about_us = self.newest.blame == Blame::Server
            || [Reason::ProxyHeader, Reason::ProxyHeaderMissing].contains(&self.newest.reason);
        (self.kind.0.is_some() && self.kind.1 != Reason::EstablishedWithoutRequest) || is_about_us
    }
}

/// Remembers what has been told, and what has not.
#[derive(Default)]
pub struct Summary {
    told: HashMap<Kind, Told>,
    /// What has failed and has not been told.
    pending: HashMap<Kind, Counted>,
    /// When the minute began, and the lines told in it.
    minute: Option<(Instant, usize)>,
    /// Whether it has been said in this minute that there are more.
    said_more: bool,
}

struct Told {
    at: Instant,
    /// Until it is told again.
    wait: Duration,
}

impl Summary {
    /// Takes what is new, and says which kinds are to be told now, and, once in a minute, how many more there are.
    pub fn look(&mut self, news: HashMap<Kind, Counted>, now: Instant) -> (Vec<Line>, usize) {
        // What has not come up for long is new when it comes again.
        self.told.retain(|_, told| now.saturating_duration_since(told.at) < 2 * LONGEST);
        for (kind, counted) in news.into_iter().filter(|(_, (_, newest))| is_news(newest)) {
            if self.pending.len() < REMEMBERED || self.pending.contains_key(&kind) {
                merge(&mut self.pending, kind, counted);
            }
        }
        let is_due =
            |kind: &Kind| self.told.get(kind).is_none_or(|told| now.saturating_duration_since(told.at) >= told.wait);
        let due = self.pending.iter().filter(|(kind, _)| is_due(kind));
        let mut due: Vec<Line> = due
            .map(|(kind, (count, newest))| Line { kind: kind.clone(), count: *count, newest: newest.clone() })
            .collect();
        // What concerns the operator first, then the frequent ones.
        due.sort_by_key(|line| (!line.is_urgent(), std::cmp::Reverse(line.count), line.kind.clone()));
        let minute = self.minute.filter(|(begin, _)| now.saturating_duration_since(*begin) < MINUTE);
        let (begin, used) = minute.unwrap_or((now, 0));
        self.said_more &= minute.is_some();
        let room = (LINES - used).min(due.len());
        self.minute = Some((begin, used + room));
        let more = if self.said_more { 0 } else { due.len() - room };
        self.said_more |= more > 0;
        due.truncate(room);
        for line in &due {
            self.pending.remove(&line.kind);
            let wait = self.told.get(&line.kind).map_or(SHORTEST, |told| (told.wait * 2).min(LONGEST));
            if self.told.len() < REMEMBERED || self.told.contains_key(&line.kind) {
                self.told.insert(line.kind.clone(), Told { at: now, wait });
            }
        }
        (due, more)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failures::tests::failure;
    use crate::tls::reason::Reason;

    fn news(rows: &[(&str, Reason, u64)]) -> HashMap<Kind, Counted> {
        let one = |(host, reason, count): &(&str, Reason, u64)| {
            let failure = failure("192.0.2.1", (!host.is_empty()).then_some(host), *reason, 1);
            ((failure.host.clone(), *reason), (*count, Arc::new(failure)))
        };
        rows.iter().map(one).collect()
    }

    #[test]
    fn a_kind_is_told_once_and_then_at_growing_intervals_with_what_was_not_told() {
        let mut summary = Summary::default();
        let start = Instant::now();
        let mut told = Vec::new();
        for step in 0..400_u32 {
            let now = start + INTERVAL * step;
            let (lines, more) = summary.look(news(&[("a.example", Reason::RejectedUnknownCa, 3)]), now);
            assert_eq!(more, 0);
            told.extend(lines.iter().map(|line| (step, line.count)));
        }
        // At once, after 5 minutes, after 10 more; the next would come after 20 more.
        assert_eq!(told, [(0, 3), (60, 180), (180, 360)]);
    }

    #[test]
    fn a_flood_of_kinds_is_a_few_lines_and_a_number_and_real_hosts_come_first() {
        let mut summary = Summary::default();
        let hosts: Vec<String> = (0..30).map(|index| format!("h{index}.example")).collect();
        let mut rows: Vec<(&str, Reason, u64)> =
            hosts.iter().map(|host| (&**host, Reason::NoSharedVersion, 1)).collect();
        rows.push(("", Reason::UnknownHost, 1_000));
        let start = Instant::now();
        let (lines, more) = summary.look(news(&rows), start);
        assert_eq!((lines.len(), more), (10, 21));
        assert!(lines.iter().all(|line| line.kind.0.is_some()));
        let (lines, more) = summary.look(news(&rows), start + INTERVAL);
        assert_eq!((lines.len(), more), (0, 0), "not in this minute");
        let mut told: Vec<Kind> = Vec::new();
        for minute in 1..4 {
            // Nothing fails any more; what has is told all the same.
            let (lines, _) = summary.look(HashMap::new(), start + MINUTE * minute);
            told.extend(lines.into_iter().map(|line| line.kind));
        }
        assert_eq!(told.len(), 21, "others have their turn");
        assert_eq!(told.last().unwrap().1, Reason::UnknownHost, "the noise comes last");
    }
}
