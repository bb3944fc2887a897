//! What a certificate of ours is: the root, the leaf of one workload, and the bundle of trusted roots.
//! Entry: [`Root::generate`], [`Root::issue_leaf`], [`Root::issue_from_request`], [`Leaf::parse`],
//! [`TrustBundle`], [`Anchor::of`]; [`Root::issue_webhook`] for the one certificate that is no workload's.
//! Pure: no files, no Kubernetes, no clock; whoever calls passes `now`.

mod anchor;
mod bundle;
mod key;
mod leaf;
pub mod lifetime;
mod request;
mod root;
mod signing;
mod time;
mod webhook;

pub use anchor::Anchor;
pub use bundle::{InvalidBundle, TrustBundle, Untrusted};
pub use key::PrivateKey;
pub use leaf::{InvalidLeaf, Leaf};
pub use request::{InvalidRequest, NewRequest, SigningRequest};
pub use root::{InvalidRoot, Root};
pub use signing::{IssueError, IssuedLeaf, IssuedWebhook};
pub use webhook::{InvalidWebhookCertificate, WebhookCertificate};

use std::time::Duration;

/// A certificate is valid from this long before it was issued, because the clock of the machine
/// that checks it may be slow. It covers two machines that are five minutes off in opposite directions.
pub const CLOCK_SKEW_MAX: Duration = Duration::from_secs(10 * 60);

/// How long a leaf is valid from the moment it is issued, unless a flag says otherwise.
pub const LEAF_LIFETIME_DEFAULT: Duration = Duration::from_secs(24 * 60 * 60);

/// How long a root is valid from the moment it is made. Long, because roots are replaced by adding a
/// second one to the bundle and not by running out.
pub const ROOT_LIFETIME: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);
