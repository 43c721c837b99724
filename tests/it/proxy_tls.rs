//! What a host's TLS policy means for its requests: HSTS, certificates of clients, and connections that outlive them.

use std::net::SocketAddr;
use std::ops::Range;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use handfast::access_log::{AccessLog, Format};
use handfast::demo::pki::Authority;
use handfast::metrics::Metrics;
use handfast::proxy::http::{HttpService, Security};
use handfast::proxy::record::Observers;
use handfast::proxy::settings::Settings;
use handfast::proxy::worker::{Shutdown, WorkerSettings, Workers};
use handfast::snapshot::{AddressList, HostTls, RouteOptions, Snapshot, Target, channel};
use handfast::tls::ServerTls;
use http_body_util::{BodyExt, Empty};
use hyper::{Method, Request};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::binary::{program, wait_until};
use crate::client_auth::{Identity, asking, asking_with, client_ca, identity, identity_with, tls_asking};
use crate::handshake::now;
use crate::http_support::{
    Proxy, Site, Start, Upstream, header, made_with, over_tls, read_head, read_response, read_to_end, some_tls, status,
    until,
};
use crate::pki::{crl, valid_around};

const HSTS: &str = "max-age=31536000; includeSubDomains";

fn get(uri: &str) -> Request<Empty<Bytes>> {
    Request::get(uri).body(Empty::new()).unwrap()
}

fn loopback() -> AddressList {
    AddressList::new(["127.0.0.0/8".parse().unwrap()])
}

/// `shop` has a header of its own, `other` has none; both have an endpoint that sends one, twice.
async fn hsts_site() -> impl Fn() -> Site {
    let own = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nStrict-Transport-Security: max-age=1\r\n\
        Strict-Transport-Security: max-age=2\r\n\r\n";
    let endpoint = Upstream::answering(own).await;
    move || {
        let mut site = Site::default();
        for host in ["shop", "other"] {
            site = site
                .route(host, "/app", "shop", RouteOptions::default())
                .route(host, "/gone", "gone", RouteOptions::default())
                .route(host, "/deny", "shop", RouteOptions { deny: Some(loopback()), ..RouteOptions::default() })
                .target(host, "/closed", Target::Dropped, RouteOptions::default());
        }
        site.with("shop", |host| host.hsts = Some(HSTS.into())).backend("shop", &[endpoint.address])
    }
}

fn all_hsts(response: &str) -> Vec<&str> {
    let head = response.split("\r\n\r\n").next().unwrap();
    head.lines().filter_map(|line| line.strip_prefix("strict-transport-security: ")).collect()
}

#[tokio::test]
async fn every_https_response_of_a_host_carries_its_hsts_and_none_over_plain_http() {
    let site = hsts_site().await;
    let rows = [("/app", 200), ("/gone", 503), ("/deny", 403), ("/closed", 503), ("/none", 404), ("/%zz", 400)];
    let start = || Start { security: over_tls(Some("shop"), None, false), ..Start::default() };
    let proxy = Proxy::start_with(site(), start()).await;
    for (path, code) in rows {
        let response = proxy.get("shop", path).await;
        assert_eq!((status(&response), all_hsts(&response)), (code, vec![HSTS]), "{path}");
    }
    let response = proxy.raw("OPTIONS * HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n").await;
    assert_eq!((status(&response), all_hsts(&response)), (200, vec![HSTS]));
    // Whom the connection is not for, it does not speak for.
    let response = proxy.get("other", "/app").await;
    assert_eq!((status(&response), all_hsts(&response)), (421, vec![]));

    let security = over_tls(Some("shop"), None, true);
    let proxy = Proxy::start_with(site(), Start { security, ..Start::default() }).await;
    let mut sender = proxy.http2().await;
    for (path, code) in rows {
        let response = sender.send_request(get(&format!("https://shop{path}"))).await.unwrap();
        let values = response.headers().get_all("strict-transport-security");
        let found: Vec<&str> = values.iter().map(|value| value.to_str().unwrap()).collect();
        assert_eq!((response.status().as_u16(), found), (code, vec![HSTS]), "{path}");
    }

    // Plain: not ours, and not the backend's either (RFC 6797 section 7.2).
    let proxy = Proxy::start(site()).await;
    for (path, code) in rows {
        let response = proxy.get("shop", path).await;
        assert_eq!((status(&response), all_hsts(&response)), (code, vec![]), "{path}");
    }
}

