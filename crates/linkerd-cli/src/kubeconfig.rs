//! Reads the kubeconfig by kubectl's rules: which cluster, as whom, and in which namespace.
//! Entries: [`read`], [`config`], [`namespace`]; [`place`] tells of the latter. Connects to nothing.

use std::{
    error::Error,
    path::{Path, PathBuf},
};

use kube::{
    Config,
    client::AuthError,
    config::{ExecConfig, KubeConfigOptions, Kubeconfig, KubeconfigError},
};
use tracing::debug;

use crate::{
    control_plane::{ConnectError, causes},
    global::Global,
};

/// Names files, with colons between them.
const VARIABLE: &str = "KUBECONFIG";

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
    let config = match read(global.kubeconfig.as_deref()) {
        Ok(kubeconfig) => Config::from_custom_kubeconfig(kubeconfig, &options)
            .await
            .map_err(|error| broken(&error)),
        Err(error) => Err(error),
    };
    match config {
        // In a pod there is a ServiceAccount instead of a file.
        Err(error) if global.kubeconfig.is_none() => match Config::incluster() {
            Ok(config) if global.context.is_none() => Ok(config),
            _ => Err(error),
        },
        config => config,
    }
}

/// The file that a flag gives; else those that the environment names, merged, without those that do not exist; else
/// the one of the home directory.
///
/// # Errors
/// [`ConnectError::Kubernetes`] names the file that cannot be read.
pub(crate) fn read(given: Option<&Path>) -> Result<Kubeconfig, ConnectError> {
    let readable = |kubeconfig: Result<Kubeconfig, KubeconfigError>| {
        kubeconfig.map_err(|error| match error {
            KubeconfigError::ReadConfig(error, path) => {
                let path = path.display();
                ConnectError::Kubernetes(format!("cannot read the kubeconfig {path}: {error}"))
            }
            error => broken(&error),
        })
    };
    if let Some(path) = given {
        return readable(Kubeconfig::read_from(path));
    }
    let value = std::env::var_os(VARIABLE).unwrap_or_default();
    let named = std::env::split_paths(&value).filter(|path| !path.as_os_str().is_empty());
    let (there, missing): (Vec<PathBuf>, Vec<PathBuf>) = named.partition(|path| path.exists());
    if there.is_empty() && !missing.is_empty() {
        let missing: Vec<String> = missing.iter().map(|it| it.display().to_string()).collect();
        return Err(ConnectError::Kubernetes(format!(
            "there is no kubeconfig: {VARIABLE} names no file that exists: {}",
            missing.join(", ")
        )));
    }
    if there.is_empty() {
        return readable(Kubeconfig::read());
    }
    let merged = there
        .iter()
        .try_fold(Kubeconfig::default(), |merged, path| {
            Kubeconfig::read_from(path).and_then(|next| merged.merge(next))
        });
    readable(merged)
}

/// Why no client can be made of a kubeconfig whose user has these credentials.
pub(crate) fn no_client(error: &kube::Error, exec: Option<&ExecConfig>) -> ConnectError {
    let (kube::Error::Auth(AuthError::AuthExecStart(cause)), Some(exec)) = (error, exec) else {
        return broken(error);
    };
    let program = exec.command.as_deref().unwrap_or_default();
    let hint = exec.install_hint.as_deref().unwrap_or_default().trim();
    let hint = if hint.is_empty() {
        String::new()
    } else {
        format!("\n{hint}")
    };
    ConnectError::Kubernetes(format!(
        "cannot run {program:?}, which the kubeconfig names for credentials: {cause}{hint}"
    ))
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
