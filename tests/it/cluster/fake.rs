//! An API server that does what it is told: lists and watches, and every way to fail at them.
//!
//! A real one is in tests/e2e; this one can do what a real one does once a year.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use futures_util::stream;
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// How requests for one resource are answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Manner {
    /// As they should be.
    #[default]
    Well,
    /// Watches end as soon as they have begun.
    EndAtOnce,
    /// Not at all.
    Silent,
    /// With this status.
    Status(u16),
}

#[derive(Default)]
struct Resource {
    manner: Manner,
    objects: BTreeMap<String, Value>,
    watchers: Vec<mpsc::UnboundedSender<Bytes>>,
    /// What was told, with its version: a watch that begins later hears what came after its own.
    told: Vec<(u64, Bytes)>,
}

#[derive(Default)]
struct State {
    /// By the path of the list, with the field selector's first letters where there are two.
    resources: BTreeMap<String, Resource>,
    version: u64,
    requests: Vec<String>,
}

/// The server. It ends with the runtime.
#[derive(Clone)]
pub struct Api {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

pub const INGRESSES: &str = "/apis/networking.k8s.io/v1/ingresses";
pub const CLASSES: &str = "/apis/networking.k8s.io/v1/ingressclasses";
pub const NAMESPACES: &str = "/api/v1/namespaces";
pub const POLICIES: &str = "/apis/handfast.dev/v1alpha1/tlspolicies";
pub const SECRETS: &str = "/api/v1/secrets type=";
pub const SECRET_NAMES: &str = "/api/v1/secrets type!";
pub const SERVICES: &str = "/api/v1/services";
pub const SLICES: &str = "/apis/discovery.k8s.io/v1/endpointslices";

impl Api {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let api = Self { address: listener.local_addr().unwrap(), state: Arc::default() };
        let server = api.clone();
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let api = server.clone();
                let service = service_fn(move |request| {
                    let api = api.clone();
                    async move { api.answer(request).await }
                });
                tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(tcp), service));
            }
        });
        api
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// A kubeconfig that leads here.
    pub fn kubeconfig(&self, place: &tempfile::TempDir) -> PathBuf {
        let file = place.path().join("kubeconfig");
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "x",
            "clusters": [{"name": "x", "cluster": {"server": format!("http://{}", self.address)}}],
            "users": [{"name": "x", "user": {}}],
            "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x", "namespace": "ingress"}}],
        });
        std::fs::write(&file, config.to_string()).unwrap();
        file
    }

    /// From now on. Watches that are open end.
    pub fn manner(&self, resource: &str, manner: Manner) {
        let mut state = self.state();
        let resource = state.resources.entry(resource.to_owned()).or_default();
        resource.manner = manner;
        resource.watchers.clear();
    }

    /// Adds or changes an object, and tells the watchers.
    pub fn put(&self, resource: &str, object: Value) {
        self.change(resource, object, true);
    }

    /// Adds or changes an object while nobody looks.
    pub fn put_unseen(&self, resource: &str, object: Value) {
        self.change(resource, object, false);
    }

    fn change(&self, resource: &str, mut object: Value, tell: bool) {
        let mut state = self.state();
        state.version += 1;
        let version = state.version;
        object["metadata"]["resourceVersion"] = json!(version.to_string());
        let resource = state.resources.entry(resource.to_owned()).or_default();
        let before = resource.objects.insert(name(&object), object.clone());
        let kind = if before.is_some() { "MODIFIED" } else { "ADDED" };
        if tell {
            resource.tell(version, kind, &object);
        }
    }

    /// Removes an object, and tells the watchers.
    pub fn remove(&self, resource: &str, name: &str) {
        let mut state = self.state();
        state.version += 1;
        let version = state.version;
        let resource = state.resources.get_mut(resource).unwrap();
        let mut object = resource.objects.remove(name).unwrap();
        object["metadata"]["resourceVersion"] = json!(version.to_string());
        resource.tell(version, "DELETED", &object);
    }

    /// Removes an object while nobody looks.
    pub fn remove_unseen(&self, resource: &str, name: &str) {
        self.state().resources.get_mut(resource).unwrap().objects.remove(name).unwrap();
    }

    /// Tells the watchers that the server's memory does not reach back to where they began.
    pub fn expire(&self, resource: &str) {
        let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "reason": "Expired", "message": "too old", "code": 410});
        let mut state = self.state();
        state.version += 1;
        let version = state.version;
        let resource = state.resources.get_mut(resource).unwrap();
        resource.tell(version, "ERROR", &status);
        resource.watchers.clear();
    }

    /// How often this has been asked.
    pub fn requests(&self, part: &str) -> usize {
        self.state().requests.iter().filter(|request| request.contains(part)).count()
    }

    /// How many watches are open.
    pub fn watches(&self, resource: &str) -> usize {
        self.state().resources.get(resource).map_or(0, |resource| resource.watchers.len())
    }

    async fn answer(&self, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
        let uri = request.uri();
        let query = uri.query().unwrap_or_default().to_owned();
        let kinds = match uri.path().ends_with("/secrets") {
            true if query.contains("type%21%3D") => " type!",
            true if query.contains("type%3D") => " type=",
            true | false => "",
        };
        let path = format!("{}{kinds}", uri.path());
        let is_watch = query.contains("watch=true");
        let (manner, response) = {
            let mut state = self.state();
            state.requests.push(format!("{path}?{query}"));
            let version = state.version.to_string();
            if let Some((namespace, name)) = secret_of(&path) {
                let found = [SECRETS, SECRET_NAMES].iter().find_map(|resource| {
                    state.resources.get(*resource)?.objects.get(&format!("{namespace}/{name}")).cloned()
                });
                let answer = found.map_or_else(|| status(404), |object| json_response(200, &object));
                return Ok(answer);
            }
            let resource = state.resources.entry(path).or_default();
            let response = match resource.manner {
                Manner::Well | Manner::EndAtOnce if is_watch => {
                    let (sender, receiver) = mpsc::unbounded_channel();
                    if resource.manner == Manner::Well {
                        let since = query.split('&').find_map(|part| part.strip_prefix("resourceVersion="));
                        let since: u64 = since.unwrap().parse().unwrap();
                        for (_, line) in resource.told.iter().filter(|(version, _)| *version > since) {
                            sender.send(line.clone()).unwrap();
                        }
                        resource.watchers.push(sender);
                    }
                    let frames = stream::unfold(receiver, |mut receiver| async {
                        receiver.recv().await.map(|line| (Ok(Frame::data(line)), receiver))
                    });
                    Response::new(StreamBody::new(frames).boxed_unsync())
                }
                Manner::Well | Manner::EndAtOnce => {
                    let items: Vec<&Value> = resource.objects.values().collect();
                    json_response(
                        200,
                        &json!({"kind": "List", "apiVersion": "v1", "metadata": {"resourceVersion": version}, "items": items}),
                    )
                }
                Manner::Silent => status(500),
                Manner::Status(code) => status(code),
            };
            (resource.manner, response)
        };
        if manner == Manner::Silent {
            std::future::pending::<()>().await;
        }
        Ok(response)
    }
}

impl Resource {
    fn tell(&mut self, version: u64, kind: &str, object: &Value) {
        let line = Bytes::from(format!("{}\n", json!({"type": kind, "object": object})));
        self.told.push((version, line.clone()));
        self.watchers.retain(|watcher| watcher.send(line.clone()).is_ok());
    }
}

fn name(object: &Value) -> String {
    let metadata = &object["metadata"];
    match metadata["namespace"].as_str() {
        Some(namespace) => format!("{namespace}/{}", metadata["name"].as_str().unwrap()),
        None => metadata["name"].as_str().unwrap().to_owned(),
    }
}

/// Namespace and name, if a Secret is asked for.
fn secret_of(path: &str) -> Option<(&str, &str)> {
    path.strip_prefix("/api/v1/namespaces/")?.split_once("/secrets/")
}

fn status(code: u16) -> Response<Body> {
    let message = format!("the test says {code}");
    json_response(
        code,
        &json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message, "reason": "Test", "code": code}),
    )
}

fn json_response(code: u16, value: &Value) -> Response<Body> {
    let body = Full::new(Bytes::from(value.to_string())).boxed_unsync();
    Response::builder().status(code).header("content-type", "application/json").body(body).unwrap()
}
