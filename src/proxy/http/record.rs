//! One request from its head to the end of its response: counted and logged exactly once, on every path.

use std::net::IpAddr;
use std::sync::Arc;

use http::uri::PathAndQuery;
use http::{HeaderValue, Method, Request, StatusCode, Version, header};
use tokio::time::Instant;

use super::body::Transfer;
use super::{Client, Security};
use crate::access_log::{Entry, Texts, UpstreamEntry};
use crate::proxy::upstream::UpstreamFailure;
use crate::snapshot::{Address, Route, Target, VirtualHost};

/// nginx's status for a client that left before it got a response.
const CLIENT_CLOSED_REQUEST: u16 = 499;

/// Records one request when dropped.
pub(super) struct Record {
    /// The connection that it came on.
    pub(super) client: Arc<Client>,
    /// When its head had been read.
    pub(super) started: Instant,
    /// The status sent; until then, what is to be recorded if the client leaves.
    code: u16,
    /// Whether the client is known to have left before its response.
    gone: bool,
    /// The virtual host that it is for.
    pub(super) host: Option<Arc<VirtualHost>>,
    /// Whether the response carries the host's Strict-Transport-Security; `None` if the host has none of its own.
    pub(super) hsts: Option<bool>,
    /// Why no endpoint answered.
    pub(super) failure: Option<UpstreamFailure>,
    /// The route that it takes.
    pub(super) route: Option<Arc<Route>>,
    /// Its body, if it has one.
    pub(super) transfer: Option<Arc<Transfer>>,
    /// Bytes of an upgraded connection, from the client.
    pub(super) bytes_in: u64,
    /// Bytes of the response body handed to the client's connection.
    pub(super) bytes_out: u64,
    attempt: Option<Attempt>,
    line: Option<Line>,
}

/// The last endpoint that was tried.
struct Attempt {
    address: Address,
    started: Instant,
    ended: Option<Instant>,
    status: Option<u16>,
}

/// What only the access log wants to know. Clones are reference counts.
struct Line {
    client: IpAddr,
    host: Option<HeaderValue>,
    method: Option<Method>,
    target: Option<PathAndQuery>,
    version: Version,
    request_id: Option<HeaderValue>,
    user_agent: Option<HeaderValue>,
    referer: Option<HeaderValue>,
}

impl Record {
    /// A request has been read. `readable` is false for the stand-in of a request that could not be.
    pub(super) fn start<B>(client: &Arc<Client>, request: &Request<B>, readable: bool) -> Box<Self> {
        client.begin();
        let headers = request.headers();
        let line = client.service.access_log.is_on().then(|| Line {
            client: client.connection.client.ip(),
            host: readable.then(|| headers.get(header::HOST).cloned()).flatten(),
            method: readable.then(|| request.method().clone()),
            target: readable.then(|| request.uri().path_and_query().cloned()).flatten(),
            version: request.version(),
            request_id: None,
            user_agent: headers.get(header::USER_AGENT).cloned(),
            referer: headers.get(header::REFERER).cloned(),
        });
        Box::new(Self {
            client: client.clone(),
            started: Instant::now(),
            code: CLIENT_CLOSED_REQUEST,
            gone: false,
            host: None,
            hsts: None,
            failure: None,
            route: None,
            transfer: None,
            bytes_in: 0,
            bytes_out: 0,
            attempt: None,
            line,
        })
    }

    /// The status that is being sent.
    pub(super) fn status(&mut self, status: StatusCode) {
        if !self.gone {
            self.code = status.as_u16();
        }
    }

    /// The client has left: whatever is answered now, nobody gets it.
    pub(super) fn client_left(&mut self) {
        self.gone = true;
    }

    /// What the log shows as the client, its authority and the request's id.
    pub(super) fn identify(&mut self, client: IpAddr, host: &HeaderValue) {
        if let Some(line) = &mut self.line {
            line.client = client;
            line.host = Some(host.clone());
        }
    }

    /// The request is counted, and there is no line about it.
    pub(super) fn leave_unlogged(&mut self) {
        self.line = None;
    }

    /// What is sent as `X-Request-ID`.
    pub(super) fn request_id(&mut self, id: Option<&HeaderValue>) {
        if let Some(line) = &mut self.line {
            line.request_id = id.cloned();
        }
    }

    /// The request goes to this endpoint now.
    pub(super) fn attempt(&mut self, address: &Address) {
        if self.line.is_some() {
            let started = Instant::now();
            self.attempt = Some(Attempt { address: address.clone(), started, ended: None, status: None });
        }
    }

    /// The endpoint answered with this status, or failed.
    pub(super) fn attempt_ended(&mut self, status: Option<StatusCode>) {
        if let Some(attempt) = &mut self.attempt {
            attempt.ended = Some(Instant::now());
            attempt.status = status.map(|status| status.as_u16());
        }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        self.client.end();
        let service = &self.client.service;
        let duration = self.started.elapsed();
        let host = service.metrics.host_label(self.host.as_deref());
        let code = StatusCode::from_u16(self.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        service.metrics.http_requests.with_label_values(&[host, code.as_str()]).inc();
        service.metrics.http_request_duration.with_label_values(&[host]).observe(duration.as_secs_f64());

        let wanted = self.route.as_ref().is_none_or(|route| route.options.access_log);
        let Some(line) = self.line.take().filter(|_| wanted) else { return };
        let (tls_version, server_name) = match &self.client.connection.security {
            Security::Plain => (None, None),
            Security::Tls(tls) => (Some(tls.version), tls.server_name.as_deref()),
        };
        let upstream = self.attempt.take().map(|attempt| UpstreamEntry {
            address: attempt.address,
            status: attempt.status,
            duration: attempt.ended.unwrap_or_else(Instant::now).duration_since(attempt.started),
        });
        let backend = self.route.as_ref().and_then(|route| match &route.target {
            Target::Backend(key) => Some(key.clone()),
            Target::Dropped => None,
        });
        let body = self.transfer.as_ref().map_or(0, |transfer| transfer.bytes());
        let entry = Entry {
            time: service.access_log.now(),
            client: line.client,
            version: line.version,
            status: self.code,
            bytes_in: self.bytes_in + body,
            bytes_out: self.bytes_out,
            duration,
            upstream,
            tls_version,
            ingress: self.route.as_ref().map(|route| route.ingress.clone()),
            backend,
            failure: self.failure.map(UpstreamFailure::label),
        };
        let texts = Texts {
            host: line.host.as_ref().map(HeaderValue::as_bytes),
            method: line.method.as_ref().map(|method| method.as_str().as_bytes()),
            path: line.target.as_ref().map(|target| target.path().as_bytes()),
            query: line.target.as_ref().and_then(PathAndQuery::query).map(str::as_bytes),
            request_id: line.request_id.as_ref().map(HeaderValue::as_bytes),
            server_name: server_name.map(|name| name.as_bytes()),
            user_agent: line.user_agent.as_ref().map(HeaderValue::as_bytes),
            referer: line.referer.as_ref().map(HeaderValue::as_bytes),
        };
        service.access_log.write(entry, &texts);
    }
}