#[tokio::test]
async fn a_host_without_hsts_passes_on_what_its_backend_says() {
    let site = hsts_site().await;
    for security in [over_tls(Some("other"), None, false), handfast::proxy::http::Security::Plain] {
        let proxy = Proxy::start_with(site(), Start { security, ..Start::default() }).await;
        assert_eq!(all_hsts(&proxy.get("other", "/app").await), ["max-age=1", "max-age=2"]);
        assert!(all_hsts(&proxy.get("other", "/none").await).is_empty());
    }
}

#[tokio::test]
async fn the_scheme_that_counts_for_hsts_is_the_one_that_the_client_used() {
    let site = hsts_site().await;
    let plain = handfast::proxy::http::Security::Plain;
    let rows = [
        (plain.clone(), true, "https", true),
        (plain.clone(), true, "http", false),
        // Nobody believes strangers.
        (plain, false, "https", false),
        (over_tls(Some("shop"), None, false), true, "http", false),
        (over_tls(Some("shop"), None, false), false, "http", true),
    ];
    for (security, trusted, proto, expected) in rows {
        let trusted_proxies = if trusted { loopback() } else { AddressList::new([]) };
        let settings = Settings { trusted_proxies, ..Settings::default() };
        let proxy = Proxy::start_with(site(), Start { settings, security, ..Start::default() }).await;
        let request =
            format!("GET /app HTTP/1.1\r\nHost: shop\r\nX-Forwarded-Proto: {proto}\r\nConnection: close\r\n\r\n");
        let response = proxy.raw(request).await;
        assert_eq!(!all_hsts(&response).is_empty(), expected, "{trusted} {proto}: {response}");
    }
}

#[tokio::test]
async fn a_host_that_asks_for_certificates_is_not_reached_over_plain_http() {
    let endpoint = Upstream::echo().await;
    let solver = Upstream::answering("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\ntoken").await;
    let plain = RouteOptions { ssl_redirect: false, force_ssl_redirect: false, ..RouteOptions::default() };
    let site = || {
        Site::default()
            .route("shop", "/", "shop", plain.clone())
            .route("shop", "/.well-known/acme-challenge/solved", "solver", plain.clone())
            .with("shop", |host| host.https_only = true)
            .backend("shop", &[endpoint.address])
            .backend("solver", &[solver.address])
    };
    let proxy = Proxy::start(site()).await;
    for method in ["GET", "HEAD", "POST", "DELETE", "OPTIONS"] {
        let response = proxy
            .raw(format!("{method} /a?b HTTP/1.1\r\nHost: shop\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"))
            .await;
        let found = (status(&response), header(&response, "location"));
        assert_eq!(found, (308, Some("https://shop/a?b")), "{method}");
    }
    let forged = "GET / HTTP/1.1\r\nHost: shop\r\nX-Forwarded-Proto: https\r\nConnection: close\r\n\r\n";
    assert_eq!(status(&proxy.raw(forged).await), 308);
    let upgrade = "GET / HTTP/1.1\r\nHost: shop\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    let mut stream = proxy.connect().await;
    stream.write_all(upgrade.as_bytes()).await.unwrap();
    assert_eq!(status(&read_response(&mut stream).await), 308);
    let mut sender = proxy.http2().await;
    for method in [Method::GET, Method::POST] {
        let request = Request::builder().method(method).uri("http://shop/").body(Empty::<Bytes>::new()).unwrap();
        assert_eq!(sender.send_request(request).await.unwrap().status(), 308);
    }
    // A challenge is answered by whoever is there for it, and by no application.
    assert!(proxy.get("shop", "/.well-known/acme-challenge/solved").await.ends_with("token"));
    for path in ["/.well-known/acme-challenge/other", "/.well-known/acme-challenge/solved/../../../x"] {
        assert_eq!(status(&proxy.get("shop", path).await), 308, "{path}");
    }
    assert_eq!(endpoint.connections(), 0);

    // A proxy that has terminated TLS has verified nothing that we know of, and a redirect would come back here.
    let settings = Settings { trusted_proxies: loopback(), ..Settings::default() };
    let proxy = Proxy::start_with(site(), Start { settings, ..Start::default() }).await;
    let response = proxy.raw(forged).await;
    assert_eq!(status(&response), 403);
    assert!(response.contains("client certificate"), "{response}");
    assert_eq!(status(&proxy.get("shop", "/").await), 308);
    assert_eq!(endpoint.connections(), 0);

    let start = Start { security: over_tls(Some("shop"), None, false), ..Start::default() };
    // The connection's own policy is another story; here the host has none to compare with.
    let proxy = Proxy::start_with(site().tls("shop", HostTls::Terminate(some_tls())), start).await;
    assert_eq!(status(&proxy.get("shop", "/").await), 200);
}

