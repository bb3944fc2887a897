//! `cargo xtask walk`: goes through every command of `linkerd` on the local cluster, in a terminal, and
//! keeps what is seen: `docs/walk.cast` for asciinema, `docs/walk.md` for readers. Entry: [`run`].

mod cast;
mod chapters;
mod page;
mod session;

use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use self::chapters::{Chapter, Ready, Step};
use self::session::Session;
use crate::mesh::Mesh;
use crate::progress::step;
use crate::{cluster, command, demo, images, workspace};

/// How long a reader has for what a command has answered.
const READING_TIME: Duration = Duration::from_millis(1500);
/// The longest that a command may take: `check --wait` waits for what starts.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(300);

/// A command that was run.
struct Run<'a> {
    step: &'a Step,
    /// What the terminal showed of it at its end, or just before a key ended it.
    screen: String,
}

/// Runs the task.
///
/// # Errors
/// When there is no cluster, and at the first command that fails; nothing is written then.
pub(crate) fn run() -> Result<ExitCode> {
    let mesh = demo::on_local_cluster(&images::Options::default(), cluster::NODES_DEFAULT)?;
    step("remove an earlier mesh", || remove(&mesh))?;
    let folder = tempfile::tempdir()?;
    write_files(folder.path(), &mesh)?;
    let mut session = Session::start(folder.path(), &environment(&mesh)?)?;
    let mut runs = Vec::new();
    for Chapter { title: _, steps } in chapters::CHAPTERS {
        for step in *steps {
            if step.ready == Ready::Figures {
                mesh.tls_table()?;
            }
            runs.push(type_in(&mut session, step)?);
        }
    }
    let docs = workspace::root().join("docs");
    let recording = session.end()?;
    write(&docs.join("walk.cast"), &cast::text(&recording)?)?;
    write(&docs.join("walk.md"), &page::text(&runs))?;
    Ok(ExitCode::SUCCESS)
}

/// Types a command, waits for its end, or ends it, and looks at the screen.
fn type_in<'a>(session: &mut Session, step: &'a Step) -> Result<Run<'a>> {
    let Step {
        says: _,
        command,
        ready: _,
        end,
    } = step;
    anstream::eprintln!("$ {command}");
    session.mark(command);
    session.type_line(command)?;
    let screen = match end {
        None => None,
        Some((after, key)) => {
            std::thread::sleep(*after);
            let screen = session.screen();
            session.press(key)?;
            Some(screen)
        }
    };
    let code = session
        .wait_for_end(COMMAND_TIMEOUT)
        .with_context(|| format!("{command}: no end\n{}", session.screen()))?;
    let seen = session.screen();
    // 128 and the signal's number: what a person has interrupted.
    let well = code == 0 || (end.is_some() && code == 130);
    ensure!(well, "{command}: exit code {code}\n{seen}");
    std::thread::sleep(READING_TIME);
    Ok(Run {
        step,
        screen: screen.unwrap_or(seen),
    })
}

/// Takes the mesh and the sample app out of the cluster, so that the walk begins where a reader does.
fn remove(mesh: &Mesh) -> Result<()> {
    let delete = [
        "delete",
        "namespace",
        "emojivoto",
        "--ignore-not-found",
        "--timeout=120s",
    ];
    command::run(&mut mesh.kubectl(&delete))?;
    let installed = mesh.linkerd(&["uninstall", "--force"]).output()?;
    // Without a control plane there is nothing to print.
    if installed.status.success() {
        let delete = ["delete", "--ignore-not-found", "-f", "-"];
        command::feed(&mut mesh.kubectl(&delete), &installed.stdout)?;
    }
    Ok(())
}

/// The files that the commands name.
fn write_files(folder: &Path, mesh: &Mesh) -> Result<()> {
    let sample = workspace::root().join("tests/emojivoto/emojivoto.yml");
    fs::copy(&sample, folder.join("emojivoto.yml"))
        .with_context(|| format!("cannot copy {}", sample.display()))?;
    let image = mesh.prometheus_image.as_ref();
    let image = image.context("a local cluster has an image of Prometheus")?;
    write(
        &folder.join("values.yml"),
        &format!("prometheus:\n  image: {image}\n"),
    )
}

/// With the programs of the walk before all others.
fn environment(mesh: &Mesh) -> Result<Vec<(&'static str, String)>> {
    let folder = |program: &Path| {
        let folder = program.parent().context("a program lies in a folder")?;
        Ok::<_, anyhow::Error>(folder.display().to_string())
    };
    let kubeconfig = mesh.kubeconfig.as_ref();
    let kubeconfig = kubeconfig.context("a local cluster has a kubeconfig")?;
    let path = std::env::var("PATH").unwrap_or_default();
    let (linkerd, kubectl) = (folder(&mesh.linkerd)?, folder(&mesh.kubectl)?);
    Ok(vec![
        ("KUBECONFIG", kubeconfig.display().to_string()),
        ("PATH", format!("{linkerd}:{kubectl}:{path}")),
    ])
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}
