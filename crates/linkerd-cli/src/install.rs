//! `linkerd install`: prints the control plane's manifests. Needs no cluster.
//! [`Flags`] are the values that `install` and `upgrade` take; [`manifests`] is the chart rendered with
//! the values, then injected as the values say.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, anyhow, bail, ensure};
use linkerd_inject::Source;
use linkerd_issuer::lifetime;
use serde_json::{Value, json};

use crate::{chart, global::Global, proxy_flags::ProxyFlags, stdout};

/// Arguments of `linkerd install`.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  # The control plane, with certificates for everything that is injected with --tls=optional
  linkerd install --tls=optional | kubectl apply -f -

  # The same, and an identity service for what is injected with --identity=service
  linkerd install --tls=optional --identity=service | kubectl apply -f -

  # Three pods of each component, on three nodes
  linkerd install --tls=optional --ha | kubectl apply -f -

  # Images from a registry of one's own
  linkerd install --registry registry.example:5000/mesh | kubectl apply -f -

  # Without Prometheus: linkerd-api keeps the last hour itself
  linkerd install --tls=optional --set prometheus.enabled=false | kubectl apply -f -

  # Values of the chart
  linkerd install --set prometheus.retention=24h -f values.yaml | kubectl apply -f -")]
pub(crate) struct Args {
    #[command(flatten)]
    flags: Flags,
}

/// How the control plane is to be.
#[derive(clap::Args)]
pub(crate) struct Flags {
    #[command(flatten)]
    proxy: ProxyFlags,

    /// Three pods of linkerd-ca, linkerd-destination, linkerd-api and linkerd-injector each, every one on
    /// a node of its own, of which one at most may be evicted at a time
    #[arg(long)]
    ha: bool,

    /// Pods of linkerd-ca, linkerd-destination, linkerd-api and linkerd-injector each [default: 1]
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    controller_replicas: Option<u32>,

    /// Pods of Prometheus [default: 1]
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    prometheus_replicas: Option<u32>,

    /// What the control plane logs: error, warn, info, debug or trace; panic and fatal mean error
    /// [default: info]
    #[arg(long, value_name = "LEVEL")]
    controller_log_level: Option<String>,

    /// Full name of Prometheus' image [default: that of the chart]
    #[arg(long, value_name = "IMAGE")]
    prometheus_image: Option<String>,

    /// URL (http, host, port, path) of a Prometheus of your own; none is installed then
    #[arg(long, value_name = "URL")]
    prometheus_url: Option<String>,

    /// File with values of the chart, - for stdin; repeatable, the last one wins
    #[arg(short = 'f', long, value_name = "FILE")]
    values: Vec<PathBuf>,

    /// Value of the chart, key=value; repeatable, wins over files and flags
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,

    /// Value of the chart that is a text even if it looks like a number, key=value; repeatable, wins
    /// over --set
    #[arg(long, value_name = "KEY=VALUE")]
    set_string: Vec<String>,
}

/// Prints the manifests.
///
/// # Errors
/// When a flag or a value is wrong; nothing is printed on stdout then.
pub(crate) fn run(global: &Global, args: &Args) -> anyhow::Result<ExitCode> {
    let Args { flags } = args;
    let namespace = &global.linkerd_namespace;
    flags.check(namespace)?;
    let values = flags.over(default_values()?)?;
    let manifests = manifests(namespace, &values)?;
    warn_of_lifetime(&values);
    stdout::print(&manifests);
    Ok(ExitCode::SUCCESS)
}

/// Tells, on stderr, of certificates that end before kubelet has brought the next ones into the pods.
pub(crate) fn warn_of_lifetime(values: &Value) {
    let text = values["ca"]["leafLifetime"].as_str().unwrap_or_default();
    let short = lifetime::parse(text).is_ok_and(|life| life < lifetime::LIFETIME_IN_SECRET_MIN);
    if short && values["tls"] == "optional" && values["identity"] == "secret" {
        crate::stderr::tell!(
            "Warning: ca.leafLifetime is {text}: certificates are renewed a third of it before they end, and kubelet \
             may need two minutes to bring the new ones into running pods, which are plaintext meanwhile; \
             give it 6m or more, or --identity=service"
        );
    }
}

