//! What the requests of a host get, in one word.
//!
//! `VirtualHost × backends × whether something is lost ──▶ Traffic`
//!
//! The one place that decides it: `handfast check`, `/api/hosts`, metrics and log lines say the same. Routes are judged as
//! the proxy answers requests, but for what depends on the request: its client, its method, a challenge.

use serde::Serialize;

use super::{BackendState, HostTls, PathMatch, Route, Snapshot, Target, VirtualHost};
use crate::quote::shown;

/// What the requests of a host get.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub enum Traffic {
    /// What is configured.
    #[serde(rename = "works")]
    Works,
    /// They are answered. Something that is asked for is not in force, or some clients cannot connect.
    #[serde(rename = "works_with_losses")]
    WorksWithLosses,
    /// Some paths answer 503.
    #[serde(rename = "answers_503_partly")]
    Answers503Partly,
    /// Every path answers 503.
    #[serde(rename = "answers_503")]
    Answers503,
    /// Every handshake is refused.
    #[serde(rename = "refuses_tls")]
    RefusesTls,
    /// Nothing of the host: its class is another controller's, or no request can match one of its paths.
    #[serde(rename = "not_served")]
    NotServed,
}

impl Traffic {
    /// All of them, the best first.
    pub const ALL: [Traffic; 6] = [
        Traffic::Works,
        Traffic::WorksWithLosses,
        Traffic::Answers503Partly,
        Traffic::Answers503,
        Traffic::RefusesTls,
        Traffic::NotServed,
    ];

    /// Judges a host. `has_losses` says whether a finding about it costs something ([`Diagnostic::is_loss`]);
    /// `endpoints_are_known` is false where nobody has said anything about any endpoint, so that they are taken to be there.
    ///
    /// [`Diagnostic::is_loss`]: crate::compile::Diagnostic::is_loss
    pub fn of(host: &VirtualHost, snapshot: &Snapshot, has_losses: bool, endpoints_are_known: bool) -> Self {
        let refuses = match host.tls {
            HostTls::Refuse => true,
            // Clients have to show a certificate, and there is no handshake that they could show it in.
            HostTls::Absent => host.https_only,
            HostTls::Terminate(_) => false,
        };
        Self::put_together(refuses, Paths::of(host.routes.iter(), snapshot, endpoints_are_known).counts(), has_losses)
    }

    /// The same, from what is known: whether TLS is refused, how many paths are open and how many answer 503.
    pub fn put_together(refuses_tls: bool, (open, closed): (usize, usize), has_losses: bool) -> Self {
        match (open, closed) {
            (0, 0) => Traffic::NotServed,
            _ if refuses_tls => Traffic::RefusesTls,
            (0, _) => Traffic::Answers503,
            (_, 1..) => Traffic::Answers503Partly,
            (_, 0) if has_losses => Traffic::WorksWithLosses,
            (_, 0) => Traffic::Works,
        }
    }

    /// The word used in JSON and metrics.
    pub fn code(self) -> &'static str {
        match self {
            Traffic::Answers503 => "answers_503",
            Traffic::Answers503Partly => "answers_503_partly",
            Traffic::NotServed => "not_served",
            Traffic::RefusesTls => "refuses_tls",
            Traffic::Works => "works",
            Traffic::WorksWithLosses => "works_with_losses",
        }
    }

    /// The words for people.
    pub fn words(self) -> &'static str {
        match self {
            Traffic::Answers503 => "answers 503 (all paths)",
            Traffic::Answers503Partly => "answers 503 (some paths)",
            Traffic::NotServed => "not served",
            Traffic::RefusesTls => "refuses TLS",
            Traffic::Works => "works",
            Traffic::WorksWithLosses => "works, with losses",
        }
    }
}

/// The paths of a host that a request can match.
#[derive(Clone, Debug, Default)]
pub struct Paths<'a> {
    /// How many do not answer 503.
    pub open: usize,
    /// Those that answer 503, Exact before Prefix, sorted by path.
    pub closed: Vec<(&'a Route, Closed)>,
}

