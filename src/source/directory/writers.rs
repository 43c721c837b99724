//! Which files are still being written, so that the beginning of one is not taken for the whole.
//!
//! Two signs, for at most [`PATIENCE`]: the system tells of a write and not yet that the writer closed the file, or the
//! file's stamp changed less than [`QUIET`] ago. Time is a parameter.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Stamp;

/// No change for this long: whoever writes is done, unless the system says otherwise.
pub(super) const QUIET: Duration = Duration::from_millis(200);

/// How long a writer is waited for. A file that is never closed (a log, say) is read all the same.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Default)]
pub(super) struct Writers(BTreeMap<Arc<str>, File>);

struct File {
    stamp: Option<Stamp>,
    /// When the stamp was first seen.
    since: Instant,
    /// The content with this stamp was read.
    taken: bool,
    /// Somebody wrote, and did not close the file yet.
    open: bool,
    waiting_since: Option<Instant>,
}

impl Writers {
    /// The system tells of a write.
    pub(super) fn opened(&mut self, name: &str, now: Instant) {
        let file = self.0.entry(name.into()).or_insert_with(|| File::new(None, now));
        file.open = true;
        file.waiting_since.get_or_insert(now);
    }

    /// The system tells that a writer closed the file, or that another file has its name.
    pub(super) fn closed(&mut self, name: &str) {
        if let Some(file) = self.0.get_mut(name) {
            file.open = false;
        }
    }

    /// The file is seen with this stamp.
    pub(super) fn see(&mut self, name: &Arc<str>, stamp: Option<Stamp>, now: Instant) {
        self.file(name, stamp, now);
    }

    /// True if the file can be read now.
    pub(super) fn are_done(&mut self, name: &Arc<str>, stamp: Option<Stamp>, now: Instant) -> bool {
        let file = self.file(name, stamp, now);
        if file.taken && !file.open {
            return true;
        }
        let waiting_since = *file.waiting_since.get_or_insert(now);
        let quiet = now.saturating_duration_since(file.since) >= QUIET;
        quiet && !file.open || now.saturating_duration_since(waiting_since) >= PATIENCE
    }

    /// The content was read. False if the file changed in the meantime, unless it was waited for long enough.
    pub(super) fn take(&mut self, name: &Arc<str>, now: Instant, stamp_after: Option<Stamp>) -> bool {
        let Some(file) = self.0.get_mut(name) else { return true };
        let waited = file.waiting_since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        if file.stamp != stamp_after && waited < PATIENCE {
            file.waiting_since.get_or_insert(now);
            return false;
        }
        (file.taken, file.open, file.waiting_since) = (true, false, None);
        true
    }

    /// Forgets files that are gone.
    pub(super) fn retain(&mut self, exists: impl Fn(&str) -> bool) {
        self.0.retain(|name, _| exists(name));
    }

    fn file(&mut self, name: &Arc<str>, stamp: Option<Stamp>, now: Instant) -> &mut File {
        let file = self.0.entry(name.clone()).or_insert_with(|| File::new(stamp, now));
        if file.stamp != stamp {
            (file.stamp, file.since, file.taken) = (stamp, now, false);
        }
        file
    }
}

impl File {
    fn new(stamp: Option<Stamp>, now: Instant) -> Self {
        Self { stamp, since: now, taken: false, open: false, waiting_since: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(length: u64) -> Option<Stamp> {
        Some((0, 0, length, (0, 0), (0, 0)))
    }

    #[test]
    fn a_file_that_is_open_is_waited_for_until_it_is_closed_or_patience_ends() {
        let start = Instant::now();
        let name: Arc<str> = "a.yaml".into();
        let mut writers = Writers::default();
        writers.opened(&name, start);
        writers.see(&name, stamp(1), start);
        assert!(!writers.are_done(&name, stamp(1), start + Duration::from_secs(5)));
        writers.closed(&name);
        assert!(writers.are_done(&name, stamp(1), start + Duration::from_secs(5)));
        assert!(writers.take(&name, start + Duration::from_secs(5), stamp(1)));
        assert!(writers.are_done(&name, stamp(1), start + Duration::from_secs(6)));
        writers.opened(&name, start + Duration::from_secs(7));
        assert!(!writers.are_done(&name, stamp(2), start + Duration::from_secs(16)));
        assert!(writers.are_done(&name, stamp(3), start + Duration::from_secs(17)));
    }

    #[test]
    fn without_notifications_a_file_is_read_when_its_stamp_stays() {
        let start = Instant::now();
        let name: Arc<str> = "a.yaml".into();
        let mut writers = Writers::default();
        assert!(!writers.are_done(&name, stamp(1), start));
        assert!(!writers.are_done(&name, stamp(2), start + QUIET));
        assert!(writers.are_done(&name, stamp(2), start + QUIET * 2));
        assert!(!writers.take(&name, start + QUIET * 2, stamp(3)), "it changed while it was read");
        assert!(writers.take(&name, start + PATIENCE, stamp(4)), "it changes for ever");
    }
}
