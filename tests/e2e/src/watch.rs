//! A watch that notes when each change was seen. Entry: [`Watch::start`].

use std::{
    io::BufReader,
    process::{Child, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread::{self, JoinHandle},
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result};
use serde::Deserialize;
use serde_json::Value;

use crate::Namespace;

/// One change, and when it was seen.
#[derive(Clone, Debug)]
pub struct Event {
    /// Milliseconds since 1970.
    pub unix_ms: u64,
    /// `ADDED`, `MODIFIED` or `DELETED`.
    pub change: String,
    /// The object afterwards.
    pub object: Value,
}

/// A running `kubectl get --watch`; ends with its value.
#[derive(Debug)]
pub struct Watch {
    kubectl: Child,
    reader: Option<JoinHandle<()>>,
    events: Arc<Mutex<Vec<Event>>>,
}

#[derive(Deserialize)]
struct Line {
    #[serde(rename = "type")]
    change: String,
    object: Value,
}

impl Watch {
    /// Watches all objects of a kind in the namespace.
    ///
    /// # Errors
    /// When kubectl cannot be started.
    pub fn start(namespace: &Namespace, kind: &str) -> Result<Self> {
        let args = [
            "-n",
            &namespace.name,
            "get",
            kind,
            "--watch",
            "--output-watch-events",
            "-o",
            "json",
        ];
        let mut command = namespace.cluster.kubectl_command(&args);
        let mut kubectl = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let stdout = kubectl.stdout.take().context("kubectl has no stdout")?;
        let events = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&events);
        let reader = thread::spawn(move || {
            let lines = serde_json::Deserializer::from_reader(BufReader::new(stdout)).into_iter();
            // The text breaks off when kubectl is ended.
            for Line { change, object } in lines.map_while(Result::ok) {
                let event = Event {
                    unix_ms: unix_ms(),
                    change,
                    object,
                };
                seen.lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(event);
            }
        });
        Ok(Self {
            kubectl,
            reader: Some(reader),
            events,
        })
    }

    /// All changes so far.
    pub fn events(&self) -> Vec<Event> {
        self.events
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// When the first change was seen for which `found` is true of the object named `name`.
    pub fn first(&self, name: &str, found: impl Fn(&Event) -> bool) -> Option<u64> {
        let events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        let of_name = |event: &&Event| event.object["metadata"]["name"] == name;
        events
            .iter()
            .filter(of_name)
            .find(|event| found(event))
            .map(|event| event.unix_ms)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.kubectl.kill());
        drop(self.kubectl.wait());
        if let Some(reader) = self.reader.take() {
            drop(reader.join());
        }
    }
}

fn unix_ms() -> u64 {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}