/// The chart's values as `install` without flags has them: it makes the namespace, which Helm does by a
/// flag of its own, and there is TLS only when asked for.
///
/// # Errors
/// When this build's chart is broken.
pub(crate) fn default_values() -> anyhow::Result<Value> {
    let mut values = chart::default_values()?;
    chart::merge(
        &mut values,
        json!({"tls": "", "namespace": {"create": true}}),
    );
    Ok(values)
}

/// The manifests of a control plane with these values, which are complete.
///
/// # Errors
/// When a value is wrong.
pub(crate) fn manifests(namespace: &str, values: &Value) -> anyhow::Result<String> {
    let overrides = chart::difference(&default_values()?, values);
    let rendered = chart::render(namespace, values, &overrides)?;
    let options = ProxyFlags::of_values(values).options(namespace)?;
    options.check()?;
    let source = Source {
        name: "chart".to_owned(),
        text: rendered,
    };
    Ok(linkerd_inject::inject(&[source], &options)?.yaml)
}

impl Flags {
    /// Checks those flags whose values clap does not check, in the order of 2018.
    ///
    /// # Errors
    /// The first one that is wrong.
    pub(crate) fn check(&self, namespace: &str) -> anyhow::Result<()> {
        if let Some(level) = &self.controller_log_level {
            log_level(level)?;
        }
        self.proxy.options(namespace)?;
        Ok(())
    }

    /// `values`, then `--ha`, then files, then flags, then `--set`, then `--set-string`.
    ///
    /// # Errors
    /// When a file cannot be read or a flag is wrong.
    pub(crate) fn over(&self, mut values: Value) -> anyhow::Result<Value> {
        let Self {
            proxy,
            ha,
            controller_replicas,
            prometheus_replicas,
            controller_log_level,
            prometheus_image,
            prometheus_url,
            values: files,
            set,
            set_string,
        } = self;
        if *ha {
            chart::merge(&mut values, chart::ha_values()?);
        }
        ensure!(
            files.iter().filter(|file| is_stdin(file)).count() <= 1,
            "--values - can be given once: stdin ends"
        );
        for file in files {
            chart::merge(&mut values, read_values(file)?);
        }
        chart::merge(&mut values, proxy.values());
        let log_level = controller_log_level.as_deref().map(log_level).transpose()?;
        let replicas = json!({"replicas": controller_replicas});
        let mut flags = json!({
            "ca": replicas,
            "destination": replicas,
            "api": replicas,
            "injector": replicas,
            "prometheus": {
                "replicas": prometheus_replicas,
                "image": prometheus_image,
                "url": prometheus_url,
            },
            "logLevel": log_level,
        });
        chart::drop_nulls(&mut flags);
        chart::merge(&mut values, flags);
        for text in set {
            chart::set(&mut values, text).map_err(|error| anyhow!("--set {error}"))?;
        }
        for text in set_string {
            chart::set_string(&mut values, text)
                .map_err(|error| anyhow!("--set-string {error}"))?;
        }
        Ok(values)
    }
}

fn is_stdin(file: &Path) -> bool {
    file.as_os_str() == "-"
}

/// The mapping in a file of values; an empty one when there is nothing in it.
fn read_values(file: &Path) -> anyhow::Result<Value> {
    let name = if is_stdin(file) {
        "stdin".to_owned()
    } else {
        file.display().to_string()
    };
    let failed = || format!("cannot read {name}");
    if name.starts_with("http://") || name.starts_with("https://") {
        bail!(
            "{name}: URLs are not read; download it yourself: curl -sSfL {name} | linkerd … -f -"
        );
    }
    let text = if is_stdin(file) {
        io::read_to_string(io::stdin())
    } else {
        fs::read_to_string(file)
    };
    let values = linkerd_inject::yaml::read(&text.with_context(failed)?, 1).with_context(failed)?;
    match values {
        Value::Null => Ok(json!({})),
        Value::Object(_) => Ok(values),
        _ => bail!("cannot read {name}: values have to be a mapping"),
    }
}

/// The level as our processes and the chart name it: they have none above `error`, as there was in 2018.
fn log_level(text: &str) -> anyhow::Result<&str> {
    match text {
        "panic" | "fatal" => Ok("error"),
        "error" | "warn" | "info" | "debug" | "trace" => Ok(text),
        _ => bail!("--controller-log-level must be one of: error, warn, info, debug, trace"),
    }
}
