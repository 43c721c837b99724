//! What this replica writes to a cluster, from the election to the order in which it stops.
//!
//! `Lease ──▶ Leadership ──▶ statuses and Events, last good`

use std::sync::mpsc::Sender;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::config::StatusArgs;
use crate::kubernetes::Cluster;
use crate::leader::{self, Election};
use crate::metrics::Metrics;
use crate::reconcile::{Message, Publication};
use crate::source::cluster::seen::Seen;
use crate::state::Holding;
use crate::state::cluster::LastGood;
use crate::status;
use crate::status::cluster::Remarks;

/// The election of this replica, and what it writes when it leads.
pub(super) struct Writing {
    /// Takes what is to be told beside diagnostics; `None` if nothing is told.
    pub(super) remarks: Option<Remarks>,
    election: Election,
    status: Option<status::cluster::Writers>,
    last_good: Option<JoinHandle<()>>,
    end: CancellationToken,
}

/// What it is made of.
pub(super) struct Parts<'a> {
    pub(super) cluster: &'a Cluster,
    pub(super) args: &'a StatusArgs,
    pub(super) seen: &'a Seen,
    pub(super) publications: &'a watch::Receiver<Option<Publication>>,
    pub(super) metrics: &'a Metrics,
    /// The Secret for what is held, what is held, and the way back to the compiler.
    pub(super) last_good: Option<(LastGood, watch::Receiver<Option<Holding>>, Sender<Message>)>,
}

impl Writing {
    /// Begins, if there is anything to write. To be called when traffic is served.
    pub(super) fn start(parts: Parts<'_>) -> Option<Self> {
        let Parts { cluster, args, seen, publications, metrics, last_good } = parts;
        if args.no_status && last_good.is_none() {
            return None;
        }
        let election = leader::start(cluster, args, metrics);
        let leadership = &election.leadership;
        let status =
            (!args.no_status).then(|| status::cluster::start(cluster, args, leadership, seen, publications, metrics));
        let end = CancellationToken::new();
        let last_good = last_good.map(|(last_good, holdings, inbox)| {
            last_good.start(holdings, Some(leadership.clone()), inbox, end.clone())
        });
        let remarks = status.as_ref().map(|writers| writers.remarks.clone());
        Some(Self { remarks, election, status, last_good, end })
    }

    /// Ends all writing, and leaves the Lease to the next replica. Takes a few seconds at most.
    pub(super) async fn finish(self) {
        if let Some(status) = self.status {
            status.finish().await;
        }
        self.end.cancel();
        if let Some(last_good) = self.last_good {
            let _ = last_good.await;
        }
        self.election.finish().await;
    }
}