/// Publishes another policy for `shop` while connections to it are open.
#[tokio::test]
async fn connections_end_when_their_host_asks_for_other_certificates() {
    let endpoint = Upstream::echo().await;
    let authority = Authority::new("Test", now()).unwrap();
    let (one, two) = (client_ca("One"), client_ca("Two"));
    let tls = |client_auth| tls_asking(&authority, "shop.example", client_auth);
    let site = |shop: HostTls, https_only: bool| {
        Site::default()
            .route("shop.example", "/", "shop", RouteOptions::default())
            .route("other.example", "/", "shop", RouteOptions::default())
            .tls("shop.example", shop)
            .tls("other.example", HostTls::Terminate(tls(None)))
            .with("shop.example", |host| host.https_only = https_only)
            .backend("shop", &[endpoint.address])
    };
    let terminate = |tls: &Arc<ServerTls>| HostTls::Terminate(tls.clone());
    let (open, asks_one) = (tls(None), tls(Some(asking(true, &one))));
    let listing =
        |days: Range<i64>, revoked: &[u64]| tls(Some(asking_with(true, &one, &crl(&one, now(), days, revoked))));
    let lists = listing(-5..5, &[1]);
    // What the connection was made with, what is published then, and whether that ends it.
    let rows = [
        (&open, terminate(&tls(None)), false, false),
        (&open, terminate(&asks_one), true, true),
        (&open, terminate(&tls(Some(asking(false, &one)))), false, true),
        // The authorities of clients cannot be read, say: whom to let in is not known.
        (&open, HostTls::Refuse, true, true),
        // The certificate cannot be read.
        (&open, HostTls::Refuse, false, false),
        (&asks_one, terminate(&tls(Some(asking(true, &one)))), true, false),
        (&asks_one, terminate(&tls(Some(asking(false, &one)))), false, true),
        (&asks_one, terminate(&tls(Some(asking(true, &two)))), true, true),
        (&asks_one, terminate(&open), false, true),
        // A new list that revokes nothing new, one that does, and none any more.
        (&lists, terminate(&listing(-1..9, &[1])), true, false),
        (&lists, terminate(&listing(-1..9, &[1, 2])), true, true),
        (&lists, terminate(&asks_one), true, true),
    ];
    for (index, (before, after, https_only, ends)) in rows.iter().enumerate() {
        let http = |http2| {
            let security = made_with(before, Some("shop.example"), None, http2);
            Proxy::start_with(site(terminate(before), false), Start { security, ..Start::default() })
        };
        let publish = |proxy: &Proxy| proxy.publisher.publish(site(after.clone(), *https_only).build());
        let expected = if *ends { 421 } else { 200 };

        let proxy = http(false).await;
        let (mut stream, mut idle) = (proxy.connect().await, proxy.connect().await);
        let request = b"GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n";
        for stream in [&mut stream, &mut idle] {
            stream.write_all(request).await.unwrap();
            assert_eq!(status(&read_response(stream).await), 200, "{index}");
        }
        publish(&proxy);
        stream.write_all(request).await.unwrap();
        let response = if *ends { read_to_end(&mut stream).await } else { read_response(&mut stream).await };
        assert_eq!(
            (status(&response), header(&response, "connection")),
            (expected, ends.then_some("close")),
            "{index}"
        );

        // One that says nothing is closed some seconds later.
        tokio::time::pause();
        tokio::time::sleep(Duration::from_secs(6)).await;
        tokio::time::resume();
        if *ends {
            assert_eq!(read_to_end(&mut idle).await, "", "{index}");
            until("all are closed", || proxy.open.load(Ordering::Relaxed) == 0).await;
        } else {
            idle.write_all(request).await.unwrap();
            assert_eq!(status(&read_response(&mut idle).await), 200, "{index}");
        }

        let proxy = http(true).await;
        let mut sender = proxy.http2().await;
        assert_eq!(sender.send_request(get("https://shop.example/")).await.unwrap().status(), 200);
        publish(&proxy);
        assert_eq!(sender.send_request(get("https://shop.example/")).await.unwrap().status(), expected, "{index}");
        if *ends {
            until("GOAWAY", || sender.is_closed()).await;
        } else {
            assert_eq!(sender.send_request(get("https://shop.example/")).await.unwrap().status(), 200);
        }
    }
}

