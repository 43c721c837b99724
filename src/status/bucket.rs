//! How often something may be done: a bucket of tokens that fills at a steady rate. Time is a parameter.

use std::time::Duration;

use tokio::time::Instant;

/// One token a deed.
#[derive(Clone, Debug)]
pub(super) struct Bucket {
    most: u32,
    each: Duration,
    /// Tokens there were at `at`.
    tokens: u32,
    at: Instant,
}

impl Bucket {
    /// A full one that gets a token every `each`, up to `most`.
    pub(super) fn new(most: u32, each: Duration, now: Instant) -> Self {
        Self { most, each, tokens: most, at: now }
    }

    /// Takes a token, if there is one.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        self.fill(now);
        let has_one = self.tokens > 0;
        self.tokens -= u32::from(has_one);
        has_one
    }

    /// When there is a token.
    pub(super) fn next_at(&mut self, now: Instant) -> Instant {
        self.fill(now);
        if self.tokens > 0 { now } else { self.at + self.each }
    }

    /// Whether it is as a new one would be.
    pub(super) fn is_full(&mut self, now: Instant) -> bool {
        self.fill(now);
        self.tokens == self.most
    }

    fn fill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.at);
        let come = u32::try_from(passed.as_nanos() / self.each.as_nanos().max(1)).unwrap_or(u32::MAX);
        self.tokens = self.tokens.saturating_add(come).min(self.most);
        // A full bucket gains nothing by waiting; otherwise what is left of the time counts for the next token.
        self.at = if self.tokens == self.most { now.max(self.at) } else { self.at + self.each * come };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_come_at_a_steady_rate_and_no_more_than_fit() {
        let start = Instant::now();
        let second = Duration::from_secs(1);
        let mut bucket = Bucket::new(2, second, start);
        assert_eq!([(); 3].map(|()| bucket.take(start)), [true, true, false]);
        assert_eq!(bucket.next_at(start), start + second);
        let later = start + second * 3 / 2;
        assert_eq!([(); 2].map(|()| bucket.take(later)), [true, false]);
        assert_eq!(bucket.next_at(later), start + 2 * second, "half a second counts");
        let much_later = start + 100 * second;
        assert!(bucket.is_full(much_later));
        assert_eq!([(); 3].map(|()| bucket.take(much_later)), [true, true, false]);
        assert!(!bucket.is_full(much_later));
    }
}
