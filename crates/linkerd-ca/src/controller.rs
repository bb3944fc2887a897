//! Keeps every marked workload's Secret and every such namespace's trust bundle right, while this
//! replica leads. Entry: [`Controller::run`]. What to do is decided in `plan.rs`, done in `issue.rs`,
//! `bundle.rs` and `root.rs`; here is when, how often and how many at once.

mod needs;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::{Duration, SystemTime},
};

use futures::{Stream, StreamExt};
use linkerd_issuer::Root;
use linkerd_names::{Owner, OwnerKind};
use linkerd_process::Readiness;
use tokio::{
    sync::watch,
    task::{Id, JoinError, JoinSet},
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use crate::{
    backoff,
    bundle::HeldBundle,
    context::Context,
    lease::Leadership,
    marks::Marks,
    metrics::{Census, Metrics},
    mirror::{Change, Mirror},
    plan::Reason,
    queue::{Finish, Queue},
    report::Reports,
    restraint::Restraint,
    secret::Held,
    watches::Observed,
    work::{self, Done, Task},
    workloads::Workload,
};

/// Writes at the same time. The API server is the slow part, and it has other clients.
const IN_FLIGHT_MAX: usize = 16;
/// A good Secret is judged again at least this often, whatever its certificate says: the wall clock may
/// jump, and timers do not notice.
const RECHECK_MAX: Duration = Duration::from_secs(10 * 60);
/// A wait of this length before an object is written again is told: it was written some times in a row.
const RESTRAINT_TOLD: Duration = Duration::from_secs(1);
/// How often the workloads are counted for `/metrics`.
const CENSUS_PERIOD: Duration = Duration::from_secs(15);

/// What has to be looked at. The order is that of the work when several are due at the same time.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Item {
    /// The root's Secret.
    Root,
    /// The trust bundle of a namespace.
    Bundle(String),
    /// What makes the API server trust `linkerd-injector`.
    Webhook,
    /// The Secret of a workload.
    Leaf(Owner),
}

/// The state of the controller. One task owns it; the writes are tasks of their own.
pub struct Controller {
    context: Context,
    metrics: Metrics,
    reports: Reports,
    workloads: HashMap<OwnerKind, Mirror<Owner, Workload>>,
    marks: Marks,
    /// Namespaces all of whose pods with proxies are of other control planes.
    left_to_others: HashSet<String>,
    secrets: Mirror<Owner, Held>,
    bundles: Mirror<String, HeldBundle>,
    /// Namespaces that ask for proxies.
    injected_namespaces: Mirror<String, ()>,
    /// Since when workloads without a Secret have been known and this replica might have written it.
    waiting_since: HashMap<Owner, Instant>,
    root: Option<Arc<Root>>,
    leadership: Leadership,
    queue: Queue<Item>,
    restraint: Restraint<Item>,
    /// Since when nobody has had need of a trust bundle of ours.
    unused_since: HashMap<String, Instant>,
    in_flight: JoinSet<Done>,
    items_in_flight: HashMap<Id, InFlight>,
}

/// Something that is being made right.
struct InFlight {
    item: Item,
    /// Whether the watch has told of its object meanwhile. Then what the work ends with may be older than
    /// what is known: it is not noted, but looked at again.
    is_overtaken: bool,
}

impl Controller {
    /// A controller that knows nothing yet.
    pub fn new(context: Context, metrics: Metrics, reports: Reports) -> Self {
        Self {
            context,
            metrics,
            reports,
            workloads: OwnerKind::ALL.map(|kind| (kind, Mirror::default())).into(),
            marks: Marks::default(),
            left_to_others: HashSet::new(),
            secrets: Mirror::default(),
            bundles: Mirror::default(),
            injected_namespaces: Mirror::default(),
            waiting_since: HashMap::new(),
            root: None,
            leadership: Leadership::Unknown,
            queue: Queue::default(),
            restraint: Restraint::default(),
            unused_since: HashMap::new(),
            in_flight: JoinSet::new(),
            items_in_flight: HashMap::new(),
        }
    }

