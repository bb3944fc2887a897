//! Where connections to an address can go, and who is there. Entry: [`Discovery::target`].
//! One stream of the destination service an address, shared by all connections to it; what is known
//! stays known while the service is away.

use std::{
    collections::HashMap,
    net::SocketAddr,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use linkerd_names::NoTls;
use linkerd_proto::destination::{GetDestination, update};
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio_stream::StreamExt as _;
use tonic::Code;
use tracing::{debug, info};

use crate::{
    control::{Control, Status},
    endpoint::{Endpoint, Labels},
    endpoints::Endpoints,
    metrics::Balanced,
    shared::Shared,
    tls::connect::backoff,
    whole::complete,
};

/// The service has said that it will not answer this question; it may have been upgraded after this.
const REFUSED_PAUSE: Duration = Duration::from_secs(60);
/// Suspicions within this time of a question cause one new question.
const REFRESH_PAUSE: Duration = Duration::from_secs(1);

/// An address that the application connects to.
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    pub(crate) habit: Habit,
    endpoints: watch::Receiver<Option<Endpoints>>,
    unknown: Arc<Endpoint>,
    refresh: Arc<Notify>,
    /// Milliseconds since the start of [`Discovery`].
    last_used: AtomicU64,
}

/// Whether clients of an address speak first.
#[derive(Default)]
pub(crate) struct Habit(AtomicU8);

impl Habit {
    /// Remembers that a client spoke first.
    pub(crate) fn client_first(&self) {
        self.0.store(1, Relaxed);
    }

    /// Remembers that a server spoke first.
    pub(crate) fn server_first(&self) {
        self.0.store(2, Relaxed);
    }

    /// How long a silent client may be waited for before its server is dialled.
    pub(crate) fn dial_delay(&self, limit: Duration) -> Duration {
        if self.0.load(Relaxed) == 1 {
            limit
        } else {
            Duration::ZERO
        }
    }
}

impl Target {
    /// The endpoints known now. Before anything is known: the address itself, in plaintext.
    pub(crate) fn endpoints(&self) -> Endpoints {
        let known = self.endpoints.borrow().clone();
        known.unwrap_or_else(|| Endpoints::original(self.unknown.clone()))
    }

    /// Waits until there is at least one endpoint, at most `bound`.
    pub(crate) async fn endpoints_within(&self, bound: Duration) -> Endpoints {
        let endpoints = self.endpoints();
        if !endpoints.list.is_empty() {
            return endpoints;
        }
        // Boxed, as it is rare: requests do not keep room for it.
        Box::pin(async {
            let mut changes = self.endpoints.clone();
            let some = changes.wait_for(|known| known.as_ref().is_some_and(|e| !e.list.is_empty()));
            // Neither the bound nor a stopped lookup is an error here: the caller sees what there is.
            drop(tokio::time::timeout(bound, some).await);
            self.endpoints()
        })
        .await
    }

    /// Whether nobody is to look at what goes there, as an annotation has it.
    pub(crate) fn is_opaque(&self) -> bool {
        let known = self.endpoints.borrow();
        known.as_ref().is_some_and(|known| known.is_opaque)
    }

    /// Somebody else was met at an endpoint: asks again.
    pub(crate) fn refresh(&self) {
        self.refresh.notify_one();
    }
}

/// All targets.
pub(crate) struct Discovery {
    shared: Arc<Shared>,
    control: Option<Arc<Control>>,
    targets: Mutex<HashMap<SocketAddr, Arc<Target>>>,
    start: Instant,
}

impl Discovery {
    pub(crate) fn new(shared: Arc<Shared>, control: Option<Arc<Control>>) -> Arc<Self> {
        Arc::new(Self {
            shared,
            control,
            targets: Mutex::default(),
            start: Instant::now(),
        })
    }

    /// The target for `address`, with its endpoints known if they can be known in time.
    pub(crate) async fn target(&self, address: SocketAddr) -> Arc<Target> {
        let target = self.entry(address);
        if let Some(control) = &self.control
            && target.endpoints.borrow().is_none()
        {
            self.wait(control, &target).await;
        }
        target
    }

    /// Every target that is a Service, as it is now.
    pub(crate) fn balanced(&self, now: Instant) -> Vec<Balanced> {
        let targets: Vec<Arc<Target>> = self.targets.lock().values().cloned().collect();
        let balanced = |target: Arc<Target>| {
            let endpoints = target.endpoints.borrow().clone()?;
            endpoints.is_service().then(|| Balanced {
                target: target.address.to_string(),
                service: endpoints.service.to_string(),
                census: endpoints.census(now),
            })
        };
        targets.into_iter().filter_map(balanced).collect()
    }

