//! Counts the events of a tap by who asks whom for what. Entries: [`Figures::add`], [`Figures::rows`].
//! Pure; bounded in memory. Knows no terminal and no clock: latencies are in the events.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    time::Duration,
};

use linkerd_names::OwnerKind;
use linkerd_proto::{
    net::TcpAddress,
    tap::{
        Eos, TapEvent, eos,
        tap_event::{
            EndpointMeta, Event, ProxyDirection,
            http::{Event as HttpEvent, RequestInit, ResponseEnd, StreamId},
            tcp::{Close, End, Event as TcpEvent},
        },
    },
};

use crate::{
    tap::output::{method, tls_label},
    visible::visible,
};

/// More than anybody reads. The row that has been idle for longest gives way to another one.
const ROWS_MAX: usize = 1000;
/// Requests whose end has not been seen: long streams, and those whose end was lost on the way.
const OPEN_MAX: usize = 10_000;
/// The word for a connection with mutual TLS.
pub(super) const ENCRYPTED: &str = "√";
/// What stands for the method where there are no requests. No method of HTTP has this name.
pub(super) const CONNECTION: &str = "TCP";

/// Whose names are shown how.
#[derive(Clone, Debug)]
pub(super) struct Names {
    /// Whether pods are shown by their own names, and not by their workload's.
    pub(super) of_pods: bool,
    /// Names of this namespace are shown without it; empty: all names have one.
    pub(super) namespace: String,
}

/// What has been counted so far.
#[derive(Debug)]
pub(super) struct Figures {
    names: Names,
    rows: HashMap<Key, Sides>,
    open: HashMap<(u32, u64), Open>,
    /// Events so far: what is later has a greater number.
    now: u64,
    idle_rows_dropped: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    source: String,
    destination: String,
    method: String,
    path: String,
    encrypted: bool,
}

/// The same requests as both proxies see them, where both are watched: counted apart, shown once.
#[derive(Debug, Default)]
struct Sides {
    outbound: Option<Side>,
    inbound: Option<Side>,
}

#[derive(Clone, Debug)]
struct Side {
    tally: Tally,
    tls: String,
}

/// A request that has not ended.
#[derive(Debug)]
struct Open {
    key: Key,
    direction: ProxyDirection,
    tls: String,
    /// Of the response, when its head has been seen.
    status: Option<u32>,
    begun: u64,
}

/// Figures of requests or connections that have ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) count: u64,
    pub(super) successes: u64,
    pub(super) best: Duration,
    pub(super) worst: Duration,
    pub(super) last: Duration,
    /// When the last one ended, as a number of events.
    updated: u64,
}

/// Requests or connections that have all in common that is shown of them.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) source: String,
    pub(super) destination: String,
    /// Of connections [`CONNECTION`].
    pub(super) method: String,
    /// Of connections the port of the destination.
    pub(super) path: String,
    /// [`ENCRYPTED`], or the reason why not.
    pub(super) tls: String,
    pub(super) tally: Tally,
}

impl Figures {
    pub(super) fn new(names: Names) -> Self {
        Self {
            names,
            rows: HashMap::new(),
            open: HashMap::new(),
            now: 0,
            idle_rows_dropped: 0,
        }
    }

    /// Counts one event. A request counts when its response has ended; one whose beginning has not been
    /// seen does not count. A connection counts when it has closed.
    pub(super) fn add(&mut self, event: &TapEvent) {
        self.now += 1;
        match &event.event {
            Some(Event::Http(http)) => match &http.event {
                Some(HttpEvent::RequestInit(init)) => self.begin(event, init),
                Some(HttpEvent::ResponseInit(init)) => {
                    if let Some(open) = self.open.get_mut(&id(init.id)) {
                        open.status = Some(init.http_status);
                    }
                }
                Some(HttpEvent::ResponseEnd(end)) => {
                    if let Some(open) = self.open.remove(&id(end.id)) {
                        self.end(open, end);
                    }
                }
                None => {}
            },
            Some(Event::Tcp(tcp)) => match &tcp.event {
                Some(TcpEvent::Close(close)) => self.closed(event, close),
                Some(TcpEvent::Open(_)) | None => {}
            },
            None => {}
        }
    }

