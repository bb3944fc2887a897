//! Prints pods. Entries: [`names`], [`table()`], [`json()`]. Pure; columns and keys are an interface.

use linkerd_names::{OwnerKind, ResourceType};
use linkerd_proto::public::{ListPodsResponse, Pod, pod::Owner};
use serde_json::{Value, json};

use crate::{json_text, resource, table::left_aligned, visible::visible};

const NAMESPACE: &str = "NAMESPACE";
const COLUMNS: [&str; 4] = ["NAME", "MESHED", "STATUS", "OWNER"];
const WIDE_COLUMNS: [&str; 3] = ["IP", "MESHED_BY", "METRICS"];

/// `namespace/name` of each pod.
pub(super) fn names(pods: &[Pod]) -> String {
    let lines = pods.iter().map(|pod| format!("{}\n", visible(&pod.name)));
    lines.collect()
}

/// A row for each pod; nothing at all without pods. Meshed is what the control plane in the namespace
/// `control_plane` has meshed; wide, `MESHED_BY` is the namespace of whichever it was.
pub(super) fn table(
    answer: &ListPodsResponse,
    control_plane: &str,
    with_namespace: bool,
    wide: bool,
) -> String {
    if answer.pods.is_empty() {
        return String::new();
    }
    let row = |namespace: &str, cells: &[&str], wide_cells: &[&str]| -> Vec<String> {
        let namespace = with_namespace.then_some(namespace);
        let wide_cells = if wide { wide_cells } else { &[] };
        let cells = namespace.iter().chain(cells).chain(wide_cells);
        cells.map(|cell| (*cell).to_owned()).collect()
    };
    let mut rows = vec![row(NAMESPACE, &COLUMNS, &WIDE_COLUMNS)];
    for pod in &answer.pods {
        let (namespace, name) = split(&pod.name);
        let owner = owner(pod).map(|(kind, name)| {
            let prefix = resource::prefix(ResourceType::Workload(kind));
            format!("{prefix}{name}")
        });
        let metrics = match reports(answer, pod) {
            Some(true) => "√",
            Some(false) => "-",
            None => "?",
        };
        let meshed = if is_meshed(pod, control_plane) {
            "√"
        } else {
            "-"
        };
        rows.push(row(
            namespace,
            &[
                name,
                meshed,
                dash(&pod.status),
                dash(owner.as_deref().unwrap_or_default()),
            ],
            &[dash(&pod.pod_ip), dash(&pod.controller_namespace), metrics],
        ));
    }
    left_aligned(&rows)
}

/// All pods in one array, indented by two blanks. What is not known is null.
pub(super) fn json(answer: &ListPodsResponse, control_plane: &str) -> String {
    let some = |text: &str| Some(text.to_owned()).filter(|it| !it.is_empty());
    let pods: Vec<Value> = answer
        .pods
        .iter()
        .map(|pod| {
            let (namespace, name) = split(&pod.name);
            let owner = owner(pod);
            json!({
                "namespace": namespace,
                "name": name,
                "meshed": is_meshed(pod, control_plane),
                "meshed_by": some(&pod.controller_namespace),
                "status": pod.status,
                "owner_kind": owner.map(|(kind, _)| kind.as_str()),
                "owner_name": owner.map(|(_, name)| name),
                "ip": some(&pod.pod_ip),
                "reports_metrics": reports(answer, pod),
                "control_plane": pod.control_plane,
            })
        })
        .collect();
    json_text::pretty(&pods)
}

fn is_meshed(pod: &Pod, control_plane: &str) -> bool {
    pod.controller_namespace == control_plane
}

/// Whether the pod's proxy has reported metrics; none when nobody knows.
fn reports(answer: &ListPodsResponse, pod: &Pod) -> Option<bool> {
    answer.metrics_error.is_empty().then_some(pod.added)
}

fn owner(pod: &Pod) -> Option<(OwnerKind, &str)> {
    let (kind, name) = match pod.owner.as_ref()? {
        Owner::Deployment(name) => (OwnerKind::Deployment, name),
        Owner::ReplicaSet(name) => (OwnerKind::ReplicaSet, name),
        Owner::ReplicationController(name) => (OwnerKind::ReplicationController, name),
        Owner::StatefulSet(name) => (OwnerKind::StatefulSet, name),
        Owner::DaemonSet(name) => (OwnerKind::DaemonSet, name),
        Owner::Job(name) => (OwnerKind::Job, name),
        Owner::CronJob(name) => (OwnerKind::CronJob, name),
    };
    Some((kind, split(name).1))
}

/// The two parts of `namespace/name`.
fn split(name: &str) -> (&str, &str) {
    name.split_once('/').unwrap_or(("", name))
}

fn dash(text: &str) -> &str {
    if text.is_empty() { "-" } else { text }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    fn answer() -> ListPodsResponse {
        let pod = |name: &str, owner, by: &str| Pod {
            name: name.into(),
            pod_ip: "10.0.0.7".into(),
            owner,
            status: "Running".into(),
            added: true,
            controller_namespace: by.into(),
            ..Pod::default()
        };
        ListPodsResponse {
            pods: vec![
                pod(
                    "shop/db-0",
                    Some(Owner::StatefulSet("shop/db".into())),
                    "mesh",
                ),
                Pod {
                    name: "shop/job".into(),
                    status: "Pending".into(),
                    ..Pod::default()
                },
                pod(
                    "shop/web-1-a",
                    Some(Owner::Deployment("shop/web".into())),
                    "linkerd",
                ),
            ],
            ..ListPodsResponse::default()
        }
    }

    #[test]
    fn the_table_says_which_pods_are_meshed_and_whose_they_are() {
        expect![[r#"
            NAME      MESHED   STATUS    OWNER
            db-0      -        Running   sts/db
            job       -        Pending   -
            web-1-a   √        Running   deploy/web
        "#]]
        .assert_eq(&table(&answer(), "linkerd", false, false));
        expect![[r#"
            NAMESPACE   NAME      MESHED   STATUS    OWNER        IP         MESHED_BY   METRICS
            shop        db-0      -        Running   sts/db       10.0.0.7   mesh        √
            shop        job       -        Pending   -            -          -           -
            shop        web-1-a   √        Running   deploy/web   10.0.0.7   linkerd     √
        "#]]
        .assert_eq(&table(&answer(), "linkerd", true, true));
        assert_eq!(
            table(&ListPodsResponse::default(), "linkerd", true, true),
            ""
        );
    }

    #[test]
    fn programs_get_everything_and_null_for_what_is_not_known() {
        let mut answer = answer();
        answer.pods.truncate(2);
        answer.metrics_error = "no Prometheus".into();
        expect![[r#"
            [
              {
                "namespace": "shop",
                "name": "db-0",
                "meshed": false,
                "meshed_by": "mesh",
                "status": "Running",
                "owner_kind": "statefulset",
                "owner_name": "db",
                "ip": "10.0.0.7",
                "reports_metrics": null,
                "control_plane": false
              },
              {
                "namespace": "shop",
                "name": "job",
                "meshed": false,
                "meshed_by": null,
                "status": "Pending",
                "owner_kind": null,
                "owner_name": null,
                "ip": null,
                "reports_metrics": null,
                "control_plane": false
              }
            ]
        "#]]
        .assert_eq(&json(&answer, "linkerd"));
        assert_eq!(json(&ListPodsResponse::default(), "linkerd"), "[]\n");
    }

    #[test]
    fn a_name_alone_is_a_line_of_2018() {
        assert_eq!(names(&answer().pods), "shop/db-0\nshop/job\nshop/web-1-a\n");
    }
}