    /// Works until `shutdown`; then no write is under way any more.
    pub async fn run(
        mut self,
        observed: impl Stream<Item = Observed>,
        mut leadership: watch::Receiver<Leadership>,
        readiness: Readiness,
        shutdown: CancellationToken,
    ) {
        let mut observed = std::pin::pin!(observed.fuse());
        let mut census = tokio::time::interval(CENSUS_PERIOD);
        leadership.mark_changed();
        loop {
            readiness.set_ready(self.is_ready());
            self.start_what_is_due();
            let next_due = self.queue.next_due().filter(|_| self.may_start());
            // Every branch is cancel-safe: nothing is taken out of a source unless it is handled.
            tokio::select! {
                Some(observed) = observed.next() => self.observe(observed),
                Some(done) = self.in_flight.join_next_with_id() => self.finish(done),
                Ok(()) = leadership.changed() => {
                    let now = *leadership.borrow_and_update();
                    self.change_leadership(now).await;
                }
                () = sleep_until(next_due.unwrap_or_else(Instant::now)), if next_due.is_some() => {}
                _ = census.tick() => self.metrics.set_census(self.census(SystemTime::now())),
                () = shutdown.cancelled() => break,
            }
        }
        readiness.set_ready(false);
        self.in_flight.shutdown().await;
    }

    /// Ready is who knows the cluster and, when it leads, has a root to issue with.
    fn is_ready(&self) -> bool {
        let leads = match self.leadership {
            Leadership::Unknown => false,
            Leadership::Follower => true,
            Leadership::Leader => self.root.is_some(),
        };
        leads && self.knows_our_objects() && self.workloads.values().all(Mirror::is_complete)
    }

    /// Before our own objects are known, every workload would look as if it had none; and before pods are, as if
    /// it were nobody else's.
    fn knows_our_objects(&self) -> bool {
        self.secrets.is_complete() && self.bundles.is_complete() && self.marks.is_complete()
    }

    fn may_start(&self) -> bool {
        self.leadership == Leadership::Leader
            && self.knows_our_objects()
            && self.in_flight.len() < IN_FLIGHT_MAX
    }

    async fn change_leadership(&mut self, now: Leadership) {
        if self.leadership == now {
            return;
        }
        self.leadership = now;
        self.metrics.set_leader(now == Leadership::Leader);
        if now == Leadership::Leader {
            let now = Instant::now();
            for since in self.waiting_since.values_mut() {
                *since = now;
            }
            // The root is read anew: another leader may have made it.
            self.queue.push(Item::Root, now);
        } else {
            self.in_flight.shutdown().await;
            self.items_in_flight.clear();
            self.queue = Queue::default();
            self.unused_since.clear();
            self.root = None;
        }
    }

    fn observe(&mut self, observed: Observed) {
        let now = Instant::now();
        match observed {
            Observed::Workload(kind, change) => {
                for owner in self.apply_workload(kind, change) {
                    self.follow_neighbours(&owner.namespace, now);
                    self.look_at(owner, now);
                }
            }
            Observed::Mark(change) => {
                for owner in self.marks.apply(change) {
                    self.follow_neighbours(&owner.namespace, now);
                    self.look_at(owner, now);
                }
            }
            Observed::Injected(change) => {
                for namespace in self.injected_namespaces.apply(change) {
                    for owner in self.known_in(&namespace) {
                        self.look_at(owner, now);
                    }
                    self.push(Item::Bundle(namespace), now);
                }
            }
            Observed::Webhook => self.push(Item::Webhook, now),
            Observed::Secret(change) => {
                self.overtake(|item| matches!(item, Item::Leaf(owner) if change.concerns(owner)));
                for owner in self.secrets.apply(change) {
                    self.push(Item::Leaf(owner), now);
                }
            }
            Observed::Bundle(change) => {
                self.overtake(
                    |item| matches!(item, Item::Bundle(namespace) if change.concerns(namespace)),
                );
                for namespace in self.bundles.apply(change) {
                    self.push(Item::Bundle(namespace), now);
                }
            }
            Observed::Root => {
                if self.leadership == Leadership::Leader {
                    self.queue.push(Item::Root, now);
                }
            }
        }
    }

    fn overtake(&mut self, is_told_of: impl Fn(&Item) -> bool) {
        for in_flight in self.items_in_flight.values_mut() {
            in_flight.is_overtaken |= is_told_of(&in_flight.item);
        }
    }

