//! A snapshot as stable text.

use std::fmt::Write as _;

use super::{BackendState, HostTls, PathMatch, Serving, Snapshot, Target};
use crate::quote::shown;
use crate::tls::ServerTls;
use crate::tls::policy::Policy;

/// Hosts sorted by name, each with its TLS and its routes, then backends. No key material, no ticket keys.
pub(super) fn render(snapshot: &Snapshot) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = write_snapshot(snapshot, &mut text);
    text
}

fn write_tls(tls: &ServerTls, out: &mut String) -> std::fmt::Result {
    writeln!(out, "  tls: {}", tls.summary)?;
    for summary in &tls.additional {
        writeln!(out, "  tls: {summary}")?;
    }
    // What holds everywhere needs no word.
    if *tls.policy() != Policy::default() {
        writeln!(out, "  policy: {}", tls.policy())?;
    }
    Ok(())
}

fn write_snapshot(snapshot: &Snapshot, out: &mut String) -> std::fmt::Result {
    if let Some(tls) = &snapshot.default_tls {
        writeln!(out, "default certificate: {}", tls.summary)?;
    }
    let mut hosts: Vec<_> = snapshot.hosts.values().collect();
    hosts.sort_by(|a, b| a.name.cmp(&b.name));
    for host in hosts {
        writeln!(out, "host {}", host.name)?;
        match &host.tls {
            HostTls::Absent => writeln!(out, "  tls: absent")?,
            HostTls::Refuse => writeln!(out, "  tls: refuse")?,
            HostTls::Terminate(tls) => write_tls(tls, out)?,
        }
        match host.serving {
            Serving::Current | Serving::None | Serving::Refused => {}
            serving @ (Serving::Default | Serving::LastGood) => writeln!(out, "  serving: {}", serving.code())?,
        }
        if let Some(hsts) = &host.hsts {
            writeln!(out, "  hsts: {hsts}")?;
        }
        if host.https_only {
            writeln!(out, "  https only")?;
        }
        if let Some(shadow) = &host.shadow {
            writeln!(out, "  shadow policy {}: {}", shadow.name, shadow.policy)?;
        }
        for route in host.routes.routes() {
            let kind = match route.matches {
                PathMatch::Exact => "exact",
                PathMatch::Prefix => "prefix",
            };
            let target = match &route.target {
                Target::Backend(key) => key.to_string(),
                Target::Dropped => "dropped (503)".to_owned(),
            };
            let (namespace, name) = &route.ingress;
            let (path, name) = (shown(route.path.as_str()), shown(name));
            write!(out, "  {kind} {path} -> {target} by {}/{name}", shown(namespace))?;
            let options = &route.options;
            if options.ssl_redirect {
                out.push_str(" ssl-redirect");
            }
            if options.force_ssl_redirect {
                out.push_str(" force-ssl-redirect");
            }
            if !options.access_log {
                out.push_str(" no-access-log");
            }
            for (label, list) in [("allow", &options.allow), ("deny", &options.deny)] {
                if let Some(list) = list {
                    write!(out, " {label}={list}")?;
                }
            }
            let timeouts =
                [("connect", options.connect_timeout), ("read", options.read_timeout), ("send", options.send_timeout)];
            for (label, timeout) in timeouts {
                if let Some(timeout) = timeout {
                    write!(out, " {label}-timeout={}", humantime::format_duration(timeout))?;
                }
            }
            if let Some(limit) = options.body_limit {
                write!(out, " body-limit={limit}")?;
            }
            if let Some(redirect) = &options.redirect {
                write!(out, " redirect={} {}", redirect.status, shown(&redirect.location))?;
            }
            out.push('\n');
        }
    }
    let mut backends: Vec<_> = snapshot.backends.values().collect();
    backends.sort_by(|a, b| a.key.cmp(&b.key));
    for backend in backends {
        let state = match backend.state {
            BackendState::Missing => " missing (503)",
            BackendState::NoEndpoints => " no endpoints (503)",
            BackendState::Ready => "",
        };
        write!(out, "backend {}{state}", backend.key)?;
        for endpoint in backend.endpoints.iter() {
            write!(out, " {}", endpoint.address)?;
        }
        out.push('\n');
    }
    Ok(())
}
