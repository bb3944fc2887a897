//! What the pages for people who use the mesh tell them to type, typed: each command of these pages has its step
//! in [`STEPS`], which says what it has to print, or why it is not run.

use std::{collections::BTreeSet, fs, path::Path, time::Duration};

use anyhow::{Context as _, Result, ensure};
use e2e::{
    Emojivoto, Namespace, Terminal, Workload, commands, deployment, document, eventually,
    eventually_within, on_cluster, report, run, service, with_namespace,
};
use serde_json::json;

/// Pages whose blocks of shell are typed.
const PAGES: [&str; 9] = [
    "README.md",
    "docs/getting-started.md",
    "docs/edges.md",
    "docs/explain.md",
    "docs/injection.md",
    "docs/stat.md",
    "docs/tap.md",
    "docs/top.md",
    "docs/troubleshooting.md",
];

/// Longer than any of these commands takes: some wait for a rollout.
const TIMEOUT: Duration = Duration::from_secs(180);
/// How long it may take until figures are there.
const PATIENCE: Duration = Duration::from_secs(90);

/// What becomes of a command.
enum How {
    /// It is run once and prints this.
    Once(&'static str),
    /// It is run until it prints this: figures come with the next scrape.
    Until(&'static str),
    /// It does not end by itself: it prints this, among its first lines.
    Endless(&'static str),
    /// It draws this on a terminal, until `q` is pressed.
    Draws(&'static str),
    /// The API server only says what it would do, which is this; and why.
    Trial(&'static str, &'static str),
    /// Why it is not run.
    Not(&'static str),
}

use How::{Draws, Endless, Not, Once, Trial, Until};

/// What the last line of `linkerd check` is when all is well.
const WELL: &str = "Status check results are √";

/// Every command of the pages, in the order in which it is run.
const STEPS: [(&str, How); 46] = [
    (
        "cargo xtask demo",
        Not("the cluster is there already: it is made by the same code"),
    ),
    ("cargo xtask test", Not("this is a part of it")),
    ("linkerd version --client", Once("Client version: ")),
    ("linkerd completion bash", Once("_linkerd()")),
    ("linkerd completion zsh", Once("#compdef linkerd")),
    ("linkerd completion fish", Once("complete")),
    ("linkerd check --pre", Once(WELL)),
    (
        "linkerd install --tls=optional | kubectl apply -f -",
        Once("deployment.apps/linkerd-destination "),
    ),
    (
        "linkerd install --tls=optional --registry registry.example:5000/mesh | kubectl apply -f -",
        Trial(
            "deployment.apps/linkerd-destination configured (server dry run)",
            "there is no such registry",
        ),
    ),
    ("linkerd check --wait", Once(WELL)),
    (
        "linkerd inject --tls=optional --explain tests/emojivoto/emojivoto.yml",
        Once("√ nothing in these manifests will break"),
    ),
    (
        "linkerd inject --tls=optional tests/emojivoto/emojivoto.yml | kubectl apply -f -",
        Once("deployment.apps/web created"),
    ),
    (
        "kubectl -n emojivoto rollout status deploy",
        Once("successfully rolled out"),
    ),
    (
        "linkerd inject --tls=optional --explain app.yml",
        Once("√ nothing in these manifests will break"),
    ),
    (
        "linkerd inject --tls=optional --explain -o json app.yml",
        Once("\"workloads\""),
    ),
    (
        "kubectl get -n shop deploy,sts,ds,cronjob,svc,netpol,quota,limits -o yaml | linkerd inject --tls=optional --explain -",
        Once("√ nothing in these manifests will break"),
    ),
    (
        "kubectl get -n shop deploy,sts,ds -o yaml | linkerd inject --tls=optional - | kubectl apply -f -",
        Once("statefulset.apps/db configured"),
    ),
    (
        "kubectl annotate namespace shop linkerd.io/inject=enabled",
        Once("annotated"),
    ),
    (
        "kubectl -n shop rollout restart deploy",
        Once("deployment.apps/web restarted"),
    ),
    (
        "kubectl rollout restart deployment --namespace shop",
        Once("deployment.apps/web restarted"),
    ),
    // There need not be any.
    (
        "kubectl get events -A --field-selector reason=NotMeshed",
        Once(""),
    ),
    ("linkerd check", Until(WELL)),
    ("linkerd check --proxy -n emojivoto", Until(WELL)),
    ("linkerd check --proxy -n shop", Until(WELL)),
    ("linkerd get pods -A -o wide", Until("vote-bot-")),
    ("linkerd stat authority -n emojivoto", Until("   100%\n")),
    ("linkerd stat deploy -n emojivoto", Until("   100%\n")),
    ("linkerd stat deploy -n emojivoto -o wide", Until("web ")),
    ("linkerd stat deploy -n shop -o wide", Until("web ")),
    ("linkerd stat deploy -n shop --verbose", Until("web ")),
    ("linkerd edges deploy -n emojivoto", Until("√")),
    ("linkerd edges deploy -n emojivoto -t 30s", Until("√")),
    ("linkerd edges deploy -n shop", Until("√")),
    ("linkerd edges deploy/web sts/db -n shop", Until("sts/db")),
    (
        "linkerd edges deploy,sts -n shop -l tier=data",
        Until("sts/db"),
    ),
    ("linkerd tap deploy/web -n emojivoto", Endless("tls=true")),
    (
        "linkerd tap deploy/web deploy/voting -n emojivoto",
        Endless("tls=true"),
    ),
    (
        "linkerd tap deploy/web -n shop --to deploy/db",
        Endless("proxy=out"),
    ),
    (
        "linkerd tap sts/db -n shop --protocol tcp",
        Endless("opn id="),
    ),
    ("linkerd top deploy/web -n emojivoto", Draws("/api/vote")),
    (
        "kubectl create rolebinding tap -n emojivoto --clusterrole=linkerd-linkerd-tap --user=jane",
        Once("rolebinding.rbac.authorization.k8s.io/tap created"),
    ),
    (
        "kubectl create clusterrolebinding jane-tap-proof --clusterrole=linkerd-linkerd-tap-proof --user=jane",
        Trial(
            "jane-tap-proof created (server dry run)",
            "it is in no namespace of this test",
        ),
    ),
    (
        "kubectl get -n shop deploy/web -o yaml | linkerd uninject - | kubectl apply -f -",
        Once("deployment.apps/web configured"),
    ),
    (
        r#"kubectl patch -n shop deploy/web -p '{"spec":{"template":{"metadata":{"annotations":{"linkerd.io/inject":"disabled"}}}}}'"#,
        Once("deployment.apps/web patched"),
    ),
    (
        "kubectl get -n emojivoto deploy -o yaml | linkerd uninject - | kubectl apply -f -",
        Once("deployment.apps/web configured"),
    ),
    (
        "linkerd uninstall | kubectl delete -f -",
        Not("other tests need the control plane; lifecycle.rs does it with one of its own"),
    ),
];

#[test]
fn the_commands_of_the_pages_do_what_the_pages_say() -> Result<()> {
    on_cluster("getting-started", |cluster| {
        with_namespace(cluster, "docs", |emojivoto| {
            with_namespace(cluster, "docs-shop", |shop| {
                let here = Here::prepare(emojivoto, shop)?;
                for (line, how) in &STEPS {
                    here.step(line, how).with_context(|| (*line).to_owned())?;
                }
                Ok(())
            })
        })
    })
}

/// Every command has a step, and every step is for a command: a new one in a page fails here until it is placed.
#[test]
fn every_command_of_the_pages_has_its_step() {
    let mut documented = BTreeSet::new();
    for page in PAGES {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../..")
            .join(page);
        documented.extend(commands(&fs::read_to_string(path).unwrap()));
    }
    let steps: BTreeSet<String> = STEPS.iter().map(|(line, _)| (*line).to_owned()).collect();
    assert_eq!(steps.len(), STEPS.len(), "a step is there twice");
    let without: Vec<_> = documented.difference(&steps).collect();
    assert!(without.is_empty(), "commands without a step: {without:#?}");
    let stale: Vec<_> = steps.difference(&documented).collect();
    assert!(stale.is_empty(), "steps for no command: {stale:#?}");
}

/// Where the commands are typed: a folder with the files that they name, and two namespaces for those that the
/// pages name.
struct Here<'a> {
    folder: tempfile::TempDir,
    emojivoto: &'a Namespace,
    shop: &'a Namespace,
}

impl<'a> Here<'a> {
    fn prepare(emojivoto: &'a Namespace, shop: &'a Namespace) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let sample = folder.path().join("tests/emojivoto");
        fs::create_dir_all(&sample)?;
        fs::write(
            sample.join("emojivoto.yml"),
            Emojivoto::manifests(emojivoto)?,
        )?;
        let manifests = shop_manifests(shop);
        fs::write(folder.path().join("app.yml"), &manifests)?;
        // With other values than it has, the control plane would get images that are not there.
        let of_control_plane = ["get", "configmap", "linkerd-config", "-n", "linkerd"];
        let overrides = ["-o", "jsonpath={.data.overrides}"];
        let values = shop
            .cluster
            .kubectl(&[&of_control_plane[..], &overrides].concat())?;
        fs::write(folder.path().join("installed.yml"), values)?;
        shop.apply(&manifests)?;
        shop.wait_until_all_ready()?;
        Ok(Self {
            folder,
            emojivoto,
            shop,
        })
    }

    /// The command as it is typed here.
    fn line(&self, line: &str) -> String {
        let (emojivoto, shop) = (&self.emojivoto.name, &self.shop.name);
        line.replace("-n emojivoto", &format!("-n {emojivoto}"))
            .replace("-n shop", &format!("-n {shop}"))
            .replace("namespace shop", &format!("namespace {shop}"))
            .replace("linkerd install", "linkerd install --values=installed.yml")
            // The question is whether there is room for a control plane.
            .replace(
                "check --pre",
                "check --pre --linkerd-namespace=e2e-docs-free",
            )
    }

    fn step(&self, line: &str, how: &How) -> Result<()> {
        let line = self.line(line);
        match how {
            Once(expected) => self.says(&line, expected)?,
            Until(expected) => {
                eventually_within(PATIENCE, &line, || self.says(&line, expected))?;
            }
            Endless(expected) => {
                // The reader goes away, and if nothing is said, `timeout` ends it.
                let some = format!("set +o pipefail; timeout 20 {line} | head -n 10");
                eventually_within(PATIENCE, &line, || self.says(&some, expected))?;
            }
            Draws(expected) => self.draws(&line, expected)?,
            Trial(expected, why) => {
                report(&format!("on trial: {line}: {why}"));
                let line = match line.strip_suffix("kubectl apply -f -") {
                    Some(begin) => format!("{begin}kubectl apply --dry-run=server -f -"),
                    None => format!("{line} --dry-run=server"),
                };
                self.says(&line, expected)?;
            }
            Not(why) => report(&format!("not run: {line}: {why}")),
        }
        let replaces = |word: &&str| line.contains(*word);
        if matches!(how, Once(_)) && ["apply", "restart", "patch"].iter().any(replaces) {
            self.settle()?;
        }
        Ok(())
    }

    /// It ends well, and prints this on stdout.
    fn says(&self, line: &str, expected: &str) -> Result<()> {
        let mut command = self.shop.cluster.shell_command(line)?;
        let output = run(command.current_dir(&self.folder), "", TIMEOUT)?;
        let well = output.code == Some(0) && output.stdout.contains(expected);
        ensure!(
            well,
            "not with {expected:?} and exit code 0, but {:?}:\n{}{}",
            output.code,
            output.stdout,
            output.stderr
        );
        Ok(())
    }

    fn draws(&self, line: &str, expected: &str) -> Result<()> {
        let command = self.shop.cluster.shell_command(line)?;
        let mut terminal = Terminal::start(120, 20, &command)?;
        eventually("the picture", || {
            let text = terminal.text();
            ensure!(text.contains(expected), "{text}");
            Ok(())
        })?;
        terminal.press("q")?;
        let ended = terminal.end()?;
        ensure!(ended.code == Some(0), "{ended:?}");
        Ok(())
    }

    /// Waits until pods that are replaced have been.
    fn settle(&self) -> Result<()> {
        for namespace in [self.emojivoto, self.shop] {
            namespace.wait_until_all_ready()?;
        }
        let status = ["rollout", "status", "--timeout=180s", "statefulset/db"];
        self.shop.kubectl(&status)?;
        Ok(())
    }
}

/// A client, `web`, which talks to a Deployment and a StatefulSet, both of which are named `db`.
fn shop_manifests(shop: &Namespace) -> String {
    let cluster = &shop.cluster;
    let server = Workload {
        port: Some(9000),
        grace_seconds: 1,
        ..Workload::new("db", &cluster.image, &["tcp-server"])
    };
    let container = |name: &str, image: &str, what: serde_json::Value| {
        let mut container = json!({
            "name": name,
            "image": image,
            "imagePullPolicy": "IfNotPresent",
            "securityContext": { "runAsUser": 1000, "runAsGroup": 1000 },
        });
        for (key, value) in what.as_object().into_iter().flatten() {
            container[key] = value.clone();
        }
        json!({ "containers": [container], "terminationGracePeriodSeconds": 1 })
    };
    let script = "while :; do /emojivoto tcp-client db:9000 --count=1; \
                  /emojivoto tcp-client store:9000 --count=1; sleep 0.3; done";
    let client = json!({ "command": ["sh", "-c", script] });
    let store = json!({ "args": ["tcp-server"], "ports": [{ "containerPort": 9000 }] });
    let labels = json!({ "app": "store", "tier": "data" });
    let store = json!({
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": { "name": "db", "labels": labels },
        "spec": {
            "serviceName": "store",
            "selector": { "matchLabels": labels },
            "template": {
                "metadata": { "labels": labels },
                "spec": container("store", &cluster.image, store),
            },
        },
    });
    [
        server.deployment(),
        document(&store),
        deployment("web", 1, &container("web", &cluster.servers_image, client)),
        service("db", "db", 9000, 9000),
        service("store", "store", 9000, 9000),
    ]
    .concat()
}