    /// A workload is new, has changed, or is gone, or its namespace says something else about it.
    fn look_at(&mut self, owner: Owner, now: Instant) {
        let known = self.workloads.get(&owner.kind);
        if known.is_none_or(|known| known.get(&owner).is_none()) {
            self.restraint.forget(&Item::Leaf(owner.clone()));
        }
        let workload = self.workload(&owner);
        let is_wanted = workload.is_some();
        if workload.is_some_and(|workload| self.needs_secret(workload)) {
            self.waiting_since.entry(owner.clone()).or_insert(now);
        } else {
            self.waiting_since.remove(&owner);
        }
        // Where nobody is left, the bundle goes.
        if is_wanted || self.bundles.get(&owner.namespace).is_some() {
            self.push(Item::Bundle(owner.namespace.clone()), now);
        }
        self.push(Item::Leaf(owner), now);
    }

    fn apply_workload(&mut self, kind: OwnerKind, change: Change<Owner, Workload>) -> Vec<Owner> {
        self.workloads.entry(kind).or_default().apply(change)
    }

    /// Before there is a root nothing is queued: with the root comes everything.
    fn push(&mut self, item: Item, at: Instant) {
        if self.root.is_some() {
            self.queue.push(item, at);
        }
    }

    fn push_everything(&mut self) {
        let now = Instant::now();
        let owners: Vec<Owner> = self.wanted().map(|(owner, _)| owner.clone()).collect();
        if self.context.injected.is_some() {
            self.push(Item::Webhook, now);
        }
        // Pods of the control plane mount the bundle, whether any of them is marked or not.
        self.push(
            Item::Bundle(self.context.control_plane_namespace.clone()),
            now,
        );
        let bundles: Vec<String> = self.bundles.iter().map(|(of, _)| of.clone()).collect();
        for namespace in bundles {
            self.push(Item::Bundle(namespace), now);
        }
        for owner in owners {
            self.push(Item::Bundle(owner.namespace.clone()), now);
            self.push(Item::Leaf(owner), now);
        }
    }

    fn start_what_is_due(&mut self) {
        while self.may_start() {
            let now = Instant::now();
            let Some(item) = self.queue.take(now) else {
                return;
            };
            if let Some(at) = self.restraint.wait_until(&item, now) {
                self.queue.finish(item, Finish::Again(at));
                continue;
            }
            match self.task(&item, now) {
                Ok(task) => {
                    let (context, reports) = (self.context.clone(), self.reports.clone());
                    let failures = self.queue.failures(&item);
                    let started = self
                        .in_flight
                        .spawn(work::perform(context, reports, task, failures));
                    let in_flight = InFlight {
                        item,
                        is_overtaken: false,
                    };
                    self.items_in_flight.insert(started.id(), in_flight);
                }
                Err(finish) => self.queue.finish(item, finish),
            }
        }
    }

    /// What there is to do about an item, or when to look again.
    fn task(&mut self, item: &Item, now: Instant) -> Result<Task, Finish> {
        // Without a root nothing else is queued.
        let root = || self.root.clone().ok_or(Finish::Forget);
        match item {
            Item::Root => Ok(Task::Root {
                present: self.root.clone(),
            }),
            Item::Bundle(namespace) if self.is_in_use(namespace) => {
                let task = Task::Bundle {
                    root: root()?,
                    namespace: namespace.clone(),
                    held: self.bundles.get(namespace).cloned(),
                };
                self.unused_since.remove(namespace);
                Ok(task)
            }
            Item::Bundle(namespace) => self.unused_bundle(namespace, now),
            Item::Webhook => Ok(Task::Webhook { root: root()? }),
            Item::Leaf(owner) => {
                let workload = self
                    .workload(owner)
                    .filter(|workload| self.needs_secret(workload))
                    .ok_or(Finish::Forget)?;
                Ok(Task::Leaf {
                    root: root()?,
                    workload: workload.clone(),
                    claim: self.claim(workload),
                    held: self.secrets.get(owner).cloned(),
                })
            }
        }
    }

