//! Keeps one client from waiting for ever, and from asking for ever.
//!
//! `request ──pace──▶ inner service ──patience──▶ the response's head`
//!
//! A list that vanishes in the network would hang until somebody restarts the process, and a server that ends each
//! watch at once would be asked forty times a second: the watch machinery backs off after errors only.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response};
use tokio::time::{Instant, sleep_until, timeout};
use tower::{BoxError, Layer, Service};

/// A layer for the client of one watch, or of single requests.
#[derive(Clone)]
pub struct Guard {
    /// Longest wait for the head of a response.
    patience: Duration,
    /// Shortest time between the starts of two watches.
    pace: Duration,
    next_start: Arc<Mutex<Option<Instant>>>,
    /// Told when the server has accepted a watch.
    started: Arc<dyn Fn() + Send + Sync>,
}

impl Guard {
    /// For single requests.
    pub(super) fn patient(patience: Duration) -> Self {
        Self { patience, pace: Duration::ZERO, next_start: Arc::default(), started: Arc::new(|| {}) }
    }

    /// For one watch. `started` hears of each time that the server accepts it.
    pub fn watch(patience: Duration, pace: Duration, started: impl Fn() + Send + Sync + 'static) -> Self {
        Self { patience, pace, next_start: Arc::default(), started: Arc::new(started) }
    }

    /// When the next watch may start; takes the place.
    fn slot(&self) -> Instant {
        let mut next = self.next_start.lock().unwrap_or_else(PoisonError::into_inner);
        let at = next.map_or_else(Instant::now, |next| next.max(Instant::now()));
        *next = Some(at + self.pace);
        at
    }
}

impl<S> Layer<S> for Guard {
    type Service = Guarded<S>;

    fn layer(&self, inner: S) -> Guarded<S> {
        Guarded { guard: self.clone(), inner }
    }
}

/// A service with a guard before it.
#[derive(Clone)]
pub struct Guarded<S> {
    guard: Guard,
    inner: S,
}

impl<S, B, R> Service<Request<B>> for Guarded<S>
where
    S: Service<Request<B>, Response = Response<R>> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
    B: Send + 'static,
{
    type Response = Response<R>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let is_watch = request
            .uri()
            .query()
            .is_some_and(|query| query.split('&').any(|parameter| matches!(parameter, "watch=true" | "watch=1")));
        let guard = self.guard.clone();
        // The one that was asked whether it is ready goes; the next call asks the other.
        let next = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, next);
        Box::pin(async move {
            if is_watch && !guard.pace.is_zero() {
                sleep_until(guard.slot()).await;
            }
            let response = timeout(guard.patience, inner.call(request)).await;
            let response = response.map_err(|_| Silent { patience: guard.patience })?.map_err(Into::into)?;
            if is_watch && response.status().is_success() {
                (guard.started)();
            }
            Ok(response)
        })
    }
}

/// No answer.
#[derive(thiserror::Error, Debug)]
#[error("the API server did not answer within {patience:?}")]
struct Silent {
    patience: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tower::{ServiceBuilder, ServiceExt, service_fn};

    fn request(query: &str) -> Request<()> {
        Request::builder().uri(format!("/api/v1/secrets?{query}")).body(()).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_never_comes_is_an_error() {
        let guard = Guard::watch(Duration::from_secs(30), Duration::from_secs(1), || {});
        let silent = service_fn(|_: Request<()>| std::future::pending::<Result<Response<()>, BoxError>>());
        let service = ServiceBuilder::new().layer(guard).service(silent);
        let before = Instant::now();
        let error = service.oneshot(request("limit=500")).await.unwrap_err();
        assert_eq!(error.to_string(), "the API server did not answer within 30s");
        assert_eq!(before.elapsed(), Duration::from_secs(30));
    }

    #[tokio::test(start_paused = true)]
    async fn watches_start_one_pace_apart_and_lists_do_not_wait() {
        let started = Arc::new(AtomicUsize::new(0));
        let count = started.clone();
        let guard = Guard::watch(Duration::from_secs(30), Duration::from_secs(1), move || {
            count.fetch_add(1, Ordering::Relaxed);
        });
        let ok = service_fn(|_: Request<()>| async { Ok::<_, BoxError>(Response::new(())) });
        let service = ServiceBuilder::new().layer(guard).service(ok);
        let before = Instant::now();
        for _ in 0..5 {
            service.clone().oneshot(request("watch=true&timeoutSeconds=200")).await.unwrap();
            service.clone().oneshot(request("limit=500&watchful=1")).await.unwrap();
        }
        assert_eq!(before.elapsed(), Duration::from_secs(4));
        assert_eq!(started.load(Ordering::Relaxed), 5);
    }
}
