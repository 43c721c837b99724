//! Who may use a page: decided from the peer's address and the request's head alone.
//!
//! Two kinds of strangers are kept out. *Other machines*: pages that show clients or change something answer loopback
//! peers, which is where `kubectl port-forward` arrives. A proxy on this machine (a mesh's sidecar, say) would make
//! everybody such a peer, so what says that it came through one is refused. *Pages of other sites* in a browser on the
//! same machine: their requests arrive from loopback too. What a browser says of such a request is believed (`Origin`,
//! `Sec-Fetch-Site`); and since a site can give its own name the address 127.0.0.1, after which the browser takes us for
//! that site (DNS rebinding), the name that was asked for has to be `localhost` or a loopback address, which no site can have.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use http::header::{HOST, ORIGIN};
use http::uri::Authority;
use http::{HeaderMap, Uri};

use super::page::{Audience, Refusal};
use crate::snapshot::canonical_ip;

/// Whether `peer` may send this request; `exposed` is `--admin-expose-api`.
pub(super) fn admit(
    audience: Audience,
    exposed: bool,
    peer: IpAddr,
    uri: &Uri,
    headers: &HeaderMap,
) -> Result<(), Refusal> {
    if is_of_another_site(headers) {
        return Err(Refusal::forbidden(
            "not for pages of other sites: type the address into the browser, or use curl without an Origin",
        ));
    }
    match audience {
        Audience::Everyone => Ok(()),
        Audience::Loopback if exposed => Ok(()),
        Audience::Loopback if !is_of_this_machine(peer) => Err(Refusal::forbidden(
            "only for loopback peers: use kubectl port-forward, or start with --admin-expose-api",
        )),
        Audience::Loopback if came_through_a_proxy(headers) => Err(Refusal::forbidden(
            "not through a proxy, because every client would be a loopback peer: connect directly, or start with --admin-expose-api",
        )),
        Audience::Loopback if !asks_for_this_machine(uri, headers) => Err(Refusal::forbidden(
            "only for the Host localhost or 127.0.0.1, as a protection against other web sites: use one of them",
        )),
        Audience::Loopback => Ok(()),
    }
}

/// Exactly the addresses that programs on this machine, `kubectl port-forward` among them, come from: sidecars of meshes
/// hand on connections of others from further ones, such as 127.0.0.6.
fn is_of_this_machine(peer: IpAddr) -> bool {
    [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)].contains(&canonical_ip(peer))
}

/// A browser sends `Origin` with each request that could change something, and `Sec-Fetch-Site` with all. No page of
/// ours has a script or a form, so that an origin is always somebody else's. `same-site` is another port of localhost.
fn is_of_another_site(headers: &HeaderMap) -> bool {
    let ours = |value: &http::HeaderValue| matches!(value.as_bytes(), b"none" | b"same-origin");
    headers.contains_key(ORIGIN) || !headers.get_all("sec-fetch-site").iter().all(ours)
}

fn came_through_a_proxy(headers: &HeaderMap) -> bool {
    let by_proxy = |name: &str| {
        ["forwarded", "via", "x-real-ip", "x-request-id"].contains(&name)
            || ["x-forwarded-", "x-envoy-", "l5d-"].iter().any(|prefix| name.starts_with(prefix))
    };
    headers.keys().any(|name| by_proxy(name.as_str()))
}

