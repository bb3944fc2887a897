//! Checks of the category kubernetes-api: whether there is a cluster, and a recent one.

use k8s_openapi::apimachinery::pkg::version::Info;

use super::report::{Finding, Report, Stop};
use crate::{
    control_plane::{Kubernetes, kubernetes, within},
    global::Global,
};

/// Minor version of Kubernetes 1 that knows everything that our manifests use.
const MINOR_MIN: u32 = 29;

/// Returns a client of a cluster that answers.
pub(super) async fn check(report: &mut Report, global: &Global) -> Result<Kubernetes, Stop> {
    report.category("kubernetes-api");
    let client = kubernetes(global)
        .await
        .map_err(|error| error.reason().to_owned());
    let kubernetes = report.require(
        "can initialize the client",
        "set KUBECONFIG, or use --kubeconfig and --context",
        client,
    )?;
    let version = within(kubernetes.client.apiserver_version()).await;
    let version = report.require(
        "can query the Kubernetes API",
        "does `kubectl version` work with the same kubeconfig?",
        version.map_err(|error| kubernetes.explain(&error)),
    )?;
    report.add(
        "is running the minimum Kubernetes API version",
        "upgrade the cluster",
        Finding::from(recent(&version)),
    );
    Ok(kubernetes)
}

fn recent(version: &Info) -> Result<(), String> {
    // Some providers write `29+`.
    let minor = version
        .minor
        .trim_end_matches(|c: char| !c.is_ascii_digit());
    let (Ok(major), Ok(minor)) = (version.major.parse::<u32>(), minor.parse::<u32>()) else {
        return Err(format!(
            "{:?} is not a version of Kubernetes",
            version.git_version
        ));
    };
    if (major, minor) < (1, MINOR_MIN) {
        return Err(format!(
            "Kubernetes is on version [{}], but version [1.{MINOR_MIN}.0] or more recent is required",
            version.git_version.trim_start_matches('v')
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(major: &str, minor: &str) -> Info {
        Info {
            major: major.into(),
            minor: minor.into(),
            git_version: format!("v{major}.{minor}.0"),
            ..Info::default()
        }
    }

    #[test]
    fn clusters_older_than_ours_manifests_are_refused() {
        assert_eq!(recent(&version("1", "29")), Ok(()));
        assert_eq!(recent(&version("1", "34+")), Ok(()));
        assert_eq!(recent(&version("2", "0")), Ok(()));
        assert_eq!(
            recent(&version("1", "28")).expect_err("too old"),
            "Kubernetes is on version [1.28.0], but version [1.29.0] or more recent is required"
        );
        assert!(recent(&version("", "x")).is_err());
    }
}