    /// Waits for the first answer, unless the service is known not to answer.
    async fn wait(&self, control: &Control, target: &Target) {
        let mut endpoints = target.endpoints.clone();
        let mut status = control.status();
        let known = endpoints.wait_for(Option::is_some);
        let down = status.wait_for(|status| matches!(status, Status::Down));
        if !control.is_answering() {
            return;
        }
        tokio::select! {
            biased;
            _ = known => control.answered(true),
            _ = down => {}
            () = tokio::time::sleep(self.shared.config.limits.discovery_timeout) => {
                info!(address = %target.address, "the destination service does not answer");
                control.answered(false);
            }
        }
    }

    fn entry(&self, address: SocketAddr) -> Arc<Target> {
        let now = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        let mut targets = self.targets.lock();
        if let Some(target) = targets.get(&address) {
            target.last_used.store(now, Relaxed);
            return target.clone();
        }
        self.make_room(&mut targets, now);
        let (sender, endpoints) = watch::channel(None);
        let refresh = Arc::new(Notify::new());
        let target = Arc::new(Target {
            address,
            habit: Habit::default(),
            endpoints,
            unknown: Endpoint::new(
                address,
                None,
                NoTls::DiscoveryUnavailable,
                Labels::default(),
                self.shared.ejections.clone(),
            ),
            refresh: refresh.clone(),
            last_used: AtomicU64::new(now),
        });
        if let Some(control) = &self.control {
            // It ends with the last receiver: when the target is forgotten and unused.
            tokio::spawn(follow(
                control.clone(),
                self.shared.clone(),
                address,
                sender,
                refresh,
            ));
        }
        targets.insert(address, target.clone());
        target
    }

    /// Forgets idle targets when there are many, and one when there are too many. While the service is away
    /// nothing is forgotten for being idle: it could not be learnt again.
    fn make_room(&self, targets: &mut HashMap<SocketAddr, Arc<Target>>, now: u64) {
        let limits = &self.shared.config.limits;
        if targets.len() < limits.targets_max / 2 {
            return;
        }
        let is_answering = self.control.as_ref().is_some_and(|c| c.is_answering());
        if is_answering {
            let idle = u64::try_from(limits.target_idle.as_millis()).unwrap_or(u64::MAX);
            targets.retain(|_, target| {
                Arc::strong_count(target) > 1
                    || now.saturating_sub(target.last_used.load(Relaxed)) < idle
            });
        }
        if targets.len() >= limits.targets_max {
            let least = targets
                .iter()
                .min_by_key(|(_, target)| worth(target, is_answering))
                .map(|(address, _)| *address);
            if let Some(least) = least {
                targets.remove(&least);
            }
        }
    }
}

/// What is worth less is forgotten first: what is not in use, and of that what was not used for longest.
/// While the service does not answer, that and everything else before what it has told of a Service.
fn worth(target: &Arc<Target>, is_answering: bool) -> (bool, bool, u64) {
    let is_service = || (target.endpoints.borrow().as_ref()).is_some_and(Endpoints::is_service);
    (
        !is_answering && is_service(),
        Arc::strong_count(target) > 1,
        target.last_used.load(Relaxed),
    )
}

/// Keeps a target's endpoints up to date until nobody wants them.
async fn follow(
    control: Arc<Control>,
    shared: Arc<Shared>,
    address: SocketAddr,
    sender: watch::Sender<Option<Endpoints>>,
    refresh: Arc<Notify>,
) {
    let unwanted = sender.clone();
    tokio::select! {
        () = unwanted.closed() => debug!(%address, "target forgotten"),
        () = ask_for_ever(&control, &shared, address, &sender, &refresh) => {}
    }
    if let Some(endpoints) = sender.borrow().as_ref() {
        endpoints.list.iter().for_each(|endpoint| endpoint.leave());
    }
}

async fn ask_for_ever(
    control: &Control,
    shared: &Shared,
    address: SocketAddr,
    sender: &watch::Sender<Option<Endpoints>>,
    refresh: &Notify,
) {
    let (min, max) = shared.config.limits.control_backoff;
    let mut status = control.status();
    let mut failures = 0;
    loop {
        let client = match status
            .wait_for(|status| matches!(status, Status::Up(_)))
            .await
        {
            Ok(up) => match &*up {
                Status::Up(client) => client.clone(),
                Status::Connecting | Status::Down => continue,
            },
            // The proxy is ending.
            Err(_) => return,
        };
        let pause = match ask(client, control, shared, address, sender, refresh).await {
            Asked::Ended { answered } => {
                failures = if answered { 0 } else { failures + 1 };
                backoff(failures, min, max)
            }
            Asked::Suspicion => Duration::ZERO,
            Asked::Refused => REFUSED_PAUSE,
        };
        tokio::time::sleep(pause).await;
    }
}

enum Asked {
    /// The stream is over.
    Ended { answered: bool },
    /// Somebody else was met at an endpoint.
    Suspicion,
    /// The service will not tell about this address.
    Refused,
}

