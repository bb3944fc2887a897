//! What was done with each object, and how that is told to people.
//! Entry: [`Report::inject_text`] and [`Report::uninject_text`], both meant for stderr.

use std::fmt::Write as _;

/// Column in which the status of a check stands.
const STATUS_COLUMN: usize = 75;

/// What became of one object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The proxy was added.
    Injected,
    /// The proxy was taken out.
    Uninjected,
    /// Left alone: the pod uses the host's network, whose rules would be rewritten.
    HostNetwork,
    /// Left alone: it has a proxy already.
    KnownSidecar,
    /// Left alone: the pod is for nodes with Windows, and the proxy for Linux.
    Windows,
    /// Left alone: the annotation `linkerd.io/inject: disabled` says so.
    Disabled,
    /// Left alone: another workload has made it, and makes it anew when that one changes.
    Owned,
    /// Left alone: nothing to do with an object like this.
    Unsupported,
}

/// What became of one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// `deployment/web`.
    pub object: String,
    /// What was done.
    pub outcome: Outcome,
    /// The workload that has made it, as `deployment/web`.
    pub belongs_to: Option<String>,
    /// Whether a container has a UDP port, which no proxy sees.
    pub udp: bool,
    /// Whether it is a Job whose pods will never end, because their proxy does not.
    pub endless: bool,
    /// Annotations that begin like those that configure the proxy, and that we do not know.
    pub ignored: Vec<String>,
    /// What `linkerd.io/inject` says that is neither `enabled` nor `disabled`, where the proxy was added.
    pub unknown_word: Option<String>,
    /// `tcpSocket` probes of ports that their container does not have, in words.
    pub unknown_ports: Vec<String>,
}

/// What became of all objects, in the order in which they were read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// One entry per object; a List has one per item.
    pub entries: Vec<Entry>,
}

impl Entry {
    /// An object of which no more is to be said.
    pub(crate) fn new(object: String, outcome: Outcome) -> Self {
        Self {
            object,
            outcome,
            belongs_to: None,
            udp: false,
            endless: false,
            ignored: Vec::new(),
            unknown_word: None,
            unknown_ports: Vec::new(),
        }
    }
}

impl Outcome {
    /// Whether the object is another one than before.
    pub const fn is_change(self) -> bool {
        matches!(self, Self::Injected | Self::Uninjected)
    }
}

