//! `linkerd upgrade`, `prune` and `uninstall` as a user runs them, with an API server that knows what
//! `linkerd install` has printed.

use expect_test::expect;

use crate::kubernetes::{Running, refusal, success};

/// What the control plane and others have made meanwhile.
const LATER: &str = "\
apiVersion: v1
kind: Secret
metadata: {name: linkerd-ca-root, namespace: linkerd, labels: {linkerd.io/control-plane-ns: linkerd}}
---
apiVersion: v1
kind: Secret
metadata:
  name: web-deployment-tls-linkerd-io
  namespace: shop
  labels: {linkerd.io/control-plane-ns: linkerd}
  ownerReferences: [{apiVersion: apps/v1, kind: Deployment, name: web, uid: of-web}]
---
# Goes with its owner.
apiVersion: v1
kind: Secret
metadata:
  name: linkerd-api-deployment-tls-linkerd-io
  namespace: linkerd
  labels: {linkerd.io/control-plane-ns: linkerd}
  ownerReferences: [{apiVersion: apps/v1, kind: Deployment, name: linkerd-api, uid: of-linkerd-api}]
---
apiVersion: v1
kind: ConfigMap
metadata: {name: linkerd-ca-bundle, namespace: shop, labels: {linkerd.io/control-plane-ns: linkerd}}
---
apiVersion: coordination.k8s.io/v1
kind: Lease
metadata: {name: linkerd-ca, namespace: linkerd}
---
# Not ours.
apiVersion: v1
kind: Secret
metadata: {name: password, namespace: shop}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: kube-root-ca.crt, namespace: linkerd}
---
# Of another control plane, whose namespace's name begins like ours.
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata:
  name: linkerd-linkerd-two-api
  labels:
    app.kubernetes.io/part-of: Linkerd
    app.kubernetes.io/component: api
---
apiVersion: v1
kind: Pod
metadata:
  name: linkerd-api-0
  namespace: linkerd
  labels: {linkerd.io/control-plane-ns: linkerd}
  ownerReferences: [{apiVersion: apps/v1, kind: ReplicaSet, name: linkerd-api-5d4f, uid: of-linkerd-api-5d4f}]
---
apiVersion: v1
kind: Pod
metadata: {name: once-0, namespace: shop, labels: {linkerd.io/control-plane-ns: linkerd}}
status: {phase: Succeeded}
---
";

const MESHED_POD: &str = "\
apiVersion: v1
kind: Pod
metadata: {name: web-0, namespace: shop, labels: {linkerd.io/control-plane-ns: linkerd}}
status: {phase: Running}
---
";

/// What an earlier version had, before there was the label of the control plane's namespace.
const EARLIER: &str = "\
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata:
  name: linkerd-linkerd-web
  labels: {app.kubernetes.io/part-of: Linkerd, app.kubernetes.io/component: web}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: linkerd-web, namespace: linkerd, labels: {app.kubernetes.io/part-of: Linkerd}}
---
";

/// An install with `namespace.create` has made it.
const NAMESPACE: &str = "\
apiVersion: v1
kind: Namespace
metadata: {name: linkerd, labels: {app.kubernetes.io/part-of: Linkerd}}
---
";

/// What `linkerd install` prints.
fn install(arguments: &[&str]) -> String {
    let empty = Running::with("");
    success(empty.linkerd(&[&["install"], arguments].concat()))
}

#[test]
fn upgrade_keeps_every_flag_and_value_of_the_install() {
    let flags = [
        "--tls=optional",
        "--ha",
        "--registry=r.test/mesh",
        "--proxy-log-level=debug",
        "--proxy-uid=7",
        "--native-sidecar=false",
        "--skip-inbound-ports=25",
        "--skip-inbound-ports=26-27",
        "--metrics-port=5191",
        "--prometheus-image=r.test/prometheus:v2",
        "--set=nodeSelector.disk=ssd,tolerations[0].operator=Exists",
        "--set=nodeSelector.kubernetes\\.io/os=null",
    ];
    let installed = install(&flags);
    let api = Running::with(&installed);
    assert_eq!(success(api.linkerd(&["upgrade"])), installed);
    let again = Running::with(&success(api.linkerd(&["upgrade"])));
    assert_eq!(success(again.linkerd(&["upgrade"])), installed);
}

