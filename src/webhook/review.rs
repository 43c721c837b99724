//! An AdmissionReview in, an AdmissionReview out (`admission.k8s.io/v1`).
//!
//! `bytes ──Head──▶ which object, which operation ──Objects<T>──▶ what it was, what it is to be`
//!
//! The head is read first and passes over the objects, so a review that is none of our business costs one walk over its
//! bytes and no memory. Objects are then read as what they are; nothing is ever held as a tree of JSON, which would be
//! many times as large as the text.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::networking::v1::Ingress;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::core::admission::{AdmissionResponse, META_API_VERSION_V1, META_KIND, Operation};
use kube::core::{GroupVersionKind, Status};
use rustls::pki_types::UnixTime;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::words;
use crate::api::tls_policy::TlsPolicy;
use crate::compile::{Object, SecretObject};

/// Why bytes are no review. Quotes nothing of them.
#[derive(thiserror::Error, Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadReview {
    /// No JSON, or of another form.
    #[error("it is not an AdmissionReview with a request")]
    Form,
    /// Another kind, or a version that we do not speak.
    #[error("it is not an AdmissionReview of admission.k8s.io/v1")]
    Version,
    /// The request cannot be told from others.
    #[error("its uid is missing or too long")]
    Uid,
}

/// What is asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An Ingress.
    Ingress,
    /// A Secret.
    Secret,
    /// A TlsPolicy.
    TlsPolicy,
    /// Something that is not judged.
    Other,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::Ingress, Self::Secret, Self::TlsPolicy, Self::Other];

    /// The word in metrics.
    pub fn code(self) -> &'static str {
        match self {
            Self::Ingress => "ingress",
            Self::Secret => "secret",
            Self::TlsPolicy => "tlspolicy",
            Self::Other => "other",
        }
    }
}

