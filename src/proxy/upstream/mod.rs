//! Connections to endpoints: which one, a kept or a new connection, and when an endpoint is left out.
//!
//! `Backend ──group──▶ Group ──choose──▶ Peer ──lease──▶ Lease ──send──▶ response ──finish──▶ kept`
//!
//! Each worker has its own [`Upstreams`]; nothing is shared between threads, so the locks here are never contended
//! and never held across an await. What is known about an endpoint (requests in flight, kept connections, failures in
//! a row) belongs to its address: it survives changes of the backend that leave the address in, and disappears with
//! the last backend that names it, which closes its kept connections.

mod connect;
mod failure;
mod peer;

use std::collections::HashMap;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::time::Instant;

pub use failure::UpstreamFailure;
pub(in crate::proxy) use failure::classify;
pub(in crate::proxy) use peer::{InFlight, Peer};

use super::http::body::Upload;
use super::settings::Settings;
use crate::metrics::Metrics;
use crate::snapshot::{Address, Backend, BackendKey, Snapshot};
use connect::Sender;
use peer::Kept;

/// All that one worker knows about endpoints.
pub struct Upstreams {
    settings: Arc<Settings>,
    metrics: Metrics,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    groups: HashMap<BackendKey, Arc<Group>>,
    /// Endpoints by address. A group owns its peers; one that no group and no request uses is gone.
    peers: HashMap<Address, Weak<Peer>>,
}

/// A backend of the snapshot with the state of its endpoints.
pub(in crate::proxy) struct Group {
    /// The version of the backend that `peers` belong to.
    backend: Arc<Backend>,
    peers: Box<[Arc<Peer>]>,
    /// Connections kept for this backend.
    kept: Arc<AtomicUsize>,
}

/// How long to wait for an endpoint.
#[derive(Clone, Copy, Debug)]
pub(in crate::proxy) struct Timeouts {
    /// For a connection.
    pub(in crate::proxy) connect: Duration,
    /// Between two reads.
    pub(in crate::proxy) read: Duration,
    /// Between two writes.
    pub(in crate::proxy) send: Duration,
}

/// A connection to an endpoint for one request.
pub(in crate::proxy) struct Lease {
    /// Takes the request.
    pub(in crate::proxy) sender: Sender,
    link: connect::Link,
    in_flight: InFlight,
    kept: Arc<AtomicUsize>,
    most_kept: usize,
}

impl Upstreams {
    /// No connections yet.
    pub fn new(settings: Arc<Settings>, metrics: Metrics) -> Self {
        Self { settings, metrics, known: Mutex::default() }
    }

    /// The state of a backend's endpoints.
    pub(in crate::proxy) fn group(&self, backend: &Arc<Backend>) -> Arc<Group> {
        let mut known = self.known();
        match known.groups.get(&backend.key) {
            Some(group) if Arc::ptr_eq(&group.backend, backend) => group.clone(),
            Some(_) | None => known.update(backend),
        }
    }

    /// A connection to this endpoint: the one used last, if one is kept and `fresh` does not ask for a new one.
    pub(in crate::proxy) async fn lease(
        &self,
        group: &Group,
        peer: &Arc<Peer>,
        timeouts: &Timeouts,
        fresh: bool,
    ) -> Result<Lease, UpstreamFailure> {
        let in_flight = peer.begin();
        let lease = |sender, link| Lease {
            sender,
            link,
            in_flight,
            kept: group.kept.clone(),
            most_kept: self.settings.upstream_idle,
        };
        if !fresh && let Some((sender, link)) = peer.take_kept(self.settings.upstream_idle_timeout) {
            link.set_send_timeout(timeouts.send);
            return Ok(lease(sender, link));
        }
        let mut connected = connect::connect(&peer.address, &self.settings.reach, timeouts).await;
        if matches!(connected, Err(UpstreamFailure::NoFiles)) && self.drop_kept() {
            // Connections close when their tasks have heard of it.
            tokio::time::sleep(Duration::from_millis(5)).await;
            connected = connect::connect(&peer.address, &self.settings.reach, timeouts).await;
        }
        let (sender, link) = connected?;
        Ok(lease(sender, link))
    }

    /// Closes all connections that are kept and have no request. False if there are none.
    fn drop_kept(&self) -> bool {
        let known = self.known();
        known.peers.values().filter_map(Weak::upgrade).filter(|peer| peer.drop_kept()).count() > 0
    }

    /// Notes that the endpoint answered.
    pub(in crate::proxy) fn succeeded(&self, peer: &Peer) {
        peer.succeeded();
    }

    /// Notes and counts that the endpoint did not answer, and leaves it out after too many failures in a row.
    pub(in crate::proxy) fn failed(&self, peer: &Peer, failure: UpstreamFailure) {
        self.count(failure);
        if failure.blames_endpoint() && peer.failed(&self.settings) {
            self.metrics.upstream_ejections.inc();
        }
    }

