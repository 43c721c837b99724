//! A runtime on a thread of its own, for clients of the API server in tests that are plain functions.

use std::sync::LazyLock;
use std::sync::mpsc::channel;

use tokio::runtime::{Builder, Handle};

static HANDLE: LazyLock<Handle> = LazyLock::new(|| {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let handle = runtime.handle().clone();
    std::thread::Builder::new()
        .name("runtime".into())
        .spawn(move || runtime.block_on(std::future::pending::<()>()))
        .unwrap();
    handle
});

/// Where clients live: their connections are driven by this runtime.
pub fn handle() -> &'static Handle {
    &HANDLE
}

/// Runs a future to its end, from any thread that is not the runtime's.
pub fn block_on<F>(future: F) -> F::Output
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    let (done, outcome) = channel();
    HANDLE.spawn(async move {
        let _ = done.send(future.await);
    });
    outcome.recv().expect("the future panicked")
}
