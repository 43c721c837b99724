//! New kinds of failures as a few log lines, however many handshakes fail.
//!
//! `Failures::news ──Summary──▶ Line …`
//!
//! A kind (host × reason) is told when it first comes up, and again when it goes on, at growing intervals. Lines in a
//! minute are limited; what does not fit has its turn later. Time is a parameter.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::{Failure, Kind};
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
    pub newest: Failure,
}

/// What is worth a line: everything but clients that leave without a byte where nothing is wrong with the certificate.
fn is_news(failure: &Failure) -> bool {
    failure.reason != Reason::EstablishedWithoutRequest || failure.blame == Blame::Certificate
}

/// Remembers what has been told.
#[derive(Default)]
pub struct Summary {
    told: HashMap<Kind, Told>,
    /// When the minute began, and the lines told in it.
    minute: Option<(Instant, usize)>,
    /// Whether it has been said in this minute that there are more.
    said_more: bool,
}

struct Told {
    at: Instant,
    /// Until it is told again.
    wait: Duration,
    /// Failures that have not been told.
    untold: u64,
}

impl Summary {
    /// Takes what is new, and says which kinds are to be told now, and, once in a minute, how many more there are.
    pub fn look(&mut self, news: HashMap<Kind, (u64, Failure)>, now: Instant) -> (Vec<Line>, usize) {
        // What has not come up for long is new when it comes again.
        self.told.retain(|_, told| now.saturating_duration_since(told.at) < 2 * LONGEST);
        let mut due: Vec<Line> = Vec::new();
        for (kind, (count, newest)) in news.into_iter().filter(|(_, (_, newest))| is_news(newest)) {
            match self.told.get_mut(&kind) {
                Some(told) if now.saturating_duration_since(told.at) < told.wait => told.untold += count,
                Some(told) => due.push(Line { count: count + told.untold, kind, newest }),
                None => due.push(Line { kind, count, newest }),
            }
        }
        // Those of a host before those of nobody's; the frequent ones first.
        due.sort_by_key(|line| (line.kind.0.is_none(), std::cmp::Reverse(line.count), line.kind.clone()));
        let (begin, used) =
            self.minute.filter(|(begin, _)| now.saturating_duration_since(*begin) < MINUTE).unwrap_or((now, 0));
        if used == 0 {
            self.said_more = false;
        }
        let room = (LINES - used).min(due.len());
        self.minute = Some((begin, used + room));
        let mut more = due.len() - room;
        if self.said_more {
            more = 0;
        }
        self.said_more |= more > 0;
        for line in due.drain(room..) {
            // Told with the next look that has room.
            if let Some(told) = self.told.get_mut(&line.kind) {
                told.untold = line.count;
            }
        }
        for line in &due {
            let wait = self.told.get(&line.kind).map_or(SHORTEST, |told| (told.wait * 2).min(LONGEST));
            if self.told.len() < REMEMBERED || self.told.contains_key(&line.kind) {
                self.told.insert(line.kind.clone(), Told { at: now, wait, untold: 0 });
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

    fn news(rows: &[(&str, Reason, u64)]) -> HashMap<Kind, (u64, Failure)> {
        let one = |(host, reason, count): &(&str, Reason, u64)| {
            let failure = failure("192.0.2.1", (!host.is_empty()).then_some(host), *reason, 1);
            ((failure.host.clone(), *reason), (*count, failure))
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
        let (lines, _) = summary.look(news(&rows), start + MINUTE);
        assert_eq!(lines.len(), 10, "others have their turn");
    }
}
