//! Shell, outward: what is served and what is wrong with it, told to people.
//!
//! ```text
//! Publication ──▶ log       lines in our own log
//!             └─▶ cluster   addresses of Ingresses and conditions of policies, if this replica leads
//!             └─▶ events    Events on Ingresses and policies, if this replica leads
//! ```
//!
//! All of it looks at what has been published, so nothing is said before it is served, and nothing that is served waits
//! for it.

mod addresses;
mod apply;
mod bucket;
pub mod cluster;
mod conditions;
pub mod events;
mod log;
mod plan;
mod queue;

use std::time::Duration;

/// How long people are not told of a problem that often solves itself: cert-manager deletes the Service of a challenge a
/// moment before its Ingress, and `kubectl apply` makes objects one after the other.
const GRACE: Duration = Duration::from_secs(5);

pub use self::apply::{Outcome, Target};
pub use self::events::{Remarks, Told};
pub use self::log::log;
