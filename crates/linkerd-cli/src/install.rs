//! `linkerd install`: prints the control plane's manifests. Needs no cluster.
//! The chart rendered with the flags as values, then injected with the same flags.

use std::{fs, path::PathBuf, process::ExitCode};

use anyhow::{Context as _, bail};
use linkerd_inject::{Source, options::PullPolicy};
use linkerd_names::{REGISTRY_DEFAULT, VERSION, ports};
use serde_json::{Value, json};

use crate::{
    chart,
    global::Global,
    proxy_flags::{IDENTITY_DEFAULT, ProxyFlags},
    stdout,
};

/// Arguments of `linkerd install`.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  # The control plane, with certificates for everything that is injected with --tls=optional
  linkerd install --tls=optional | kubectl apply -f -

  # The same, and an identity service for what is injected with --identity=service
  linkerd install --tls=optional --identity=service | kubectl apply -f -

  # Images from a registry of one's own
  linkerd install --registry registry.example:5000/mesh | kubectl apply -f -

  # A value of the chart
  linkerd install --set prometheus.retention=24h | kubectl apply -f -")]
pub(crate) struct Args {
    #[command(flatten)]
    proxy: ProxyFlags,

    /// Pods of linkerd-ca, linkerd-destination and linkerd-api each [default: 1]
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    controller_replicas: Option<u32>,

    /// Pods of Prometheus [default: 1]
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    prometheus_replicas: Option<u32>,

    /// What the control plane logs: panic, fatal, error, warn, info or debug [default: info]
    #[arg(long, value_name = "LEVEL")]
    controller_log_level: Option<String>,

    /// Full name of Prometheus' image [default: that of the chart]
    #[arg(long, value_name = "IMAGE")]
    prometheus_image: Option<String>,

    /// File with values of the chart; repeatable, the last one wins
    #[arg(short = 'f', long, value_name = "FILE")]
    values: Vec<PathBuf>,

    /// Value of the chart, key=value; repeatable, wins over files and flags
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

/// Prints the manifests.
///
/// # Errors
/// When a flag or a value is wrong; nothing is printed on stdout then.
pub(crate) fn run(global: &Global, args: &Args) -> anyhow::Result<ExitCode> {
    let namespace = &global.linkerd_namespace;
    // This one is checked before all others.
    let log_level = args
        .controller_log_level
        .as_deref()
        .map(log_level)
        .transpose()?;
    args.proxy.options(namespace)?;
    let values = values(args, log_level)?;

    let rendered = chart::render(namespace, &values)?;
    let options = with_values(&args.proxy, &values).options(namespace)?;
    options.check()?;
    let source = Source {
        name: "chart".to_owned(),
        text: rendered,
    };
    let output = linkerd_inject::inject(&[source], &options)?;
    stdout::print(&output.yaml);
    Ok(ExitCode::SUCCESS)
}

/// The chart's values, then files, then flags, then `--set`.
fn values(args: &Args, log_level: Option<&str>) -> anyhow::Result<Value> {
    let Args {
        proxy,
        controller_replicas,
        prometheus_replicas,
        controller_log_level: _,
        prometheus_image,
        values: files,
        set,
    } = args;
    let mut values = chart::default_values()?;
    values["tls"] = json!("");
    values["namespace"]["create"] = json!(true);
    for file in files {
        let text =
            fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        let over = linkerd_inject::yaml::read(&text, 1)
            .with_context(|| format!("cannot read {}", file.display()))?;
        if !(over.is_object() || over.is_null()) {
            bail!(
                "cannot read {}: values have to be a mapping",
                file.display()
            );
        }
        if over.is_object() {
            chart::merge(&mut values, over);
        }
    }

    merge_flags(&mut values, proxy);
    if let Some(replicas) = controller_replicas {
        for component in ["ca", "destination", "api"] {
            values[component]["replicas"] = json!(replicas);
        }
    }
    if let Some(replicas) = prometheus_replicas {
        values["prometheus"]["replicas"] = json!(replicas);
    }
    if let Some(level) = log_level {
        values["logLevel"] = json!(level);
    }
    if let Some(image) = prometheus_image {
        values["prometheus"]["image"] = json!(image);
    }
    for text in set {
        chart::set(&mut values, text)?;
    }
    Ok(values)
}

/// Puts those flags on top that differ from the defaults, which are the chart's as well.
fn merge_flags(values: &mut Value, proxy: &ProxyFlags) {
    if !proxy.tls.is_empty() {
        values["tls"] = json!(proxy.tls);
    }
    if proxy.identity != IDENTITY_DEFAULT {
        values["identity"] = json!(proxy.identity);
    }
    if proxy.registry != REGISTRY_DEFAULT {
        values["image"]["registry"] = json!(proxy.registry);
    }
    if proxy.linkerd_version != VERSION {
        values["image"]["tag"] = json!(proxy.linkerd_version);
    }
    if proxy.image_pull_policy != PullPolicy::default().as_str() {
        values["image"]["pullPolicy"] = json!(proxy.image_pull_policy);
    }
    if proxy.api_port != ports::DESTINATION {
        values["destination"]["port"] = json!(proxy.api_port);
    }
}

/// The flags as the chart's values have them, so that the control plane and its proxies agree
/// whichever of the two ways the user chose. The values fit the schema.
fn with_values(proxy: &ProxyFlags, values: &Value) -> ProxyFlags {
    let text = |value: &Value, flag: &str| match value.as_str() {
        None | Some("") => flag.to_owned(),
        Some(text) => text.to_owned(),
    };
    let image = &values["image"];
    let port = values["destination"]["port"]
        .as_u64()
        .and_then(|port| u16::try_from(port).ok());
    ProxyFlags {
        tls: text(&values["tls"], ""),
        identity: text(&values["identity"], &proxy.identity),
        registry: text(&image["registry"], &proxy.registry),
        linkerd_version: text(&image["tag"], &proxy.linkerd_version),
        image_pull_policy: text(&image["pullPolicy"], &proxy.image_pull_policy),
        api_port: port.unwrap_or(proxy.api_port),
        ..proxy.clone()
    }
}

/// The level as our processes name it: they have none above `error`.
fn log_level(text: &str) -> anyhow::Result<&str> {
    match text {
        "panic" | "fatal" => Ok("error"),
        "error" | "warn" | "info" | "debug" => Ok(text),
        _ => bail!("--controller-log-level must be one of: panic, fatal, error, warn, info, debug"),
    }
}