/// A review, but for its objects.
#[derive(Clone, Debug)]
pub struct Head {
    /// What the answer has to repeat.
    pub uid: String,
    /// What it is about.
    pub kind: Kind,
    /// What is done to the object.
    pub operation: Operation,
    /// Of the object.
    pub namespace: String,
    /// Of the object; empty if the API server is still to choose it.
    pub name: String,
    /// Only a part of the object is written, such as its status.
    pub is_partial: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ReviewHead {
    api_version: String,
    kind: String,
    request: RequestHead,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RequestHead {
    uid: String,
    kind: GroupVersionKind,
    #[serde(default)]
    sub_resource: Option<String>,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    namespace: Option<String>,
    operation: Operation,
}

#[derive(Deserialize)]
#[serde(bound = "T: DeserializeOwned")]
struct Objects<T> {
    request: RequestObjects<T>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", bound = "T: DeserializeOwned")]
struct RequestObjects<T> {
    #[serde(default = "none")]
    object: Option<T>,
    #[serde(default = "none")]
    old_object: Option<T>,
}

fn none<T>() -> Option<T> {
    None
}

/// The longest uid that is repeated; those of Kubernetes have 36 characters.
const LONGEST_UID: usize = 256;

impl Head {
    /// Reads what a review is about.
    pub fn parse(body: &[u8]) -> Result<Self, BadReview> {
        let ReviewHead { api_version, kind, request } = serde_json::from_slice(body).map_err(|_| BadReview::Form)?;
        if (api_version.as_str(), kind.as_str()) != (META_API_VERSION_V1, META_KIND) {
            return Err(BadReview::Version);
        }
        if request.uid.is_empty() || request.uid.len() > LONGEST_UID {
            return Err(BadReview::Uid);
        }
        let GroupVersionKind { group, version, kind } = &request.kind;
        let kind = match (group.as_str(), version.as_str(), kind.as_str()) {
            ("networking.k8s.io", "v1", "Ingress") => Kind::Ingress,
            ("", "v1", "Secret") => Kind::Secret,
            ("handfast.dev", "v1alpha1", "TlsPolicy") => Kind::TlsPolicy,
            _ => Kind::Other,
        };
        Ok(Self {
            uid: request.uid,
            kind,
            operation: request.operation,
            namespace: request.namespace.unwrap_or_default(),
            name: request.name.unwrap_or_default(),
            is_partial: request.sub_resource.is_some_and(|part| !part.is_empty()),
        })
    }

    /// The object before and afterwards, as far as there is one, completed by what the request says about it. `None` if
    /// they are not of the form of their kind.
    pub fn objects(&self, body: &[u8], now: UnixTime) -> Option<[Option<Object>; 2]> {
        match self.kind {
            Kind::Ingress => self.pair(body, |mut ingress: Ingress| {
                self.complete(&mut ingress.metadata);
                // The API server has set it already, unless somebody asks who is none.
                let created = ingress.metadata.creation_timestamp.is_some();
                if !created && let Ok(seconds) = i64::try_from(now.as_secs()) {
                    // Without a time it would be the oldest of all, and win.
                    let time = k8s_openapi::jiff::Timestamp::from_second(seconds).ok();
                    ingress.metadata.creation_timestamp = time.map(Time);
                }
                Object::Ingress(Arc::new(ingress))
            }),
            Kind::Secret => self.pair(body, |mut secret: Secret| {
                self.complete(&mut secret.metadata);
                Object::Secret(SecretObject(Arc::new(secret)))
            }),
            Kind::TlsPolicy => self.pair(body, |mut policy: TlsPolicy| {
                self.complete(&mut policy.metadata);
                Object::TlsPolicy(Arc::new(policy))
            }),
            Kind::Other => Some([None, None]),
        }
    }

    fn pair<T: DeserializeOwned>(&self, body: &[u8], object: impl Fn(T) -> Object) -> Option<[Option<Object>; 2]> {
        let Objects { request } = serde_json::from_slice::<Objects<T>>(body).ok()?;
        Some([request.old_object.map(&object), request.object.map(&object)])
    }

    fn complete(&self, metadata: &mut ObjectMeta) {
        let fill = |field: &mut Option<String>, text: &str| {
            if field.as_ref().is_none_or(String::is_empty) && !text.is_empty() {
                *field = Some(text.to_owned());
            }
        };
        fill(&mut metadata.namespace, &self.namespace);
        fill(&mut metadata.name, &self.name);
    }
}

/// What is answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// Lines for whoever writes the object.
    pub warnings: Vec<String>,
    /// Why it is not let in; `None` if it is.
    pub denial: Option<String>,
}

impl Answer {
    /// The review that goes back.
    pub fn into_review(self, uid: &str) -> Vec<u8> {
        let mut response = AdmissionResponse::invalid("");
        response.uid = uid.to_owned();
        response.allowed = self.denial.is_none();
        response.result = match &self.denial {
            Some(message) => Status::failure(message, "Invalid").with_code(422),
            None => Status::default(),
        };
        response.warnings = (!self.warnings.is_empty()).then(|| words::fit(self.warnings));
        // Nothing in it can fail to be JSON.
        serde_json::to_vec(&response.into_review()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(text: &str) -> Result<Head, BadReview> {
        Head::parse(text.as_bytes())
    }

    #[test]
    fn what_is_no_review_of_this_version_is_told() {
        let review = |version: &str, uid: &str| {
            format!(
                r#"{{"apiVersion":"{version}","kind":"AdmissionReview","request":{{"uid":"{uid}","operation":"CREATE",
                "kind":{{"group":"","version":"v1","kind":"Secret"}},"object":{{"deep":[1,2]}}}}}}"#
            )
        };
        assert_eq!(head("").unwrap_err(), BadReview::Form);
        assert_eq!(head("{}").unwrap_err(), BadReview::Form);
        assert_eq!(head(&"[".repeat(100_000)).unwrap_err(), BadReview::Form);
        assert_eq!(head(&review("admission.k8s.io/v1beta1", "u")).unwrap_err(), BadReview::Version);
        assert_eq!(head(&review("admission.k8s.io/v1", "")).unwrap_err(), BadReview::Uid);
        assert_eq!(head(&review("admission.k8s.io/v1", &"u".repeat(257))).unwrap_err(), BadReview::Uid);
        let head = head(&review("admission.k8s.io/v1", "u")).unwrap();
        assert_eq!((head.kind, head.operation, head.is_partial), (Kind::Secret, Operation::Create, false));
    }

    #[test]
    fn an_answer_repeats_the_uid_and_a_denial_is_invalid() {
        let json = |answer: Answer| serde_json::from_slice::<serde_json::Value>(&answer.into_review("7")).unwrap();
        let allowed = json(Answer::default());
        assert_eq!(allowed["kind"], "AdmissionReview");
        assert_eq!(allowed["apiVersion"], "admission.k8s.io/v1");
        assert_eq!((&allowed["response"]["uid"], &allowed["response"]["allowed"]), (&"7".into(), &true.into()));
        assert_eq!(allowed["response"].get("warnings"), None);
        let denied = json(Answer { warnings: vec!["w".into()], denial: Some("no".into()) });
        let response = &denied["response"];
        assert_eq!((&response["allowed"], &response["warnings"][0]), (&false.into(), &"w".into()));
        assert_eq!(
            (&response["status"]["code"], &response["status"]["reason"], &response["status"]["message"]),
            (&422.into(), &"Invalid".into(), &"no".into())
        );
    }
}