/// One `Host`, and the authority of the target if it has one (RFC 9112 section 3.2.2).
fn asks_for_this_machine(uri: &Uri, headers: &HeaderMap) -> bool {
    let mut hosts = headers.get_all(HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else { return false };
    let host = host.to_str().ok().and_then(|text| text.parse::<Authority>().ok());
    host.is_some_and(|host| is_this_machine(&host)) && uri.authority().is_none_or(is_this_machine)
}

fn is_this_machine(authority: &Authority) -> bool {
    let host = authority.host();
    let bracketed = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    host.eq_ignore_ascii_case("localhost")
        || match bracketed {
            Some(address) => address.parse::<Ipv6Addr>().is_ok_and(|address| address.is_loopback()),
            None => host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback()),
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admitted(audience: Audience, exposed: bool, peer: &str, headers: &[(&'static str, &str)]) -> bool {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        match admit(audience, exposed, peer.parse().unwrap(), &Uri::from_static("/api/failures"), &map) {
            Ok(()) => true,
            Err(refusal) => {
                assert_eq!(refusal.status, http::StatusCode::FORBIDDEN);
                false
            }
        }
    }

    #[test]
    fn pages_about_clients_answer_loopback_peers_only_unless_exposed() {
        let host = [("host", "localhost:10254")];
        for peer in ["127.0.0.1", "::1", "::ffff:127.0.0.1"] {
            assert!(admitted(Audience::Loopback, false, peer, &host), "{peer}");
        }
        for peer in ["127.0.0.6", "192.0.2.1", "10.0.0.1", "2001:db8::1", "::ffff:10.0.0.1", "fe80::1", "0.0.0.0", "::"]
        {
            assert!(!admitted(Audience::Loopback, false, peer, &host), "{peer}");
            assert!(admitted(Audience::Loopback, true, peer, &[("host", "handfast.ingress.svc")]), "{peer}");
            assert!(admitted(Audience::Everyone, false, peer, &[("host", "handfast.ingress.svc")]), "{peer}");
        }
    }

    #[test]
    fn a_name_that_a_site_could_have_is_refused() {
        for host in ["localhost", "LOCALHOST:1", "127.0.0.1", "127.0.0.1:10254", "[::1]", "[::1]:10254", "127.8.8.8:1"]
        {
            assert!(admitted(Audience::Loopback, false, "127.0.0.1", &[("host", host)]), "{host}");
        }
        for host in [
            "evil.example",
            "192.0.2.1:10254",
            "localhost.evil.example:10254",
            "localhost.",
            "127.0.0.1.evil.example",
            "evil.localhost",
            "[evil]",
            "[127.0.0.1]",
            "0x7f.1",
            "2130706433",
            "::1",
            "",
        ] {
            assert!(!admitted(Audience::Loopback, false, "127.0.0.1", &[("host", host)]), "{host}");
        }
        assert!(!admitted(Audience::Loopback, false, "127.0.0.1", &[]), "HTTP/1.0 without a Host");
        let two = [("host", "localhost"), ("host", "evil.example")];
        assert!(!admitted(Audience::Loopback, false, "127.0.0.1", &two));
        let absolute = Uri::from_static("http://evil.example/api/failures");
        let mut headers = HeaderMap::new();
        headers.insert(HOST, "localhost".parse().unwrap());
        let loopback = IpAddr::from([127, 0, 0, 1]);
        assert!(admit(Audience::Loopback, false, loopback, &absolute, &headers).is_err());
        assert!(admit(Audience::Everyone, false, loopback, &absolute, &headers).is_ok());
    }

    #[test]
    fn what_came_through_a_proxy_is_not_from_this_machine() {
        for name in ["forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-real-ip"] {
            let headers = [("host", "localhost"), (name, "x")];
            assert!(!admitted(Audience::Loopback, false, "127.0.0.1", &headers), "{name}");
            assert!(admitted(Audience::Loopback, true, "127.0.0.1", &headers), "{name}");
            assert!(admitted(Audience::Everyone, false, "127.0.0.1", &headers), "{name}");
        }
    }

    #[test]
    fn no_page_may_be_used_by_another_site_even_if_exposed() {
        for audience in [Audience::Everyone, Audience::Loopback] {
            for exposed in [false, true] {
                let admitted =
                    |name, value| admitted(audience, exposed, "127.0.0.1", &[("host", "localhost"), (name, value)]);
                for origin in ["https://evil.example", "null", "http://localhost:10254", ""] {
                    assert!(!admitted("origin", origin), "{origin}");
                }
                for site in ["cross-site", "same-site", "Cross-Site", "future"] {
                    assert!(!admitted("sec-fetch-site", site), "{site}");
                }
                for site in ["none", "same-origin"] {
                    assert!(admitted("sec-fetch-site", site), "{site}");
                }
            }
        }
        let both = [("host", "localhost"), ("sec-fetch-site", "none"), ("sec-fetch-site", "cross-site")];
        assert!(!admitted(Audience::Everyone, false, "127.0.0.1", &both));
    }
}
