//! The scripts of `linkerd completion`, each in its own shell, with a Kubernetes API of some objects. Shells that
//! are not on the PATH are skipped; `cargo xtask test` installs them.

use std::{
    fs,
    io::{self, Write as _},
    path::Path,
    process::Command,
};

use crate::{
    kubernetes::{Running, run, success},
    shell::CLUSTER,
};

/// Types each of its arguments, the key for completion, and a key that has the line written to $OUT.
const ZSH: &str = r#"
zmodload zsh/zpty
zpty terminal zsh -f -i
zpty -w terminal "PS1=READY'>'; autoload -U compinit; compinit -D -u; source <(linkerd completion zsh)
    show() { print -r -- \$BUFFER >> $OUT; BUFFER=; zle -I; print DO''NE }; zle -N show; bindkey '^T' show"
zpty -r terminal text '*READY>*READY>*'
for line in "$@"; do
    zpty -w -n terminal "$line"$'\t\x14'
    zpty -r terminal text '*DONE*'
done
zpty -d terminal
"#;

/// A shell that finds the program and the cluster; none when it is not on this machine.
fn shell(api: &Running, name: &str) -> Option<Command> {
    let found = ["/usr/bin", "/bin"].map(|folder| Path::new(folder).join(name));
    let Some(program) = found.iter().find(|path| path.exists()) else {
        // Past the test runner's capture. A closed stderr must not fail a test.
        drop(writeln!(
            io::stderr(),
            "skipped: completion in {name}, which is not on this machine"
        ));
        return None;
    };
    let folder = Path::new(env!("CARGO_BIN_EXE_linkerd")).parent();
    let folder = folder.expect("the program is in a folder").display();
    let mut shell = Command::new(program);
    shell.env_clear();
    for (key, value) in api.command().get_envs() {
        shell.env(key, value.unwrap_or_default());
    }
    let path = format!("{folder}:/usr/bin:/bin");
    shell.env("PATH", path).env("TERM", "xterm");
    Some(shell)
}

/// What bash offers for a line with the cursor at its end. `last` is what readline takes for the last word.
fn bash(api: &Running, line: &str, last: &str) -> String {
    let script = format!(
        "source <(linkerd completion bash)
         COMP_LINE='{line}' COMP_POINT={} COMP_WORDS=(linkerd) COMP_CWORD=0
         _linkerd linkerd '{last}' ''
         echo \"${{COMPREPLY[@]}}\"",
        line.len()
    );
    let mut bash = shell(api, "bash").expect("every Debian has it");
    let stdout = success(run(bash.args(["--norc", "-c", &script])));
    stdout.trim_end().to_owned()
}

#[test]
fn bash_completes_words_and_parts_of_words() {
    let api = Running::with(CLUSTER);
    for (line, last, expected) in [
        ("linkerd upg", "upg", "upgrade"),
        ("linkerd stat -n ", "", "emojivoto empty shop"),
        ("linkerd stat --namespace=em", "em", "emojivoto empty"),
        ("linkerd stat --namespace=", "", "emojivoto empty shop"),
        ("linkerd stat -n shop deploy/", "deploy/", "deploy/till"),
    ] {
        assert_eq!(bash(&api, line, last), expected, "{line}");
    }
}

#[test]
fn zsh_completes_words_and_parts_of_words() {
    let api = Running::with(CLUSTER);
    let Some(mut zsh) = shell(&api, "zsh") else {
        return;
    };
    let folder = tempfile::tempdir().expect("a folder");
    let (script, out) = (folder.path().join("type.zsh"), folder.path().join("out"));
    fs::write(&script, ZSH).expect("writable");
    fs::write(folder.path().join("shop.yml"), "").expect("writable");
    let lines = [
        ("linkerd upg", "linkerd upgrade "),
        ("linkerd stat -n sh", "linkerd stat -n shop "),
        (
            "linkerd stat --namespace=emo",
            "linkerd stat --namespace=emojivoto ",
        ),
        (
            "linkerd stat -n shop deploy/",
            "linkerd stat -n shop deploy/till ",
        ),
        (
            "linkerd stat -n emojivoto deploy vo",
            "linkerd stat -n emojivoto deploy voting ",
        ),
        ("linkerd install --val", "linkerd install --values "),
        ("linkerd inject sho", "linkerd inject shop.yml "),
        // Nothing can stand there.
        (
            "linkerd install --registry x",
            "linkerd install --registry x",
        ),
    ];
    let typed = lines.map(|(line, _)| line);
    let zsh = zsh
        .current_dir(&folder)
        .env("OUT", &out)
        .env("HOME", folder.path());
    success(run(zsh.arg("-f").arg(script).args(typed)));
    let completed = fs::read_to_string(out).expect("lines");
    let completed: Vec<&str> = completed.lines().collect();
    assert_eq!(completed, lines.map(|(_, completed)| completed));
}

#[test]
fn fish_completes_words_and_parts_of_words_and_says_what_they_mean() {
    let api = Running::with(CLUSTER);
    let Some(mut fish) = shell(&api, "fish") else {
        return;
    };
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("shop.yml"), "").expect("writable");
    let script = "linkerd completion fish | source
        for line in $argv; complete --do-complete=$line; echo; end";
    let lines = [
        (
            "linkerd unin",
            "uninstall\tPrint everything that the control plane has in the cluster, to delete it\n\
                          uninject\tTake the proxy out of the workloads of a manifest\n",
        ),
        ("linkerd stat -n em", "emojivoto\nempty\n"),
        (
            "linkerd stat --namespace=em",
            "--namespace=emojivoto\n--namespace=empty\n",
        ),
        (
            "linkerd stat -n emojivoto deploy/",
            "deploy/web\ndeploy/voting\n",
        ),
        ("linkerd stat -n shop deploy ", "till\n"),
        ("linkerd inject sho", "shop.yml\n"),
        ("linkerd install --registry x", ""),
    ];
    let typed = lines.map(|(line, _)| line);
    let fish = fish.current_dir(&folder).env("HOME", folder.path());
    let stdout = success(run(fish.args(["--no-config", "-c", script]).args(typed)));
    let expected = lines.map(|(_, words)| format!("{words}\n"));
    assert_eq!(stdout, expected.concat());
}
