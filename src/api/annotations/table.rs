//! The rows, sorted by name.

use super::{Annotation, Drops, Setter, State, Wrong};

/// Every annotation that ingress-nginx knows, and what Handfast does with it.
#[rustfmt::skip]
pub const TABLE: &[Annotation] = &[
    ignored("affinity", "cookie", "", OFF, "Sticky sessions by cookie."),
    ignored("affinity-canary-behavior", "sticky | legacy", "sticky", OFF, "Whether sessions stay on a canary."),
    ignored("affinity-mode", "balanced | persistent", "balanced", OFF, "Whether sessions move when endpoints are added."),
    working("allowlist-source-range", "addresses and networks", "", Wrong::Drops, super::allow, "Only these client addresses may pass (403 for others); never on the ACME challenge path."),
    ignored("app-root", "path", "", OFF, "Redirect / to this path."),
    ignored("auth-always-set-cookie", "true | false", "false", OFF, "Pass cookies of the authentication service on for every status."),
    ignored("auth-cache-duration", "statuses and times", "200 202 401 5m", OFF, "How long answers of the authentication service are kept."),
    ignored("auth-cache-key", "text with variables", "", OFF, "Keep answers of the authentication service under this key."),
    ignored("auth-keepalive", "number", "0", ZERO, "Idle connections kept to the authentication service."),
    ignored("auth-keepalive-requests", "number", "1000", OFF, "Requests per connection to the authentication service."),
    ignored("auth-keepalive-share-vars", "true | false", "false", OFF, "Share nginx variables with the authentication request."),
    ignored("auth-keepalive-timeout", "seconds", "60", OFF, "How long an idle connection to the authentication service is kept."),
    ignored("auth-method", "HTTP method", "GET", OFF, "Method of the authentication request."),
    ignored("auth-proxy-set-headers", "namespace/ConfigMap", "", OFF, "Headers added to the authentication request."),
    ignored("auth-realm", "text", "", OFF, "Realm shown by HTTP authentication."),
    ignored("auth-request-redirect", "URL", "", OFF, "Value of X-Auth-Request-Redirect."),
    ignored("auth-response-headers", "header names", "", OFF, "Headers copied from the authentication service to the endpoint."),
    restricting("auth-secret", "namespace/Secret", "", super::always, "Users and passwords of HTTP authentication."),
    ignored("auth-secret-type", "auth-file | auth-map", "auth-file", OFF, "Form of the Secret in auth-secret."),
    ignored("auth-signin", "URL", "", OFF, "Where clients are sent that auth-url turns away."),
    ignored("auth-signin-redirect-param", "name", "rd", OFF, "Query parameter of auth-signin that carries the first URL."),
    restricting("auth-snippet", "nginx configuration", "", super::snippet_restricts, "Raw lines for the authentication request."),
    ignored("auth-tls-error-page", "URL", "", OFF, "Where clients without an accepted certificate are sent."),
    restricting("auth-tls-match-cn", "CN=pattern", "", super::always, "Client certificates must have a matching common name."),
    ignored("auth-tls-pass-certificate-to-upstream", "true | false", "false", OFF, "Send the client's certificate to the endpoint in a header."),
    restricting("auth-tls-secret", "namespace/Secret", "", super::always, "Clients must show a certificate that this CA issued."),
    restricting("auth-tls-verify-client", "on | off | optional | optional_no_ca", "on", super::unless_off, "Whether a client certificate is asked for and checked."),
    restricting("auth-tls-verify-depth", "number", "1", super::always, "Longest chain of a client certificate."),
    restricting("auth-type", "basic | digest", "", super::always, "HTTP authentication."),
    restricting("auth-url", "URL", "", super::always, "Service that must admit each request."),
    working("backend-protocol", "HTTP", "HTTP", Wrong::Drops, super::backend_protocol, "Protocol spoken to endpoints."),
    claims("canary", "true | false", "false", "The Ingress takes a share of the requests of another one."),
    ignored("canary-by-cookie", "cookie name", "", OFF, "Cookie that selects the canary."),
    ignored("canary-by-header", "header name", "", OFF, "Header that selects the canary."),
    ignored("canary-by-header-pattern", "pattern", "", OFF, "Pattern of the header value that selects the canary."),
    ignored("canary-by-header-value", "text", "", OFF, "Header value that selects the canary."),
    ignored("canary-weight", "number", "0", ZERO, "Share of requests that the canary takes."),
    ignored("canary-weight-total", "number", "100", OFF, "The total of which canary-weight is a share."),
    ignored("client-body-buffer-size", "size", "8k", OFF, "Memory for a request body."),
    restricting("configuration-snippet", "nginx configuration", "", super::snippet_restricts, "Raw lines for the location."),
    ignored("connection-proxy-header", "text", "", OFF, "Connection header sent to the endpoint."),
    ignored("cors-allow-credentials", "true | false", "true", NEVER, "Let browsers send credentials across origins."),
    ignored("cors-allow-headers", "header names", "", OFF, "Headers that other origins may send."),
    ignored("cors-allow-methods", "methods", "GET, PUT, POST, DELETE, PATCH, OPTIONS", OFF, "Methods that other origins may use."),
    ignored("cors-allow-origin", "origins", "*", OFF, "Origins that may read answers."),
    ignored("cors-expose-headers", "header names", "", OFF, "Headers that other origins may read."),
    ignored("cors-max-age", "seconds", "1728000", OFF, "How long browsers keep a preflight answer."),
    ignored("custom-headers", "namespace/ConfigMap", "", OFF, "Headers added to answers."),
    ignored("custom-http-errors", "statuses", "", OFF, "Statuses that default-backend answers in the endpoint's place."),
    ignored("default-backend", "Service", "", OFF, "Service that answers when the rule's Service has no endpoints."),
    working("denylist-source-range", "addresses and networks", "", Wrong::Drops, super::deny, "These client addresses may not pass (403); never on the ACME challenge path."),
    ignored("disable-proxy-intercept-errors", "true | false", "false", OFF, "Do not intercept statuses of the endpoint."),
    working("enable-access-log", "true | false", "true", Wrong::Default, super::access_log, "Write requests to the access log."),
    ignored("enable-cors", "true | false", "false", OFF, "Answer preflights and add CORS headers."),
    ignored("enable-global-auth", "true | false", "true", OFF, "Whether the controller-wide authentication applies."),
    restricting("enable-modsecurity", "true | false", "false", super::unless_off, "Filter requests by ModSecurity."),
    ignored("enable-opentelemetry", "true | false", "false", OFF, "Trace requests."),
    restricting("enable-owasp-core-rules", "true | false", "false", super::unless_off, "Filter requests by the OWASP core rules."),
    ignored("enable-rewrite-log", "true | false", "false", OFF, "Log rewrites."),
    ignored("fastcgi-index", "file", "", OFF, "Index file of FastCGI endpoints."),
    ignored("fastcgi-params-configmap", "ConfigMap", "", OFF, "Parameters of FastCGI endpoints."),
    working("force-ssl-redirect", "true | false", "false", Wrong::Default, super::force_ssl_redirect, "Redirect plain HTTP to HTTPS even if the host has no TLS here."),
    ignored("from-to-www-redirect", "true | false", "false", OFF, "Redirect between a name and its www form."),
    ignored("http2-push-preload", "true | false", "false", OFF, "HTTP/2 push."),
    ignored("limit-allowlist", "networks", "", OFF, "Clients without limits."),
    ignored("limit-burst-multiplier", "number", "5", OFF, "How far a burst may exceed the limits."),
    restricting("limit-connections", "number", "0", super::unless_off, "Most connections of one client at a time."),
    ignored("limit-rate", "KB per second", "0", ZERO, "Bandwidth of one connection."),
    ignored("limit-rate-after", "KB", "0", ZERO, "Bytes sent before limit-rate begins."),
    restricting("limit-rpm", "number", "0", super::unless_off, "Most requests of one client in a minute."),
    restricting("limit-rps", "number", "0", super::unless_off, "Most requests of one client in a second."),
    alias(ignored("limit-whitelist", "networks", "", OFF, "Old name of limit-allowlist."), "limit-allowlist"),
    ignored("load-balance", "round_robin | ewma", "round_robin", OFF, "How an endpoint is chosen."),
    ignored("mirror-host", "host name", "", OFF, "Host header of mirrored requests."),
    ignored("mirror-request-body", "on | off", "on", OFF, "Whether mirrored requests carry the body."),
    ignored("mirror-target", "URL", "", OFF, "Send a copy of each request to this URL."),
    restricting("modsecurity-snippet", "ModSecurity rules", "", super::always, "Raw ModSecurity rules."),
    ignored("modsecurity-transaction-id", "text", "", OFF, "Transaction id for ModSecurity."),
    ignored("opentelemetry-operation-name", "text", "", OFF, "Name of spans."),
    ignored("opentelemetry-trust-incoming-span", "true | false", "true", OFF, "Continue the caller's trace."),
    working("permanent-redirect", "URL or path", "", Wrong::Drops, super::permanent_redirect, "Answer every request with a permanent redirect."),
    working("permanent-redirect-code", "300 | 301 | 302 | 303 | 307 | 308", "301", Wrong::Default, super::permanent_redirect_code, "Status of permanent-redirect."),
    ignored("preserve-trailing-slash", "true | false", "false", OFF, "Keep a trailing slash in the redirect to HTTPS."),
    working("proxy-body-size", "size; 0 is no limit", "", Wrong::Drops, super::body_size, "Largest request body (413 above)."),
    ignored("proxy-buffer-size", "size", "4k", OFF, "Memory for the head of an answer."),
    ignored("proxy-buffering", "on | off", "off", OFF, "Buffer answers."),
    ignored("proxy-buffers-number", "number", "4", OFF, "Number of buffers for an answer."),
    ignored("proxy-busy-buffers-size", "size", "", OFF, "Share of the buffers that may be sending."),
    working("proxy-connect-timeout", "seconds", "", Wrong::Default, super::connect_timeout, "Longest wait for a connection to an endpoint."),
    ignored("proxy-cookie-domain", "from to | off", "off", OFF, "Rewrite the domain of cookies."),
    ignored("proxy-cookie-path", "from to | off", "off", OFF, "Rewrite the path of cookies."),
    ignored("proxy-http-version", "1.0 | 1.1", "1.1", &["1.1"], "HTTP version spoken to endpoints."),
    ignored("proxy-max-temp-file-size", "size", "1024m", OFF, "Largest file for a buffered answer."),
    ignored("proxy-next-upstream", "conditions", "error timeout", OFF, "When another endpoint is tried."),
    ignored("proxy-next-upstream-timeout", "seconds", "0", ZERO, "Longest time for all tries."),
    ignored("proxy-next-upstream-tries", "number", "3", OFF, "Most tries."),
    working("proxy-read-timeout", "seconds", "", Wrong::Default, super::read_timeout, "Longest gap between two reads from an endpoint."),
    ignored("proxy-redirect-from", "text | off | default", "off", OFF, "Text to replace in redirects of the endpoint."),
    ignored("proxy-redirect-to", "text", "off", OFF, "Replacement for proxy-redirect-from."),
    ignored("proxy-request-buffering", "on | off", "on", OFF, "Read the whole request first."),
    working("proxy-send-timeout", "seconds", "", Wrong::Default, super::send_timeout, "Longest gap between two writes to an endpoint."),
    ignored("proxy-ssl-ciphers", "ciphers", "DEFAULT", OFF, "Ciphers towards endpoints."),
    ignored("proxy-ssl-name", "host name", "", OFF, "Name expected in the endpoint's certificate."),
    ignored("proxy-ssl-protocols", "versions", "TLSv1.2", OFF, "TLS versions towards endpoints."),
    ignored("proxy-ssl-secret", "namespace/Secret", "", OFF, "Key and CA for TLS towards endpoints."),
    ignored("proxy-ssl-server-name", "on | off", "off", OFF, "Send a server name to endpoints."),
    ignored("proxy-ssl-verify", "on | off", "off", OFF, "Check the endpoint's certificate."),
    ignored("proxy-ssl-verify-depth", "number", "1", OFF, "Longest chain of an endpoint's certificate."),
    ignored("relative-redirects", "true | false", "false", OFF, "Send redirects without scheme and host."),
    patterns("rewrite-target", "path", "", super::always, "Replace the request's path; makes all paths regular expressions."),
    restricting("satisfy", "all | any", "all", super::unless_all, "Whether an address list or authentication alone is enough."),
    ignored("server-alias", "host names", "", OFF, "Further names of the host."),
    restricting("server-snippet", "nginx configuration", "", super::snippet_restricts, "Raw lines for the server."),
    ignored("service-upstream", "true | false", "false", OFF, "Send to the Service's address in place of its endpoints."),
    ignored("session-cookie-change-on-failure", "true | false", "false", OFF, "Choose another endpoint after a failure."),
    ignored("session-cookie-conditional-samesite-none", "true | false", "false", OFF, "Leave SameSite=None out for browsers that mishandle it."),
    ignored("session-cookie-domain", "domain", "", OFF, "Domain of the session cookie."),
    ignored("session-cookie-expires", "seconds", "", OFF, "When the session cookie expires."),
    ignored("session-cookie-max-age", "seconds", "", OFF, "Age of the session cookie."),
    ignored("session-cookie-name", "cookie name", "INGRESSCOOKIE", OFF, "Name of the session cookie."),
    ignored("session-cookie-path", "path", "", OFF, "Path of the session cookie."),
    ignored("session-cookie-samesite", "None | Lax | Strict", "", OFF, "SameSite attribute of the session cookie."),
    ignored("session-cookie-secure", "true | false", "", OFF, "Secure attribute of the session cookie."),
    working("ssl-ciphers", "OpenSSL cipher list", "", Wrong::Default, super::ssl_ciphers, "Cipher suites of the host, best first, in the language of openssl-ciphers(1); TLS 1.3 suites change only when named. The oldest Ingress of the host that sets it decides."),
    restricting("ssl-passthrough", "true | false", "false", super::unless_off, "Hand TLS to the endpoint without terminating it."),
    working("ssl-prefer-server-ciphers", "true | false", "", Wrong::Default, super::ssl_prefer_server_ciphers, "Whether the server's order of cipher suites decides, or the client's. Without it the server's does, except for clients that put ChaCha20 first."),
    working("ssl-redirect", "true | false", "true", Wrong::Default, super::ssl_redirect, "Redirect plain HTTP to HTTPS (308) when the host has TLS."),
    restricting("stream-snippet", "nginx configuration", "", super::snippet_restricts, "Raw lines for the stream server."),
    working("temporal-redirect", "URL or path", "", Wrong::Drops, super::temporal_redirect, "Answer every request with a temporary redirect; wins over permanent-redirect."),
    working("temporal-redirect-code", "300 | 301 | 302 | 303 | 307 | 308", "302", Wrong::Default, super::temporal_redirect_code, "Status of temporal-redirect."),
    ignored("upstream-hash-by", "text with variables", "", OFF, "Choose endpoints by this key."),
    ignored("upstream-hash-by-subset", "true | false", "false", OFF, "Choose among a subset of endpoints."),
    ignored("upstream-hash-by-subset-size", "number", "3", OFF, "Size of a subset."),
    ignored("upstream-vhost", "host name", "", OFF, "Host header sent to the endpoint."),
    ignored("use-port-in-redirects", "true | false", "false", OFF, "Name the port in redirects."),
    patterns("use-regex", "true | false", "false", super::unless_off, "Paths are regular expressions."),
    alias(working("whitelist-source-range", "addresses and networks", "", Wrong::Drops, super::allow, "Old name of allowlist-source-range."), "allowlist-source-range"),
    ignored("x-forwarded-prefix", "text", "", OFF, "Send X-Forwarded-Prefix when the path is rewritten."),
];