impl Report {
    /// The report of `linkerd inject`.
    pub fn inject_text(&self) -> String {
        let host_network = self.with(Outcome::HostNetwork);
        let sidecar = self.with(Outcome::KnownSidecar);
        let disabled = self.with(Outcome::Disabled);
        let windows = self.with(Outcome::Windows);
        let injected = self.with(Outcome::Injected);
        let udp = self.objects(|entry| entry.udp);
        let endless = self.objects(|entry| entry.endless);

        let mut text = String::from("\n");
        check(
            &mut text,
            "hostNetwork: pods do not use host networking",
            (!host_network.is_empty()).then(|| {
                format!(
                    "\"hostNetwork: true\" detected in {}",
                    host_network.join(", ")
                )
            }),
        );
        check(
            &mut text,
            "sidecar: pods do not have a proxy or initContainer already injected",
            (!sidecar.is_empty())
                .then(|| format!("known sidecar detected in {}", sidecar.join(", "))),
        );
        if !disabled.is_empty() {
            let objects = disabled.join(", ");
            check(
                &mut text,
                "disabled: pods are not annotated to disable injection",
                Some(format!(
                    "\"linkerd.io/inject: disabled\" annotation set on {objects}"
                )),
            );
        }
        self.owned(&mut text);
        if !windows.is_empty() {
            let objects = windows.join(", ");
            check(
                &mut text,
                "windows: pods are for nodes with Linux, as the proxy is",
                Some(format!("\"windows\" as the operating system in {objects}")),
            );
        }
        check(
            &mut text,
            "supported: at least one resource injected",
            injected
                .is_empty()
                .then(|| "no supported objects found".to_owned()),
        );
        check(
            &mut text,
            "udp: pod specs do not include UDP ports",
            (!udp.is_empty()).then(|| {
                let verb = if udp.len() == 1 { "uses" } else { "use" };
                format!("{} {verb} \"protocol: UDP\"", udp.join(", "))
            }),
        );
        if !endless.is_empty() {
            let objects = endless.join(", ");
            check(
                &mut text,
                "jobs: pods that are to end have a native sidecar",
                Some(format!(
                    "{objects} will never complete; inject without --native-sidecar=false"
                )),
            );
        }
        let unknown_words = self.entries.iter().filter_map(|entry| {
            let word = entry.unknown_word.as_ref()?;
            Some(format!("{} has {word:?}", entry.object))
        });
        let unknown_words: Vec<String> = unknown_words.collect();
        if !unknown_words.is_empty() {
            let objects = unknown_words.join(", ");
            check(
                &mut text,
                "words: linkerd.io/inject is \"enabled\" or \"disabled\" where it is written",
                Some(format!("{objects}, and the proxy was added all the same")),
            );
        }
        let ignored = self.told(" has ", |entry| &entry.ignored);
        if !ignored.is_empty() {
            check(
                &mut text,
                "annotations: pods have none that configure what our proxy does not know",
                Some(ignored),
            );
        }
        let unknown_ports = self.told(": ", |entry| &entry.unknown_ports);
        if !unknown_ports.is_empty() {
            check(
                &mut text,
                "probes: containers have the ports that their tcpSocket probes name",
                Some(unknown_ports),
            );
        }
        self.summary(&mut text, &injected, "injected");
        text
    }

    /// The report of `linkerd uninject`.
    pub fn uninject_text(&self) -> String {
        let mut text = String::new();
        self.owned(&mut text);
        self.summary(&mut text, &self.with(Outcome::Uninjected), "uninjected");
        text
    }

    /// Which objects are left alone because others make them.
    fn owned(&self, text: &mut String) {
        let owned = self.entries.iter().filter_map(|entry| {
            let owner = entry.belongs_to.as_ref()?;
            Some(format!("{} belongs to {owner}", entry.object))
        });
        let owned: Vec<String> = owned.collect();
        if !owned.is_empty() {
            check(
                text,
                "owned: objects are not made by other workloads",
                Some(owned.join(", ")),
            );
        }
    }

    fn with(&self, outcome: Outcome) -> Vec<&str> {
        self.objects(|entry| entry.outcome == outcome)
    }

    fn objects(&self, wanted: impl Fn(&Entry) -> bool) -> Vec<&str> {
        let entries = self.entries.iter().filter(|entry| wanted(entry));
        entries.map(|entry| &*entry.object).collect()
    }

    /// What is wrong with which objects; empty when nothing is.
    fn told(&self, verb: &str, faults: impl Fn(&Entry) -> &Vec<String>) -> String {
        let entries = self.entries.iter().filter(|it| !faults(it).is_empty());
        let told = entries.map(|it| format!("{}{verb}{}", it.object, faults(it).join(", ")));
        told.collect::<Vec<_>>().join("; ")
    }

    fn summary(&self, text: &mut String, changed: &[&str], verb: &str) {
        let total = self.entries.len();
        let count = changed.len();
        append(
            text,
            format_args!("\nSummary: {count} of {total} YAML document(s) {verb}\n"),
        );
        for object in changed {
            append(text, format_args!("  {object}\n"));
        }
        text.push('\n');
    }
}

fn check(text: &mut String, claim: &str, warning: Option<String>) {
    append(text, format_args!("{claim:.<STATUS_COLUMN$}"));
    match warning {
        None => text.push_str("[ok]\n"),
        Some(warning) => append(text, format_args!("[warn] -- {warning}\n")),
    }
}

fn append(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    text.write_fmt(arguments)
        .expect("a String takes everything");
}
