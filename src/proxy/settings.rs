//! Timeouts, limits and addresses of the data plane.
//!
//! One value, made from the command line and shared by all workers. Defaults are those of ingress-nginx wherever it
//! has one, so that a migration changes nothing that was not asked for. Routes may override some of them
//! ([`RouteOptions`](crate::snapshot::RouteOptions)).

use std::sync::Arc;
use std::time::Duration;

use crate::snapshot::{AddressList, Reach};

/// What every request and connection is held to.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Longest gap between two reads of a request body from a client; 408 after that. `client-body-timeout`, 60 s.
    pub client_body_timeout: Duration,
    /// Longest time for a client to send a request head, from its first byte (on a new connection: from its start);
    /// 408 after that. `client-header-timeout`, 60 s.
    pub client_header_timeout: Duration,
    /// Longest time that a client connection may be kept open between two requests; 0 is one request per
    /// connection. `keep-alive`, 75 s.
    pub client_idle_timeout: Duration,
    /// Longest gap between two writes to a client that has stopped reading (HTTP/1.1, upgraded connections
    /// included). nginx's `send_timeout`, 60 s. With HTTP/2, a response that its client does not take is given up; others
    /// on the connection go on.
    pub client_write_timeout: Duration,
    /// Longest wait for a connection to an endpoint, name resolution included. `proxy-connect-timeout`, 5 s.
    pub connect_timeout: Duration,
    /// Failures in a row after which an endpoint gets no requests for a while. 5.
    pub eject_after: u32,
    /// How long an endpoint is left out the first time; doubles each time until it answers again. 10 s.
    pub eject_for: Duration,
    /// The longest time that an endpoint is left out. 60 s.
    pub eject_for_at_most: Duration,
    /// Most header lines of a request; 431 above. 100.
    pub header_count: usize,
    /// Most bytes of a request head; 431 (414 if the request line alone is larger) above.
    /// `large-client-header-buffers` 4 × 8 KiB, 32 KiB.
    pub header_size: usize,
    /// The port that clients reach the HTTPS listener on, if it is not 443: part of redirects and of
    /// `X-Forwarded-Port`. `--https-public-port`, none.
    pub https_public_port: Option<u16>,
    /// Most streams that an HTTP/2 client may have open. `http2-max-concurrent-streams`, 128.
    pub http2_streams: u32,
    /// Which addresses the name of an endpoint may resolve to.
    pub reach: Arc<Reach>,
    /// Longest gap between two reads from an endpoint; 504 if no response has begun. `proxy-read-timeout`, 60 s.
    pub read_timeout: Duration,
    /// Longest gap between two writes to an endpoint; 504 if no response has begun. `proxy-send-timeout`, 60 s.
    pub send_timeout: Duration,
    /// Clients whose `X-Forwarded-*` headers are believed. `--trusted-proxies`, none.
    ///
    /// The address that counts is the one that PROXY protocol reports, if it is used: the sender of the HTTP
    /// request. Otherwise a load balancer that is trusted to speak PROXY protocol would lend its trust to anybody.
    pub trusted_proxies: AddressList,
    /// Most idle connections that one worker keeps to the endpoints of one backend.
    /// `upstream-keepalive-connections`, 320, divided by the number of workers.
    pub upstream_idle: usize,
    /// How long an idle connection to an endpoint is kept. `upstream-keepalive-timeout`, 60 s.
    pub upstream_idle_timeout: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            client_body_timeout: Duration::from_secs(60),
            client_header_timeout: Duration::from_secs(60),
            client_idle_timeout: Duration::from_secs(75),
            client_write_timeout: Duration::from_secs(60),
            connect_timeout: Duration::from_secs(5),
            eject_after: 5,
            eject_for: Duration::from_secs(10),
            eject_for_at_most: Duration::from_secs(60),
            header_count: 100,
            header_size: 32 * 1024,
            https_public_port: None,
            http2_streams: 128,
            reach: Arc::default(),
            read_timeout: Duration::from_secs(60),
            send_timeout: Duration::from_secs(60),
            trusted_proxies: AddressList::new([]),
            upstream_idle: 320,
            upstream_idle_timeout: Duration::from_secs(60),
        }
    }
}