/// What only Handfast knows, with the prefix `handfast.dev/`.
#[rustfmt::skip]
pub const OWN: &[Annotation] = &[
    working("additional-tls-secrets", "names of Secrets", "", Wrong::Default, super::additional_tls_secrets, "Further certificates for the hosts of the Ingress, with other types of keys. Each client gets the best one that it supports, ECDSA before RSA."),
    working("shadow-tls-policy", "name of a TlsPolicy", "", Wrong::Default, super::shadow_tls_policy, "A TlsPolicy of the same namespace to try: each ClientHello is also judged by it, and it changes nothing. The oldest Ingress of a host that names one decides."),
    working("ssl-ecdh-curve", "list of groups", "X25519MLKEM768:X25519:prime256v1:secp384r1", Wrong::Default, super::ssl_ecdh_curve, "Key exchange groups of the host, best first, as in nginx' ssl_ecdh_curve."),
    working("ssl-protocols", "TLSv1.2 TLSv1.3", "TLSv1.2 TLSv1.3", Wrong::Default, super::ssl_protocols, "Protocol versions of the host, as in nginx' ssl_protocols."),
    working("tls-policy", "name of a TlsPolicy", "", Wrong::Default, super::tls_policy, "How the hosts of the Ingress terminate TLS: a TlsPolicy of the same namespace. The oldest Ingress of a host that names one decides."),
];