    /// Forgets all figures; requests under way count when they end.
    pub(super) fn clear(&mut self) {
        self.rows.clear();
        self.idle_rows_dropped = 0;
    }

    /// How many rows have given way to others.
    pub(super) fn idle_rows_dropped(&self) -> u64 {
        self.idle_rows_dropped
    }

    /// A row for each source, destination, method, path and whether it is encrypted, in no order. Where
    /// the proxies at both ends are watched, that of the one which has told of more requests.
    pub(super) fn rows(&self) -> Vec<Row> {
        let rows = self.rows.iter().filter_map(|(key, sides)| {
            let Side { tally, tls } = sides.shown()?.clone();
            let Key {
                source,
                destination,
                method,
                path,
                encrypted: _,
            } = key.clone();
            Some(Row {
                source,
                destination,
                method,
                path,
                tls,
                tally,
            })
        });
        rows.collect()
    }

    fn begin(&mut self, event: &TapEvent, init: &RequestInit) {
        if self.open.len() >= OPEN_MAX {
            self.forget_the_oldest_half();
        }
        let method = method(init.method.as_ref());
        let (key, tls) = self.key(event, method, visible(&init.path));
        let open = Open {
            key,
            direction: event.proxy_direction(),
            tls,
            status: None,
            begun: self.now,
        };
        self.open.insert(id(init.id), open);
    }

    /// The row of an event, and its word for TLS.
    fn key(&self, event: &TapEvent, method: String, path: String) -> (Key, String) {
        let word = tls_label(event, "tls").unwrap_or("-");
        let reason = tls_label(event, "no_tls_reason").unwrap_or(word);
        let encrypted = word == "true";
        let key = Key {
            source: self.name(event.source, event.source_meta.as_ref()),
            destination: self.name(event.destination, event.destination_meta.as_ref()),
            method,
            path,
            encrypted,
        };
        let tls = if encrypted {
            ENCRYPTED.to_owned()
        } else {
            visible(reason)
        };
        (key, tls)
    }

    fn closed(&mut self, event: &TapEvent, close: &Close) {
        let port = event.destination.map(|it| format!(":{}", it.port));
        let (key, tls) = self.key(event, CONNECTION.to_owned(), port.unwrap_or_default());
        let succeeded = close.end() == End::Clean;
        let duration = std_duration(close.since_open);
        self.count(key, event.proxy_direction(), tls, succeeded, duration);
    }

    fn end(&mut self, open: Open, end: &ResponseEnd) {
        let Open {
            key,
            direction,
            tls,
            status,
            begun: _,
        } = open;
        let ended = match end.eos {
            Some(Eos {
                end: Some(eos::End::GrpcStatusCode(code)),
            }) => code == 0,
            Some(Eos {
                end: Some(eos::End::ResetErrorCode(_)),
            }) => false,
            _ => true,
        };
        let succeeded = ended && status.is_none_or(|status| status < 500);
        let latency = std_duration(end.since_request_init);
        self.count(key, direction, tls, succeeded, latency);
    }

    fn count(
        &mut self,
        key: Key,
        direction: ProxyDirection,
        tls: String,
        succeeded: bool,
        latency: Duration,
    ) {
        if !self.rows.contains_key(&key) && self.rows.len() >= ROWS_MAX {
            self.drop_the_idlest_row();
        }
        let sides = self.rows.entry(key).or_default();
        let side = match direction {
            ProxyDirection::Inbound => &mut sides.inbound,
            ProxyDirection::Outbound | ProxyDirection::Unknown => &mut sides.outbound,
        };
        let one = Tally {
            count: 1,
            successes: u64::from(succeeded),
            best: latency,
            worst: latency,
            last: latency,
            updated: self.now,
        };
        match side {
            Some(side) => {
                side.tally.add(&one);
                side.tls = tls;
            }
            None => *side = Some(Side { tally: one, tls }),
        }
    }