/// A download or a tunnel without end must not outlive what let its client in; a drain waits for both.
#[tokio::test]
async fn what_runs_ends_soon_after_its_host_asks_for_other_certificates_but_not_when_draining() {
    let endpoint = Upstream::start(|mut stream, _, seen| async move {
        let head = read_head(&mut stream, &seen).await.unwrap();
        let answer: &[u8] = match (head.contains("GET /tunnel "), head.contains("GET /silent ")) {
            (true, _) => b"HTTP/1.1 101 x\r\nUpgrade: foo\r\nConnection: Upgrade\r\n\r\nfirst",
            (_, true) => b"",
            (_, false) => b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst",
        };
        stream.write_all(answer).await.unwrap();
        read_to_end(&mut stream).await;
    })
    .await;
    let authority = Authority::new("Test", now()).unwrap();
    let open = tls_asking(&authority, "shop.example", None);
    let asks = tls_asking(&authority, "shop.example", Some(asking(true, &client_ca("Clients"))));
    let site = |tls: &Arc<ServerTls>| {
        Site::simple("shop.example", &[endpoint.address]).tls("shop.example", HostTls::Terminate(tls.clone()))
    };
    let start = |http2| {
        let security = made_with(&open, Some("shop.example"), None, http2);
        Proxy::start_with(site(&open), Start { security, ..Start::default() })
    };
    let pass = async |seconds| {
        tokio::time::pause();
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        tokio::time::resume();
    };
    for (ends, drained) in [(true, false), (true, true), (false, true)] {
        let (http1, http2) = (start(false).await, start(true).await);
        let mut streams = Vec::new();
        for target in ["/", "/silent", "/tunnel"] {
            let mut stream = http1.connect().await;
            let upgrade = if target == "/tunnel" { "Connection: Upgrade\r\nUpgrade: foo\r\n" } else { "" };
            let request = format!("GET {target} HTTP/1.1\r\nHost: shop.example\r\n{upgrade}\r\n");
            stream.write_all(request.as_bytes()).await.unwrap();
            if target != "/silent" {
                let mut seen = Vec::new();
                while !seen.ends_with(b"first") {
                    assert!(stream.read_buf(&mut seen).await.unwrap() > 0, "{target}");
                }
            }
            streams.push((target, stream));
        }
        let mut sender = http2.http2().await;
        let mut body = sender.send_request(get("https://shop.example/")).await.unwrap().into_body();
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "first");
        let silent = tokio::spawn(sender.send_request(get("https://shop.example/silent")));
        until("all are at the endpoint", || endpoint.open.load(Ordering::Relaxed) == 5).await;

        for proxy in [&http1, &http2] {
            if drained {
                proxy.drain.cancel();
            }
            if ends {
                proxy.publisher.publish(site(&asks).build());
            }
        }
        pass(18).await;
        if ends {
            for (target, stream) in &mut streams {
                assert_eq!(read_to_end(stream).await, "", "{target}");
            }
            assert!(body.frame().await.unwrap().is_err());
            assert!(silent.await.unwrap().is_err());
            for proxy in [&http1, &http2] {
                until("all are closed", || proxy.open.load(Ordering::Relaxed) == 0).await;
            }
            until("endpoints are left", || endpoint.open.load(Ordering::Relaxed) == 0).await;
            assert_eq!(http1.requests("shop.example", "101"), 1);
        } else {
            assert_eq!(endpoint.open.load(Ordering::Relaxed), 5);
            assert_eq!((http1.open.load(Ordering::Relaxed), http2.open.load(Ordering::Relaxed)), (3, 1));
            assert!(!silent.is_finished());
        }
    }
}

