//! `cargo xtask dashboard`: builds the dashboard's page from `dashboard/` into `dashboard/dist`, which
//! `linkerd-api` embeds. Entries: [`build`], [`test()`]. Only this needs Node; without it all else is built.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result};

use crate::progress::step;
use crate::{command, debian, workspace};

/// The browser of the page's tests, and its Debian package.
const BROWSER: &str = "chromium";

/// What came of it.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Outcome {
    /// The page is built; with [`test()`], tested too.
    Built,
    /// There is no npm on this machine, so nothing was done.
    NoNode,
}

/// Runs the task.
///
/// # Errors
/// When npm or the page's compiler fails; it has said why.
pub(crate) fn run() -> Result<ExitCode> {
    if build()? == Outcome::NoNode {
        anyhow::bail!("npm is not on the PATH: install Node 20 or newer");
    }
    anstream::println!("{}", folder().join("dist").display());
    Ok(ExitCode::SUCCESS)
}

/// Builds the page. Files that come out as they were are left untouched, so that nothing is compiled anew.
///
/// # Errors
/// When npm or the page's compiler fails; it has said why.
pub(crate) fn build() -> Result<Outcome> {
    if command::on_path("npm").is_none() {
        anstream::eprintln!("skipped: the dashboard's page: npm is not on the PATH");
        return Ok(Outcome::NoNode);
    }
    install()?;
    step("build the dashboard's page", || {
        let fresh = tempfile::tempdir().context("cannot make a temporary folder")?;
        let target = fresh.path().to_string_lossy();
        npm(&[
            "run",
            "--silent",
            "build",
            "--",
            "--logLevel",
            "warn",
            // Not in the page's own script: there it would empty `dist`, which keeps a file of git's.
            "--emptyOutDir",
            "--outDir",
            &target,
        ])?;
        replace(fresh.path(), &folder().join("dist"))
    })?;
    Ok(Outcome::Built)
}

/// Builds the page, checks its types, and runs its tests: of its parts, and of the whole in a browser.
///
/// # Errors
/// The first that fails; it has said why.
pub(crate) fn test() -> Result<Outcome> {
    if build()? == Outcome::NoNode {
        return Ok(Outcome::NoNode);
    }
    step("types of the page", || npm(&["run", "--silent", "check"]))?;
    step("tests of the page's parts", || {
        npm(&["run", "--silent", "test"])
    })?;
    if command::on_path(BROWSER).is_none() {
        debian::install(&[BROWSER, "fonts-dejavu-core"])?;
    }
    step("tests of the page in a browser", || {
        npm(&["run", "--silent", "browser"])
    })?;
    Ok(Outcome::Built)
}

/// Downloads the page's packages as `package-lock.json` names them, unless that was done before.
fn install() -> Result<()> {
    let lock =
        fs::read(folder().join("package-lock.json")).context("dashboard/package-lock.json")?;
    let mark = folder().join("node_modules/.installed-package-lock.json");
    if fs::read(&mark).is_ok_and(|installed| installed == lock) {
        return Ok(());
    }
    step("download the page's packages", || {
        npm(&["ci", "--no-audit", "--no-fund"])
    })?;
    fs::write(&mark, lock).with_context(|| mark.display().to_string())
}

fn npm(args: &[&str]) -> Result<()> {
    command::run(Command::new("npm").args(args).current_dir(folder()))
}

fn folder() -> PathBuf {
    workspace::root().join("dashboard")
}

/// Makes `old` have the files of `new`, besides those whose names begin with a dot.
fn replace(new: &Path, old: &Path) -> Result<()> {
    fs::create_dir_all(old).with_context(|| old.display().to_string())?;
    for name in names(old)? {
        let (path, wanted) = (old.join(&name), new.join(&name));
        if wanted.exists() || name.starts_with('.') {
            continue;
        }
        let removed = if path.is_dir() {
            fs::remove_dir_all(&path)
        } else {
            fs::remove_file(&path)
        };
        removed.with_context(|| format!("cannot remove {}", path.display()))?;
    }
    for name in names(new)? {
        let (from, to) = (new.join(&name), old.join(&name));
        if from.is_dir() {
            replace(&from, &to)?;
            continue;
        }
        let content = fs::read(&from).with_context(|| from.display().to_string())?;
        if !fs::read(&to).is_ok_and(|known| known == content) {
            fs::write(&to, content).with_context(|| to.display().to_string())?;
        }
    }
    Ok(())
}

fn names(folder: &Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    names.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_replaced_and_what_has_not_changed_stays_untouched() {
        let folder = tempfile::tempdir().unwrap();
        let (new, old) = (folder.path().join("new"), folder.path().join("old"));
        for (path, text) in [
            ("new/index.html", "page"),
            ("new/assets/a.js", "2"),
            ("old/.gitignore", "*"),
            ("old/index.html", "page"),
            ("old/assets/a.js", "1"),
            ("old/assets/b.js", "gone"),
            ("old/gone/c.js", "gone"),
        ] {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let written = || {
            fs::metadata(old.join("index.html"))
                .unwrap()
                .modified()
                .unwrap()
        };
        let before = written();
        replace(&new, &old).unwrap();
        assert_eq!(written(), before);
        assert_eq!(fs::read_to_string(old.join("assets/a.js")).unwrap(), "2");
        let mut left = names(&old).unwrap();
        left.sort_unstable();
        assert_eq!(left, [".gitignore", "assets", "index.html"]);
        assert_eq!(names(&old.join("assets")).unwrap(), ["a.js"]);
    }
}
