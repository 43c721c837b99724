//! Documents of other programs that users expect to have an effect: the ConfigMap of ingress-nginx.
//!
//! `document of an unknown kind ──is_config_of_ingress_nginx──▶ a finding of its own`
//!
//! Pure. A ConfigMap is ignored like every other kind that is not used. This one is named, because users who
//! move from ingress-nginx expect it to have an effect.

use serde_json::{Map, Value};

/// Options that a ConfigMap of ingress-nginx often has. Other programs rarely have two of them.
const OPTIONS: &[&str] = &[
    "allow-backend-server-header",
    "allow-snippet-annotations",
    "annotations-risk-level",
    "block-cidrs",
    "client-body-buffer-size",
    "client-header-buffer-size",
    "client-header-timeout",
    "compute-full-forwarded-for",
    "custom-http-errors",
    "disable-access-log",
    "enable-brotli",
    "enable-modsecurity",
    "enable-ocsp",
    "enable-owasp-modsecurity-crs",
    "enable-real-ip",
    "enable-underscores-in-headers",
    "error-log-level",
    "force-ssl-redirect",
    "forwarded-for-header",
    "gzip-level",
    "hide-headers",
    "hsts",
    "hsts-include-subdomains",
    "hsts-max-age",
    "hsts-preload",
    "http-redirect-code",
    "http-snippet",
    "keep-alive",
    "keep-alive-requests",
    "large-client-header-buffers",
    "limit-req-status-code",
    "load-balance",
    "location-snippet",
    "log-format-escape-json",
    "log-format-upstream",
    "main-snippet",
    "max-worker-connections",
    "no-tls-redirect-locations",
    "proxy-add-original-uri-header",
    "proxy-body-size",
    "proxy-buffer-size",
    "proxy-buffering",
    "proxy-connect-timeout",
    "proxy-next-upstream",
    "proxy-read-timeout",
    "proxy-real-ip-cidr",
    "proxy-request-buffering",
    "proxy-send-timeout",
    "proxy-set-headers",
    "server-name-hash-bucket-size",
    "server-snippet",
    "server-tokens",
    "ssl-ciphers",
    "ssl-dh-param",
    "ssl-early-data",
    "ssl-ecdh-curve",
    "ssl-protocols",
    "ssl-redirect",
    "ssl-reject-handshake",
    "ssl-session-cache",
    "ssl-session-tickets",
    "strict-validate-path-type",
    "upstream-keepalive-connections",
    "upstream-keepalive-requests",
    "upstream-keepalive-timeout",
    "use-forwarded-headers",
    "use-gzip",
    "use-http2",
    "use-proxy-protocol",
    "whitelist-source-range",
    "worker-processes",
    "worker-shutdown-timeout",
];

/// Whether a ConfigMap looks like the configuration of ingress-nginx, by its name, its labels or its options.
pub(super) fn is_config_of_ingress_nginx(api_version: &str, kind: &str, fields: &Map<String, Value>) -> bool {
    if (api_version, kind) != ("v1", "ConfigMap") {
        return false;
    }
    let text = |path: &[&str]| {
        let found = path.iter().try_fold(fields.get("metadata")?, |value, name| value.get(name))?;
        found.as_str().map(str::to_owned)
    };
    let name = text(&["name"]).unwrap_or_default();
    let options: Vec<&String> =
        fields.get("data").and_then(Value::as_object).into_iter().flat_map(|data| data.keys()).collect();
    let known = options.iter().filter(|option| OPTIONS.contains(&option.as_str())).count();
    // Its tables of TCP and UDP services have its labels too, and no options.
    let is_labelled = text(&["labels", "app.kubernetes.io/name"]).is_some_and(|name| name == "ingress-nginx");
    let is_named = ["ingress-nginx", "nginx-configuration", "nginx-ingress"].iter().any(|part| name.contains(part));
    known >= 2 || ((is_labelled || is_named) && (known == 1 || options.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn looks_like_it(name: &str, labels: Value, data: Value) -> bool {
        let document = serde_json::json!({"metadata": {"name": name, "labels": labels}, "data": data});
        is_config_of_ingress_nginx("v1", "ConfigMap", document.as_object().unwrap())
    }

    #[test]
    fn it_is_known_by_name_label_or_options() {
        let none = || serde_json::json!({});
        let label = || serde_json::json!({"app.kubernetes.io/name": "ingress-nginx"});
        assert!(looks_like_it("ingress-nginx-controller", none(), none()));
        assert!(looks_like_it("edge", label(), serde_json::json!({"use-gzip": "true"})));
        assert!(looks_like_it("edge", none(), serde_json::json!({"use-gzip": "true", "ssl-protocols": "TLSv1.3"})));
        assert!(!looks_like_it("edge", none(), serde_json::json!({"use-gzip": "true", "colour": "red"})));
        assert!(!looks_like_it("shop", none(), serde_json::json!({"nginx.conf": "server {}"})));
        // Its table of TCP services is no configuration of this kind.
        assert!(!looks_like_it("ingress-nginx-tcp", label(), serde_json::json!({"9000": "default/a:9000"})));
        let document = serde_json::json!({"metadata": {"name": "ingress-nginx-controller"}});
        assert!(!is_config_of_ingress_nginx("v1", "Pod", document.as_object().unwrap()));
        assert!(!is_config_of_ingress_nginx("v1", "ConfigMap", &Map::new()));
    }

    #[test]
    fn options_are_sorted() {
        assert!(OPTIONS.is_sorted());
    }
}
