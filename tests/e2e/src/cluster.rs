//! The cluster under test, named by the environment. Entries: [`on_cluster`], [`in_namespace`], [`beside_others`].
//! Without `E2E_KUBECONFIG`, `E2E_KUBECTL` and `E2E_LINKERD` a test says that it is skipped.

use std::{
    env,
    fs::File,
    io,
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

use crate::{Namespace, Output, report, run};

/// Bound on one command; waiting commands have bounds of their own below it.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(300);

/// A cluster with our control plane, and the programs to talk to it.
#[derive(Clone, Debug)]
pub struct Cluster {
    /// Credentials of an administrator.
    pub kubeconfig: PathBuf,
    /// The program `kubectl`.
    pub kubectl: PathBuf,
    /// The program `linkerd`.
    pub linkerd: PathBuf,
    /// The program `xtask`, which can stop the kubelet of a local cluster; none elsewhere.
    pub xtask: Option<PathBuf>,
    /// Image of the sample application.
    pub image: String,
    /// Image of Debian's servers.
    pub servers_image: String,
    /// Namespace of the control plane that a test is about.
    pub control_plane_namespace: String,
    /// Flags of `linkerd inject`.
    pub inject_flags: Vec<&'static str>,
}

/// Runs `test` alone on the cluster, in a namespace of its own, as [`with_namespace`] does.
///
/// # Errors
/// What the test returns.
pub fn in_namespace(name: &str, test: impl FnOnce(&Namespace) -> Result<()>) -> Result<()> {
    on_cluster(name, |cluster| with_namespace(cluster, name, test))
}

/// Runs `test` in a namespace of its own, as [`with_namespace`] does, while others do the same. For tests that
/// change nothing outside of it and wait more than they work: a window of figures has to fill.
///
/// # Errors
/// What the test returns.
pub fn beside_others(name: &str, test: impl FnOnce(&Namespace) -> Result<()>) -> Result<()> {
    locked(name, File::lock_shared, |cluster| {
        with_namespace(cluster, name, test)
    })
}

/// Runs `test` in a namespace of its own, `e2e-<name>`, which is removed afterwards. When the test
/// fails, the namespace's pods, events and logs are printed first. `E2E_KEEP=1` leaves it.
///
/// # Errors
/// What the test returns.
pub fn with_namespace(
    cluster: &Cluster,
    name: &str,
    test: impl FnOnce(&Namespace) -> Result<()>,
) -> Result<()> {
    let namespace = Namespace::create(cluster, &format!("e2e-{name}"))?;
    let outcome = test(&namespace);
    if outcome.is_err() {
        report(&namespace.describe());
    }
    if env::var_os("E2E_KEEP").is_some() {
        return outcome;
    }
    let deleted = namespace.delete();
    outcome.and(deleted)
}

/// Runs `test` alone on the cluster, or reports why it is skipped.
///
/// # Errors
/// What the test returns.
pub fn on_cluster(name: &str, test: impl FnOnce(&Cluster) -> Result<()>) -> Result<()> {
    // Some take parts of the cluster away, others measure how long something takes.
    locked(name, File::lock, test)
}

fn locked(
    name: &str,
    lock: fn(&File) -> io::Result<()>,
    test: impl FnOnce(&Cluster) -> Result<()>,
) -> Result<()> {
    let cluster = match Cluster::from_env(|name| env::var_os(name)) {
        Ok(cluster) => cluster,
        Err(missing) => {
            report(&format!("skipped: {name}: {missing} is not set"));
            return Ok(());
        }
    };
    let file = File::create(env::temp_dir().join("linkerd-e2e.lock"))?;
    lock(&file).context("cannot wait for the other tests")?;
    let started = Instant::now();
    let outcome = test(&cluster);
    report(&format!("{name}: {:.1} s", started.elapsed().as_secs_f64()));
    outcome
}

impl Cluster {
    /// Reads the environment.
    ///
    /// # Errors
    /// The name of the variable that is missing.
    pub fn from_env(
        lookup: impl Fn(&str) -> Option<std::ffi::OsString>,
    ) -> Result<Self, &'static str> {
        let path = |name: &'static str| lookup(name).map(PathBuf::from).ok_or(name);
        let image = |name: &str, default: &str| {
            lookup(name)
                .and_then(|image| image.into_string().ok())
                .unwrap_or_else(|| default.to_owned())
        };
        Ok(Self {
            kubeconfig: path("E2E_KUBECONFIG")?,
            kubectl: path("E2E_KUBECTL")?,
            linkerd: path("E2E_LINKERD")?,
            xtask: path("E2E_XTASK").ok(),
            image: image("E2E_IMAGE", "localhost/linkerd/emojivoto:v1"),
            servers_image: image("E2E_SERVERS_IMAGE", "localhost/linkerd/servers:v1"),
            control_plane_namespace: "linkerd".to_owned(),
            inject_flags: vec!["--tls=optional"],
        })
    }

    /// Runs kubectl and returns its stdout.
    ///
    /// # Errors
    /// What it says on stderr.
    pub fn kubectl(&self, args: &[&str]) -> Result<String> {
        self.kubectl_with(args, "")
    }

    /// Runs kubectl with `input` on stdin and returns its stdout.
    ///
    /// # Errors
    /// What it says on stderr.
    pub fn kubectl_with(&self, args: &[&str], input: &str) -> Result<String> {
        run(&mut self.kubectl_command(args), input, COMMAND_TIMEOUT)?
            .ok()
            .with_context(|| format!("kubectl {}", args.join(" ")))
    }

    /// A kubectl for this cluster, not yet started.
    pub fn kubectl_command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.kubectl);
        command.env("KUBECONFIG", &self.kubeconfig).args(args);
        command
    }

    /// A line for the shell, which finds `kubectl`, `linkerd` and this cluster; not yet started. A pipeline fails
    /// with each of its commands.
    ///
    /// # Errors
    /// When a folder of the PATH has a colon in its name.
    pub fn shell_command(&self, line: &str) -> Result<Command> {
        let programs = [&self.kubectl, &self.linkerd].into_iter();
        let mut folders: Vec<PathBuf> = programs
            .filter_map(|program| program.parent().map(PathBuf::from))
            .collect();
        folders.extend(env::split_paths(&env::var_os("PATH").unwrap_or_default()));
        let mut command = Command::new("bash");
        command.args(["-e", "-o", "pipefail", "-c", line]);
        command
            .env("PATH", env::join_paths(folders)?)
            .env("KUBECONFIG", &self.kubeconfig);
        Ok(command)
    }

    /// Runs the CLI with `input` on stdin, however it ends.
    ///
    /// # Errors
    /// When it cannot be started or hangs.
    pub fn linkerd(&self, args: &[&str], input: &str) -> Result<Output> {
        let mut command = Command::new(&self.linkerd);
        command.env("KUBECONFIG", &self.kubeconfig);
        command.args(["--linkerd-namespace", &self.control_plane_namespace]);
        run(command.args(args), input, COMMAND_TIMEOUT)
            .with_context(|| format!("linkerd {}", args.join(" ")))
    }

    /// Runs the CLI until it has printed so many lines; its reader goes away then.
    ///
    /// # Errors
    /// When it cannot be started or hangs.
    pub fn linkerd_lines(&self, args: &[&str], lines: usize) -> Result<Output> {
        let mut command = Command::new("sh");
        command.env("KUBECONFIG", &self.kubeconfig);
        command.args(["-c", &format!("\"$0\" \"$@\" | head -n {lines}")]);
        command.arg(&self.linkerd);
        command.args(["--linkerd-namespace", &self.control_plane_namespace]);
        run(command.args(args), "", COMMAND_TIMEOUT)
            .with_context(|| format!("linkerd {}", args.join(" ")))
    }

    /// The image of Prometheus that the cluster's own control plane has: others cannot be pulled
    /// everywhere.
    ///
    /// # Errors
    /// When kubectl fails.
    pub fn prometheus_image(&self) -> Result<String> {
        let image = "jsonpath={.spec.template.spec.containers[0].image}";
        let deployment = "deployment/linkerd-prometheus";
        self.kubectl(&["get", "-n", "linkerd", deployment, "-o", image])
    }

    /// The names of all nodes.
    ///
    /// # Errors
    /// When kubectl fails.
    pub fn nodes(&self) -> Result<Vec<String>> {
        let names = self.kubectl(&["get", "nodes", "-o", "jsonpath={.items[*].metadata.name}"])?;
        Ok(names.split_whitespace().map(str::to_owned).collect())
    }

    /// Two nodes whose links meet on a bridge of this machine; none when the cluster is not of that
    /// kind.
    ///
    /// # Errors
    /// When kubectl fails.
    pub fn two_local_nodes(&self) -> Result<Option<[String; 2]>> {
        if self.xtask.is_none() {
            return Ok(None);
        }
        let mut nodes = self.nodes()?.into_iter();
        Ok(nodes
            .next()
            .zip(nodes.next())
            .map(|(first, second)| [first, second]))
    }

    /// Injects the proxy with TLS.
    ///
    /// # Errors
    /// When `linkerd inject` refuses them.
    pub fn inject(&self, manifests: &str) -> Result<String> {
        let args = [&["inject"], self.inject_flags.as_slice(), &["-"]].concat();
        let output = self.linkerd(&args, manifests)?;
        let injected = output.ok().context("linkerd inject")?;
        ensure!(
            injected.contains("linkerd-proxy"),
            "nothing was injected:\n{injected}"
        );
        Ok(injected)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_for_the_shell_finds_the_programs_and_fails_where_a_command_does() {
        let cluster = Cluster::from_env(|name| Some(format!("/{name}/program").into())).unwrap();
        let say = |line| {
            let mut command = cluster.shell_command(line).unwrap();
            run(&mut command, "", COMMAND_TIMEOUT).unwrap()
        };
        let path = say("echo $PATH").ok().unwrap();
        assert!(path.starts_with("/E2E_KUBECTL:/E2E_LINKERD:"), "{path}");
        assert_eq!(say("(echo a; exit 3) | cat").code, Some(3));
    }

    #[test]
    fn a_missing_variable_is_named() {
        let env = |name: &str| (name != "E2E_KUBECTL").then(|| name.into());
        assert_eq!(Cluster::from_env(env).unwrap_err(), "E2E_KUBECTL");
        let env =
            |name: &str| (!name.ends_with('K') && !name.ends_with("IMAGE")).then(|| name.into());
        let cluster = Cluster::from_env(env).unwrap();
        assert_eq!(
            (cluster.xtask, cluster.kubectl),
            (None, PathBuf::from("E2E_KUBECTL"))
        );
    }
}