    fn forget_the_oldest_half(&mut self) {
        let mut begun: Vec<u64> = self.open.values().map(|open| open.begun).collect();
        let (_, median, _) = begun.select_nth_unstable(OPEN_MAX / 2);
        let median = *median;
        self.open.retain(|_, open| open.begun >= median);
    }

    fn drop_the_idlest_row(&mut self) {
        let idlest = self.rows.iter().min_by_key(|(_, sides)| sides.updated());
        if let Some(key) = idlest.map(|(key, _)| key.clone()) {
            self.rows.remove(&key);
            self.idle_rows_dropped += 1;
        }
    }

    /// The workload or the pod; else the address without the port, which is another for each connection.
    fn name(&self, address: Option<TcpAddress>, meta: Option<&EndpointMeta>) -> String {
        let none = BTreeMap::new();
        let labels = meta.map_or(&none, |meta| &meta.labels);
        let kinds = if self.names.of_pods {
            vec![OwnerKind::Pod]
        } else {
            OwnerKind::ALL.to_vec()
        };
        let named = kinds
            .iter()
            .find_map(|kind| labels.get(kind.metric_label()));
        let Some(name) = named else {
            let ip = address.and_then(|address| IpAddr::try_from(address.ip?).ok());
            return ip.map_or_else(|| "-".to_owned(), |ip| ip.to_string());
        };
        match labels.get("namespace") {
            Some(namespace) if *namespace != self.names.namespace => {
                visible(&format!("{name}.{namespace}"))
            }
            _ => visible(name),
        }
    }
}

impl Sides {
    /// The client's proxy knows better why there is no TLS.
    fn shown(&self) -> Option<&Side> {
        match (&self.outbound, &self.inbound) {
            (Some(outbound), Some(inbound)) if inbound.tally.count > outbound.tally.count => {
                Some(inbound)
            }
            (Some(side), _) | (None, Some(side)) => Some(side),
            (None, None) => None,
        }
    }

    fn updated(&self) -> u64 {
        let sides = [&self.outbound, &self.inbound];
        let updated = sides.into_iter().flatten().map(|side| side.tally.updated);
        updated.max().unwrap_or_default()
    }
}

impl Tally {
    fn add(&mut self, other: &Self) {
        self.count += other.count;
        self.successes += other.successes;
        self.best = self.best.min(other.best);
        self.worst = self.worst.max(other.worst);
        if other.updated >= self.updated {
            (self.last, self.updated) = (other.last, other.updated);
        }
    }

    /// From 0 to 1.
    pub(super) fn success_rate(&self) -> f64 {
        // A count is far below what a float holds exactly.
        self.successes as f64 / self.count as f64
    }
}

/// Adds up the rows that differ by their source alone.
pub(super) fn without_sources(rows: Vec<Row>) -> Vec<Row> {
    let mut merged: HashMap<(String, String, String, bool), Row> = HashMap::new();
    for mut row in rows {
        row.source.clear();
        let encrypted = row.tls == ENCRYPTED;
        let key = (
            row.destination.clone(),
            row.method.clone(),
            row.path.clone(),
            encrypted,
        );
        match merged.get_mut(&key) {
            None => {
                merged.insert(key, row);
            }
            Some(known) => {
                if row.tally.updated > known.tally.updated {
                    known.tls = row.tls;
                }
                known.tally.add(&row.tally);
            }
        }
    }
    merged.into_values().collect()
}

fn id(id: Option<StreamId>) -> (u32, u64) {
    let StreamId { base, stream } = id.unwrap_or_default();
    (base, stream)
}

fn std_duration(duration: Option<prost_types::Duration>) -> Duration {
    duration
        .and_then(|duration| Duration::try_from(duration).ok())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests;
