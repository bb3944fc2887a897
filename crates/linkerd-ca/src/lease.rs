//! Chooses one of several replicas to write, by a Lease. Entry: [`Candidate::run`].
//! A replica judges a lease by its own monotonic clock and by what it has seen change, never by the times
//! written in it, so clocks that differ do not make two leaders.

use std::time::Duration;

use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
    jiff::Timestamp,
};
use kube::{Api, Client, api::PostParams};
use linkerd_names::{FIELD_MANAGER, component::CA_LEASE};
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::write::CallError;

/// A lease that was not renewed for this long is free. The values are those of Kubernetes' own
/// controllers.
const LEASE_DURATION: Duration = Duration::from_secs(15);
/// A leader that could not renew for this long stops writing; shorter than [`LEASE_DURATION`], so that
/// it has stopped before another begins.
const RENEW_DEADLINE: Duration = Duration::from_secs(10);
/// The pause between two attempts.
const RETRY_PERIOD: Duration = Duration::from_secs(2);

/// Whether this replica writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leadership {
    /// The lease has not been read yet.
    Unknown,
    /// Another replica leads.
    Follower,
    /// This replica leads.
    Leader,
}

/// A replica that would lead.
pub struct Candidate {
    leases: Api<Lease>,
    holder: String,
    seen: Option<Seen>,
}

/// The lease as it was last read or written, and when it was first seen like that.
struct Seen {
    lease: Lease,
    at: Instant,
}

/// The lease after an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Attempt {
    /// It is ours until [`LEASE_DURATION`] after the attempt began.
    Ours,
    /// It is another's; the next attempt makes sense after this time.
    Theirs(Duration),
}

impl Candidate {
    /// A candidate with the name `holder`, which no other replica has at the same time. A process that
    /// comes back under the same name (a container that was restarted in its pod) leads on at once.
    pub fn new(client: Client, control_plane_namespace: &str, holder: String) -> Self {
        Self {
            leases: Api::namespaced(client, control_plane_namespace),
            holder,
            seen: None,
        }
    }

    /// Takes part until `shutdown`, tells every change to `leadership`, and gives the lease back at the
    /// end. Whoever writes must have stopped when `shutdown` is cancelled.
    pub async fn run(mut self, leadership: watch::Sender<Leadership>, shutdown: CancellationToken) {
        let take_part = async {
            loop {
                let acquired = self.acquire(&leadership).await;
                info!(holder = self.holder, "leading");
                leadership.send_replace(Leadership::Leader);
                self.hold(acquired).await;
                warn!(holder = self.holder, "leading no more");
                leadership.send_replace(Leadership::Follower);
            }
        };
        tokio::select! {
            () = take_part => {}
            () = shutdown.cancelled() => {}
        }
        if leadership.send_replace(Leadership::Follower) == Leadership::Leader {
            self.release().await;
        }
    }

    /// Returns when the lease is ours, with the time at which the successful attempt began: others
    /// count from the moment they see it, which is later.
    async fn acquire(&mut self, leadership: &watch::Sender<Leadership>) -> Instant {
        loop {
            let began = Instant::now();
            let pause = match tokio::time::timeout(RENEW_DEADLINE, self.attempt()).await {
                Ok(Ok(Attempt::Ours)) => return began,
                Ok(Ok(Attempt::Theirs(pause))) => {
                    leadership.send_if_modified(|now| {
                        let changed = *now != Leadership::Follower;
                        *now = Leadership::Follower;
                        changed
                    });
                    pause
                }
                Ok(Err(error)) => {
                    warn!(%error, "cannot read or write the lease");
                    RETRY_PERIOD
                }
                Err(_) => {
                    warn!("the API server did not answer about the lease");
                    RETRY_PERIOD
                }
            };
            tokio::time::sleep(pause.mul_f64(rand::random_range(1.0..1.2))).await;
        }
    }

    /// Renews the lease; returns when it is another's or could not be renewed in time.
    async fn hold(&mut self, mut renewed: Instant) {
        loop {
            tokio::time::sleep(RETRY_PERIOD).await;
            let began = Instant::now();
            match tokio::time::timeout_at(renewed + RENEW_DEADLINE, self.attempt()).await {
                Ok(Ok(Attempt::Ours)) => renewed = began,
                Ok(Ok(Attempt::Theirs(_))) => return,
                Ok(Err(error)) => warn!(%error, "cannot renew the lease"),
                Err(_) => warn!("the API server did not answer about the lease in time"),
            }
            if renewed.elapsed() >= RENEW_DEADLINE {
                return;
            }
        }
    }