/// One question and its stream of answers. The first answer replaces what was known.
async fn ask(
    mut client: crate::control::Client,
    control: &Control,
    shared: &Shared,
    address: SocketAddr,
    sender: &watch::Sender<Option<Endpoints>>,
    refresh: &Notify,
) -> Asked {
    let question = GetDestination {
        scheme: "k8s".to_owned(),
        path: address.to_string(),
        context_token: String::new(),
    };
    let suspicions_count_at = tokio::time::Instant::now() + REFRESH_PAUSE;
    let mut updates = match client.get(question).await {
        Ok(response) => response.into_inner(),
        Err(status) => return refused_or_ended(shared, address, &status, sender),
    };
    let mut answered = false;
    let mut said = None;
    loop {
        let suspicion = async {
            tokio::time::sleep_until(suspicions_count_at).await;
            refresh.notified().await;
        };
        let next = async {
            match said.take() {
                Some(said) => said,
                None => updates.next().await,
            }
        };
        let update = tokio::select! {
            update = next => update,
            // Until there is an answer they are about what was known before, which it replaces.
            () = suspicion, if answered => return Asked::Suspicion,
        };
        match update {
            Some(Ok(mut update)) => {
                control.answered(true);
                let known = sender.borrow().clone();
                if let Some(update::Update::Add(set)) = &mut update.update
                    && !answered
                    && known.is_some()
                {
                    said = complete(set, &mut updates).await;
                }
                if let Some(next) = Endpoints::apply(
                    known.as_ref(),
                    update,
                    !answered,
                    address,
                    &shared.ejections,
                ) {
                    sender.send_replace(Some(next));
                }
                if !answered {
                    // Takes back what was notified before.
                    pin!(refresh.notified()).enable();
                }
                answered = true;
            }
            None => return Asked::Ended { answered },
            Some(Err(status)) if answered => {
                debug!(%address, %status, "the stream of endpoints has ended");
                return Asked::Ended { answered };
            }
            Some(Err(status)) => return refused_or_ended(shared, address, &status, sender),
        }
    }
}

fn refused_or_ended(
    shared: &Shared,
    address: SocketAddr,
    status: &tonic::Status,
    sender: &watch::Sender<Option<Endpoints>>,
) -> Asked {
    debug!(%address, %status, "no endpoints told");
    let (reason, asked) = match status.code() {
        Code::InvalidArgument | Code::FailedPrecondition => (NoTls::OffCluster, Asked::Refused),
        // It has too many others to tell about this address too: nobody waits for that.
        Code::ResourceExhausted if sender.borrow().is_none() => (
            NoTls::DiscoveryUnavailable,
            Asked::Ended { answered: false },
        ),
        _ => return Asked::Ended { answered: false },
    };
    let known = sender.borrow().clone();
    let next = Endpoints::unknown(known.as_ref(), address, reason, &shared.ejections);
    sender.send_replace(Some(next));
    asked
}

#[cfg(test)]
mod tests {
    use linkerd_proto::destination::{Update, WeightedAddr, WeightedAddrSet, update};

    use super::*;

    const ADDRESS: &str = "10.96.0.1:80";

    fn target(endpoints: Option<Endpoints>, last_used: u64) -> Arc<Target> {
        let address = ADDRESS.parse().unwrap();
        let reason = NoTls::DiscoveryUnavailable;
        Arc::new(Target {
            address,
            habit: Habit::default(),
            endpoints: watch::channel(endpoints).1,
            unknown: Endpoint::new(address, None, reason, Labels::default(), Arc::default()),
            refresh: Arc::default(),
            last_used: AtomicU64::new(last_used),
        })
    }

    fn original(reason: NoTls) -> Option<Endpoints> {
        let unknown = target(None, 0).unknown.clone();
        let labels = Labels::default();
        let endpoint = Endpoint::new(unknown.address, None, reason, labels, Arc::default());
        Some(Endpoints::original(endpoint))
    }

    fn service() -> Option<Endpoints> {
        let addrs = vec![WeightedAddr {
            addr: Some("10.0.0.1:80".parse::<SocketAddr>().unwrap().into()),
            weight: 1,
            ..Default::default()
        }];
        let set = WeightedAddrSet {
            addrs,
            ..Default::default()
        };
        let update = Update {
            update: Some(update::Update::Add(set)),
        };
        let address = ADDRESS.parse().unwrap();
        Endpoints::apply(None, update, true, address, &Arc::default())
    }

    #[test]
    fn what_is_in_use_is_not_forgotten_before_what_is_not() {
        let [used, unused] = [target(service(), 1), target(service(), 2)];
        let _connection = used.clone();
        assert!(worth(&unused, true) < worth(&used, true));
        assert!(worth(&target(None, 1), true) < worth(&unused, true));
    }

    #[test]
    fn while_the_service_is_away_what_it_has_told_is_forgotten_last() {
        let told = target(service(), 1);
        for unknown in [
            None,
            original(NoTls::OffCluster),
            original(NoTls::DiscoveryUnavailable),
        ] {
            let unknown = target(unknown, 2);
            let _connection = unknown.clone();
            assert!(worth(&unknown, false) < worth(&told, false));
            assert!(worth(&told, true) < worth(&unknown, true));
        }
    }
}
