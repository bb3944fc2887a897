//! The rows of `linkerd check`: what each of them says, what to do when it fails, and where in
//! `docs/checks.md` there is more about it. Entry: [`Row`].

/// The page about the rows, in the repository. Hints point into it.
pub(super) const PAGE: &str = "docs/checks.md";

/// A row, in the order of printing. A closed list: another check is another variant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Row {
    KubernetesClient,
    KubernetesQuery,
    KubernetesVersion,
    KubernetesClock,
    PreNamespace,
    PreRights,
    ExistenceNamespace,
    ExistencePods,
    ExistenceConfig,
    HaReady,
    HaNodes,
    HaBudgets,
    ApiClient,
    ApiQuery,
    /// One for each thing that `linkerd-api` depends on; it brings the description.
    ApiSelfCheck,
    VersionCli,
    VersionControlPlane,
    CaWorkloads,
    CaMarked,
    CaReadable,
    CaBundles,
    CaAnchors,
    CaNames,
    CaCertificates,
    CaValid,
    CaRenewal,
    InjectorReadable,
    InjectorConfigured,
    InjectorTrusted,
    InjectorAlone,
    InjectorPods,
    InjectorOrphans,
    DataPlaneNamespace,
    DataPlaneReady,
    DataPlaneMeshed,
    DataPlaneVersion,
    DataPlaneLoaded,
}

/// What is printed of a row.
#[derive(Clone, Copy, Debug)]
pub(super) struct Words {
    /// Where [`PAGE`] is about it.
    pub(super) anchor: &'static str,
    /// What is checked, as a claim.
    pub(super) description: &'static str,
    /// What to do when the claim is wrong; `<namespace>` is the control plane's.
    pub(super) hint: &'static str,
}

/// What to do when certificates are missing or bad.
const CA_HINT: &str = "is linkerd-ca running? `kubectl -n <namespace> logs deploy/linkerd-ca ca`";

