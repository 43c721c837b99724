//! What the tests stand on: a control plane, a node with pods, backends, clients.
//!
//! `programs` finds or builds what is run; `trial` makes the namespaces of one test; everything else runs inside them.

pub mod ask;
pub mod backends;
pub mod control_plane;
pub mod handfast;
pub mod kubelet;
pub mod load;
pub mod manifests;
pub mod network;
pub mod pki;
pub mod process;
pub mod programs;
pub mod rights;
pub mod runtime;
pub mod trial;

pub use crate::binary::{soak, wait_until};
pub use control_plane::{ControlPlane, Options};
pub use handfast::Handfast;
pub use kubelet::Kubelet;
