//! What to say about annotations that are not supported: why one has no effect, and what to do in its place.
//!
//! `name ──first row that fits──▶ reason, advice`
//!
//! Read by messages and by `handfast explain`. One row speaks for a family of names, because users meet them together.

use super::{Annotation, Drops, OWN, State, TABLE};

/// A family of annotations that are ignored or that close routes.
struct Row {
    /// Names; one that ends with `*` stands for all that begin so.
    names: &'static [&'static str],
    /// Why it is ignored: a clause that follows "is ignored:". Unused where routes are closed.
    why: &'static str,
    /// What to do in its place: an instruction without a full stop.
    instead: &'static str,
}

const DELETE: &str = "delete the annotation";

/// The first row that fits counts.
static ROWS: &[Row] = &[
    Row {
        names: &["affinity", "affinity-*", "session-cookie-*"],
        why: "sticky sessions are not supported",
        instead: "keep sessions in a store that all pods share, then delete the annotation",
    },
    Row {
        names: &["app-root"],
        why: "the redirect of / is not supported",
        instead: "let the application answer / with the redirect, then delete the annotation",
    },
    Row {
        names: &["auth-tls-error-page", "auth-tls-pass-certificate-to-upstream"],
        why: "it belongs to auth-tls-secret, which is not supported",
        instead: "name a TlsPolicy with clientAuth (annotation handfast.dev/tls-policy), then delete the annotation",
    },
    Row {
        names: &["auth-tls-*"],
        why: "client certificates are configured by a TlsPolicy",
        instead: "put clientAuth into a TlsPolicy, name it with the annotation handfast.dev/tls-policy, then delete this annotation",
    },
    Row {
        names: &["auth-url", "auth-secret", "auth-snippet"],
        why: "HTTP authentication is not supported",
        instead: "authenticate in the application or in a proxy in front of it (for example oauth2-proxy), then delete the annotation",
    },
    Row {
        names: &["auth-*", "enable-global-auth"],
        why: "HTTP authentication is not supported",
        instead: "authenticate in the application or in a proxy in front of it, then delete the annotation",
    },
    Row {
        names: &["canary"],
        why: "canaries are not supported",
        instead: "delete the canary Ingress, or shift traffic in the Service or the application; the primary Ingress takes all requests",
    },
    Row {
        names: &["canary-*"],
        why: "canaries are not supported",
        instead: "delete the annotation; the primary Ingress takes all requests",
    },
    Row {
        names: &["client-body-buffer-size", "proxy-request-buffering", "proxy-max-temp-file-size"],
        why: "Handfast streams request bodies",
        instead: DELETE,
    },
    Row {
        names: &["proxy-buffer-size", "proxy-buffering", "proxy-buffers-number", "proxy-busy-buffers-size"],
        why: "Handfast streams responses",
        instead: DELETE,
    },
    Row {
        names: &["configuration-snippet", "server-snippet", "stream-snippet"],
        why: "raw nginx configuration is not supported",
        instead: "move what the snippet does to annotations or into the application, then delete it",
    },
    Row { names: &["connection-proxy-header"], why: "Handfast sets the Connection header itself", instead: DELETE },
    Row {
        names: &["cors-*", "enable-cors"],
        why: "CORS is not supported",
        instead: "let the application answer preflights and set the CORS headers, then delete the annotation",
    },
    Row {
        names: &["custom-headers"],
        why: "adding response headers is not supported",
        instead: "let the application set the headers, then delete the annotation",
    },
    Row {
        names: &["custom-http-errors", "default-backend", "disable-proxy-intercept-errors"],
        why: "error pages of another Service are not supported",
        instead: "let the application answer with its own error pages, then delete the annotation",
    },
    Row {
        names: &["enable-modsecurity", "enable-owasp-core-rules", "modsecurity-*"],
        why: "ModSecurity is not supported",
        instead: "run a web application firewall in front of Handfast or in front of the application, then delete the annotation",
    },
    Row {
        names: &["enable-opentelemetry", "opentelemetry-*"],
        why: "tracing is not supported",
        instead: "trace in the application; Handfast passes trace headers on",
    },
    Row { names: &["enable-rewrite-log"], why: "nothing is rewritten, so there is nothing to log", instead: DELETE },
    Row {
        names: &["fastcgi-*"],
        why: "FastCGI is not supported",
        instead: "put an HTTP server in front of the FastCGI application, then delete the annotation",
    },
    Row {
        names: &["from-to-www-redirect"],
        why: "the redirect between a name and its www form is not supported",
        instead: "add an Ingress for the other name with the annotation permanent-redirect, then delete this annotation",
    },
    Row { names: &["http2-push-preload"], why: "browsers no longer accept HTTP/2 push", instead: DELETE },
    Row {
        names: &["limit-connections", "limit-rpm", "limit-rps"],
        why: "rate limits are not supported",
        instead: "limit requests in the application or in front of Handfast, then delete the annotation",
    },
    Row {
        names: &["limit-rate", "limit-rate-after"],
        why: "bandwidth limits are not supported",
        instead: "limit bandwidth in the application or in front of Handfast, then delete the annotation",
    },
    Row { names: &["limit-*"], why: "rate limits are not supported", instead: DELETE },
    Row { names: &["load-balance"], why: "Handfast always compares the load of two random endpoints", instead: DELETE },
    Row {
        names: &["mirror-*"],
        why: "mirroring requests is not supported",
        instead: "copy requests in the application or a service mesh, then delete the annotation",
    },
    Row {
        names: &["preserve-trailing-slash"],
        why: "the redirect to HTTPS always keeps the path as it is",
        instead: DELETE,
    },
    Row {
        names: &["proxy-cookie-*", "proxy-redirect-*"],
        why: "rewriting responses is not supported",
        instead: "let the application set cookies and redirects for its public name, then delete the annotation",
    },
    Row { names: &["proxy-http-version"], why: "Handfast always speaks HTTP/1.1 to endpoints", instead: DELETE },
    Row {
        names: &["proxy-next-upstream", "proxy-next-upstream-*"],
        why: "Handfast tries another endpoint only if it has sent nothing to the first",
        instead: DELETE,
    },
    Row {
        names: &["proxy-ssl-*"],
        why: "TLS to endpoints is not supported",
        instead: "let the endpoints serve plain HTTP on a port of their own, or use a service mesh, then delete the annotation",
    },
    Row {
        names: &["relative-redirects", "use-port-in-redirects"],
        why: "redirects always carry the scheme and the host",
        instead: "set the port of redirects with --https-public-port, then delete the annotation",
    },
    Row {
        names: &["rewrite-target", "x-forwarded-prefix"],
        why: "rewriting paths is not supported",
        instead: "let the application serve the path as clients send it, then delete the annotation",
    },
    Row {
        names: &["satisfy"],
        why: "HTTP authentication is not supported",
        instead: "use an address list or authentication in the application, then delete the annotation",
    },
    Row {
        names: &["server-alias"],
        why: "further names of a host are not supported",
        instead: "add a rule for each name, then delete the annotation",
    },
    Row {
        names: &["service-upstream"],
        why: "Handfast always sends requests to endpoints, not to the Service's address",
        instead: DELETE,
    },
    Row {
        names: &["ssl-passthrough"],
        why: "TLS passthrough is not supported",
        instead: "terminate TLS in Handfast, or expose the Service by a load balancer of its own",
    },
    Row {
        names: &["upstream-hash-*"],
        why: "choosing endpoints by a hash is not supported",
        instead: "keep state in a store that all pods share, then delete the annotation",
    },
    Row {
        names: &["upstream-vhost"],
        why: "changing the Host header is not supported",
        instead: "let the application accept the public name, then delete the annotation",
    },
    Row {
        names: &["use-regex"],
        why: "regular expressions in paths are not supported",
        instead: "write the paths as Prefix or Exact paths, then delete the annotation",
    },
];

