//! Keeps one client from waiting for ever, and from asking for ever.
//!
//! `request ──pace──▶ inner service ──patience──▶ the response's head ──patience──▶ each part of its body`
//!
//! A list that vanishes in the network, whole or in its middle, would hang until somebody restarts the process (a watch may
//! be silent, and whoever reads it knows for how long). A server that ends each
//! watch at once would be asked forty times a second: the watch machinery backs off after errors only.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep, sleep_until, timeout};
use tower::{BoxError, Layer, Service};

/// A layer for the client of one watch, or of single requests.
#[derive(Clone)]
pub struct Guard {
    /// Longest wait for the head of a response, and for each part of its body unless it is that of a watch.
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
    type Response = Response<Bounded<R>>;
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
            let patience = (!is_watch).then_some(guard.patience);
            Ok(response.map(|body| Bounded { body, patience, wait: None }))
        })
    }
}

/// A body whose parts come in time.
pub struct Bounded<R> {
    body: R,
    /// `None` if it may be silent.
    patience: Option<Duration>,
    /// For the next part.
    wait: Option<Pin<Box<Sleep>>>,
}

impl<R> Body for Bounded<R>
where
    R: Body + Unpin,
    R::Error: Into<BoxError>,
{
    type Data = R::Data;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<R::Data>, BoxError>>> {
        let this = &mut *self;
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(context) {
            this.wait = None;
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let Some(patience) = this.patience else { return Poll::Pending };
        let wait = this.wait.get_or_insert_with(|| Box::pin(sleep(patience)));
        wait.as_mut().poll(context).map(|()| Some(Err(Stalled { patience }.into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// No answer.
#[derive(thiserror::Error, Debug)]
#[error("the API server did not answer within {patience:?}")]
struct Silent {
    patience: Duration,
}

/// Half an answer.
#[derive(thiserror::Error, Debug)]
#[error("the API server did not continue its answer within {patience:?}")]
struct Stalled {
    patience: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use futures_util::{StreamExt as _, stream};
    use http_body_util::{BodyExt as _, StreamBody};
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tower::{ServiceBuilder, ServiceExt, service_fn};

    fn request(query: &str) -> Request<()> {
        Request::builder().uri(format!("/api/v1/secrets?{query}")).body(()).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_never_comes_is_an_error() {
        let guard = Guard::watch(Duration::from_secs(30), Duration::from_secs(1), || {});
        let silent = service_fn(|_: Request<()>| std::future::pending::<Result<Response<String>, BoxError>>());
        let service = ServiceBuilder::new().layer(guard).service(silent);
        let before = Instant::now();
        let Err(error) = service.oneshot(request("limit=500")).await else { unreachable!() };
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
        let ok = service_fn(|_: Request<()>| async { Ok::<_, BoxError>(Response::new(String::new())) });
        let service = ServiceBuilder::new().layer(guard).service(ok);
        let before = Instant::now();
        for _ in 0..5 {
            service.clone().oneshot(request("watch=true&timeoutSeconds=200")).await.unwrap();
            service.clone().oneshot(request("limit=500&watchful=1")).await.unwrap();
        }
        assert_eq!(before.elapsed(), Duration::from_secs(4));
        assert_eq!(started.load(Ordering::Relaxed), 5);
    }

    #[tokio::test(start_paused = true)]
    async fn a_list_that_stalls_in_its_middle_is_an_error_and_a_watch_may_be_silent() {
        let guard = Guard::watch(Duration::from_secs(30), Duration::from_secs(1), || {});
        // A part every 20 seconds, and none after the third.
        let stalling = service_fn(|_: Request<()>| async {
            let parts = stream::iter(0..3).then(|_| async {
                sleep(Duration::from_secs(20)).await;
                Ok::<_, BoxError>(Frame::data(Bytes::from_static(b"{")))
            });
            Ok::<_, BoxError>(Response::new(StreamBody::new(parts.chain(stream::pending()).boxed())))
        });
        let service = ServiceBuilder::new().layer(guard).service(stalling);
        let before = Instant::now();
        let list = service.clone().oneshot(request("limit=500")).await.unwrap();
        let error = list.into_body().collect().await.unwrap_err();
        assert_eq!(error.to_string(), "the API server did not continue its answer within 30s");
        assert_eq!(before.elapsed(), Duration::from_secs(3 * 20 + 30));
        let watch = service.oneshot(request("watch=true")).await.unwrap();
        let silence = timeout(Duration::from_secs(3600), watch.into_body().collect()).await;
        assert!(silence.is_err(), "the end of the watch");
    }
}
