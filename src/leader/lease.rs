//! What one candidate makes of a Lease: pure, with the time as a parameter.
//!
//! `Lease that was read × what was seen before × now ──▶ wait, create, or replace`

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use tokio::time::Instant;

use super::MARGIN;

/// What to do next.
#[derive(Debug, PartialEq)]
pub(super) enum Step {
    /// There is no Lease.
    Create(Box<Lease>),
    /// It is ours, nobody's, or has run out.
    Replace(Box<Lease>),
    /// Somebody else holds it.
    Wait,
}

/// One that wants the Lease.
#[derive(Debug)]
pub(super) struct Candidate {
    identity: String,
    ttl: Duration,
    /// What stood in the Lease when it was read last, and when it was first seen to stand there.
    observed: Option<(LeaseSpec, Instant)>,
    /// The Lease as we wrote it last, and when that request was sent.
    held: Option<(Box<Lease>, Instant)>,
}

impl Candidate {
    pub(super) fn new(identity: String, ttl: Duration) -> Self {
        Self { identity, ttl, observed: None, held: None }
    }

    /// Between attempts: with the default, 2 s of 15.
    pub(super) fn retry(&self) -> Duration {
        self.ttl.mul_f64(2.0 / 15.0)
    }

    /// How long one attempt may take. One that hangs must leave time for another before the term ends.
    pub(super) fn patience(&self, now: Instant) -> Duration {
        let longest = self.ttl / 3;
        let left = self.until().map_or(longest, |until| until.saturating_duration_since(now));
        if left.is_zero() { longest } else { left.min(longest) }
    }

    /// Until when we may write: from when the last renewal was sent, because whoever waits for our Lease counts from when it
    /// saw that renewal, which is later.
    pub(super) fn until(&self) -> Option<Instant> {
        self.held.as_ref().map(|(_, sent)| *sent + self.ttl.saturating_sub(MARGIN))
    }

    /// What we hold, renewed; `None` if we hold nothing.
    pub(super) fn renewal(&self, time: Timestamp) -> Option<Lease> {
        let (lease, _) = self.held.as_ref()?;
        Some(self.taken(lease, time))
    }

    /// Judges a Lease that was read.
    pub(super) fn look(&mut self, found: Option<Lease>, now: Instant, time: Timestamp) -> Step {
        let held = self.held.take();
        let Some(found) = found else {
            self.observed = None;
            return Step::Create(Box::new(self.taken(&Lease::default(), time)));
        };
        let spec = found.spec.clone().unwrap_or_default();
        let since = match &self.observed {
            Some((before, since)) if *before == spec => *since,
            Some(_) | None => now,
        };
        let holder = spec.holder_identity.as_deref().unwrap_or_default();
        // The holder's own word on how long it may be silent.
        let silence = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
        let silence = silence.map_or(self.ttl, Duration::from_secs);
        let is_free = holder.is_empty() || holder == self.identity || now.saturating_duration_since(since) > silence;
        if holder == self.identity {
            // Somebody has changed what is not ours to decide, a label for example. The term goes on as it was.
            self.held = held.map(|(_, sent)| (Box::new(found.clone()), sent));
        }
        self.observed = Some((spec, since));
        if is_free { Step::Replace(Box::new(self.taken(&found, time))) } else { Step::Wait }
    }

    /// What was asked for stands in the cluster.
    pub(super) fn written(&mut self, lease: Lease, sent: Instant) {
        self.observed = Some((lease.spec.clone().unwrap_or_default(), sent));
        self.held = Some((Box::new(lease), sent));
    }

    /// A Lease that was read, held by nobody; `None` if it is not ours.
    pub(super) fn released(&self, mut lease: Lease, time: Timestamp) -> Option<Lease> {
        let spec = lease.spec.as_mut().filter(|spec| spec.holder_identity.as_ref() == Some(&self.identity))?;
        // As client-go does: no holder, and a second, for those who look at nothing but the times.
        spec.holder_identity = Some(String::new());
        spec.lease_duration_seconds = Some(1);
        spec.renew_time = Some(MicroTime(time));
        Some(lease)
    }

    /// The Lease with us as its holder; everything that is not about that stays, the resource version included.
    fn taken(&self, lease: &Lease, time: Timestamp) -> Lease {
        let mut lease = lease.clone();
        let spec = lease.spec.get_or_insert_default();
        if spec.holder_identity.as_ref() != Some(&self.identity) {
            // The first holder has taken it from nobody.
            spec.lease_transitions = Some(spec.lease_transitions.map_or(0, |count| count.saturating_add(1)));
            spec.acquire_time = Some(MicroTime(time));
            spec.holder_identity = Some(self.identity.clone());
        }
        // Rounded up: nobody else may think that it ends before we do.
        let seconds = self.ttl.as_secs() + u64::from(self.ttl.subsec_nanos() > 0);
        spec.lease_duration_seconds = Some(i32::try_from(seconds).unwrap_or(i32::MAX));
        spec.renew_time = Some(MicroTime(time));
        lease
    }
}