    fn finish(&mut self, done: Result<(Id, Done), JoinError>) {
        let id = done.as_ref().map_or_else(JoinError::id, |(id, _)| *id);
        let Some(InFlight { item, is_overtaken }) = self.items_in_flight.remove(&id) else {
            return;
        };
        let now = Instant::now();
        let finish = match done {
            Ok((_, Done::Root(root))) => {
                self.use_root(root);
                Finish::Forget
            }
            Ok((_, Done::Bundle(reconciled))) => {
                if reconciled.written {
                    self.metrics.bundle_written();
                    self.note_written(&item, now);
                }
                match &item {
                    _ if is_overtaken => Finish::Again(now),
                    Item::Bundle(namespace) => {
                        self.bundles.note(namespace.clone(), reconciled.held);
                        Finish::Forget
                    }
                    _ => Finish::Forget,
                }
            }
            Ok((_, Done::BundleRemoved)) => {
                self.restraint.forget(&item);
                Finish::Forget
            }
            Ok((_, Done::Webhook(reconciled))) => {
                if let Some(reason) = reconciled.issued {
                    self.metrics.issued(reason);
                }
                let is_repaired = reconciled
                    .issued
                    .is_some_and(|reason| reason != Reason::Expiring);
                if is_repaired || reconciled.trust_changed {
                    self.note_written(&item, now);
                }
                match reconciled.look_again_at {
                    Some(at) => {
                        let wait = at.duration_since(SystemTime::now());
                        Finish::Again(now + wait.unwrap_or_default().min(RECHECK_MAX))
                    }
                    // Its watch tells when there is one.
                    None => Finish::Forget,
                }
            }
            Ok((_, Done::Leaf(reconciled))) => {
                if let (Item::Leaf(owner), Some(reason)) = (&item, reconciled.issued) {
                    self.metrics.issued(reason);
                    // Renewals are at times of our own.
                    if reason != Reason::Expiring {
                        self.note_written(&item, now);
                    }
                    if let Some(since) = self.waiting_since.remove(owner)
                        && reason == Reason::Missing
                    {
                        self.metrics.first_write(since.elapsed());
                    }
                }
                if let Item::Leaf(owner) = &item {
                    self.waiting_since.remove(owner);
                    if !is_overtaken {
                        self.secrets.note(owner.clone(), reconciled.held);
                    }
                }
                let wait = reconciled.renew_at.duration_since(SystemTime::now());
                let wait = wait.unwrap_or_default().min(RECHECK_MAX);
                Finish::Again(if is_overtaken { now } else { now + wait })
            }
            Ok((_, Done::Failed(reason))) => {
                self.metrics.failed(reason);
                Finish::Failed(now + backoff::delay(self.queue.failures(&item) + 1))
            }
            // Events vanish after an hour; this one is told again while its cause lasts.
            Ok((_, Done::Refused(reason))) => {
                self.metrics.failed(reason);
                Finish::Again(now + RECHECK_MAX)
            }
            Err(panic) => {
                error!(?item, %panic, "work broke off");
                self.metrics.failed("panic");
                Finish::Failed(now + backoff::delay(self.queue.failures(&item) + 1))
            }
        };
        self.queue.finish(item, finish);
    }

    fn note_written(&mut self, item: &Item, now: Instant) {
        let wait = self.restraint.note(item.clone(), now);
        if wait >= RESTRAINT_TOLD {
            let wait_seconds = wait.as_secs();
            warn!(
                ?item,
                wait_seconds, "somebody undoes what we write, again and again: waiting"
            );
        }
    }

    fn use_root(&mut self, root: Root) {
        let same = |present: &Arc<Root>| present.certificate_der() == root.certificate_der();
        if self.root.as_ref().is_some_and(same) {
            return;
        }
        if self.root.is_some() {
            info!("the root is another one now: every certificate is issued anew");
        }
        self.metrics.set_root_not_after(root.not_after());
        self.root = Some(Arc::new(root));
        self.push_everything();
    }

    fn census(&self, now: SystemTime) -> Census {
        let mut census = Census::default();
        for (owner, _) in self
            .wanted()
            .filter(|(_, workload)| self.needs_secret(workload))
        {
            let Some(leaf) = self.secrets.get(owner).and_then(|held| held.leaf.as_ref()) else {
                census.missing += 1;
                continue;
            };
            let end = leaf.not_after();
            census.not_after_min = Some(census.not_after_min.map_or(end, |min| min.min(end)));
            if end <= now {
                census.expired += 1;
            } else if leaf.renew_at() <= now {
                census.due += 1;
            } else {
                census.valid += 1;
            }
        }
        debug!(?census, "counted");
        census
    }
}
