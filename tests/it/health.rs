//! `/healthz` on the ports for traffic: answered where no host and no rule of a user is asked for.

use handfast::access_log::Format;
use handfast::demo::pki::KeyType;
use handfast::snapshot::RouteOptions;

use crate::binary::{Server, host, issue, program, secret, service, wait_until};
use crate::http_support::{Proxy, Site, Start, Upstream, over_tls, some_tls, status};

/// A rule for a host (`""` for none) and a path.
fn rule(host: &str, path: &str, endpoint: &Upstream) -> Site {
    Site::default().route(host, path, "shop", RouteOptions::default()).backend("shop", &[endpoint.address])
}

#[tokio::test]
async fn a_name_of_no_host_is_answered_unless_a_rule_is_there() {
    let endpoint = Upstream::echo().await;
    // Who answers: we (200 without a body), the user's backend, or nobody (404).
    let rows = [
        (rule("shop.test", "/", &endpoint), "10.224.0.4", "/healthz", "ours"),
        (rule("shop.test", "/", &endpoint), "[2001:db8::1]:80", "/healthz", "ours"),
        (rule("shop.test", "/", &endpoint), "nobody.test", "/healthz?verbose=1", "ours"),
        (rule("shop.test", "/", &endpoint), "nobody.test", "/", "nobody"),
        (rule("shop.test", "/", &endpoint), "nobody.test", "/healthz/x", "nobody"),
        (rule("shop.test", "/", &endpoint), "nobody.test", "/healthzz", "nobody"),
        (rule("shop.test", "/", &endpoint), "shop.test", "/healthz", "backend"),
        (rule("shop.test", "/shop", &endpoint), "shop.test", "/healthz", "nobody"),
        (rule("*.shop.test", "/shop", &endpoint), "a.shop.test", "/healthz", "nobody"),
        (rule("", "/", &endpoint), "10.224.0.4", "/healthz", "backend"),
        (rule("", "/healthz", &endpoint), "nobody.test", "/healthz", "backend"),
        (rule("", "/shop", &endpoint), "10.224.0.4", "/healthz", "ours"),
        (Site::default(), "10.224.0.4", "/healthz", "ours"),
    ];
    for (site, host, target, expected) in rows {
        let proxy = Proxy::start(site).await;
        let response = proxy.get(host, target).await;
        let (head, body) = response.split_once("\r\n\r\n").unwrap();
        let answered = match (status(head), body) {
            (200, "") => "ours",
            (200, body) if body.contains("GET /healthz HTTP/1.1\n") => "backend",
            (404, _) => "nobody",
            _ => panic!("{host}{target}: {response}"),
        };
        assert_eq!(answered, expected, "{host}{target}");
        assert_eq!(proxy.all_requests(), 1);
    }
}

#[tokio::test]
async fn checks_are_counted_and_not_logged_and_any_method_will_do() {
    let mut proxy = Proxy::start_with(Site::default(), Start { log: Format::Text, ..Start::default() }).await;
    for method in ["GET", "HEAD", "OPTIONS", "POST"] {
        let request = format!("{method} /healthz HTTP/1.1\r\nHost: 10.0.0.1\r\nConnection: close\r\n\r\n");
        let response = proxy.raw(request).await;
        assert!(response.starts_with("HTTP/1.1 200 OK\r\n") && response.ends_with("\r\n\r\n"), "{method}: {response}");
    }
    assert_eq!(status(&proxy.get("10.0.0.1", "/other").await), 404);
    assert_eq!((proxy.requests("", "200"), proxy.requests("", "404")), (4, 1));
    let log = proxy.log();
    assert!(log.lines().count() == 1 && log.contains("/other"), "{log}");
}

#[tokio::test]
async fn a_check_of_http_1_0_needs_no_host() {
    let endpoint = Upstream::echo().await;
    let ask = async |proxy: &Proxy, target: &str, version: &str| {
        status(&proxy.raw(format!("GET {target} HTTP/{version}\r\nConnection: close\r\n\r\n")).await)
    };
    let proxy = Proxy::start(rule("", "/shop", &endpoint)).await;
    assert_eq!(ask(&proxy, "/healthz", "1.0").await, 200);
    assert_eq!(ask(&proxy, "/healthz", "1.1").await, 400, "RFC 9112 section 3.2");
    assert_eq!(ask(&proxy, "/other", "1.0").await, 400);
    let proxy = Proxy::start(rule("", "/", &endpoint)).await;
    assert_eq!(ask(&proxy, "/healthz", "1.0").await, 400, "a rule of a user is there");
}

#[tokio::test]
async fn over_tls_the_default_certificate_has_to_have_answered() {
    let tls = some_tls();
    let default = crate::http_support::made_with(&tls, None, None, false);
    let site = || Site::default().default_tls(&tls);
    let proxy = Proxy::start_with(site(), Start { security: default, ..Start::default() }).await;
    assert_eq!(status(&proxy.get("10.0.0.1", "/healthz").await), 200);
    assert_eq!(status(&proxy.get("nobody.test", "/healthz").await), 200);
    // A connection for a host is for that host.
    let other = over_tls(Some("shop.test"), None, false);
    let proxy = Proxy::start_with(Site::default(), Start { security: other, ..Start::default() }).await;
    assert_eq!(status(&proxy.get("10.0.0.1", "/healthz").await), 421);
}

#[tokio::test]
async fn before_the_end_load_balancers_are_told_to_look_away() {
    let endpoint = Upstream::echo().await;
    let proxy = Proxy::start(rule("shop.test", "/", &endpoint)).await;
    assert_eq!(status(&proxy.get("10.0.0.1", "/healthz").await), 200);
    proxy.unready.cancel();
    assert_eq!(status(&proxy.get("10.0.0.1", "/healthz").await), 503);
    assert_eq!(status(&proxy.get("shop.test", "/healthz").await), 200, "traffic goes on");
}

/// Status of an HTTP or HTTPS answer, as curl has it; 000 if there is none.
fn curl(url: &str) -> String {
    let output = program("curl")
        .args(["--silent", "--insecure", "--max-time", "60", "-o", "/dev/null", "-w", "%{http_code}", url])
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn both_ports_answer_a_check_by_address_where_there_is_a_default_certificate() {
    let site = |authority: &handfast::demo::pki::Authority| {
        vec![
            host("shop", "shop.test", Some(&issue(authority, &["shop.test"], KeyType::EcdsaP256)), "echo", ""),
            ("fallback.yaml".to_owned(), secret("fallback", &issue(authority, &["fallback.test"], KeyType::EcdsaP256))),
            service("echo", &["127.0.0.1:9".parse().unwrap()]),
        ]
    };
    let urls =
        |server: &Server| [format!("http://{}/healthz", server.http), format!("https://{}/healthz", server.https)];
    let server = Server::start(&site, &[]);
    assert_eq!(urls(&server).map(|url| curl(&url)), ["200", "000"], "nothing answers a handshake without a name");
    server.wait_for_metric("handfast_tls_handshake_failures_total", &["reason=\"no-server-name\""], 1.0);

    let mut server = Server::start(
        &site,
        &["--default-tls-secret", "default/fallback", "--unready-delay", "1h", "--drain-timeout", "0s"],
    );
    assert_eq!(urls(&server).map(|url| curl(&url)), ["200", "200"]);
    server.signal("TERM");
    wait_until("it says that its end is near", || server.admin("/readyz").0 == 503);
    assert_eq!(urls(&server).map(|url| curl(&url)), ["503", "503"]);
    server.signal("TERM");
    assert!(server.wait().success());
}