#[tokio::test]
async fn a_backend_hears_whether_a_certificate_was_verified_and_nothing_that_the_client_says_of_it() {
    let endpoint = Upstream::echo().await;
    let authority = Authority::new("Test", now()).unwrap();
    let tls = tls_asking(&authority, "shop", Some(asking(false, &client_ca("Clients"))));
    let request = "GET / HTTP/1.1\r\nHost: shop\r\nSSL-Client-Verify: SUCCESS\r\nSSL-Client-Subject-DN: CN=admin\r\n\
        ssl-client-issuer-dn: CN=root\r\nssl-client-cert: x\r\nSsl-Client-Fingerprint: x\r\n\
        ssl_client_verify: SUCCESS\r\nssl_client-serial: 1\r\nConnection: close\r\n\r\n";
    let said = |response: &str| -> Vec<String> {
        assert_eq!(status(response), 200, "{response}");
        response.lines().filter(|line| line.starts_with("ssl")).map(String::from).collect()
    };
    let mut anonymous = made_with(&tls, Some("shop"), None, false);
    let mut verified = anonymous.clone();
    if let Security::Tls(tls) = &mut verified {
        tls.client_certificate = true;
    }
    for (security, expected) in [(&mut anonymous, "NONE"), (&mut verified, "SUCCESS")] {
        let site = Site::simple("shop", &[endpoint.address]).tls("shop", HostTls::Terminate(tls.clone()));
        let proxy = Proxy::start_with(site, Start { security: security.clone(), ..Start::default() }).await;
        assert_eq!(said(&proxy.raw(request).await), [format!("ssl-client-verify: {expected}")]);
    }
    // Over plain HTTP nobody is asked, and a host that asks for nothing says nothing. Proxies in front verify nothing
    // for us either.
    let optional = || HostTls::Terminate(tls.clone());
    let none = "ssl-client-verify: NONE";
    let rows = [
        (Security::Plain, optional(), vec![none]),
        (Security::Plain, HostTls::Absent, vec![]),
        (Security::Plain, HostTls::Terminate(some_tls()), vec![]),
        (over_tls(Some("shop"), None, false), HostTls::Terminate(some_tls()), vec![]),
    ];
    for (security, tls, expected) in rows {
        for trusted_proxies in [loopback(), AddressList::new([])] {
            let site = Site::simple("shop", &[endpoint.address]).tls("shop", tls.clone());
            let settings = Settings { trusted_proxies, ..Settings::default() };
            let start = Start { settings, security: security.clone(), ..Start::default() };
            let proxy = Proxy::start_with(site, start).await;
            assert_eq!(said(&proxy.raw(request).await), expected);
        }
    }
}

/// A connection that was made before both hosts came to share what they ask for has shown nothing to either.
#[tokio::test]
async fn sharing_a_certificate_does_not_share_what_an_older_handshake_asked_for() {
    let endpoint = Upstream::echo().await;
    let authority = Authority::new("Test", now()).unwrap();
    let open = tls_asking(&authority, "one.example", None);
    let shared = tls_asking(&authority, "one.example", Some(asking(true, &client_ca("Clients"))));
    let site = || {
        let mut site = Site::default().backend("shop", &[endpoint.address]);
        for host in ["one.example", "two.example"] {
            let route = RouteOptions::default();
            site = site.route(host, "/", "shop", route).tls(host, HostTls::Terminate(shared.clone()));
        }
        site
    };
    let host = site().build().hosts.get("one.example").cloned();
    for (made_with_tls, code) in [(&open, 421), (&shared, 200)] {
        for requested in ["one.example", "two.example"] {
            let security = made_with(made_with_tls, Some("one.example"), host.clone(), false);
            let proxy = Proxy::start_with(site(), Start { security, ..Start::default() }).await;
            assert_eq!(status(&proxy.get(requested, "/").await), code, "{requested}");
        }
    }
    assert_eq!(endpoint.connections(), 2);
}

