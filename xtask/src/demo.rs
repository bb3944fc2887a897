//! `cargo xtask demo`: a Kubernetes, the mesh and the sample app in one go, ending with the table
//! that says TLS 100 %.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context as _, Result};

use crate::mesh::Mesh;
use crate::progress::{seconds, step};
use crate::{cluster, command, images};

/// Arguments of `cargo xtask demo`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Remove the local cluster and everything in it
    #[arg(long, conflicts_with_all = ["context", "registry"])]
    down: bool,
    /// Use this context of your kubeconfig instead of a local cluster
    #[arg(long, requires = "registry")]
    context: Option<String>,
    /// Push the images there; your cluster pulls them from there
    #[arg(long, requires = "context")]
    registry: Option<String>,
    /// Talk http with a registry that is not on this machine
    #[arg(long, requires = "registry")]
    plain_http: bool,
}

/// Runs the task.
///
/// # Errors
/// The first step that fails.
pub(crate) fn run(args: Args) -> Result<ExitCode> {
    let Args {
        down,
        context,
        registry,
        plain_http,
    } = args;
    if down {
        cluster::down()?;
        return Ok(ExitCode::SUCCESS);
    }
    let started = Instant::now();
    let mesh = match (context, registry) {
        (Some(context), Some(registry)) => on_own_cluster(context, registry, plain_http)?,
        _ => on_local_cluster(&images::Options::default(), cluster::NODES_DEFAULT)?,
    };
    step("install the mesh", || mesh.install())?;
    step("inject the sample app", || mesh.inject_sample_app())?;
    let table = step("wait until every row says TLS 100%", || mesh.tls_table())?;
    anstream::eprintln!("{:>8}  in all\n", seconds(started.elapsed()));
    anstream::print!("{table}");
    say_what_next(&mesh);
    Ok(ExitCode::SUCCESS)
}

/// Brings up a local cluster of so many nodes with the images that `options` name, and returns how to reach it. Go and
/// cargo build side by side: each has phases in which it keeps one core only.
///
/// # Errors
/// The first step that fails.
pub(crate) fn on_local_cluster(options: &images::Options, nodes: usize) -> Result<Mesh> {
    let (built, up) = std::thread::scope(|scope| {
        let up = scope.spawn(|| step("local Kubernetes", || cluster::up(nodes)));
        let built = step("images", || images::build(options));
        (built, up.join().expect("the thread only returns errors"))
    });
    let (built, up) = (built?, up?);
    step("load the images", || cluster::load(&built.archives()))?;
    Ok(Mesh {
        kubectl: up.kubectl,
        linkerd: built.linkerd.clone(),
        kubeconfig: Some(up.kubeconfig),
        context: None,
        registry: options.registry.clone(),
        prometheus_image: Some(built.name_of("prometheus")?.to_owned()),
    })
}

fn on_own_cluster(context: String, registry: String, plain_http: bool) -> Result<Mesh> {
    let options = images::Options {
        registry: registry.clone(),
        prometheus: false,
        servers: false,
    };
    let built = step("images", || images::build(&options))?;
    step("push the images", || images::push(&built, plain_http))?;
    Ok(Mesh {
        kubectl: command::on_path("kubectl").context("kubectl is needed on the PATH")?,
        linkerd: built.linkerd,
        kubeconfig: None,
        context: Some(context),
        registry,
        prometheus_image: None,
    })
}

fn say_what_next(mesh: &Mesh) {
    let folder = |file: &PathBuf| {
        file.parent()
            .map(|f| f.display().to_string())
            .unwrap_or_default()
    };
    anstream::eprintln!("\nTo go on in this shell:");
    if let Some(kubeconfig) = &mesh.kubeconfig {
        anstream::eprintln!("  export KUBECONFIG={}", kubeconfig.display());
    }
    if let Some(context) = &mesh.context {
        anstream::eprintln!("  kubectl config use-context {context}");
    }
    anstream::eprintln!(
        "  export PATH={}:{}:$PATH",
        folder(&mesh.linkerd),
        folder(&mesh.kubectl)
    );
    anstream::eprintln!("Then try:");
    for line in [
        "linkerd check",
        "linkerd stat deploy -n emojivoto",
        "linkerd stat deploy -n emojivoto --to deploy/voting -o wide",
        "kubectl get secrets -n emojivoto",
        "kubectl delete secrets --all -n emojivoto   # they are back within seconds",
    ] {
        anstream::eprintln!("  {line}");
    }
    if mesh.kubeconfig.is_some() {
        anstream::eprintln!("To remove it all: cargo xtask demo --down");
    }
}