    /// Counts a failure that is not about one endpoint.
    pub(in crate::proxy) fn count(&self, failure: UpstreamFailure) {
        self.metrics.upstream_failures.with_label_values(&[failure.label()]).inc();
    }

    /// Closes connections that were idle for too long, and forgets endpoints that left the snapshot. To be called
    /// every few seconds: requests do the same, but only for the backends that they use.
    pub(in crate::proxy) fn sweep(&self, snapshot: &Snapshot) {
        let mut known = self.known();
        let stale: Vec<BackendKey> = known
            .groups
            .iter()
            .filter(|(key, group)| snapshot.backend(key).is_none_or(|backend| !Arc::ptr_eq(backend, &group.backend)))
            .map(|(key, _)| key.clone())
            .collect();
        for key in stale {
            match snapshot.backend(&key) {
                Some(backend) => {
                    known.update(backend);
                }
                None => {
                    known.groups.remove(&key);
                }
            }
        }
        known.peers.retain(|_, peer| match peer.upgrade() {
            Some(peer) => {
                peer.drop_expired(self.settings.upstream_idle_timeout);
                true
            }
            None => false,
        });
    }

    /// Endpoints that are known, for tests.
    #[cfg(test)]
    pub(in crate::proxy) fn peers(&self) -> Vec<Arc<Peer>> {
        self.known().peers.values().filter_map(Weak::upgrade).collect()
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // Nothing panics while holding the lock.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    /// Replaces the group of a backend that changed; endpoints that stay keep their state.
    fn update(&mut self, backend: &Arc<Backend>) -> Arc<Group> {
        let peers = backend.endpoints.iter().map(|endpoint| {
            if let Some(peer) = self.peers.get(&endpoint.address).and_then(Weak::upgrade) {
                return peer;
            }
            let peer = Arc::new(Peer::new(endpoint.address.clone()));
            self.peers.insert(endpoint.address.clone(), Arc::downgrade(&peer));
            peer
        });
        let peers = peers.collect();
        let kept = self.groups.get(&backend.key).map(|group| group.kept.clone()).unwrap_or_default();
        let group = Arc::new(Group { backend: backend.clone(), peers, kept });
        self.groups.insert(backend.key.clone(), group.clone());
        group
    }
}

impl Group {
    /// The endpoint for a request: of two random ones that are not left out, the one with fewer requests in flight
    /// on this worker ("power of two choices"). `avoid` is not chosen unless it is the only one. If all are left
    /// out, all are used: a wrong guess about health must not become an outage.
    pub(in crate::proxy) fn choose(&self, avoid: Option<&Arc<Peer>>) -> Option<Arc<Peer>> {
        let peers = &self.peers;
        let now = Instant::now();
        let avoided = |peer: &Arc<Peer>| avoid.is_some_and(|avoid| Arc::ptr_eq(avoid, peer));
        let usable = |peer: &&Arc<Peer>| !avoided(peer) && !peer.is_ejected(now);
        match peers.as_ref() {
            [] => return None,
            [only] => return Some(only.clone()),
            [..] => {}
        }
        let first = fastrand::usize(..peers.len());
        // A second one, different from the first.
        let second = (first + fastrand::usize(1..peers.len())) % peers.len();
        let pair = [peers.get(first), peers.get(second)].into_iter().flatten();
        let chosen = pair.clone().filter(usable).min_by_key(|peer| peer.in_flight());
        let chosen = chosen.or_else(|| peers.iter().cycle().skip(first).take(peers.len()).find(usable));
        chosen.or_else(|| pair.filter(|peer| !avoided(peer)).min_by_key(|peer| peer.in_flight())).cloned()
    }

    /// Whether there is another endpoint than this one.
    pub(in crate::proxy) fn has_other(&self, peer: &Arc<Peer>) -> bool {
        self.peers.iter().any(|other| !Arc::ptr_eq(other, peer))
    }
}

impl Lease {
    /// The endpoint.
    pub(in crate::proxy) fn peer(&self) -> &Arc<Peer> {
        self.in_flight.peer()
    }

    /// Keeps the connection for another request. Only for connections on which the whole request has been written
    /// and the whole response read; all others close when the lease is dropped.
    pub(in crate::proxy) fn finish(self) {
        let Self { mut sender, link, in_flight, kept, most_kept } = self;
        if sender.is_closed() {
            return;
        }
        let Some(kept) = Kept::new(kept, most_kept) else { return };
        if sender.is_ready() {
            in_flight.peer().keep(sender, link, kept);
            return;
        }
        // The connection's task has not seen the end yet, or will close. It is ready after its next turn; a client
        // body that is buffered but not flushed may take longer, and then the connection is not worth the wait.
        let peer = in_flight.peer().clone();
        tokio::spawn(async move {
            let ready = tokio::time::timeout(Duration::from_secs(1), sender.ready()).await;
            if matches!(ready, Ok(Ok(()))) {
                peer.keep(sender, link, kept);
            }
        });
    }
}

/// A request as a connection takes it.
pub(in crate::proxy) type Request = hyper::Request<Upload>;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::{BackendState, Endpoint, PortKey};

