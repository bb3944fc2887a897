//! The certificates and kubeconfigs of the local cluster, made anew for each `up`.
//! Entry: [`write()`]. They are for one machine and its bridge; they last as long as the cluster.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose,
};
use serde_json::json;

use super::layout::{self, HOST, KUBERNETES_SERVICE, Layout};

/// Users of the API server: the name of the file, the user, the group.
const USERS: [(&str, &str, Option<&str>); 6] = [
    ("admin", "admin", Some("system:masters")),
    (
        "kube-controller-manager",
        "system:kube-controller-manager",
        None,
    ),
    ("kube-scheduler", "system:kube-scheduler", None),
    ("kube-proxy", "system:kube-proxy", None),
    (
        "load-balancer",
        // It has the rights of the controller that a cloud would run.
        "system:serviceaccount:kube-system:service-controller",
        None,
    ),
    ("coredns", "coredns", None),
];

/// Writes the root, and the certificates and kubeconfigs of all components, for `nodes` nodes.
pub(super) fn write(layout: &Layout, nodes: usize) -> Result<()> {
    let pki = layout.state.join("pki");
    fs::create_dir_all(&pki).with_context(|| format!("cannot make {}", pki.display()))?;
    let mut params = parameters("linkerd-local-cluster", None, &[])?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::DigitalSignature,
    ];
    let key = KeyPair::generate()?;
    let root = Root {
        pem: params.self_signed(&key)?.pem(),
        issuer: Issuer::new(params, key),
    };
    file(&layout.certificate("ca"), &root.pem)?;
    file(&layout.key("ca"), &root.issuer.key().serialize_pem())?;
    let service_accounts = KeyPair::generate()?;
    file(
        &layout.key("service-accounts"),
        &service_accounts.serialize_pem(),
    )?;
    file(
        &layout.public_key("service-accounts"),
        &service_accounts.public_key_pem(),
    )?;

    let kubernetes = [
        "localhost",
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
        "127.0.0.1",
        KUBERNETES_SERVICE,
        HOST,
    ];
    root.sign(
        layout,
        "kube-apiserver",
        "kube-apiserver",
        None,
        &kubernetes,
    )?;
    root.sign(layout, "front-proxy", "front-proxy", None, &[])?;
    root.sign(
        layout,
        "kubelet-client",
        "kube-apiserver-kubelet-client",
        Some("system:masters"),
        &[],
    )?;
    for (name, user, group) in USERS {
        root.sign(layout, name, user, group, &[])?;
        root.kubeconfig(layout, name, &layout.kubeconfig_of(name))?;
    }
    root.kubeconfig(layout, "admin", &layout.kubeconfig())?;
    for number in 1..=nodes {
        let (name, address) = (layout::node_name(number), layout::node_address(number));
        let user = format!("system:node:{name}");
        root.sign(
            layout,
            &name,
            &user,
            Some("system:nodes"),
            &[&name, &address],
        )?;
        root.kubeconfig(layout, &name, &layout.kubeconfig_of(&name))?;
    }
    Ok(())
}

struct Root {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Root {
    /// Writes a certificate and key for `user`, good for both sides of a connection.
    fn sign(
        &self,
        layout: &Layout,
        name: &str,
        user: &str,
        group: Option<&str>,
        addresses: &[&str],
    ) -> Result<()> {
        let mut params = parameters(user, group, addresses)?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ClientAuth,
            ExtendedKeyUsagePurpose::ServerAuth,
        ];
        let key = KeyPair::generate()?;
        file(
            &layout.certificate(name),
            &params.signed_by(&key, &self.issuer)?.pem(),
        )?;
        file(&layout.key(name), &key.serialize_pem())
    }

    /// Writes a kubeconfig of the user `name`, whose certificate was written before. It holds all it
    /// needs, so it may be copied elsewhere.
    fn kubeconfig(&self, layout: &Layout, name: &str, path: &Path) -> Result<()> {
        let encoded = |path: &Path| -> Result<String> {
            Ok(STANDARD.encode(fs::read(path).with_context(|| format!("{}", path.display()))?))
        };
        let kubeconfig = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "local", "cluster": {
                "server": layout::api_server(),
                "certificate-authority-data": STANDARD.encode(&self.pem),
            }}],
            "users": [{"name": name, "user": {
                "client-certificate-data": encoded(&layout.certificate(name))?,
                "client-key-data": encoded(&layout.key(name))?,
            }}],
            "contexts": [{"name": "local", "context": {"cluster": "local", "user": name}}],
            "current-context": "local",
        });
        file(path, &format!("{kubeconfig:#}\n"))
    }
}

fn parameters(user: &str, group: Option<&str>, addresses: &[&str]) -> Result<CertificateParams> {
    let addresses: Vec<String> = addresses
        .iter()
        .map(|&address| address.to_owned())
        .collect();
    let mut params = CertificateParams::new(addresses)?;
    params.distinguished_name = DistinguishedName::new();
    if let Some(group) = group {
        params
            .distinguished_name
            .push(DnType::OrganizationName, group);
    }
    params.distinguished_name.push(DnType::CommonName, user);
    Ok(params)
}

/// Writes a file that only its owner reads: most of these are keys or hold one.
fn file(path: &Path, text: &str) -> Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = fs::File::options();
    let file = options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes()))
        .with_context(|| format!("cannot write {}", path.display()))
}
