//! Checks of the category kubernetes-api: whether there is a cluster, a recent one, and at which time
//! it lives.

use std::time::{Duration, SystemTime};

use hyper::{Request, header};
use k8s_openapi::apimachinery::pkg::version::Info;
use kube::{Client, client::Body};

use super::{
    leaf::human,
    report::{Finding, Report, Stop},
    row::Row,
};
use crate::{
    control_plane::{Kubernetes, kubernetes, within},
    global::Global,
};

/// Minor version of Kubernetes 1 that knows everything that our manifests use.
const MINOR_MIN: u32 = 29;

/// Certificates allow for ten minutes between two nodes, and each may be off to its own side. A clock that is set
/// by the network is right to the second.
const CLOCK_DIFFERENCE_MAX: Duration = Duration::from_secs(5 * 60);

/// Returns a client of a cluster that answers.
pub(super) async fn check(report: &mut Report, global: &Global) -> Result<Kubernetes, Stop> {
    report.category("kubernetes-api");
    let client = kubernetes(global)
        .await
        .map_err(|error| error.reason().to_owned());
    let kubernetes = report.require(Row::KubernetesClient, client)?;
    let version = within(kubernetes.client.apiserver_version()).await;
    let version = report.require(
        Row::KubernetesQuery,
        version.map_err(|error| kubernetes.explain(&error)),
    )?;
    report.add(Row::KubernetesVersion, Finding::from(recent(&version)));
    let server = within(date(&kubernetes.client)).await;
    report.add(
        Row::KubernetesClock,
        match server {
            Ok(Some(server)) => agree(server, SystemTime::now()),
            Ok(None) => Finding::Warning("the Kubernetes API tells no time".to_owned()),
            Err(error) => Finding::Warning(kubernetes.explain(&error)),
        },
    );
    Ok(kubernetes)
}

/// The time at the API server, to the second; none when it does not tell.
async fn date(client: &Client) -> kube::Result<Option<SystemTime>> {
    let request = Request::get("/version")
        .body(Body::empty())
        .expect("a valid request");
    let response = client.send(request).await?;
    let date = response.headers().get(header::DATE);
    let date = date.and_then(|date| date.to_str().ok());
    Ok(date.and_then(|date| httpdate::parse_http_date(date).ok()))
}

fn agree(server: SystemTime, here: SystemTime) -> Finding {
    let (difference, behind) = match here.duration_since(server) {
        Ok(ahead) => (ahead, "the cluster's"),
        Err(error) => (error.duration(), "this machine's"),
    };
    if difference <= CLOCK_DIFFERENCE_MAX {
        return Finding::Success(None);
    }
    Finding::Warning(format!("{behind} clock is {} behind", human(difference)))
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
    fn clocks_that_differ_by_minutes_are_told_of_and_which_one_is_behind() {
        let now = SystemTime::now();
        let some = Duration::from_secs(299);
        for server in [now, now - some, now + some] {
            assert_eq!(agree(server, now), Finding::Success(None));
        }
        let hour = Duration::from_secs(3600);
        for (server, expected) in [
            (now - hour, "the cluster's clock is 1h 0m behind"),
            (now + hour, "this machine's clock is 1h 0m behind"),
        ] {
            assert_eq!(agree(server, now), Finding::Warning(expected.to_owned()));
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