    fn backend(ports: &[u16]) -> Arc<Backend> {
        let endpoints = ports.iter().map(|port| Endpoint { address: Address::Ip(([127, 0, 0, 1], *port).into()) });
        Arc::new(Backend {
            key: BackendKey { namespace: "default".into(), service: "shop".into(), port: PortKey::Number(80) },
            state: BackendState::Ready,
            endpoints: endpoints.collect(),
        })
    }

    fn upstreams() -> Upstreams {
        Upstreams::new(Arc::default(), Metrics::default())
    }

    fn port(peer: &Peer) -> u16 {
        match &peer.address {
            Address::Ip(address) => address.port(),
            Address::Name(_, port) => *port,
        }
    }

    #[test]
    fn the_less_loaded_of_two_is_chosen() {
        let upstreams = upstreams();
        let group = upstreams.group(&backend(&[1, 2]));
        let busy = group.choose(None).unwrap();
        let _request = busy.begin();
        for _ in 0..50 {
            assert_ne!(port(&group.choose(None).unwrap()), port(&busy));
        }
    }

    #[test]
    fn all_endpoints_get_requests() {
        let upstreams = upstreams();
        let ports: Vec<u16> = (1..=20).collect();
        let group = upstreams.group(&backend(&ports));
        let mut seen: Vec<u16> = (0..2000).map(|_| port(&group.choose(None).unwrap())).collect();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen, ports);
    }

    #[test]
    fn endpoints_that_stay_keep_their_state_and_those_that_leave_lose_it() {
        let upstreams = upstreams();
        let group = upstreams.group(&backend(&[1, 2]));
        let one = group.choose(None).unwrap();
        let kept_port = port(&one);
        let _request = one.begin();
        drop(group);
        let group = upstreams.group(&backend(&[kept_port, 9]));
        assert_eq!(upstreams.peers().len(), 2);
        let same = group.peers.iter().find(|peer| port(peer) == kept_port).unwrap();
        assert_eq!(same.in_flight(), 1);
        assert!(upstreams.peers().iter().all(|peer| [kept_port, 9].contains(&port(peer))));
    }

    #[test]
    fn a_sweep_forgets_backends_that_left_the_snapshot() {
        let upstreams = upstreams();
        let backend = backend(&[1]);
        drop(upstreams.group(&backend));
        let mut snapshot = Snapshot::default();
        snapshot.backends.insert(backend.key.clone(), backend);
        upstreams.sweep(&snapshot);
        assert_eq!(upstreams.peers().len(), 1);
        upstreams.sweep(&Snapshot::default());
        assert_eq!(upstreams.peers().len(), 0);
        upstreams.sweep(&Snapshot::default());
        assert!(upstreams.known().peers.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn an_endpoint_that_fails_again_and_again_is_left_out_for_longer_each_time() {
        let upstreams = upstreams();
        let group = upstreams.group(&backend(&[1, 2]));
        let bad = group.peers[0].clone();
        let chosen = || (0..50).any(|_| Arc::ptr_eq(&group.choose(None).unwrap(), &bad));
        for _ in 0..4 {
            upstreams.failed(&bad, UpstreamFailure::ConnectRefused);
        }
        assert!(chosen());
        upstreams.failed(&bad, UpstreamFailure::ConnectRefused);
        assert!(!chosen());
        assert_eq!(upstreams.metrics.upstream_ejections.get(), 1);
        for seconds in [10, 20, 40, 60, 60] {
            tokio::time::advance(Duration::from_secs(seconds) - Duration::from_millis(1)).await;
            assert!(!chosen(), "left out for {seconds} s");
            tokio::time::advance(Duration::from_millis(1)).await;
            assert!(chosen(), "back after {seconds} s");
            upstreams.failed(&bad, UpstreamFailure::Reset);
        }
        upstreams.succeeded(&bad);
        assert!(chosen(), "one answer brings it back");
    }

    #[test]
    fn if_all_are_left_out_all_are_used() {
        let upstreams = upstreams();
        let group = upstreams.group(&backend(&[1, 2]));
        for peer in &group.peers {
            for _ in 0..5 {
                upstreams.failed(peer, UpstreamFailure::ConnectRefused);
            }
        }
        let mut seen: Vec<u16> = (0..100).map(|_| port(&group.choose(None).unwrap())).collect();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen, [1, 2]);
    }

    #[test]
    fn slow_answers_do_not_eject() {
        let upstreams = upstreams();
        let group = upstreams.group(&backend(&[1, 2]));
        for _ in 0..20 {
            upstreams.failed(&group.peers[0], UpstreamFailure::ReadTimeout);
        }
        assert_eq!(upstreams.metrics.upstream_ejections.get(), 0);
        assert_eq!(upstreams.metrics.upstream_failures.with_label_values(&["read-timeout"]).get(), 20);
    }
}
