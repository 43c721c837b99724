//! Shadow policies: what a change of policy would do, tried out on the offers of real clients.
//!
//! `claims on a host ──who has a say──▶ TlsPolicy ──as it is written──▶ ShadowPolicy + diagnostics`
//!
//! Nothing here changes how a host is served. A shadow policy is no part of a `ServerTls`, so a new one leaves tickets and
//! connections alone; one that cannot be used is said and forgotten. Who has a say is as for the policy in force: the
//! oldest Ingress that names one, among those of the namespace of the host's oldest Ingress. A host that names none tries
//! out the operator's, `--default-shadow-tls-policy`: one policy a host, since each hello is judged by it, and the host's
//! own answers a question that somebody has asked about this host.

use std::sync::Arc;

use super::absent::Absent;
use super::claims::Claims;
use super::policy::{self, Wish};
use super::terminate::{add, annotation_field};
use super::view::View;
use super::{Diagnostic, Effect, Kind, ObjectKey, Options, Problem};
use crate::api::annotations::Written;
use crate::snapshot::{HostName, HostTls, ShadowPolicy};
use crate::tls::ServerTls;
use crate::tls::policy::{Policy, Settings};

/// The policy that a host tries out, by the claims on it, oldest first. There are some.
pub(super) fn shadow(
    view: &mut View<'_>,
    options: &Options,
    host: &HostName,
    claims: &[&Arc<Claims>],
    tls: &HostTls,
    report: &mut Vec<Diagnostic>,
) -> Option<Arc<ShadowPolicy>> {
    let named: Vec<(&Claims, &Written<String>)> =
        claims.iter().filter_map(|claims| Some((&***claims, claims.settings.shadow_policy.as_ref()?))).collect();
    let mut say = |(claims, written): &(&Claims, &Written<String>), problem| {
        add(report, host, &claims.ingress, &annotation_field(&written.annotation), problem, Effect::None);
    };
    if host.is_catch_all() {
        for one in &named {
            say(one, Problem::TlsSettingsWithoutHost { annotation: one.1.annotation.clone() });
        }
        return None;
    }
    let owner = &claims[0].ingress.namespace;
    let chosen = named.iter().find(|(claims, _)| claims.ingress.namespace == *owner);
    for one in &named {
        if chosen.is_none_or(|chosen| key(chosen) != key(one)) {
            let winner = chosen.map_or(&claims[0].ingress, |(claims, _)| &claims.ingress).clone();
            say(one, Problem::ConflictingTlsSettings { annotation: one.1.annotation.clone(), winner });
        }
    }
    let Some(chosen) = chosen else { return default(view, options, tls) };
    if let HostTls::Absent = tls {
        let annotation = chosen.1.annotation.clone();
        let why = "the host has no certificate, so there are no handshakes to judge";
        say(chosen, Problem::IneffectiveTlsSetting { annotation, why });
        return None;
    }
    let key = key(chosen);
    let policy = match policy::accepted(view, &key) {
        Ok(policy) => policy.tls.clone(),
        Err(wish) => {
            let why = why_unusable(view, &key, &wish);
            say(chosen, Problem::UnusableShadowPolicy { policy: key.path(), why });
            return None;
        }
    };
    // Where handshakes are refused there is nothing to compare with.
    let HostTls::Terminate(server) = tls else { return None };
    if is_known(server, &policy) {
        say(chosen, Problem::RedundantShadowPolicy { policy: key.path() });
    }
    Some(Arc::new(ShadowPolicy { name: key.path().into(), policy }))
}

/// The policy that the operator tries out on all hosts. What is wrong with it is said once, not at each host; where it
/// comes to the same as the policy in force there is nothing to be learned.
fn default(view: &mut View<'_>, options: &Options, tls: &HostTls) -> Option<Arc<ShadowPolicy>> {
    let HostTls::Terminate(server) = tls else { return None };
    let key = default_key(options)?;
    let policy = policy::accepted(view, &key).ok()?.tls.clone();
    (!is_known(server, &policy)).then(|| Arc::new(ShadowPolicy { name: key.path().into(), policy }))
}

/// What is wrong with the policy that the operator tries out on all hosts, if it cannot be tried out.
pub(super) fn unusable_default(view: &mut View<'_>, options: &Options) -> Option<Diagnostic> {
    let key = default_key(options)?;
    let wish = policy::accepted(view, &key).err()?;
    let why = why_unusable(view, &key, &wish);
    let problem = Problem::UnusableShadowPolicy { policy: key.path(), why };
    Some(Diagnostic { subject: key, field: "".into(), problem, effect: Effect::None, hosts: Vec::new() })
}

fn default_key(options: &Options) -> Option<ObjectKey> {
    let (namespace, name) = options.default_shadow_tls_policy.as_ref()?;
    Some(ObjectKey::new(Kind::TlsPolicy, namespace, name))
}

fn why_unusable(view: &mut View<'_>, key: &ObjectKey, wish: &Wish) -> &'static str {
    match wish {
        Wish::Missing => match Absent::find(view, key) {
            Absent::Elsewhere { .. } | Absent::NotOwn => "it exists only in another namespace",
            Absent::Refused => "its document is not valid",
            Absent::ClassGone | Absent::NotNamed | Absent::Nowhere => "it does not exist",
        },
        Wish::Accepted(_) | Wish::Overridden(_) | Wish::Refused { .. } => "it is not accepted",
    }
}

fn key((claims, written): &(&Claims, &Written<String>)) -> ObjectKey {
    ObjectKey::new(Kind::TlsPolicy, &claims.ingress.namespace, &written.value)
}

/// Whether a handshake comes to the same under the policy as it does already. Tickets come after it.
fn is_known(server: &ServerTls, policy: &Policy) -> bool {
    let judged = |policy: &Policy| Settings { tickets: true, ..policy.settings().clone() };
    judged(server.policy()) == judged(policy)
}