impl<'a> Paths<'a> {
    /// Judges routes. `endpoints_are_known` as for [`Traffic::of`].
    pub fn of<R: AsRef<Route> + 'a>(
        routes: impl IntoIterator<Item = &'a R>,
        snapshot: &Snapshot,
        endpoints_are_known: bool,
    ) -> Self {
        let mut paths = Self::default();
        for route in routes.into_iter().map(AsRef::as_ref).filter(|route| !route.path.is_pattern()) {
            match closed(route, snapshot).filter(|why| endpoints_are_known || *why != Closed::NoEndpoints) {
                Some(why) => paths.closed.push((route, why)),
                None => paths.open += 1,
            }
        }
        paths.closed.sort_by(|(one, _), (other, _)| (one.matches, &one.path).cmp(&(other.matches, &other.path)));
        paths
    }

    /// How many are open, and how many answer 503.
    pub fn counts(&self) -> (usize, usize) {
        (self.open, self.closed.len())
    }

    /// Why some answer 503, each cause once.
    pub fn causes(&self) -> Vec<Closed> {
        let mut causes: Vec<Closed> = self.closed.iter().map(|(_, why)| *why).collect();
        causes.sort_unstable();
        causes.dedup();
        causes
    }
}

/// Why a path answers 503.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Closed {
    /// What it asks for is not supported, or wrong.
    ByConfiguration,
    /// The Service has no endpoint that takes traffic.
    NoEndpoints,
    /// The Service, or its port, does not exist or may not be used.
    NoService,
}

impl Closed {
    /// The word used in JSON.
    pub fn code(self) -> &'static str {
        match self {
            Closed::ByConfiguration => "closed",
            Closed::NoEndpoints => "no_endpoints",
            Closed::NoService => "no_service",
        }
    }

    /// The words for people.
    pub fn words(self) -> &'static str {
        match self {
            Closed::ByConfiguration => "closed by configuration",
            Closed::NoEndpoints => "no endpoints",
            Closed::NoService => "no usable Service",
        }
    }
}

impl Route {
    /// The path, and how it is compared where that is not by prefix.
    pub fn label(&self) -> String {
        match self.matches {
            PathMatch::Exact => format!("{} (Exact)", shown(self.path.as_str())),
            PathMatch::Prefix => shown(self.path.as_str()).to_owned(),
        }
    }
}

/// Why a route answers 503; `None` if it does not. A redirect comes first, whatever stands behind it.
fn closed(route: &Route, snapshot: &Snapshot) -> Option<Closed> {
    if route.options.redirect.is_some() {
        return None;
    }
    let key = match &route.target {
        Target::Dropped => return Some(Closed::ByConfiguration),
        Target::Backend(key) => key,
    };
    match snapshot.backend(key).map(|backend| backend.state) {
        Some(BackendState::Ready) => None,
        Some(BackendState::NoEndpoints) => Some(Closed::NoEndpoints),
        Some(BackendState::Missing) | None => Some(Closed::NoService),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_is_told_and_a_redirect_needs_no_backend() {
        let rows = [
            ((false, (0, 0), true), Traffic::NotServed),
            ((true, (0, 0), false), Traffic::NotServed),
            ((true, (1, 0), false), Traffic::RefusesTls),
            ((true, (0, 1), false), Traffic::RefusesTls),
            ((false, (0, 2), true), Traffic::Answers503),
            ((false, (1, 1), true), Traffic::Answers503Partly),
            ((false, (1, 0), true), Traffic::WorksWithLosses),
            ((false, (1, 0), false), Traffic::Works),
        ];
        for ((refuses, counts, losses), expected) in rows {
            assert_eq!(Traffic::put_together(refuses, counts, losses), expected, "{refuses} {counts:?} {losses}");
        }
        assert!(Traffic::ALL.windows(2).all(|pair| pair[0] < pair[1]), "the best comes first");
        for one in Traffic::ALL {
            assert_eq!(serde_json::to_value(one).unwrap(), one.code());
        }
    }
}
