//! Requests and responses through the whole HTTP half: routing, headers, bodies, upgrades, limits, draining.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use futures_core::Stream;
use handfast::access_log::Format;
use handfast::proxy::settings::Settings;
use handfast::snapshot::{AddressList, HostTls, Redirect, RouteOptions, Target};
use http_body_util::{BodyExt, Empty, StreamBody};
use hyper::body::Frame;
use hyper::header::HeaderMap;
use hyper::{Request, Response, Version};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::http_support::{Proxy, Site, Start, Upstream, header, over_tls, read_response, some_tls, status, until};

const EMPTY: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

fn get(uri: &str) -> Request<Empty<Bytes>> {
    Request::get(uri).body(Empty::new()).unwrap()
}

async fn text(response: Response<hyper::body::Incoming>) -> String {
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

fn addresses(text: &str) -> AddressList {
    AddressList::new(text.split(',').map(|net| net.parse().unwrap()))
}

#[tokio::test]
async fn both_versions_are_served_on_both_listeners() {
    let endpoint = Upstream::echo().await;
    for security in [None, Some(true), Some(false)] {
        let security = match security {
            None => handfast::proxy::http::Security::Plain,
            Some(http2) => over_tls(Some("shop"), None, http2),
        };
        let http2 = match &security {
            handfast::proxy::http::Security::Plain => true,
            handfast::proxy::http::Security::Tls(tls) => tls.http2,
        };
        let http1 = !matches!(&security, handfast::proxy::http::Security::Tls(tls) if tls.http2);
        let start = Start { security, ..Start::default() };
        let proxy = Proxy::start_with(Site::simple("shop", &[endpoint.address]), start).await;
        if http1 {
            let response = proxy.get("shop", "/a?b").await;
            assert!(response.contains("GET /a?b HTTP/1.1\n"), "{response}");
        }
        if http2 {
            let response = proxy.http2().await.send_request(get("http://shop/a?b")).await.unwrap();
            assert_eq!(response.version(), Version::HTTP_2);
            let text = text(response).await;
            assert!(text.contains("GET /a?b HTTP/1.1\n") && text.contains("\nhost: shop\n"), "{text}");
        }
    }
}

#[tokio::test]
async fn over_tls_http2_needs_alpn() {
    let start = Start { security: over_tls(Some("shop"), None, false), ..Start::default() };
    let proxy = Proxy::start_with(Site::simple("shop", &[]), start).await;
    assert_eq!(status(&proxy.raw("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await), 505);
}

/// What an endpoint sees, for each thing that a client sends.
#[tokio::test]
async fn endpoints_see_the_headers_of_ingress_nginx() {
    let endpoint = Upstream::echo().await;
    let client: SocketAddr = "192.0.2.7:5000".parse().unwrap();
    let start = Start { client: Some(client), ..Start::default() };
    let proxy = Proxy::start_with(Site::simple("shop.example.com", &[endpoint.address]), start).await;
    let port = proxy.address.port();
    let always = format!(
        "handfast-hops: 1\nhost: Shop.Example.com:8080\nx-forwarded-for: 192.0.2.7\nx-forwarded-host: Shop.Example.com:8080\n\
         x-forwarded-port: {port}\nx-forwarded-proto: http\nx-forwarded-scheme: http\nx-real-ip: 192.0.2.7\n\
         x-scheme: http\n"
    );
    let rows: &[(&str, &str)] = &[
        ("", ""),
        ("Accept: */*\r\nX-Custom: 1\r\nX-Custom: 2\r\n", "accept: */*\nx-custom: 1\nx-custom: 2\n"),
        // Claims about the client.
        (
            "X-Forwarded-For: 10.0.0.1\r\nX-Forwarded-For: 10.0.0.2\r\n",
            "x-original-forwarded-for: 10.0.0.1, 10.0.0.2\n",
        ),
        ("X-Forwarded-Host: evil\r\n", "x-original-forwarded-host: evil\n"),
        ("X-Original-Forwarded-For: 10.0.0.1\r\nX-Original-Forwarded-Host: evil\r\n", ""),
        ("X-Forwarded-Proto: https\r\nX-Forwarded-Port: 443\r\nX-Forwarded-Scheme: https\r\nX-Scheme: https\r\n", ""),
        ("X-Real-IP: 10.0.0.1\r\nForwarded: for=10.0.0.1\r\nX-Forwarded-Prefix: /x\r\nX-Forwarded-Server: x\r\n", ""),
        ("X_Forwarded_For: 10.0.0.1\r\nX_Real_IP: 10.0.0.1\r\na_b: c\r\n", ""),
        ("Proxy: http://evil\r\n", ""),
        // Headers of one connection.
        ("Keep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nHTTP2-Settings: AAMAAABk\r\n", ""),
        ("Connection: keep-alive, X-Secret\r\nX-Secret: 1\r\nConnection: x-other\r\nX-Other: 2\r\n", ""),
        ("Connection: X-Real-IP, Host, X-Forwarded-For\r\n", ""),
        ("Upgrade: websocket\r\n", ""),
        ("Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n", ""),
        ("TE: gzip\r\n", ""),
        ("TE: gzip, trailers;q=1\r\n", ""),
        ("TE: gzip, trailers\r\n", "te: trailers\nconnection: te\n"),
        ("Trailer: X-Sum\r\n", "trailer: X-Sum\n"),
        ("Cookie: a=1\r\nCookie: b=2\r\n", "cookie: a=1; b=2\n"),
        ("Content-Length: 0\r\n", "content-length: 0\n"),
    ];
    for (sent, expected) in rows {
        let close = if sent.contains("Connection:") { "" } else { "Connection: close\r\n" };
        let mut stream = proxy.connect().await;
        let request =
            format!("GET / HTTP/1.1\r\nHost: Shop.Example.com:8080\r\nX-Request-ID: id-1\r\n{close}{sent}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let response = read_response(&mut stream).await;
        let body = response.split_once("\r\n\r\n").unwrap().1;
        let mut seen: Vec<&str> = body.trim_end().lines().skip(1).filter(|line| !line.is_empty()).collect();
        let mut wanted: Vec<&str> = always.lines().chain(expected.lines()).chain(["x-request-id: id-1"]).collect();
        seen.sort_unstable();
        wanted.sort_unstable();
        assert_eq!(seen, wanted, "{sent:?}");
    }
}

#[tokio::test]
async fn a_request_id_is_kept_if_it_is_harmless_and_made_otherwise() {
    let endpoint = Upstream::echo().await;
    let proxy = Proxy::start(Site::simple("shop", &[endpoint.address])).await;
    let long = "a".repeat(129);
    for (sent, kept) in [("3f2b-Root=1:x/y.z", true), ("a b", false), ("a\"b", false), ("", false), (&long, false)] {
        let request = format!("GET / HTTP/1.1\r\nHost: shop\r\nConnection: close\r\nX-Request-ID: {sent}\r\n\r\n");
        let response = proxy.raw(request).await;
        let id = response.lines().find_map(|line| line.strip_prefix("x-request-id: ")).unwrap();
        if kept {
            assert_eq!(id, sent);
        } else {
            assert!(id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
        }
    }
}

#[tokio::test]
async fn a_trusted_proxy_is_believed_and_its_chain_extended() {
    let endpoint = Upstream::echo().await;
    let settings = Settings { trusted_proxies: addresses("10.0.0.0/8,2001:db8::/32"), ..Settings::default() };
    // Sender, X-Forwarded-For, and the client that follows from them.
    let rows = [
        ("10.0.0.1:1", "192.0.2.7", "192.0.2.7"),
        ("10.0.0.1:1", "198.51.100.1, 192.0.2.7, 10.9.9.9", "192.0.2.7"),
        ("10.0.0.1:1", "198.51.100.1, 192.0.2.7:4711", "192.0.2.7"),
        ("10.0.0.1:1", "[2001:db9::1]:80, 2001:db8::5", "2001:db9::1"),
        ("10.0.0.1:1", "10.1.1.1, 10.2.2.2", "10.1.1.1"),
        ("10.0.0.1:1", "192.0.2.7, unknown, 10.2.2.2", "10.2.2.2"),
        ("10.0.0.1:1", "spoofed", "10.0.0.1"),
        ("[2001:db8::1]:1", "::ffff:192.0.2.7", "192.0.2.7"),
    ];
    for (sender, chain, client) in rows {
        let sender: SocketAddr = sender.parse().unwrap();
        let start = Start { client: Some(sender), settings: settings.clone(), ..Start::default() };
        let proxy = Proxy::start_with(Site::simple("shop", &[endpoint.address]), start).await;
        let response = proxy
            .raw(format!(
                "GET / HTTP/1.1\r\nHost: shop\r\nConnection: close\r\nX-Forwarded-For: {chain}\r\n\
                 X-Forwarded-Proto: https\r\nX-Forwarded-Host: public.example\r\nForwarded: for=x\r\n\
                 X-Forwarded-Prefix: /p\r\n\r\n"
            ))
            .await;
        for line in [
            format!("x-real-ip: {client}\n"),
            format!("x-forwarded-for: {chain}, {}\n", sender.ip()),
            format!("x-original-forwarded-for: {chain}\n"),
            "x-forwarded-proto: https\n".into(),
            "x-scheme: https\n".into(),
            "x-forwarded-port: 443\n".into(),
            "x-forwarded-host: public.example\n".into(),
            "x-forwarded-prefix: /p\n".into(),
            "forwarded: for=x\n".into(),
            "host: shop\n".into(),
        ] {
            assert!(response.contains(&line), "{chain}: no {line:?} in {response}");
        }
    }
}

#[tokio::test]
async fn behind_tls_the_scheme_is_https_and_the_port_the_public_one() {
    let endpoint = Upstream::echo().await;
    for (public, expected) in [(None, 443), (Some(8443), 8443)] {
        let settings = Settings { https_public_port: public, ..Settings::default() };
        let start = Start { settings, security: over_tls(Some("shop"), None, false), ..Start::default() };
        let proxy = Proxy::start_with(Site::simple("shop", &[endpoint.address]), start).await;
        let response = proxy.get("shop", "/").await;
        let port = format!("x-forwarded-port: {expected}\n");
        for line in ["x-forwarded-proto: https\n", "x-forwarded-scheme: https\n", "x-scheme: https\n", &port] {
            assert!(response.contains(line), "{response}");
        }
    }
}

#[tokio::test]
async fn responses_lose_the_headers_of_the_other_connection() {
    let endpoint = Upstream::answering(
        "HTTP/1.1 404 Custom Reason\r\nServer: secret/1.0\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\n\
         Keep-Alive: timeout=5\r\nProxy-Connection: x\r\nUpgrade: h2c\r\nTE: x\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n\
         Date: Thu, 01 Jan 1970 00:00:00 GMT\r\nContent-Length: 2\r\n\r\nhi",
    )
    .await;
    let proxy = Proxy::start(Site::simple("shop", &[endpoint.address])).await;
    let mut stream = proxy.connect().await;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: shop\r\n\r\n").await.unwrap();
    let response = read_response(&mut stream).await;
    let (head, body) = response.split_once("\r\n\r\n").unwrap();
    let mut lines: Vec<&str> = head.lines().collect();
    assert_eq!(lines.remove(0), "HTTP/1.1 404 Custom Reason");
    lines.sort_unstable();
    let date = "date: Thu, 01 Jan 1970 00:00:00 GMT";
    assert_eq!(lines, ["content-length: 2", date, "set-cookie: a=1", "set-cookie: b=2"]);
    assert_eq!(body, "hi");
}

#[tokio::test]
async fn paths_are_matched_in_normal_form_and_forwarded_as_received() {
    let endpoint = Upstream::echo().await;
    let options = RouteOptions::default;
    let site = Site::default()
        .route("shop", "/", "shop", options())
        .target("shop", "/admin", Target::Dropped, options())
        .backend("shop", &[endpoint.address]);
    let proxy = Proxy::start(site).await;
    for target in
        ["/a%2Fb", "/a%2fb", "/x/../y", "/a//b", "/%7Euser?q=%2e%2e/../x", "/a%20b", "/{x}", "/?", "/other%2Fx"]
    {
        let response = proxy.get("shop", target).await;
        assert!(response.contains(&format!("\r\n\r\nGET {target} HTTP/1.1\n")), "{target}: {response}");
    }
    for target in ["/admin", "/admin/", "//admin", "/x/../admin/y", "/%61dmin", "/./admin", "/a/..//admin"] {
        assert_eq!(status(&proxy.get("shop", target).await), 503, "{target}");
    }
    for target in ["/..", "/a/../../b", "/%2e%2e/a", "/a%00", "/a%", "/a%zz", "/a\u{7f}"] {
        assert_eq!(status(&proxy.get("shop", target).await), 400, "{target}");
    }
    // Another spelling of what is closed.
    for target in ["/admin%2Fx", "/x/..%2Fadmin", "/x/..\\admin", "/..;/admin"] {
        assert_eq!(status(&proxy.get("shop", target).await), 400, "{target}");
    }
    // RFC 9112 section 3.2.2.
    let response = proxy.raw("GET http://shop/abs?x HTTP/1.1\r\nHost: other\r\nConnection: close\r\n\r\n").await;
    assert!(response.contains("GET /abs?x HTTP/1.1\n") && response.contains("\nhost: shop\n"), "{response}");
}

#[tokio::test]
async fn each_way_to_be_answered_here_has_its_status_and_is_counted_once() {
    let options = RouteOptions::default;
    let site = Site::default()
        .route("shop", "/only", "shop", options())
        .target("shop", "/dropped", Target::Dropped, options())
        .route("shop", "/deny", "shop", RouteOptions { deny: Some(addresses("127.0.0.0/8")), ..options() })
        .route("shop", "/allow", "shop", RouteOptions { allow: Some(addresses("10.0.0.0/8")), ..options() });
    let proxy = Proxy::start(site).await;
    let rows = [
        ("GET /nothing HTTP/1.1\r\nHost: shop", 404, "shop"),
        ("GET / HTTP/1.1\r\nHost: unknown", 404, ""),
        ("GET /only HTTP/1.1\r\nHost: shop", 503, "shop"),
        ("GET /dropped HTTP/1.1\r\nHost: shop", 503, "shop"),
        ("GET /deny HTTP/1.1\r\nHost: shop", 403, "shop"),
        ("GET /allow HTTP/1.1\r\nHost: shop", 403, "shop"),
        ("OPTIONS * HTTP/1.1\r\nHost: shop", 200, "shop"),
        ("CONNECT shop:80 HTTP/1.1\r\nHost: shop:80", 405, ""),
        ("TRACE /only HTTP/1.1\r\nHost: shop", 405, ""),
        ("GET / HTTP/1.1", 400, ""),
        ("GET / HTTP/1.0", 400, ""),
        ("GET / HTTP/1.1\r\nHost: a/b", 400, ""),
        ("GET / HTTP/1.1\r\nHost: shop\r\nHost: shop", 400, ""),
        ("GET http://user@shop/ HTTP/1.1\r\nHost: shop", 400, ""),
        ("GET http://shop/ HTTP/1.1", 400, ""),
        ("GET * HTTP/1.1\r\nHost: shop", 400, "shop"),
        ("GET /.. HTTP/1.1\r\nHost: shop", 400, "shop"),
    ];
    for (number, (request, expected, host)) in rows.into_iter().enumerate() {
        let before = proxy.requests(host, &expected.to_string());
        let response = proxy.raw(format!("{request}\r\nConnection: close\r\n\r\n")).await;
        assert_eq!(status(&response), expected, "{request:?}: {response}");
        until("counted", || proxy.all_requests() == number as u64 + 1).await;
        assert_eq!(proxy.requests(host, &expected.to_string()), before + 1, "{request:?}");
        let (head, body) = response.split_once("\r\n\r\n").unwrap();
        if expected == 200 {
            assert_eq!(body, "");
        } else {
            let reason = head.lines().next().unwrap().strip_prefix("HTTP/1.1 ").unwrap_or(&head[9..]);
            let line = format!("{}: ", reason.lines().next().unwrap());
            assert!(body.starts_with(&line) && body.ends_with('\n') && body.lines().count() == 1, "{response}");
        }
    }
    let head = proxy.raw("HEAD /nothing HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n").await;
    let full = proxy.get("shop", "/nothing").await;
    assert!(head.ends_with("\r\n\r\n"), "{head}");
    assert_eq!(header(&head, "content-length"), header(&full, "content-length"));
}

#[tokio::test]
async fn hosts_match_without_case_port_and_trailing_dot() {
    let endpoint = Upstream::echo().await;
    let options = RouteOptions::default;
    let site = Site::default()
        .route("shop.example.com", "/", "shop", options())
        .route("*.example.org", "/", "shop", options())
        .backend("shop", &[endpoint.address]);
    let proxy = Proxy::start(site).await;
    for host in ["shop.example.com", "SHOP.example.com", "shop.example.com:80", "shop.example.com.", "a.example.org"] {
        assert_eq!(status(&proxy.get(host, "/").await), 200, "{host}");
    }
    for host in ["example.org", "a.b.example.org", "*.example.org", "10.0.0.1", "[::1]"] {
        let status = status(&proxy.get(host, "/").await);
        assert!(status == 404 || (host.starts_with('*') && status == 400), "{host}: {status}");
    }
    assert_eq!(proxy.requests("*.example.org", "200"), 1);
    assert_eq!(proxy.requests("shop.example.com", "200"), 4);
}

#[tokio::test]
async fn redirects_go_where_they_should_and_never_for_acme_challenges() {
    let endpoint = Upstream::echo().await;
    let options = RouteOptions::default;
    let fixed = Redirect { status: 301, location: "https://elsewhere.example/".into() };
    let site = || {
        Site::default()
            .route("soft", "/", "shop", RouteOptions { ssl_redirect: true, ..options() })
            .route("hard", "/", "shop", RouteOptions { force_ssl_redirect: true, ..options() })
            .route(
                "fixed",
                "/",
                "shop",
                RouteOptions { redirect: Some(fixed.clone()), ssl_redirect: true, ..options() },
            )
            .route(
                "closed",
                "/",
                "shop",
                RouteOptions { deny: Some(addresses("0.0.0.0/0")), ssl_redirect: true, ..options() },
            )
            .backend("shop", &[endpoint.address])
    };
    let proxy = Proxy::start(site()).await;
    let target = "/a%2Fb/../c?x=1&y=//";
    for host in ["soft", "hard", "closed"] {
        let response = proxy.get(host, target).await;
        assert_eq!(status(&response), 308, "{host}");
        assert_eq!(header(&response, "location").unwrap(), format!("https://{host}{target}"));
    }
    let response = proxy.get("fixed", "/").await;
    assert_eq!((status(&response), header(&response, "location")), (301, Some("https://elsewhere.example/")));
    let response = proxy.get("SOFT.:8080", "/").await;
    assert_eq!(header(&response, "location"), Some("https://soft/"));
    for host in ["soft", "hard", "fixed", "closed"] {
        assert_eq!(status(&proxy.get(host, "/.well-known/acme-challenge/token").await), 200, "{host}");
        let elsewhere = status(&proxy.get(host, "/.well-known/acme-challenge/../x").await);
        assert!(elsewhere == 308 || elsewhere == 301, "{host}: {elsewhere}");
    }

    // Another public port, and a proxy that has spoken HTTPS already.
    let settings =
        Settings { https_public_port: Some(8443), trusted_proxies: addresses("127.0.0.0/8"), ..Settings::default() };
    let proxy = Proxy::start_with(site(), Start { settings, ..Start::default() }).await;
    let response = proxy.get("soft", "/").await;
    assert_eq!(header(&response, "location"), Some("https://soft:8443/"));
    let response =
        proxy.raw("GET / HTTP/1.1\r\nHost: soft\r\nX-Forwarded-Proto: https\r\nConnection: close\r\n\r\n").await;
    assert_eq!(status(&response), 200);

    // Over TLS there is nothing to redirect.
    let start = Start { security: over_tls(Some("soft"), None, false), ..Start::default() };
    let proxy = Proxy::start_with(site(), start).await;
    assert_eq!(status(&proxy.get("soft", "/").await), 200);
}

#[tokio::test]
async fn a_connection_serves_its_own_host_and_those_with_the_same_certificate() {
    let endpoint = Upstream::echo().await;
    let (shared, other, default) = (some_tls(), some_tls(), some_tls());
    let site = || {
        let hosts =
            ["one.example", "two.example", "other.example", "plain.example", "broken.example", "*.wild.example", ""];
        let mut site = Site::default().backend("shop", &[endpoint.address]).default_tls(&default);
        for host in hosts {
            site = site.route(host, "/", "shop", RouteOptions::default());
        }
        site.tls("one.example", HostTls::Terminate(shared.clone()))
            .tls("two.example", HostTls::Terminate(shared.clone()))
            .tls("other.example", HostTls::Terminate(other.clone()))
            .tls("broken.example", HostTls::Refuse)
            .tls("*.wild.example", HostTls::Terminate(other.clone()))
            .tls("", HostTls::Terminate(default.clone()))
    };
    let snapshot = site().build();
    let named = |name: &str| snapshot.hosts.get(name).cloned();
    let rows = [
        // Server name, host of the handshake, requested host, status.
        (Some("one.example"), named("one.example"), "one.example", 200),
        (Some("one.example"), named("one.example"), "two.example", 200),
        (Some("one.example"), named("one.example"), "other.example", 421),
        (Some("one.example"), named("one.example"), "plain.example", 421),
        (Some("one.example"), named("one.example"), "broken.example", 421),
        (Some("one.example"), named("one.example"), "unknown.example", 421),
        (Some("a.wild.example"), named("*.wild.example"), "b.wild.example", 200),
        (Some("a.wild.example"), named("*.wild.example"), "other.example", 200),
        (Some("a.wild.example"), named("*.wild.example"), "one.example", 421),
        (None, None, "10.0.0.1", 200),
        (None, None, "unknown.example", 200),
        (None, None, "one.example", 421),
        (Some("unknown.example"), None, "unknown.example", 200),
        (Some("unknown.example"), None, "one.example", 421),
    ];
    for (server_name, host, requested, expected) in rows {
        for http2 in [false, true] {
            let start = Start { security: over_tls(server_name, host.clone(), http2), ..Start::default() };
            let proxy = Proxy::start_with(site(), start).await;
            let got = if http2 {
                let response = proxy.http2().await.send_request(get(&format!("https://{requested}/"))).await;
                response.unwrap().status().as_u16()
            } else {
                status(&proxy.get(requested, "/").await)
            };
            assert_eq!(got, expected, "{server_name:?} asked for {requested}");
        }
    }
}

/// Whatever the rules without a host have for TLS of their own: no handshake is answered with it.
#[tokio::test]
async fn a_connection_that_the_default_certificate_answered_is_for_hosts_that_have_it() {
    let endpoint = Upstream::echo().await;
    let (catch_all, default) = (some_tls(), some_tls());
    let site = || {
        let site = Site::default().backend("shop", &[endpoint.address]).default_tls(&default);
        let rows = [("", &catch_all), ("same.example", &catch_all), ("default.example", &default)];
        rows.into_iter().fold(site, |site, (host, tls)| {
            site.route(host, "/", "shop", RouteOptions::default()).tls(host, HostTls::Terminate(tls.clone()))
        })
    };
    let host = site().build().hosts.get("").cloned();
    let rows =
        [("unknown.example", 200), ("other-unknown.example", 200), ("default.example", 200), ("same.example", 421)];
    for (requested, expected) in rows {
        let security = over_tls(Some("unknown.example"), host.clone(), false);
        let proxy = Proxy::start_with(site(), Start { security, ..Start::default() }).await;
        assert_eq!(status(&proxy.get(requested, "/").await), expected, "{requested}");
    }
}

#[tokio::test]
async fn a_host_whose_certificate_rotates_is_still_served_on_old_connections() {
    let endpoint = Upstream::echo().await;
    let site = |one: &Arc<handfast::tls::ServerTls>, two: &Arc<handfast::tls::ServerTls>| {
        Site::default()
            .route("one.example", "/", "shop", RouteOptions::default())
            .route("two.example", "/", "shop", RouteOptions::default())
            .tls("one.example", HostTls::Terminate(one.clone()))
            .tls("two.example", HostTls::Terminate(two.clone()))
            .backend("shop", &[endpoint.address])
    };
    let (old, new) = (some_tls(), some_tls());
    let host = site(&old, &old).build().hosts.get("one.example").cloned();
    let start = Start { security: over_tls(Some("one.example"), host, true), ..Start::default() };
    let proxy = Proxy::start_with(site(&old, &old), start).await;
    let mut sender = proxy.http2().await;
    for (one, two, expected) in [(&old, &old, 200), (&new, &old, 421), (&new, &new, 200)] {
        proxy.publisher.publish(site(one, two).build());
        let own = sender.send_request(get("https://one.example/")).await.unwrap();
        assert_eq!(own.status(), 200);
        let other = sender.send_request(get("https://two.example/")).await.unwrap();
        assert_eq!(other.status(), expected);
    }
    assert_eq!(proxy.requests("two.example", "421"), 1);
}

/// Yields frames one by one, without a length.
fn frames(frames: Vec<Frame<Bytes>>) -> StreamBody<impl Stream<Item = Result<Frame<Bytes>, std::convert::Infallible>>> {
    struct Frames(std::vec::IntoIter<Frame<Bytes>>);
    impl Stream for Frames {
        type Item = Result<Frame<Bytes>, std::convert::Infallible>;
        fn poll_next(
            mut self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Self::Item>> {
            std::task::Poll::Ready(self.0.next().map(Ok))
        }
    }
    StreamBody::new(Frames(frames.into_iter()))
}

#[tokio::test]
async fn trailers_pass_both_ways() {
    let endpoint = Upstream::http(|request| async move {
        assert_eq!(request.headers()["te"], "trailers");
        let body = request.into_body().collect().await.unwrap();
        let mut trailers = body.trailers().cloned().unwrap_or_default();
        trailers.insert("x-answer", "yes".parse().unwrap());
        trailers.insert("x-length", body.to_bytes().len().into());
        let mut response = Response::new(frames(vec![Frame::data("hello".into()), Frame::trailers(trailers)]));
        response.headers_mut().insert("trailer", "x-sum, x-answer, x-length".parse().unwrap());
        response
    })
    .await;
    let proxy = Proxy::start(Site::simple("shop", &[endpoint.address])).await;
    let response = proxy
        .raw(
            "POST / HTTP/1.1\r\nHost: shop\r\nTE: trailers\r\nConnection: close, te\r\nTransfer-Encoding: chunked\r\n\
             Trailer: X-Sum, X-Forwarded-For\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 17\r\nX-Forwarded-For: evil\r\n\r\n",
        )
        .await;
    let end = response.split_once("5\r\nhello\r\n0\r\n").unwrap_or_else(|| panic!("{response}")).1;
    let mut lines: Vec<&str> = end.lines().filter(|line| !line.is_empty()).collect();
    lines.sort_unstable();
    assert_eq!(lines, ["x-answer: yes", "x-length: 3", "x-sum: 17"], "{response}");

    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", "18".parse().unwrap());
    let body = frames(vec![Frame::data("abcd".into()), Frame::trailers(trailers)]);
    let request = Request::post("http://shop/").header("trailer", "x-sum").header("te", "trailers").body(body).unwrap();
    let response = proxy.http2().await.send_request(request).await.unwrap();
    let body = response.into_body().collect().await.unwrap();
    let trailers = body.trailers().unwrap().clone();
    assert_eq!(body.to_bytes(), "hello");
    assert_eq!(
        (&trailers["x-sum"], &trailers["x-answer"], &trailers["x-length"]),
        (&"18".parse().unwrap(), &"yes".parse().unwrap(), &"4".parse().unwrap())
    );
}

#[tokio::test]
async fn bodies_pass_both_ways_whatever_their_framing() {
    let endpoint = Upstream::echo().await;
    let proxy = Proxy::start(Site::simple("shop", &[endpoint.address])).await;
    let big = "0123456789abcdef".repeat(100_000);
    let sized =
        format!("POST / HTTP/1.1\r\nHost: shop\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{big}", big.len());
    let response = proxy.raw(sized).await;
    assert!(response.contains(&format!("content-length: {}\n", big.len())) && response.ends_with(&big));
    let mut chunked =
        String::from("PUT / HTTP/1.1\r\nHost: shop\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n");
    for chunk in big.as_bytes().chunks(70_001) {
        chunked += &format!("{:X}\r\n{}\r\n", chunk.len(), String::from_utf8_lossy(chunk));
    }
    let response = proxy.raw(chunked + "0\r\n\r\n").await;
    assert!(response.contains("transfer-encoding: chunked\n") && response.ends_with(&big));

    // HTTP/2, where a GET may have a body whose length nobody said.
    let mut sender = proxy.http2().await;
    let body = frames(vec![Frame::data(big.clone().into()), Frame::data("end".into())]);
    let request = Request::get("http://shop/").body(body).unwrap();
    let text = text(sender.send_request(request).await.unwrap()).await;
    assert!(text.contains("GET / HTTP/1.1\n") && text.ends_with(&format!("{big}end")));
}

#[tokio::test]
async fn a_client_that_waits_for_100_continue_gets_it_when_an_endpoint_is_there() {
    let endpoint = Upstream::echo().await;
    let options = RouteOptions { body_limit: Some(10), ..RouteOptions::default() };
    let site = Site::default()
        .route("shop", "/", "shop", options)
        .route("shop", "/none", "none", RouteOptions::default())
        .backend("shop", &[endpoint.address]);
    let proxy = Proxy::start(site).await;
    let head = |path: &str, length: usize| {
        format!("POST {path} HTTP/1.1\r\nHost: shop\r\nExpect: 100-continue\r\nContent-Length: {length}\r\n\r\n")
    };
    let mut stream = proxy.connect().await;
    stream.write_all(head("/", 5).as_bytes()).await.unwrap();
    let mut interim = [0; 25];
    stream.read_exact(&mut interim).await.unwrap();
    assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"hello").await.unwrap();
    let response = read_response(&mut stream).await;
    assert!(status(&response) == 200 && response.ends_with("hello") && !response.contains("expect"), "{response}");

    // Whoever will not be served is told before the body.
    for (path, length, expected) in [("/", 11, 413), ("/none", 5, 503)] {
        let mut stream = proxy.connect().await;
        stream.write_all(head(path, length).as_bytes()).await.unwrap();
        assert_eq!(status(&read_response(&mut stream).await), expected);
    }
}

#[tokio::test]
async fn bodies_above_the_limit_are_a_413() {
    let endpoint = Upstream::echo().await;
    let options = RouteOptions { body_limit: Some(10), ..RouteOptions::default() };
    let site = Site::default().route("shop", "/", "shop", options).backend("shop", &[endpoint.address]);
    let proxy = Proxy::start(site).await;
    let head = "POST / HTTP/1.1\r\nHost: shop\r\n";
    let chunked = "Transfer-Encoding: chunked\r\n";
    let rows = [
        (format!("{head}Connection: close\r\nContent-Length: 10\r\n\r\n0123456789"), 200),
        (format!("{head}Content-Length: 11\r\n\r\n0123456789a"), 413),
        (format!("{head}Connection: close\r\n{chunked}\r\na\r\n0123456789\r\n0\r\n\r\n"), 200),
        (format!("{head}{chunked}\r\na\r\n0123456789\r\n1\r\na\r\n0\r\n\r\n"), 413),
    ];
    for (request, expected) in rows {
        let response = proxy.raw(&request).await;
        assert_eq!(status(&response), expected, "{request:?}: {response}");
    }
    // Also if the client goes on sending: it gets the response, not a reset.
    let mut stream = proxy.connect().await;
    stream.write_all(format!("{head}Content-Length: 100000000\r\n\r\n").as_bytes()).await.unwrap();
    for _ in 0..100 {
        let _ = stream.write_all(&[b'x'; 10_000]).await;
    }
    assert_eq!(status(&read_response(&mut stream).await), 413);
    assert_eq!(proxy.requests("shop", "413"), 3);
    assert_eq!(proxy.failures("reset"), 0);
}

#[tokio::test]
async fn the_access_log_has_one_line_per_request() {
    let endpoint = Upstream::answering("HTTP/1.1 201 Created\r\nContent-Length: 5\r\n\r\nhello").await;
    let quiet = RouteOptions { access_log: false, ..RouteOptions::default() };
    let site = Site::simple("shop", &[endpoint.address]).route("shop", "/quiet", "shop", quiet);
    let settings = Settings { trusted_proxies: addresses("127.0.0.0/8"), ..Settings::default() };
    let start =
        Start { log: Format::Json, settings, security: over_tls(Some("shop"), None, false), ..Start::default() };
    let mut proxy = Proxy::start_with(site, start).await;
    proxy
        .raw(
            "POST /a?b=c HTTP/1.1\r\nHost: Shop\r\nContent-Length: 3\r\nUser-Agent: te\"st\r\nReferer: r\r\n\
             X-Request-ID: id-1\r\nX-Forwarded-For: 192.0.2.7\r\nConnection: close\r\n\r\nabc",
        )
        .await;
    proxy.get("shop", "/quiet").await;
    proxy.raw("BAD\r\n\r\n").await;
    until("all are closed", || proxy.open.load(Ordering::Relaxed) == 0).await;
    let log = proxy.log();
    let lines: Vec<serde_json::Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2, "{log}");
    let expected = serde_json::json!({
        "time": "1970-01-01T00:00:00.000Z", "client": "192.0.2.7", "host": "Shop", "method": "POST", "path": "/a",
        "query": "b=c", "protocol": "HTTP/1.1", "status": 201, "bytes_in": 3, "bytes_out": 5,
        "upstream": endpoint.address.to_string(), "upstream_status": 201, "request_id": "id-1", "tls_version": "1.3",
        "server_name": "shop", "user_agent": "te\"st", "referer": "r", "ingress": "default/shop",
        "backend": "default/shop:80",
    });
    for (key, value) in expected.as_object().unwrap() {
        assert_eq!(&lines[0][key], value, "{key}");
    }
    assert!(lines[0]["duration_seconds"].as_f64().unwrap() >= lines[0]["upstream_seconds"].as_f64().unwrap());
    assert_eq!((&lines[1]["status"], &lines[1]["method"]), (&400.into(), &serde_json::Value::Null));
    assert_eq!(proxy.requests("shop", "201"), 2, "what is not logged is still counted");
}

#[tokio::test]
async fn changes_of_routes_reach_open_connections_at_their_next_request() {
    let (one, two) = (Upstream::answering(EMPTY).await, Upstream::answering(EMPTY).await);
    let proxy = Proxy::start(Site::simple("shop", &[one.address])).await;
    let mut stream = proxy.connect().await;
    let request = b"GET / HTTP/1.1\r\nHost: shop\r\n\r\n";
    stream.write_all(request).await.unwrap();
    assert_eq!(status(&read_response(&mut stream).await), 200);
    proxy.publisher.publish(Site::simple("shop", &[two.address]).build());
    stream.write_all(request).await.unwrap();
    assert_eq!(status(&read_response(&mut stream).await), 200);
    assert_eq!((one.connections(), two.connections()), (1, 1));
    proxy.publisher.publish(Site::default().build());
    stream.write_all(request).await.unwrap();
    assert_eq!(status(&read_response(&mut stream).await), 404);
}