impl Row {
    /// What is printed of it.
    pub(super) const fn words(self) -> Words {
        let (anchor, description, hint) = match self {
            Self::KubernetesClient => (
                "k8s-api-client",
                "can initialize the client",
                "set KUBECONFIG, or use --kubeconfig and --context",
            ),
            Self::KubernetesQuery => (
                "k8s-api-query",
                "can query the Kubernetes API",
                "does `kubectl version` work with the same kubeconfig?",
            ),
            Self::KubernetesVersion => (
                "k8s-version",
                "is running the minimum Kubernetes API version",
                "upgrade the cluster",
            ),
            Self::KubernetesClock => (
                "k8s-clock",
                "its clock and the one of this machine agree",
                "set both by the network: by this machine's clock `linkerd check` judges certificates",
            ),
            Self::PreNamespace => (
                "pre-ns",
                "control plane namespace does not already exist",
                "choose another one with --linkerd-namespace, or run `linkerd check` without --pre",
            ),
            Self::PreRights => (
                "pre-rights",
                "can create the control plane's objects",
                "ask for the rights named above, or let an administrator install",
            ),
            Self::ExistenceNamespace => (
                "l5d-existence-ns",
                "control plane namespace exists",
                "install with `linkerd install --tls=optional | kubectl apply -f -`, name it with \
                 --linkerd-namespace, or ask for the right to see it",
            ),
            Self::ExistencePods => (
                "l5d-existence-pods",
                "control plane pods are ready",
                "look at `kubectl -n <namespace> describe pods`; --wait waits for what only needs time",
            ),
            Self::ExistenceConfig => (
                "l5d-existence-config",
                "the values of the installation are kept",
                "`linkerd upgrade` and `linkerd prune` need them: `linkerd upgrade --reset-values` with the flags of \
                 that installation keeps them anew",
            ),
            Self::HaReady => (
                "l5d-ha-ready",
                "every pod of a component that has several is ready",
                "look at `kubectl -n <namespace> describe pods`; with --ha each needs a node of its own",
            ),
            Self::HaNodes => (
                "l5d-ha-nodes",
                "pods of one component are on different nodes",
                "`kubectl -n <namespace> rollout restart` it; `linkerd upgrade --ha` requires it",
            ),
            Self::HaBudgets => (
                "l5d-ha-budgets",
                "a node that is drained takes one pod of a component at a time",
                "`linkerd upgrade --ha`, or --set podDisruptionBudget.enabled=true",
            ),
            Self::ApiClient => (
                "l5d-api-client",
                "can initialize the client",
                "does `kubectl port-forward` to the pod of linkerd-api work?",
            ),
            Self::ApiQuery => (
                "l5d-api-query",
                "can query the control plane API",
                "look at the log: `kubectl -n <namespace> logs deploy/linkerd-api api`",
            ),
            Self::ApiSelfCheck => (
                "l5d-api-self-check",
                "control plane can talk to what it depends on",
                "look at the pod it talks to, and at the log of linkerd-api",
            ),
            Self::VersionCli => (
                "l5d-version-cli",
                "cli is up-to-date",
                "use the linkerd program of the expected version",
            ),
            Self::VersionControlPlane => (
                "l5d-version-control",
                "control plane is up-to-date",
                "if this program is the newer one: `linkerd upgrade -l <namespace> | kubectl apply -f -`; \
                 otherwise use the program of that version",
            ),
            Self::CaWorkloads => (
                "l5d-ca-workloads",
                "can list the workloads that are marked for TLS",
                "use a kubeconfig that may read workloads in all namespaces",
            ),
            Self::CaMarked => (
                "l5d-ca-marked",
                "workloads are marked for TLS",
                "mark them with `linkerd inject --tls=optional`",
            ),
            Self::CaReadable => (
                "l5d-ca-readable",
                "can read trust bundles and certificates",
                "use a kubeconfig that may get ConfigMaps and Secrets in the namespaces of the mesh",
            ),
            Self::CaBundles => (
                "l5d-ca-bundles",
                "every namespace with marked workloads has the trust bundle",
                CA_HINT,
            ),
            Self::CaAnchors => (
                "l5d-ca-anchors",
                "trust anchors are within their validity period",
                "replace the root before it ends",
            ),
            Self::CaNames => (
                "l5d-ca-names",
                "names of marked workloads make identities",
                "give the workload a shorter name, or inject it without --tls",
            ),
            Self::CaCertificates => (
                "l5d-ca-certificates",
                "every marked workload has its certificate",
                CA_HINT,
            ),
            Self::CaValid => (
                "l5d-ca-valid",
                "certificates are valid, fit their keys and chain to the trust bundle",
                CA_HINT,
            ),
            Self::CaRenewal => (
                "l5d-ca-renewal",
                "certificates are renewed in time",
                CA_HINT,
            ),
            Self::InjectorReadable => (
                "l5d-injector-readable",
                "can read the webhook's configuration",
                "use a kubeconfig that may get MutatingWebhookConfigurations",
            ),
            Self::InjectorConfigured => (
                "l5d-injector-configured",
                "the API server asks linkerd-injector about new pods",
                "nothing that is created is meshed: `linkerd upgrade -l <namespace> | kubectl apply -f -`",
            ),
            Self::InjectorTrusted => (
                "l5d-injector-trusted",
                "the API server trusts linkerd-injector",
                "linkerd-ca writes both: `kubectl -n <namespace> logs deploy/linkerd-ca ca`",
            ),
            Self::InjectorAlone => (
                "l5d-injector-alone",
                "no other injector wants the same pods",
                "install all control planes but one with --set injector.enabled=false",
            ),
            Self::InjectorPods => (
                "l5d-injector-pods",
                "pods that ask for a proxy have one",
                "use a kubeconfig that may list Namespaces and pods in the whole cluster",
            ),
            Self::InjectorOrphans => (
                "l5d-injector-orphans",
                "proxies are of a control plane that is there",
                "`kubectl rollout restart` the workloads that linkerd-injector meshes; of the others `linkerd uninject` \
                 the manifests, `linkerd inject` them again and apply them",
            ),
            Self::DataPlaneNamespace => (
                "l5d-data-plane-ns",
                "data plane namespace exists",
                "name another one with --namespace, or none for all",
            ),
            Self::DataPlaneReady => (
                "l5d-data-plane-ready",
                "proxies are running and ready",
                "look at `kubectl describe pod` and at the log of the container linkerd-proxy",
            ),
            Self::DataPlaneMeshed => (
                "l5d-data-plane-meshed",
                "pods are meshed",
                "mesh them with `linkerd inject`",
            ),
            Self::DataPlaneVersion => (
                "l5d-data-plane-version",
                "proxies are up-to-date",
                "restart workloads that linkerd-injector meshes (kubectl rollout restart); inject the manifests of the \
                 others again and apply them",
            ),
            Self::DataPlaneLoaded => (
                "l5d-data-plane-loaded",
                "proxies have loaded their certificates",
                "run `linkerd check` for the certificates; a pod of before them may need a minute",
            ),
        };
        Words {
            anchor,
            description,
            hint,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The page itself.
    const TEXT: &str = include_str!("../../../../docs/checks.md");

    const ALL: [Row; 37] = [
        Row::KubernetesClient,
        Row::KubernetesQuery,
        Row::KubernetesVersion,
        Row::KubernetesClock,
        Row::PreNamespace,
        Row::PreRights,
        Row::ExistenceNamespace,
        Row::ExistencePods,
        Row::ExistenceConfig,
        Row::HaReady,
        Row::HaNodes,
        Row::HaBudgets,
        Row::ApiClient,
        Row::ApiQuery,
        Row::ApiSelfCheck,
        Row::VersionCli,
        Row::VersionControlPlane,
        Row::CaWorkloads,
        Row::CaMarked,
        Row::CaReadable,
        Row::CaBundles,
        Row::CaAnchors,
        Row::CaNames,
        Row::CaCertificates,
        Row::CaValid,
        Row::CaRenewal,
        Row::InjectorReadable,
        Row::InjectorConfigured,
        Row::InjectorTrusted,
        Row::InjectorAlone,
        Row::InjectorPods,
        Row::InjectorOrphans,
        Row::DataPlaneNamespace,
        Row::DataPlaneReady,
        Row::DataPlaneMeshed,
        Row::DataPlaneVersion,
        Row::DataPlaneLoaded,
    ];

    /// Each row of a table of [`TEXT`] with the anchor and the description that begin a section there.
    fn sections() -> Vec<(&'static str, &'static str)> {
        let anchors = TEXT.split("<a id=\"").skip(1);
        anchors
            .map(|section| {
                let (anchor, rest) = section.split_once("\"></a>").expect("an anchor ends");
                let heading = rest.trim_start().strip_prefix("### ");
                let heading = heading.expect("a heading follows the anchor");
                (anchor, heading.lines().next().expect("a line"))
            })
            .collect()
    }

    #[test]
    fn every_row_has_its_section_and_every_section_its_row() {
        let rows: Vec<(&str, &str)> = ALL
            .iter()
            .map(|row| (row.words().anchor, row.words().description))
            .collect();
        assert_eq!(rows, sections());
    }

    #[test]
    fn the_list_has_every_row_in_order() {
        for (index, row) in ALL.into_iter().enumerate() {
            assert_eq!(row as usize, index, "{row:?}");
        }
        assert_eq!(ALL.len(), Row::DataPlaneLoaded as usize + 1);
    }
}