#[test]
fn what_upgrade_is_given_lies_on_top_and_is_kept() {
    let api = Running::with(&install(&[
        "--tls=optional",
        "--registry=r.test",
        "--proxy-uid=7",
    ]));
    let upgraded = success(api.linkerd(&["upgrade", "--proxy-uid=8", "--set=ca.leafLifetime=1h"]));
    let expected = install(&[
        "--tls=optional",
        "--registry=r.test",
        "--proxy-uid=8",
        "--set=ca.leafLifetime=1h",
    ]);
    assert_eq!(upgraded, expected);
    let short = api.linkerd(&["upgrade", "--set=ca.leafLifetime=30s"]);
    let warning = "Warning: ca.leafLifetime is 30s: ";
    assert!(
        short.code == Some(0) && short.stderr.starts_with(warning),
        "{short:?}"
    );
    // A flag that is given its default is given.
    let upgraded = success(api.linkerd(&["upgrade", "--registry=localhost/linkerd", "--tls="]));
    assert_eq!(upgraded, install(&["--proxy-uid=7"]));
}

#[test]
fn upgrade_forgets_what_was_kept_when_told_to() {
    let api = Running::with(&install(&["--tls=optional", "--registry=r.test"]));
    let upgraded = success(api.linkerd(&["upgrade", "--reset-values", "--tls=optional"]));
    assert_eq!(upgraded, install(&["--tls=optional"]));
}

#[test]
fn without_a_control_plane_there_is_nothing_to_upgrade_prune_or_uninstall() {
    let api = Running::with("");
    for command in [&["upgrade"][..], &["upgrade", "--reset-values"], &["prune"]] {
        assert_eq!(
            refusal(api.linkerd(command)),
            "Error: there is no control plane in namespace \"linkerd\": install one with `linkerd \
             install --tls=optional | kubectl apply -f -`, or name its namespace with --linkerd-namespace\n"
        );
    }
    assert_eq!(
        refusal(api.linkerd(&["uninstall", "-L", "mesh"])),
        "Error: there is nothing of a control plane in namespace \"mesh\"\n"
    );
}

#[test]
fn a_control_plane_of_a_version_that_kept_no_values_needs_the_flags_again() {
    let installed = install(&["--tls=optional"]);
    let earlier: Vec<&str> = installed
        .split("---\n")
        .filter(|document| !document.contains("linkerd-config"))
        .collect();
    let api = Running::with(&earlier.join("---\n"));
    for command in ["upgrade", "prune"] {
        assert_eq!(
            refusal(api.linkerd(&[command])),
            "Error: the control plane in namespace \"linkerd\" has no ConfigMap linkerd-config with \
             the values it was installed with: use `linkerd upgrade --reset-values` with the flags of \
             that install\n"
        );
    }
    let upgraded = success(api.linkerd(&["upgrade", "--reset-values", "--tls=optional"]));
    assert_eq!(upgraded, installed);
}

#[test]
fn what_no_longer_fits_is_named_and_other_images_are_warned_of() {
    let installed = install(&["-v", "v0"]);
    let run = Running::with(&installed).linkerd(&["upgrade"]);
    assert_eq!((run.code, run.stdout), (Some(0), installed.clone()));
    let version = env!("CARGO_PKG_VERSION");
    let expected = format!(
        "Warning: image.tag is v0: the images will not be those of this version, {version}; `--set \
         image.tag=` is the way back to them\n"
    );
    assert_eq!(run.stderr, expected);
    assert_eq!(
        success(Running::with(&installed).linkerd(&["upgrade", "--set=image.tag="])),
        install(&[])
    );

    let old = installed.replace("  overrides: |\n", "  overrides: |\n    web: {}\n");
    assert_eq!(
        refusal(Running::with(&old).linkerd(&["upgrade"])),
        "Error: with the values that are installed (--reset-values leaves them out): values: web: \
         there is no such value\n"
    );
    let newer = install(&[]).replace(&format!("version: \"{version}\""), "version: \"99.0.0\"");
    let run = Running::with(&newer).linkerd(&["upgrade"]);
    let expected =
        format!("Warning: version 99.0.0 is installed, and this program is older: {version}\n");
    assert_eq!((run.code, run.stderr), (Some(0), expected));
}