/// Real workers on a snapshot made by hand.
struct Edge {
    https: SocketAddr,
    metrics: Metrics,
    shutdown: Shutdown,
    workers: Option<Workers>,
    directory: tempfile::TempDir,
    _publisher: handfast::snapshot::Publisher,
}

impl Edge {
    fn start(snapshot: Arc<Snapshot>) -> Self {
        let listener = || {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            listener.set_nonblocking(true).unwrap();
            listener
        };
        let (http, https) = (listener(), listener());
        let address = https.local_addr().unwrap();
        let (publisher, reader) = channel(snapshot);
        let (metrics, shutdown) = (Metrics::default(), Shutdown::default());
        let dropped = metrics.access_log_dropped.clone();
        let (log, _) = AccessLog::start(Format::Off, std::io::sink(), std::time::SystemTime::now, dropped).unwrap();
        let service = || HttpService::new(reader.clone(), Arc::new(Settings::default()), metrics.clone(), log.clone());
        let settings = WorkerSettings::default();
        let observers = Observers::new(metrics.clone(), 1, std::time::SystemTime::now);
        let workers = Workers::start(vec![(http, https)], &settings, &reader, &observers, &shutdown, service).unwrap();
        let directory = tempfile::tempdir().unwrap();
        Self { https: address, metrics, shutdown, workers: Some(workers), directory, _publisher: publisher }
    }

    /// Writes a client's certificate and key; the file with both.
    fn write(&self, name: &str, identity: &Identity) -> String {
        let path = self.directory.path().join(name);
        std::fs::write(&path, format!("{}{}", identity.chain, identity.key)).unwrap();
        path.to_str().unwrap().to_owned()
    }

    fn failures(&self, host: &str, reason: &str) -> u64 {
        self.metrics.tls_handshake_failures.with_label_values(&[host, reason, "client"]).get()
    }

    fn all_failures(&self) -> u64 {
        let text = self.metrics.render();
        let counts = text.lines().filter(|line| line.starts_with("handfast_tls_handshake_failures_total{"));
        counts.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
    }

    /// curl to a host by its name; output and exit status.
    fn curl(&self, host: &str, args: &[&str]) -> (String, i32) {
        let port = self.https.port();
        let output = program("curl")
            .args(["--silent", "--show-error", "--insecure", "--max-time", "60", "-w", "\n%{http_code}"])
            .args(["--resolve", &format!("{host}:{port}:127.0.0.1")])
            .args(args)
            .arg(format!("https://{host}:{port}/"))
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        (text, output.status.code().unwrap())
    }

    /// What `openssl s_client` says.
    fn s_client(&self, host: &str, version: &str, identity: Option<&str>) -> String {
        let mut command = program("openssl");
        command.args(["s_client", version, "-servername", host, "-connect", &self.https.to_string()]);
        if let Some(file) = identity {
            assert!(Path::new(file).exists());
            command.args(["-cert", file, "-key", file]);
        }
        // A request, so that the client stays until the server has judged its certificate.
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        let mut input = child.stdin.take().unwrap();
        // It may have ended already.
        let _ = std::io::Write::write_all(&mut input, request.as_bytes());
        let output = {
            let waiting = std::thread::spawn(move || child.wait_with_output().unwrap());
            wait_until("s_client ends", || waiting.is_finished());
            waiting.join().unwrap()
        };
        drop(input);
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
    }
}

impl Drop for Edge {
    fn drop(&mut self) {
        self.shutdown.drain.cancel();
        self.shutdown.abort.cancel();
        if let Some(workers) = self.workers.take() {
            workers.join();
        }
    }
}

fn certificate_site(ca: &crate::pki::Ca) -> Arc<Snapshot> {
    let authority = Authority::new("Test", now()).unwrap();
    let mut site = Site::default();
    for (host, client_auth) in [
        ("required.example", Some(asking(true, ca))),
        ("optional.example", Some(asking(false, ca))),
        ("open.example", None),
    ] {
        let tls = tls_asking(&authority, host, client_auth);
        // What is served there is an answer of our own, which says that the request has come through.
        site = site.route(host, "/", "none", RouteOptions::default()).tls(host, HostTls::Terminate(tls));
    }
    site.default_tls(&tls_asking(&authority, "default.example", None)).build()
}