/// Why an annotation without effect is ignored, by its name without prefix.
pub fn why_ignored(name: &str) -> &'static str {
    row(name).map_or("it is not supported", |row| row.why)
}

/// What to do in place of an annotation that is not supported, by its name without prefix.
pub fn instead(name: &str) -> &'static str {
    row(name).map_or(DELETE, |row| row.instead)
}

/// Everything about one annotation, for people; `None` if no annotation has this name. The prefix may be left out.
pub fn explain(name: &str) -> Option<String> {
    let (prefix, short) = name.rsplit_once('/').map_or(("", name), |(prefix, short)| (prefix, short));
    let in_table = |table: &'static [Annotation]| table.iter().find(|row| row.name == short);
    let (row, prefixes) = match prefix {
        "nginx.ingress.kubernetes.io" => (in_table(TABLE)?, "nginx.ingress.kubernetes.io/ or handfast.dev/"),
        "" | "handfast.dev" => match in_table(TABLE) {
            Some(row) => (row, "nginx.ingress.kubernetes.io/ or handfast.dev/"),
            None => (in_table(OWN)?, "handfast.dev/"),
        },
        _ => return None,
    };
    let (supported, advice) = match row.state {
        State::Working(..) => ("yes".to_owned(), None),
        State::Ignored(_) => (format!("no; it is ignored: {}", why_ignored(short)), Some(instead(short))),
        State::Restricting(drops, _) => {
            let closed = match drops {
                Drops::Claims => "this Ingress serves nothing",
                Drops::Patterns | Drops::Routes => "the paths of this Ingress answer 503",
            };
            (format!("no; to be safe, {closed}"), Some(instead(short)))
        }
    };
    let default = if row.default.is_empty() { "none" } else { row.default };
    let older = row.alias_of.map(|name| format!("older name of: {name}\n")).unwrap_or_default();
    let advice = advice.map(|advice| format!("what to do: {advice}\n")).unwrap_or_default();
    Some(format!(
        "{short} (annotation of an Ingress)\n\n{}\n\nsupported: {supported}\n{older}prefix: {prefixes}\nvalue: {}\ndefault: {default}\n{advice}",
        row.doc, row.value
    ))
}

