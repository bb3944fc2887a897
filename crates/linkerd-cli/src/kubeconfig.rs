//! Reads the kubeconfig by kubectl's rules: which cluster, as whom, and in which namespace.
//! Entries: [`config`], [`namespace`]; [`place`] tells of the latter. Connects to nothing.

use std::error::Error;

use kube::{
    Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use tracing::debug;

use crate::{
    control_plane::{ConnectError, causes},
    global::Global,
};

/// kubectl's, when the context names none.
const NAMESPACE_DEFAULT: &str = "default";

/// What the flags and the kubeconfig say of the cluster; in a pod without a kubeconfig what is there instead.
///
/// # Errors
/// [`ConnectError::Kubernetes`] when the kubeconfig is missing, broken or has no such context.
pub(crate) async fn config(global: &Global) -> Result<Config, ConnectError> {
    let options = KubeConfigOptions {
        context: global.context.clone(),
        ..Default::default()
    };
    match &global.kubeconfig {
        Some(path) => {
            let kubeconfig = Kubeconfig::read_from(path).map_err(|error| broken(&error))?;
            Config::from_custom_kubeconfig(kubeconfig, &options)
                .await
                .map_err(|error| broken(&error))
        }
        None => match Config::from_kubeconfig(&options).await {
            Ok(config) => Ok(config),
            // In a pod there is a ServiceAccount instead of a file.
            Err(error) => match Config::incluster() {
                Ok(config) if global.context.is_none() => Ok(config),
                _ => Err(broken(&error)),
            },
        },
    }
}

/// The namespace that is meant: `given` by a flag, or else the one of the context.
///
/// Never fails: where there is no context to read, the way to the cluster ends before anybody is asked, with
/// the reason; `--api-addr` is a way that needs none.
pub(crate) async fn namespace(global: &Global, given: Option<&str>) -> String {
    if let Some(given) = given {
        return given.to_owned();
    }
    let namespace = match config(global).await {
        Ok(config) => config.default_namespace,
        Err(error) => {
            debug!(%error, "no kubeconfig that names a namespace");
            String::new()
        }
    };
    if namespace.is_empty() {
        return NAMESPACE_DEFAULT.to_owned();
    }
    debug!(namespace, "the namespace of the context");
    namespace
}

/// For people who may not know in which namespace was looked: ` in namespace "shop"`; nothing for all of them.
pub(crate) fn place(namespace: &str) -> String {
    if namespace.is_empty() {
        return String::new();
    }
    format!(" in namespace {namespace:?}")
}

/// Why nothing can be made of a kubeconfig. The first line says it all; further ones quote the file, which may
/// hold secrets.
pub(crate) fn broken(error: &dyn Error) -> ConnectError {
    ConnectError::Kubernetes(causes(error).lines().next().unwrap_or_default().to_owned())
}
