//! The clock: the one place that reads the time of day.
//!
//! The core takes time as a parameter. The shell reads it through a [`Clock`], which tests replace.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::pki_types::UnixTime;

/// Tells the time of day.
pub type Clock = Arc<dyn Fn() -> UnixTime + Send + Sync>;

/// The clock of this machine.
pub fn system() -> Clock {
    Arc::new(|| {
        // A clock before 1970 makes every certificate "not valid yet", which is what the operator has to see.
        let elapsed = system_time().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        UnixTime::since_unix_epoch(elapsed)
    })
}

/// The time of day as the standard library has it, to fractions of a second; for log lines.
#[expect(clippy::disallowed_methods, reason = "this is the one place that reads the clock")]
pub fn system_time() -> SystemTime {
    SystemTime::now()
}
