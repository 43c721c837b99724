//! Whether the policy of a host lets in what the operator's default keeps out.
//!
//! `policy in force × --default-tls-policy ──▶ what is laxer`
//!
//! Nothing is changed by it: an operator who leaves policies to the teams is to know where they went below the default.
//! What no team may go below is `--min-tls-version`, which [`policy`](super::policy) holds.

use super::claims::Claims;
use super::policy::{self, Asked, Fate, HostPolicy};
use super::terminate::{self, Terminated, annotation_field};
use super::view::View;
use super::{Diagnostic, Effect, HeldPolicy, Options, Problem};
use crate::api::tls_policy::{FindingAction, Hsts};
use crate::snapshot::{HostName, HostTls};
use crate::tls::policy::Settings;

/// Names a host whose policy is laxer than the operator's default.
pub(super) fn report_laxer(
    view: &mut View<'_>,
    options: &Options,
    host: &HostName,
    oldest: &Claims,
    asked: &Asked,
    answer: &Terminated,
    report: &mut Vec<Diagnostic>,
) {
    let (Some((namespace, name)), HostTls::Terminate(_), Some(in_force)) =
        (&options.default_tls_policy, &answer.tls, &answer.policy.in_force)
    else {
        return;
    };
    // Where the default is broken its own findings say so, and there is nothing to compare with.
    let Ok(default) = policy::general(view, options) else { return };
    if *default.source == **in_force || host.is_catch_all() {
        return;
    }
    let Ok(policy) = &view.resolve(HeldPolicy::clone(in_force)).policy else { return };
    let how = laxer(policy, &default);
    if how.is_empty() {
        return;
    }
    // An annotation is to blame if the policy without it is not laxer.
    let by_annotation = asked.overrides.iter().find(|one| matches!(one.fate, Fate::Applied(_)));
    let is_base_strict = asked.base.as_ref().is_some_and(|base| laxer(base, &default).is_empty());
    let (subject, field) = match by_annotation.filter(|_| is_base_strict) {
        Some(one) => (one.ingress.clone(), annotation_field(&one.annotation)),
        None => terminate::namer(oldest, asked),
    };
    let problem = Problem::LaxerThanDefault { default: format!("{namespace}/{name}"), how: how.join("; ") };
    terminate::add(report, host, &subject, &field, problem, Effect::None);
}

/// Each way in which a policy lets in what another keeps out.
fn laxer(policy: &HostPolicy, default: &HostPolicy) -> Vec<String> {
    let (ours, others) = (policy.tls.settings(), default.tls.settings());
    let mut how = Vec::new();
    if ours.min < others.min {
        how.push(format!("it allows {}, and the default begins at {}", ours.min.nginx(), others.min.nginx()));
    }
    // Suites of a version that the default does not have at all come with the version.
    let is_known = |version| (others.min..=others.max).contains(&version);
    let suites = ours.suites.iter().filter(|suite| is_known(suite.version()) && !others.suites.contains(suite));
    named(&mut how, "the cipher suites", suites.map(|suite| suite.openssl()));
    named(
        &mut how,
        "the groups",
        ours.groups.iter().filter(|group| !others.groups.contains(group)).map(|group| group.name()),
    );
    how.extend(laxer_client_auth(ours, others));
    if ours.tickets && !others.tickets && ours.client_auth.is_none() {
        how.push("it gives session tickets".to_owned());
    }
    how.extend(laxer_hsts(policy.source.spec.hsts.as_ref(), default.source.spec.hsts.as_ref()));
    let strictness = |action: Option<&FindingAction>| match action {
        Some(FindingAction::Reject) => 2,
        Some(FindingAction::HoldLastGood) => 1,
        Some(FindingAction::Serve) | None => 0,
    };
    let findings = default
        .actions
        .iter()
        .filter(|(code, action)| strictness(policy.actions.get(*code)) < strictness(Some(*action)));
    named(&mut how, "certificates with the findings", findings.map(|(code, _)| code.as_str()));
    how
}

fn named<'a>(how: &mut Vec<String>, what: &str, names: impl Iterator<Item = &'a str>) {
    const SHOWN: usize = 5;
    let names: Vec<&str> = names.collect();
    let more = if names.len() > SHOWN { format!(" and {} more", names.len() - SHOWN) } else { String::new() };
    if !names.is_empty() {
        how.push(format!("it allows {what} {}{more}", names[..names.len().min(SHOWN)].join(", ")));
    }
}

fn laxer_client_auth(ours: &Settings, others: &Settings) -> Option<String> {
    let default = others.client_auth.as_ref()?;
    let what = match &ours.client_auth {
        None => "it asks clients for no certificates",
        Some(auth) if default.required && !auth.required => "it lets in clients without a certificate",
        Some(auth) if auth.authorities != default.authorities => "it takes clients' certificates of other authorities",
        Some(auth) if default.revoked.is_some() && auth.revoked.is_none() => "it looks up no revocation lists",
        Some(_) => return None,
    };
    Some(what.to_owned())
}

fn laxer_hsts(ours: Option<&Hsts>, default: Option<&Hsts>) -> Option<String> {
    let default = default.filter(|default| default.max_age > 0)?;
    let what = match ours {
        None => "it sends no Strict-Transport-Security".to_owned(),
        Some(ours) if ours.max_age < default.max_age => {
            format!("its Strict-Transport-Security lasts {} s, and the default's {} s", ours.max_age, default.max_age)
        }
        Some(ours) if default.include_sub_domains && !ours.include_sub_domains => {
            "its Strict-Transport-Security leaves out subdomains".to_owned()
        }
        Some(_) => return None,
    };
    Some(what)
}