fn row(name: &str) -> Option<&'static Row> {
    let fits = |pattern: &&str| match pattern.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => name == *pattern,
    };
    ROWS.iter().find(|row| row.names.iter().any(fits))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_annotation_that_is_not_supported_has_a_reason_and_advice() {
        let unsupported = TABLE.iter().filter(|row| !matches!(row.state, State::Working(..)));
        let silent: Vec<&str> = unsupported.map(|row| row.name).filter(|name| row(name).is_none()).collect();
        assert_eq!(silent, [""; 0]);
        for Row { why, instead, .. } in ROWS {
            assert!(!why.ends_with('.') && !instead.ends_with('.') && !instead.is_empty(), "{why}");
        }
    }

    #[test]
    fn each_row_speaks_for_an_annotation_that_no_row_before_it_takes() {
        for (at, wanted) in ROWS.iter().enumerate() {
            let first = |name: &str| row(name).is_some_and(|found| std::ptr::eq(found, wanted));
            assert!(TABLE.iter().any(|annotation| first(annotation.name)), "row {at}: {:?}", wanted.names);
        }
    }

    #[test]
    fn an_annotation_is_explained_with_and_without_its_prefix() {
        for name in ["rewrite-target", "nginx.ingress.kubernetes.io/rewrite-target", "handfast.dev/rewrite-target"] {
            let text = explain(name).unwrap();
            assert!(text.contains("supported: no; to be safe, the paths of this Ingress answer 503"), "{text}");
            assert!(text.contains("what to do: let the application"), "{text}");
        }
        let ignored = explain("proxy-buffer-size").unwrap();
        assert!(ignored.contains("no; it is ignored: Handfast streams responses\n"), "{ignored}");
        assert!(explain("canary").unwrap().contains("this Ingress serves nothing"));
        let works = explain("ssl-redirect").unwrap();
        assert!(works.contains("supported: yes\n") && !works.contains("what to do"), "{works}");
        assert!(explain("handfast.dev/tls-policy").unwrap().contains("prefix: handfast.dev/\n"));
        assert!(explain("whitelist-source-range").unwrap().contains("older name of: allowlist-source-range"));
        for name in ["nginx.ingress.kubernetes.io/tls-policy", "example.com/ssl-redirect", "no-such", ""] {
            assert_eq!(explain(name), None, "{name}");
        }
    }
}
