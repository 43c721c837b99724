//! One status to the API server, by server-side apply.
//!
//! `Body ──apply──▶ written │ somebody else's ──force, if we may──▶ taken over`
//!
//! What we apply is exactly what is ours; fields of others are not in it. The object's uid is in it, so that an object of
//! the same name that came later is not touched. Answers are not read beyond their success: the watch brings the object.

use k8s_openapi::api::networking::v1::Ingress;
use kube::Client;
use kube::api::{Patch, PatchParams, Request};
use kube::core::Status;
use serde::de::IgnoredAny;
use serde_json::{Value, json};

use crate::api::tls_policy::TlsPolicy;
use crate::compile::{Kind, ObjectKey};

/// Whose status it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// `status.loadBalancer` of an Ingress.
    Ingress,
    /// `status.conditions` of a TlsPolicy.
    TlsPolicy,
}

impl Target {
    /// All of them.
    pub const ALL: [Target; 2] = [Target::Ingress, Target::TlsPolicy];

    /// The word used in metrics.
    pub const fn label(self) -> &'static str {
        match self {
            Target::Ingress => "ingress",
            Target::TlsPolicy => "tls-policy",
        }
    }
}

/// What became of a status that was to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It stands there.
    Written,
    /// It stands there in place of what another writer had written.
    TakenOver,
    /// What was ours is gone from it.
    Cleared,
    /// Another writer keeps changing it, so it is left alone.
    Contested,
    /// The object does not exist any more.
    Gone,
    /// It was not written, and is tried again.
    Failed,
}

impl Outcome {
    /// All of them.
    pub const ALL: [Outcome; 6] =
        [Outcome::Written, Outcome::TakenOver, Outcome::Cleared, Outcome::Contested, Outcome::Gone, Outcome::Failed];

    /// The word used in metrics.
    pub const fn label(self) -> &'static str {
        match self {
            Outcome::Written => "written",
            Outcome::TakenOver => "taken-over",
            Outcome::Cleared => "cleared",
            Outcome::Contested => "contested",
            Outcome::Gone => "gone",
            Outcome::Failed => "failed",
        }
    }
}

/// Applies the status of an object. With `force`, fields that another writer has are taken over; returns whether they
/// were.
pub(super) async fn apply(
    client: &Client,
    manager: &str,
    key: &ObjectKey,
    uid: &str,
    status: &Value,
    force: bool,
) -> Result<bool, kube::Error> {
    let (api_version, kind) = names(key.kind);
    let body = json!({
        "apiVersion": api_version,
        "kind": kind,
        "metadata": {"name": &*key.name, "namespace": &*key.namespace, "uid": uid},
        "status": status,
    });
    match send(client, manager, key, &body, false).await {
        Err(kube::Error::Api(status)) if force && is_of_another(&status) => {
            send(client, manager, key, &body, true).await.map(|()| true)
        }
        done => done.map(|()| false),
    }
}

async fn send(client: &Client, manager: &str, key: &ObjectKey, body: &Value, force: bool) -> Result<(), kube::Error> {
    let parameters = PatchParams { force, ..PatchParams::apply(manager) };
    let path = path(key.kind, &key.namespace);
    let request = Request::new(path).patch_subresource("status", &key.name, &parameters, &Patch::Apply(body));
    let request = request.map_err(kube::Error::BuildRequest)?;
    client.request::<IgnoredAny>(request).await.map(drop)
}

/// Whether an apply was refused because another writer has the fields.
fn is_of_another(status: &Status) -> bool {
    let causes = status.details.iter().flat_map(|details| &details.causes);
    status.code == 409 && causes.into_iter().any(|cause| cause.reason == "FieldManagerConflict")
}

/// `apiVersion` and `kind`.
pub(super) fn names(kind: Kind) -> (String, &'static str) {
    use k8s_openapi::Resource as _;
    let version = match kind {
        Kind::TlsPolicy => <TlsPolicy as kube::Resource>::api_version(&()).into_owned(),
        Kind::Ingress | Kind::IngressClass => Ingress::API_VERSION.to_owned(),
        Kind::EndpointSlice => k8s_openapi::api::discovery::v1::EndpointSlice::API_VERSION.to_owned(),
        Kind::File | Kind::Other | Kind::Secret | Kind::Service => "v1".to_owned(),
    };
    (version, kind.name())
}

/// Where the objects of a kind whose status we write are.
fn path(kind: Kind, namespace: &str) -> String {
    use kube::Resource as _;
    match kind {
        Kind::TlsPolicy => TlsPolicy::url_path(&(), Some(namespace)),
        Kind::EndpointSlice
        | Kind::File
        | Kind::Ingress
        | Kind::IngressClass
        | Kind::Other
        | Kind::Secret
        | Kind::Service => Ingress::url_path(&(), Some(namespace)),
    }
}