#[test]
fn curl_and_openssl_are_let_in_with_a_good_certificate_and_told_what_is_wrong_with_others() {
    let ca = client_ca("Clients");
    let edge = Edge::start(certificate_site(&ca));
    let write = |name: &str, identity: &Identity| edge.write(name, identity);
    let good = write("good.pem", &identity(&ca));
    let stranger = write("stranger.pem", &identity(&client_ca("Strangers")));
    let expired = write("expired.pem", &identity_with(&ca, |params| valid_around(params, now(), -10, -1)));
    let server = write(
        "server.pem",
        &identity_with(&ca, |params| params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth]),
    );
    let rows = [
        ("required.example", Some(&good), None),
        ("required.example", None, Some(("client-certificate-missing", "certificate required"))),
        ("required.example", Some(&stranger), Some(("client-certificate-unknown-ca", "unknown ca"))),
        ("required.example", Some(&expired), Some(("client-certificate-expired", "certificate expired"))),
        ("required.example", Some(&server), Some(("client-certificate-wrong-purpose", "unsupported certificate"))),
        ("optional.example", Some(&good), None),
        ("optional.example", None, None),
        ("optional.example", Some(&expired), Some(("client-certificate-expired", "certificate expired"))),
    ];
    for (host, identity, failure) in rows {
        for version in ["1.2", "1.3"] {
            let (before, all) = (failure.map(|(reason, _)| edge.failures(host, reason)), edge.all_failures());
            let flag = format!("--tlsv{version}");
            let mut args = vec![flag.as_str(), "--tls-max", version];
            if let Some(identity) = identity {
                args.extend(["--cert", identity.as_str()]);
            }
            let (text, code) = edge.curl(host, &args);
            let s_client =
                edge.s_client(host, if version == "1.2" { "-tls1_2" } else { "-tls1_3" }, identity.map(|x| x.as_str()));
            match failure {
                None => {
                    assert!(code == 0 && text.ends_with("\n503"), "{host} {version}: {text}");
                    assert!(s_client.contains("HTTP/1.1 503 "), "{host} {version}: {s_client}");
                    assert_eq!(edge.all_failures(), all, "{host} {version}");
                }
                Some((reason, words)) => {
                    // curl takes the alert certificate_expired for a judgement of its own about the server.
                    let is_told = text.contains(words) || (code == 60 && reason.ends_with("-expired"));
                    assert!(code != 0 && is_told, "{host} {version} {reason}: {text}");
                    assert!(s_client.contains(words), "{host} {version} {reason}: {s_client}");
                    // Each counts once, also where the client thought that it was connected.
                    wait_until("both are counted", || Some(edge.failures(host, reason)) == before.map(|x| x + 2));
                    assert_eq!(edge.all_failures(), all + 2, "{host} {version} {reason}");
                }
            }
        }
    }
}

#[test]
fn no_connection_for_another_host_reaches_one_that_asks_for_certificates() {
    let ca = client_ca("Clients");
    let edge = Edge::start(certificate_site(&ca));
    let good = edge.write("good.pem", &identity(&ca));
    for http in ["--http1.1", "--http2"] {
        for target in ["required.example", "optional.example"] {
            let header = format!("Host: {target}");
            // By another host's name; by no name (an address sends none); by a name that the default certificate answers;
            // and with a good certificate, which nobody asked for there.
            for (name, cert) in
                [("open.example", None), ("127.0.0.1", None), ("nobody.example", None), ("open.example", Some(&good))]
            {
                let mut args = vec![http, "-H", &header];
                if let Some(cert) = cert {
                    args.extend(["--cert", cert.as_str()]);
                }
                let (text, code) = edge.curl(name, &args);
                assert!(code == 0 && text.ends_with("\n421"), "{http} {name} {target}: {text}");
            }
        }
        // Nor does a certificate for one open the other, which may know other clients.
        let (text, _) = edge.curl("optional.example", &[http, "-H", "Host: required.example", "--cert", &good]);
        assert!(text.ends_with("\n421"), "{text}");
        let (text, _) = edge.curl("required.example", &[http, "--cert", &good]);
        assert!(text.ends_with("\n503"), "{text}");
    }
}