    /// Takes or renews the lease if it is ours or free.
    async fn attempt(&mut self) -> Result<Attempt, CallError> {
        if self
            .seen
            .as_ref()
            .is_some_and(|seen| seen.holder() == Some(&self.holder))
        {
            // Mostly nobody has touched it since, and reading it first would be a wasted call.
            if self.write().await? {
                return Ok(Attempt::Ours);
            }
        }
        match self.leases.get_opt(CA_LEASE).await? {
            Some(lease) => self.see(lease),
            None => self.seen = None,
        }
        if let Some(seen) = &self.seen
            && seen.holder().is_some_and(|holder| *holder != self.holder)
        {
            let free_in = seen.duration().saturating_sub(seen.at.elapsed());
            if free_in > Duration::ZERO {
                return Ok(Attempt::Theirs(free_in.min(RETRY_PERIOD)));
            }
        }
        if self.write().await? {
            Ok(Attempt::Ours)
        } else {
            Ok(Attempt::Theirs(RETRY_PERIOD))
        }
    }

    /// Writes ourselves into the lease as it was last seen. False when it has changed since.
    async fn write(&mut self) -> Result<bool, CallError> {
        let now = MicroTime(Timestamp::now());
        let before = self
            .seen
            .as_ref()
            .and_then(|seen| seen.lease.spec.clone())
            .unwrap_or_default();
        let is_renewal = before.holder_identity.as_ref() == Some(&self.holder);
        let transitions = before.lease_transitions.unwrap_or_default();
        let spec = LeaseSpec {
            holder_identity: Some(self.holder.clone()),
            lease_duration_seconds: i32::try_from(LEASE_DURATION.as_secs()).ok(),
            acquire_time: before
                .acquire_time
                .clone()
                .filter(|_| is_renewal)
                .or_else(|| Some(now.clone())),
            renew_time: Some(now),
            lease_transitions: Some(if is_renewal || self.seen.is_none() {
                transitions
            } else {
                transitions.saturating_add(1)
            }),
            ..before
        };
        self.put(spec).await
    }

    /// Gives the lease back, so that another replica leads at once.
    async fn release(&mut self) {
        let before = self
            .seen
            .as_ref()
            .and_then(|seen| seen.lease.spec.clone())
            .unwrap_or_default();
        let now = MicroTime(Timestamp::now());
        let spec = LeaseSpec {
            holder_identity: Some(String::new()),
            lease_duration_seconds: Some(1),
            acquire_time: Some(now.clone()),
            renew_time: Some(now),
            ..before
        };
        match tokio::time::timeout(RETRY_PERIOD, self.put(spec)).await {
            Ok(Ok(true)) => info!("gave the lease back"),
            Ok(Ok(false)) => info!("the lease is another's already"),
            Ok(Err(error)) => warn!(%error, "cannot give the lease back; it runs out by itself"),
            Err(_) => warn!("the API server did not take the lease back in time"),
        }
    }

    async fn put(&mut self, spec: LeaseSpec) -> Result<bool, CallError> {
        let params = PostParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PostParams::default()
        };
        let written = match &self.seen {
            None => {
                let name = Some(CA_LEASE.to_owned());
                let metadata = ObjectMeta {
                    name,
                    ..ObjectMeta::default()
                };
                self.leases
                    .create(
                        &params,
                        &Lease {
                            metadata,
                            spec: Some(spec),
                        },
                    )
                    .await
            }
            Some(seen) => {
                let lease = Lease {
                    metadata: seen.lease.metadata.clone(),
                    spec: Some(spec),
                };
                self.leases.replace(CA_LEASE, &params, &lease).await
            }
        };
        match written.map_err(CallError::from) {
            Ok(lease) => {
                self.see(lease);
                Ok(true)
            }
            Err(error) if matches!(error.status_code(), Some(404 | 409)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Notes the lease; the clock starts anew only when it has changed.
    fn see(&mut self, lease: Lease) {
        let version = |lease: &Lease| lease.metadata.resource_version.clone();
        if self
            .seen
            .as_ref()
            .is_none_or(|seen| version(&seen.lease) != version(&lease))
        {
            self.seen = Some(Seen {
                lease,
                at: Instant::now(),
            });
        }
    }
}

impl Seen {
    /// Who holds the lease; none when it was given back.
    fn holder(&self) -> Option<&String> {
        let holder = self.lease.spec.as_ref()?.holder_identity.as_ref();
        holder.filter(|holder| !holder.is_empty())
    }

    fn duration(&self) -> Duration {
        let seconds = self
            .lease
            .spec
            .as_ref()
            .and_then(|spec| spec.lease_duration_seconds);
        seconds
            .and_then(|seconds| u64::try_from(seconds).ok())
            .map_or(LEASE_DURATION, Duration::from_secs)
    }
}
