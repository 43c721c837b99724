//! Shell, inward: functions that return a stream of events.
//!
//! `files ──directory──▶ Events ──▶ reconcile`
//!
//! A source says what the world looks like and never what to do about it. It starts with everything there is, then
//! says [`Event::Synced`] once, then tells changes for as long as somebody listens. Trouble on the way (a file that
//! does not parse, a directory that is gone) is data for the compiler's list of diagnostics; it takes nothing away.

pub mod cluster;
pub mod directory;
pub mod manifest;

use std::any::Any;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_core::Stream;
use tokio::sync::mpsc;

use crate::compile::{Change, Held};

/// Where objects come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceConfig {
    /// Objects of a cluster.
    Cluster,
    /// Manifests in a directory.
    Directory(PathBuf),
}

/// What a source tells.
#[derive(Clone, Debug)]
pub enum Event {
    /// The set of objects changed, or what is wrong with it.
    Change(Change),
    /// Others hold this in place of what is unusable. Comes from another replica rather than from a source.
    Remember(Arc<Held>),
    /// Everything that was there at the start has been told. Comes once.
    Synced,
}

/// Why a source cannot start. Later trouble never ends a source.
#[derive(thiserror::Error, Debug)]
pub enum SourceError {
    /// The path names something else.
    #[error("the source {} is not a directory: name the directory of the manifests, not a file in it", path.display())]
    NotADirectory {
        /// As configured.
        path: PathBuf,
    },
    /// The operating system gives us no thread.
    #[error("cannot start the thread that watches {}. Is the limit on processes reached?", path.display())]
    Thread {
        /// As configured.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The directory is missing, or may not be read.
    #[error("cannot read the directory {}: create it, name another with --source, or let this user read it", path.display())]
    Unreadable {
        /// As configured.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

/// The events of a source, in order. Dropping it ends the source.
pub struct Events {
    receiver: mpsc::Receiver<Event>,
    /// Ends the source when dropped.
    _source: Box<dyn Any + Send>,
}

impl Events {
    fn new(receiver: mpsc::Receiver<Event>, source: impl Any + Send) -> Self {
        Self { receiver, _source: Box::new(source) }
    }

    /// The next event; `None` when the source is gone, which only a bug brings about. Cancel-safe.
    pub async fn next(&mut self) -> Option<Event> {
        self.receiver.recv().await
    }

    /// As [`Events::next`], for plain threads.
    pub fn blocking_next(&mut self) -> Option<Event> {
        self.receiver.blocking_recv()
    }
}

impl Stream for Events {
    type Item = Event;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Event>> {
        self.receiver.poll_recv(context)
    }
}
