//! An API server in memory, as far as our single requests go: for tests.
//!
//! It holds objects by their path, counts resource versions, refuses what is outdated, and knows who applied a status
//! last. Answers can be replaced by a script.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};

use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};

/// What a request gets in place of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// This status.
    Status(u16),
    /// Nothing, ever.
    Silence,
    /// It is done, and nobody hears of it.
    AnswerLost,
}

/// One request, as it came.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) body: Value,
}

type Script = Box<dyn FnMut(&Asked) -> Option<Fault> + Send>;

#[derive(Default)]
pub(crate) struct State {
    /// By path.
    pub(crate) objects: BTreeMap<String, Value>,
    pub(crate) asked: Vec<Asked>,
    /// Who applied the status of an object.
    managers: BTreeMap<String, String>,
    version: u64,
    script: Option<Script>,
}

/// The server.
#[derive(Clone, Default)]
pub(crate) struct Fake(Arc<Mutex<State>>);

impl Fake {
    pub(crate) fn client(&self) -> Client {
        Client::new(self.clone(), "default")
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    pub(crate) fn script(&self, script: impl FnMut(&Asked) -> Option<Fault> + Send + 'static) {
        self.state().script = Some(Box::new(script));
    }

    /// Puts an object there, whatever was there.
    pub(crate) fn put(&self, path: &str, object: Value) {
        let mut state = self.state();
        state.store(path, object);
    }

    /// Says that another has written the status of an object.
    pub(crate) fn managed_by(&self, path: &str, manager: &str) {
        self.state().managers.insert(path.to_owned(), manager.to_owned());
    }

    /// What is at a path.
    pub(crate) fn object(&self, path: &str) -> Option<Value> {
        self.state().objects.get(path).cloned()
    }

    /// How many requests there were with this method.
    pub(crate) fn count(&self, method: &Method) -> usize {
        self.state().asked.iter().filter(|asked| asked.method == *method).count()
    }
}

impl State {
    fn store(&mut self, path: &str, mut object: Value) -> Value {
        self.version += 1;
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        self.objects.insert(path.to_owned(), object.clone());
        object
    }

    fn answer(&mut self, asked: &Asked) -> Result<Value, (u16, &'static str)> {
        let path = asked.path.trim_end_matches("/status");
        let there = self.objects.get(path).cloned();
        match asked.method {
            Method::GET => there.ok_or((404, "NotFound")),
            Method::POST => {
                let name = asked.body["metadata"]["name"].as_str().unwrap_or_default();
                let path = format!("{path}/{name}");
                if self.objects.contains_key(&path) {
                    return Err((409, "AlreadyExists"));
                }
                Ok(self.store(&path, asked.body.clone()))
            }
            Method::PUT => {
                let there = there.ok_or((404, "NotFound"))?;
                let version = &asked.body["metadata"]["resourceVersion"];
                if version.is_string() && *version != there["metadata"]["resourceVersion"] {
                    return Err((409, "Conflict"));
                }
                Ok(self.store(path, asked.body.clone()))
            }
            Method::PATCH if asked.query.contains("fieldManager=") => {
                let mut object = there.ok_or((404, "NotFound"))?;
                let is_others = self.managers.get(path).is_some_and(|manager| manager != "handfast");
                let uid = &asked.body["metadata"]["uid"];
                if uid.is_string() && *uid != object["metadata"]["uid"] {
                    return Err((409, "Conflict"));
                }
                if is_others && object["status"] != asked.body["status"] && !asked.query.contains("force=true") {
                    return Err((409, "FieldManagerConflict"));
                }
                object["status"] = asked.body["status"].clone();
                self.managers.insert(path.to_owned(), "handfast".to_owned());
                Ok(self.store(path, object))
            }
            Method::PATCH => {
                let mut object = there.ok_or((404, "NotFound"))?;
                for (field, value) in asked.body.as_object().into_iter().flatten() {
                    object[field] = value.clone();
                }
                Ok(self.store(path, object))
            }
            _ => Err((405, "MethodNotAllowed")),
        }
    }
}

impl tower::Service<Request<Body>> for Fake {
    type Response = Response<Body>;
    type Error = std::convert::Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let fake = self.clone();
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let bytes = body.collect().await.unwrap().to_bytes();
            let asked = Asked {
                method: parts.method,
                path: parts.uri.path().to_owned(),
                query: parts.uri.query().unwrap_or_default().to_owned(),
                body: serde_json::from_slice(&bytes).unwrap_or(Value::Null),
            };
            let answer = {
                let mut state = fake.state();
                state.asked.push(asked.clone());
                let fault = state.script.as_mut().and_then(|script| script(&asked));
                match fault {
                    Some(Fault::Status(code)) => Some(Err((code, "Scripted"))),
                    Some(Fault::Silence) => None,
                    Some(Fault::AnswerLost) => {
                        let _ = state.answer(&asked);
                        None
                    }
                    None => Some(state.answer(&asked)),
                }
            };
            let Some(answer) = answer else { return std::future::pending().await };
            let (code, value) = match answer {
                Ok(value) => (200, value),
                Err((code, reason)) => {
                    let causes = json!([{"reason": reason, "field": ".status"}]);
                    let details = json!({"causes": causes});
                    let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code,
                        "reason": reason, "message": reason, "details": details});
                    (code, status)
                }
            };
            let status = StatusCode::from_u16(code).unwrap();
            let body = Body::from(serde_json::to_vec(&value).unwrap());
            Ok(Response::builder().status(status).header("content-type", "application/json").body(body).unwrap())
        })
    }
}