#[test]
fn prune_prints_what_the_manifests_no_longer_have() {
    let installed = install(&["--tls=optional"]);
    let run = Running::with(&(installed.clone() + LATER)).linkerd(&["prune"]);
    assert_eq!(
        (run.code, run.stdout.as_str(), run.stderr.as_str()),
        (Some(0), "", "Nothing to prune.\n")
    );

    // A namespace that others have taken over would take everything in it along.
    let api = Running::with(&(installed + LATER + EARLIER + NAMESPACE));
    expect![[r"
        apiVersion: apps/v1
        kind: Deployment
        metadata:
          name: linkerd-web
          namespace: linkerd
        ---
        apiVersion: rbac.authorization.k8s.io/v1
        kind: ClusterRole
        metadata:
          name: linkerd-linkerd-web
        ---
    "]]
    .assert_eq(&success(api.linkerd(&["prune"])));
}

#[test]
fn what_earlier_versions_took_for_a_log_filter_keeps_nobody_from_upgrading() {
    let installed = install(&["--proxy-log-level=DEBUG,linkerd=Trace"]);
    let upgraded = success(Running::with(&installed).linkerd(&["upgrade"]));
    assert_eq!(upgraded, installed);

    let earlier = installed.replace("DEBUG,linkerd=Trace", "warn, h2");
    let run = Running::with(&earlier).linkerd(&["upgrade"]);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    assert!(
        run.stderr
            .contains("\"warn, h2\", is no log filter any more"),
        "{}",
        run.stderr
    );
    assert!(run.stdout.contains("warn,linkerd=info"), "{}", run.stdout);
}

#[test]
fn a_value_that_null_takes_away_is_missed() {
    let empty = Running::with("");
    let words = refusal(empty.linkerd(&["install", "--set=proxy.bindTimeout=null"]));
    assert!(
        words.contains("proxy.bindTimeout: it has to be there; null takes it away"),
        "{words}"
    );
}

#[test]
fn prune_says_nothing_of_another_version() {
    let version = |version: &str| format!("app.kubernetes.io/version: {version:?}");
    let other = install(&[]).replace(&version(linkerd_names::VERSION), &version("0.0.9"));
    let words = refusal(Running::with(&other).linkerd(&["prune"]));
    assert!(
        words.contains("is of version 0.0.9") && words.contains("linkerd upgrade"),
        "{words}"
    );
}

#[test]
fn uninstall_prints_everything_in_the_order_of_deletion() {
    let installed = install(&["--tls=optional", "--ha"]);
    let api = Running::with(&(installed + LATER + EARLIER));
    let printed = success(api.linkerd(&["uninstall"]));
    let line = |document: &str| {
        let value = |key: &str| {
            let line = document.lines().find_map(|line| line.strip_prefix(key));
            line.unwrap_or_default().to_owned()
        };
        let (kind, name) = (value("kind: "), value("  name: "));
        format!("{kind} {name} {}", value("  namespace: "))
            .trim_end()
            .to_owned()
            + "\n"
    };
    let documents = printed.split_terminator("---\n");
    let lines: String = documents.map(line).collect();
    expect![[r#"
        MutatingWebhookConfiguration linkerd-linkerd-injector
        Deployment linkerd-api linkerd
        Deployment linkerd-ca linkerd
        Deployment linkerd-destination linkerd
        Deployment linkerd-injector linkerd
        Deployment linkerd-prometheus linkerd
        Deployment linkerd-web linkerd
        ClusterRoleBinding linkerd-linkerd-api
        ClusterRoleBinding linkerd-linkerd-ca
        ClusterRoleBinding linkerd-linkerd-destination
        ClusterRoleBinding linkerd-linkerd-injector
        RoleBinding linkerd-ca linkerd
        ClusterRole linkerd-linkerd-api
        ClusterRole linkerd-linkerd-ca
        ClusterRole linkerd-linkerd-destination
        ClusterRole linkerd-linkerd-injector
        ClusterRole linkerd-linkerd-tap
        ClusterRole linkerd-linkerd-tap-proof
        ClusterRole linkerd-linkerd-web
        Role linkerd-ca linkerd
        PodDisruptionBudget linkerd-api linkerd
        PodDisruptionBudget linkerd-ca linkerd
        PodDisruptionBudget linkerd-destination linkerd
        PodDisruptionBudget linkerd-injector linkerd
        Service linkerd-api linkerd
        Service linkerd-destination linkerd
        Service linkerd-injector linkerd
        Service linkerd-prometheus linkerd
        ConfigMap linkerd-config linkerd
        ConfigMap linkerd-prometheus linkerd
        ConfigMap linkerd-ca-bundle shop
        Secret linkerd-ca-root linkerd
        Secret web-deployment-tls-linkerd-io shop
        Lease linkerd-ca linkerd
        ServiceAccount linkerd-api linkerd
        ServiceAccount linkerd-ca linkerd
        ServiceAccount linkerd-destination linkerd
        ServiceAccount linkerd-injector linkerd
        ServiceAccount linkerd-prometheus linkerd
        Namespace linkerd
    "#]]
    .assert_eq(&lines);
}

#[test]
fn uninstall_leaves_a_namespace_in_which_others_have_something() {
    let installed = install(&["--tls=optional"]) + LATER;
    let run = Running::with(&installed).linkerd(&["uninstall"]);
    assert!(run.stdout.contains("kind: Namespace"), "{}", run.stdout);
    assert_eq!((run.code, run.stderr.as_str()), (Some(0), ""));

    let silent = "apiVersion: apiregistration.k8s.io/v1\nkind: APIService\nmetadata: {name: v1.rings.test}\n\
                  spec: {group: rings.test}\nstatus: {conditions: [{type: Available, status: 'False'}]}\n---\n";
    let run = Running::with(&(installed.clone() + silent)).linkerd(&["uninstall"]);
    assert!(!run.stdout.contains("kind: Namespace"), "{}", run.stdout);
    let words = "nobody knows what others have in it: no answer from v1.rings.test";
    assert!(run.stderr.contains(words), "{}", run.stderr);

    let mine = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: mine, namespace: linkerd}\n---\n\
                apiVersion: cert.test/v1\nkind: Issuer\nmetadata: {name: root, namespace: linkerd}\n---\n";
    let run = Running::with(&(installed + mine)).linkerd(&["uninstall"]);
    assert!(!run.stdout.contains("kind: Namespace"), "{}", run.stdout);
    assert!(run.stdout.contains("kind: Deployment"), "{}", run.stdout);
    assert_eq!(
        (run.code, run.stderr.as_str()),
        (
            Some(0),
            "Namespace \"linkerd\" stays, for others have something in it: configmap/mine, issuer/root. If \
             nobody needs it: kubectl delete namespace linkerd\n"
        )
    );
}

#[test]
fn uninstall_refuses_while_pods_are_in_the_mesh() {
    let installed = install(&["--tls=optional"]);
    let free = Running::with(&(installed.clone() + LATER));
    let busy = Running::with(&(installed + LATER + MESHED_POD));
    assert_eq!(
        refusal(busy.linkerd(&["uninstall"])),
        "Error: 1 pod is in the mesh:\n  shop/web-0\nTake them out of the mesh first: kubectl get -n \
         NAMESPACE deploy -o yaml | linkerd uninject - | kubectl apply -f -\nwhere linkerd-injector has meshed \
         them: kubectl annotate namespace NAMESPACE linkerd.io/inject- && kubectl rollout restart -n NAMESPACE \
         deploy\nor use --force\n"
    );
    let run = busy.linkerd(&["uninstall", "--force"]);
    assert_eq!(
        (run.code, run.stdout),
        (Some(0), success(free.linkerd(&["uninstall"])))
    );
    assert_eq!(run.stderr, "Warning: 1 pod is in the mesh:\n  shop/web-0\n");
}

#[test]
fn what_helm_has_installed_is_left_to_helm() {
    let installed = install(&["--tls=optional"]);
    let config = installed
        .split("---\n")
        .find(|document| document.contains("name: linkerd-config\n"))
        .expect("the ConfigMap is there");
    let helm = config.replace(
        "  labels:\n",
        "  annotations: {meta.helm.sh/release-name: mesh}\n  labels:\n    \
         app.kubernetes.io/managed-by: Helm\n",
    );
    let api = Running::with(&helm);
    for command in ["upgrade", "prune", "uninstall"] {
        let words = refusal(api.linkerd(&[command]));
        let verb = if command == "uninstall" {
            command
        } else {
            "upgrade"
        };
        assert_eq!(
            words,
            format!(
                "Error: the control plane in namespace \"linkerd\" is Helm's release \"mesh\": use `helm \
                 {verb} --namespace linkerd mesh`\n"
            )
        );
    }
    let forced = success(api.linkerd(&["uninstall", "--force"]));
    assert!(forced.contains("linkerd-config"), "{forced}");
}
