//! Single requests, and what came of them as a word: the name of the backend, a status, or why there is no answer.

use std::fmt::Debug;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use handfast::demo::client::{Answer, ClientError, get, get_plain};

/// `GET http://HOST/PATH`: the backend's name, or the status with where it points.
pub fn http(address: SocketAddr, host: &str, path: &str) -> String {
    told(get_plain(address, host, path))
}

/// `GET https://HOST/PATH`, trusting only `root`.
pub fn https(address: SocketAddr, root: &str, host: &str, path: &str) -> String {
    told(get(address, host, path, root, &rustls::version::TLS13))
}

fn told(answer: Result<Answer, ClientError>) -> String {
    let answer = match answer {
        Ok(answer) => answer,
        Err(error) => return error.to_string(),
    };
    let header = |name: &str| answer.text.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
    match answer.status {
        200 => header("x-backend: ").unwrap_or_else(|| "200".to_owned()),
        status @ 300..400 => format!("{status} {}", header("location: ").unwrap_or_default()),
        status => status.to_string(),
    }
}

/// Waits until something is as it should be, twice in a row: what is not to be there could still be on its way.
pub fn settle<T: PartialEq + Debug>(what: &str, expected: &T, mut actual: impl FnMut() -> T) {
    const PATIENCE: Duration = Duration::from_secs(60);
    let deadline = Instant::now() + PATIENCE;
    let mut times = 0;
    while times < 2 {
        let found = actual();
        if found == *expected {
            times += 1;
        } else {
            assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}: {found:#?} instead of {expected:#?}");
            times = 0;
        }
        std::thread::park_timeout(Duration::from_millis(20));
    }
}
