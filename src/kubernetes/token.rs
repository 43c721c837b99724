//! The token of a service account, read from its file for each request.
//!
//! kubelets put a new token into the file long before the old one expires, and operators do when one was revoked. Until it
//! is taken up nothing can be read, so it is not kept: requests are rare, and the file is in memory.

use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use http::Request;
use http::header::{AUTHORIZATION, HeaderValue};
use kube::config::AuthInfo;
use tower::{BoxError, Layer, Service};

/// A layer that adds the token to requests.
#[derive(Clone)]
pub(super) struct TokenFile {
    path: Arc<Path>,
    /// The last that could be read: the file may be away for a moment, or for good after the start.
    last: Arc<Mutex<HeaderValue>>,
}

/// The token is not one.
#[derive(thiserror::Error, Debug)]
pub(super) enum TokenError {
    #[error("cannot read the token in {path}")]
    Read { path: String, source: std::io::Error },
    #[error("{path} contains no token: one line of text is expected")]
    Invalid { path: String },
}

impl TokenFile {
    /// The file that is named, if that is how one is to say who one is.
    pub(super) fn of(user: &AuthInfo) -> Result<Option<Self>, TokenError> {
        let others = [user.auth_provider.is_some(), user.username.is_some(), user.token.is_some()];
        let Some(path) = user.token_file.as_deref().filter(|_| !others.contains(&true)) else { return Ok(None) };
        let path: Arc<Path> = Path::new(path).into();
        let last = Arc::new(Mutex::new(read(&path)?));
        Ok(Some(Self { path, last }))
    }

    async fn header(&self) -> HeaderValue {
        let path = self.path.clone();
        // The file system may hang, and others run on this thread.
        let found = tokio::task::spawn_blocking(move || read(&path)).await;
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Ok(Ok(found)) = found {
            *last = found;
        }
        last.clone()
    }
}

fn read(path: &Path) -> Result<HeaderValue, TokenError> {
    let name = || path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|source| TokenError::Read { path: name(), source })?;
    let token = text.trim();
    let value = HeaderValue::try_from(format!("Bearer {token}")).ok().filter(|_| !token.is_empty());
    let mut value = value.ok_or_else(|| TokenError::Invalid { path: name() })?;
    value.set_sensitive(true);
    Ok(value)
}

impl<S> Layer<S> for TokenFile {
    type Service = WithToken<S>;

    fn layer(&self, inner: S) -> WithToken<S> {
        WithToken { file: self.clone(), inner }
    }
}

/// A service whose requests have a token.
#[derive(Clone)]
pub(super) struct WithToken<S> {
    file: TokenFile,
    inner: S,
}

impl<S, B> Service<Request<B>> for WithToken<S>
where
    S: Service<Request<B>, Error = BoxError> + Clone + Send + 'static,
    S::Future: Send,
    B: Send + 'static,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let file = self.file.clone();
        // The one that was asked whether it is ready goes; the next call asks the other.
        let next = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, next);
        Box::pin(async move {
            request.headers_mut().insert(AUTHORIZATION, file.header().await);
            inner.call(request).await
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Response;
    use tower::{ServiceBuilder, ServiceExt, service_fn};

    fn user(path: &Path) -> AuthInfo {
        AuthInfo { token_file: Some(path.display().to_string()), ..AuthInfo::default() }
    }

    #[tokio::test]
    async fn each_request_has_the_token_of_its_time_and_the_last_one_while_there_is_none() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("token");
        std::fs::write(&path, "first\n").unwrap();
        let echo = service_fn(|request: Request<()>| async move {
            let value = request.headers()[AUTHORIZATION].clone();
            assert!(value.is_sensitive());
            Ok::<_, BoxError>(Response::new(value))
        });
        let service = ServiceBuilder::new().layer(TokenFile::of(&user(&path)).unwrap().unwrap()).service(echo);
        let sent = || async { service.clone().oneshot(Request::new(())).await.unwrap().into_body() };
        assert_eq!(sent().await, "Bearer first");
        std::fs::write(&path, "second").unwrap();
        assert_eq!(sent().await, "Bearer second");
        std::fs::remove_file(&path).unwrap();
        assert_eq!(sent().await, "Bearer second");
        std::fs::write(&path, "").unwrap();
        assert_eq!(sent().await, "Bearer second");
    }

    #[test]
    fn a_file_without_a_token_is_said_at_the_start_and_one_that_does_not_count_is_not_read() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("token");
        assert!(matches!(TokenFile::of(&user(&path)), Err(TokenError::Read { .. })));
        std::fs::write(&path, "two\nlines").unwrap();
        assert!(matches!(TokenFile::of(&user(&path)), Err(TokenError::Invalid { .. })));
        let other = AuthInfo { token: Some("given".to_owned().into()), ..user(&path) };
        assert!(TokenFile::of(&other).unwrap().is_none());
        assert!(TokenFile::of(&AuthInfo::default()).unwrap().is_none());
    }
}