/// Values that ask for what happens anyway.
const OFF: &[&str] = &["false", "off"];
const ZERO: &[&str] = &["0"];
const NEVER: &[&str] = &[];

const fn row(
    name: &'static str,
    value: &'static str,
    default: &'static str,
    doc: &'static str,
    state: State,
) -> Annotation {
    Annotation { name, alias_of: None, value, default, doc, state }
}

const fn alias(row: Annotation, of: &'static str) -> Annotation {
    Annotation { alias_of: Some(of), ..row }
}

const fn claims(name: &'static str, value: &'static str, default: &'static str, doc: &'static str) -> Annotation {
    row(name, value, default, doc, State::Restricting(Drops::Claims, super::unless_off))
}

const fn ignored(
    name: &'static str,
    value: &'static str,
    default: &'static str,
    quiet: &'static [&'static str],
    doc: &'static str,
) -> Annotation {
    row(name, value, default, doc, State::Ignored(quiet))
}

const fn patterns(
    name: &'static str,
    value: &'static str,
    default: &'static str,
    when: fn(&str) -> bool,
    doc: &'static str,
) -> Annotation {
    row(name, value, default, doc, State::Restricting(Drops::Patterns, when))
}

const fn restricting(
    name: &'static str,
    value: &'static str,
    default: &'static str,
    when: fn(&str) -> bool,
    doc: &'static str,
) -> Annotation {
    row(name, value, default, doc, State::Restricting(Drops::Routes, when))
}

const fn working(
    name: &'static str,
    value: &'static str,
    default: &'static str,
    wrong: Wrong,
    set: Setter,
    doc: &'static str,
) -> Annotation {
    row(name, value, default, doc, State::Working(wrong, set))
}
