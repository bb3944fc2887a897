//! What is in each image. Entry: [`RECIPES`] names the images, [`Recipe::tree`] collects the files.
//! Nothing but the program, what it needs to run, and the names of its users.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::binaries::Binaries;
use super::servers;
use super::tree::{Rights, Tree};
use crate::debian;

/// The user that images of others, such as upstream's Prometheus, call `nobody`.
const NOBODY: u32 = 65534;

/// Of an application: never the proxy's, whose connections no proxy takes.
const APPLICATION: u32 = 1000;

/// Bytes that the proxy's image may have, unpacked: every pod of every node has one.
const PROXY_BYTES_MAX: u64 = 15_000_000;

/// One image.
pub(super) struct Recipe {
    /// Name without registry and tag.
    pub(super) name: &'static str,
    pub(super) tag: &'static str,
    title: &'static str,
    description: &'static str,
    licenses: &'static str,
    user: u32,
    contents: Contents,
    /// Most bytes that the files may have.
    pub(super) bytes_max: Option<u64>,
}

enum Contents {
    /// One static program of ours, at `/<program>`.
    Program(&'static str),
    /// `linkerd-init`, which calls the iptables of Debian.
    Init,
    /// Debian's Prometheus, in the places where upstream's image has it.
    Prometheus,
    /// Debian's servers, and the sample application as their client.
    Servers,
}

const OURS: Recipe = Recipe {
    name: "",
    tag: linkerd_names::VERSION,
    title: "",
    description: "",
    licenses: "Apache-2.0",
    user: linkerd_names::PROXY_UID,
    contents: Contents::Program(""),
    bytes_max: None,
};

/// Every image, in the order in which they are made.
pub(super) const RECIPES: [Recipe; 9] = [
    Recipe {
        name: "proxy",
        title: "Linkerd proxy",
        description: "Sidecar that gives a pod's connections mutual TLS and metrics",
        contents: Contents::Program("linkerd-proxy"),
        bytes_max: Some(PROXY_BYTES_MAX),
        ..OURS
    },
    Recipe {
        name: "proxy-init",
        title: "Linkerd init container",
        description: "Redirects a pod's connections to its proxy",
        licenses: "Apache-2.0 AND GPL-2.0-or-later AND LGPL-2.1-or-later",
        user: 0,
        contents: Contents::Init,
        ..OURS
    },
    Recipe {
        name: "ca",
        title: "Linkerd certificate authority",
        description: "Issues the certificate of every meshed workload",
        contents: Contents::Program("linkerd-ca"),
        ..OURS
    },
    Recipe {
        name: "destination",
        title: "Linkerd destination service",
        description: "Tells proxies the endpoints of a destination and their identities",
        contents: Contents::Program("linkerd-destination"),
        ..OURS
    },
    Recipe {
        name: "api",
        title: "Linkerd API",
        description: "Answers the command line's questions about the mesh",
        contents: Contents::Program("linkerd-api"),
        ..OURS
    },
    Recipe {
        name: "injector",
        title: "Linkerd injector",
        description: "Adds the proxy to pods as they are created",
        contents: Contents::Program("linkerd-injector"),
        ..OURS
    },
    Recipe {
        name: PROMETHEUS,
        title: "Prometheus",
        description: "Debian's Prometheus, for the local cluster",
        licenses: "Apache-2.0 AND LGPL-2.1-or-later",
        user: NOBODY,
        contents: Contents::Prometheus,
        ..OURS
    },
    Recipe {
        name: "emojivoto",
        tag: "v1",
        title: "emojivoto",
        description: "Sample application of web, emoji, voting and a bot",
        user: APPLICATION,
        contents: Contents::Program("emojivoto"),
        ..OURS
    },
    Recipe {
        name: SERVERS,
        tag: "v1",
        title: "Servers",
        description: "Debian's MariaDB, PostgreSQL, Redis, OpenSMTPD and nginx, for tests",
        licenses: "Apache-2.0 AND BSD-2-Clause AND BSD-3-Clause AND GPL-2.0-only AND ISC AND PostgreSQL",
        user: servers::USER,
        contents: Contents::Servers,
        ..OURS
    },
];

/// Name of the image that only the local cluster needs; others take upstream's.
pub(super) const PROMETHEUS: &str = "prometheus";

/// Name of the image that only cluster tests need.
pub(super) const SERVERS: &str = "servers";

impl Recipe {
    /// Collects the image's files.
    ///
    /// # Errors
    /// When one is missing, or Debian's packages cannot be had.
    pub(super) fn tree(&self, binaries: &Binaries) -> Result<Tree> {
        let mut tree = Tree::default();
        add_users(&mut tree);
        match self.contents {
            Contents::Program(name) => tree.program(binaries.get(name)?, format!("/{name}"))?,
            Contents::Init => {
                tree.program(binaries.get("linkerd-init")?, "/linkerd-init")?;
                add_iptables(&mut tree)?;
            }
            Contents::Prometheus => add_prometheus(&mut tree)?,
            Contents::Servers => {
                tree.program(binaries.get("emojivoto")?, "/emojivoto")?;
                servers::add(&mut tree)?;
            }
        }
        Ok(tree)
    }

