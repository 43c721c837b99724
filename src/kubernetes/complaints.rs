//! What is said about requests that fail: why, and not too often.

use std::time::Duration;

use tokio::time::Instant;

/// What an error says, for a log line: the server's own words, or the chain of causes on our side.
pub fn cause(error: &kube::Error) -> String {
    if let kube::Error::Api(status) = error {
        return if status.message.is_empty() { format!("status {}", status.code) } else { status.message.clone() };
    }
    causes(error)
}

/// An error with what it comes from, each part once: many repeat their source in their own text.
pub fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        let said = error.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        next = error.source();
    }
    text
}

/// Says the same complaint at growing intervals, however often there is reason to.
#[derive(Debug, Default)]
pub struct Complaints {
    last: Option<(String, Instant, Duration)>,
}

impl Complaints {
    const SHORTEST: Duration = Duration::from_secs(30);
    const LONGEST: Duration = Duration::from_secs(15 * 60);

    /// Whether it is to be said now: it is another than the last, or that was long ago.
    pub fn is_due(&mut self, what: &str, now: Instant) -> bool {
        let wait = match &self.last {
            Some((said, at, wait)) if said == what => {
                if now.saturating_duration_since(*at) < *wait {
                    return false;
                }
                (*wait * 2).min(Self::LONGEST)
            }
            Some(_) | None => Self::SHORTEST,
        };
        self.last = Some((what.to_owned(), now, wait));
        true
    }

    /// All is well again. True if there was a complaint.
    pub fn settled(&mut self) -> bool {
        self.last.take().is_some()
    }
}
