//! How many files the process may have open, and who gets how many of them.
//!
//! `soft limit ──raised──▶ hard limit ──Shares──▶ client connections, the admin port; the rest is kept`
//!
//! Container runtimes leave a soft limit of 1,024 for programs that use `select`; this one does not. A process without a
//! file left cannot accept, connect, read a certificate or answer a probe, so connections are bounded before that.

use std::io;

use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::places::Places;

/// The limit on open files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// As it is now.
    pub files: usize,
    /// As it was before.
    pub before: usize,
}

/// Raises the soft limit to the hard one. Where that is not allowed, it stays.
pub fn raise() -> Limit {
    let count = |limit: Option<u64>| limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    // The kernel takes no more than this of "unlimited", and a file costs nothing before it is open.
    let wanted = maximum.unwrap_or(1 << 20);
    let raised = current.is_some_and(|current| current < wanted)
        && setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum }).is_ok();
    Limit { files: count(if raised { Some(wanted) } else { current }), before: count(current) }
}

/// Whether an error says that no file is left, to this process or to the machine.
pub fn are_used_up(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE))
}

/// Who gets how many files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shares {
    /// Client connections per worker.
    pub connections: usize,
    /// Connections to the admin port.
    pub admin: usize,
    /// The same where more are asked for.
    pub most_connections: usize,
}

/// The most connections per worker that nobody has asked for, however many files there are: for the sake of memory.
const MOST_CONNECTIONS: usize = 16_384;

/// Kept for listeners, event queues, watches of the cluster, the webhook, and files that are read and written.
const RESERVE: usize = 256;

impl Shares {
    /// Divides the files. Half of what is not kept is for clients, since each of their requests may need a connection to an
    /// endpoint; those who are leaving count as well.
    pub fn of(files: usize, workers: usize) -> Self {
        let admin = (files / 16).clamp(16, 256);
        let kept = RESERVE.min(files / 4) + Places::most_members(admin);
        let clients = files.saturating_sub(kept) / 2 / workers.max(1);
        let fits = clients.saturating_sub(clients / 8).max(8);
        Self { connections: fits.min(MOST_CONNECTIONS), admin, most_connections: fits }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_shares_together_fit() {
        for files in [256, 1_024, 4_096, 20_000, 65_536, 1 << 20, usize::MAX] {
            for workers in [1, 2, 8, 64] {
                let Shares { connections, admin, most_connections } = Shares::of(files, workers);
                let clients = Places::most_members(most_connections).saturating_mul(workers);
                let used = clients.saturating_mul(2).saturating_add(Places::most_members(admin));
                // Below that, eight connections per worker are the least.
                if most_connections > 8 {
                    assert!(used + RESERVE.min(files / 4) <= files, "{files} {workers}: {used}");
                }
                assert_eq!(connections, most_connections.min(MOST_CONNECTIONS), "{files} {workers}");
            }
        }
        let usual = Shares::of(1 << 20, 8);
        assert!(usual.connections == MOST_CONNECTIONS && usual.admin == 256, "{usual:?}");
        let small = Shares::of(1_024, 2);
        assert!((100..250).contains(&small.connections) && small.admin == 64, "{small:?}");
    }

    #[test]
    fn the_limit_is_the_hard_one_from_then_on() {
        let limit = raise();
        let hard = getrlimit(Resource::Nofile).maximum.map_or(1 << 20, |hard| usize::try_from(hard).unwrap());
        assert!(limit.files >= hard && limit.before <= limit.files);
        assert_eq!(raise(), Limit { before: limit.files, ..limit });
    }

    #[test]
    fn only_a_lack_of_files_is_one() {
        for (error, expected) in [(Errno::MFILE, true), (Errno::NFILE, true), (Errno::CONNABORTED, false)] {
            assert_eq!(are_used_up(&error.into()), expected);
        }
        assert!(!are_used_up(&io::Error::other("x")));
    }
}