    /// Returns what the container runtime needs to know, with `created` as a label.
    pub(super) fn config(&self, created: &str) -> Value {
        let labels = json!({
            "org.opencontainers.image.created": created,
            "org.opencontainers.image.description": self.description,
            "org.opencontainers.image.licenses": self.licenses,
            "org.opencontainers.image.title": self.title,
            "org.opencontainers.image.version": self.tag,
        });
        // Kubernetes' runAsNonRoot wants a number.
        let user = format!("{0}:{0}", self.user);
        match self.contents {
            Contents::Program(name) => {
                json!({ "User": user, "Entrypoint": [format!("/{name}")], "Labels": labels })
            }
            Contents::Init => json!({
                "User": user,
                "Entrypoint": ["/linkerd-init"],
                "Env": ["PATH=/usr/sbin"],
                "Labels": labels,
            }),
            Contents::Prometheus => json!({
                "User": user,
                "Entrypoint": ["/bin/prometheus"],
                "Cmd": [
                    "--config.file=/etc/prometheus/prometheus.yml",
                    "--storage.tsdb.path=/prometheus",
                ],
                "WorkingDir": "/prometheus",
                "Labels": labels,
            }),
            Contents::Servers => json!({
                "User": user,
                "Entrypoint": ["/emojivoto"],
                "Env": [format!("PATH={}", servers::PATH)],
                "WorkingDir": "/tmp",
                "Labels": labels,
            }),
        }
    }
}

/// Programs ask for the name of their user; glibc asks /etc/hosts first only when told to.
fn add_users(tree: &mut Tree) {
    let uid = linkerd_names::PROXY_UID;
    for (path, text) in [
        (
            "/etc/passwd",
            format!(
                "root:x:0:0:root:/:/sbin/nologin\n\
                 linkerd:x:{uid}:{uid}:linkerd:/:/sbin/nologin\n\
                 nobody:x:{NOBODY}:{NOBODY}:nobody:/:/sbin/nologin\n"
            ),
        ),
        (
            "/etc/group",
            format!("root:x:0:\nlinkerd:x:{uid}:\nnogroup:x:{NOBODY}:\n"),
        ),
        (
            "/etc/nsswitch.conf",
            "passwd: files\ngroup: files\nhosts: files dns\n".to_owned(),
        ),
    ] {
        tree.file(path, Rights::READABLE, text.into_bytes());
    }
}

/// The save and restore tools of both packet filters, their match extensions and libraries.
fn add_iptables(tree: &mut Tree) -> Result<()> {
    if !Path::new("/usr/sbin/xtables-nft-multi").exists() {
        debian::install(&["iptables"])?;
    }
    for tool in ["xtables-nft-multi", "xtables-legacy-multi"] {
        tree.same(&Path::new("/usr/sbin").join(tool))?;
    }
    for family in ["iptables", "ip6tables"] {
        for filter in ["nft", "legacy"] {
            for what in ["save", "restore"] {
                tree.same(Path::new(&format!("/usr/sbin/{family}-{filter}-{what}")))?;
            }
        }
    }
    let files = debian::files_of("iptables")?;
    let extensions: Vec<_> = files.iter().filter(|path| is_ip_extension(path)).collect();
    for extension in &extensions {
        tree.same(extension)?;
    }
    let tools = [
        "/usr/sbin/xtables-nft-multi",
        "/usr/sbin/xtables-legacy-multi",
    ]
    .map(Path::new);
    let extensions = extensions.into_iter().map(|path| path.as_path());
    for library in debian::libraries(tools.into_iter().chain(extensions), &[])? {
        tree.library(&library)?;
    }
    let copyright = Path::new("/usr/share/doc/iptables/copyright");
    if copyright.exists() {
        tree.same(copyright)?;
    }
    // The legacy tools lock this file. They could not make it on a read-only root, but they open it.
    tree.file(
        "/run/xtables.lock",
        Rights {
            mode: 0o600,
            owner: 0,
        },
        Vec::new(),
    );
    Ok(())
}

/// Whether the path is an extension for IPv4 and IPv6, not for bridges or ARP.
fn is_ip_extension(path: &Path) -> bool {
    let in_folder = path
        .parent()
        .is_some_and(|folder| folder.ends_with("xtables"));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    in_folder
        && ["libxt_", "libipt_", "libip6t_"]
            .iter()
            .any(|prefix| name.starts_with(prefix))
}

fn add_prometheus(tree: &mut Tree) -> Result<()> {
    let files = debian::unpack("prometheus")?;
    let program = files.join("usr/bin/prometheus");
    tree.program(&program, "/bin/prometheus")?;
    for library in debian::libraries([program.as_path()], &[])? {
        tree.library(&library)?;
    }
    let copyright = files.join("usr/share/doc/prometheus/copyright");
    let text = std::fs::read(&copyright)
        .with_context(|| format!("cannot read {}", copyright.display()))?;
    tree.file(
        "/usr/share/doc/prometheus/copyright",
        Rights::READABLE,
        text,
    );
    tree.folder("/etc/prometheus", Rights::EXECUTABLE);
    // Where a volume is mounted; its files belong to the user of the image.
    tree.folder(
        "/prometheus",
        Rights {
            mode: 0o755,
            owner: NOBODY,
        },
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_image_has_a_numeric_user_and_an_entrypoint_without_shell() {
        for recipe in RECIPES {
            let config = recipe.config("1970-01-01T00:00:00Z");
            let (user, group) = config["User"].as_str().unwrap().split_once(':').unwrap();
            assert_eq!(user, group);
            assert_eq!(user == "0", recipe.name == "proxy-init", "{}", recipe.name);
            let is_ours = recipe.tag == linkerd_names::VERSION;
            assert!(
                is_ours || user != linkerd_names::PROXY_UID.to_string(),
                "{}",
                recipe.name
            );
            let entrypoint = config["Entrypoint"].as_array().unwrap();
            assert!(
                entrypoint[0].as_str().unwrap().starts_with('/'),
                "{}",
                recipe.name
            );
            assert_eq!(
                config["Labels"]["org.opencontainers.image.version"],
                recipe.tag
            );
        }
    }

    #[test]
    fn extensions_for_bridges_stay_out() {
        for (path, is_one) in [
            ("/usr/lib/x86_64-linux-gnu/xtables/libxt_owner.so", true),
            ("/usr/lib/x86_64-linux-gnu/xtables/libipt_REJECT.so", true),
            ("/usr/lib/x86_64-linux-gnu/xtables/libebt_ip.so", false),
            ("/usr/lib/x86_64-linux-gnu/libxt_owner.so", false),
            ("/usr/sbin/iptables", false),
        ] {
            assert_eq!(is_ip_extension(Path::new(path)), is_one, "{path}");
        }
    }
}
