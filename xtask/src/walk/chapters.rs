//! What the walk consists of. Entry: [`CHAPTERS`]. A command that `linkerd` learns gets a step here; a test
//! of `linkerd-cli` reads this file and compares.

use std::time::Duration;

/// Steps that belong together.
pub(super) struct Chapter {
    pub(super) title: &'static str,
    pub(super) steps: &'static [Step],
}

/// One command line.
pub(super) struct Step {
    /// What it is about, in Markdown.
    pub(super) says: &'static str,
    /// The line, as it is typed.
    pub(super) command: &'static str,
    /// What has to be there before.
    pub(super) ready: Ready,
    /// The key that ends it, and after how long; none when it ends by itself.
    pub(super) end: Option<(Duration, &'static str)>,
}

/// What a step waits for, which the recording shows as a pause.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Ready {
    /// Nothing.
    Now,
    /// A minute of figures.
    Figures,
}

const CTRL_C: &str = "\x03";

const fn step(command: &'static str, says: &'static str) -> Step {
    Step {
        says,
        command,
        ready: Ready::Now,
        end: None,
    }
}

/// A step that goes on until a key is pressed.
const fn watch(command: &'static str, says: &'static str, seconds: u64, key: &'static str) -> Step {
    Step {
        end: Some((Duration::from_secs(seconds), key)),
        ..step(command, says)
    }
}

/// All of it, in order.
pub(super) const CHAPTERS: &[Chapter] = &[
    Chapter {
        title: "Install",
        steps: &[
            step("linkerd --help", "What there is:"),
            step("linkerd version --client", "The version of the program:"),
            step(
                "linkerd check --pre",
                "Is the cluster fit for it, and may you install?",
            ),
            step(
                "cat values.yml",
                "The local cluster pulls nothing from the Internet: it has a Prometheus of its own.",
            ),
            step(
                "linkerd install --tls=optional -f values.yml | kubectl apply -f -",
                "`install` prints manifests; kubectl applies them. See [install.md](install.md).",
            ),
            step(
                "linkerd check --wait",
                "Is it well? `--wait` waits until it is. See [checks.md](checks.md).",
            ),
            step(
                "linkerd version",
                "Now the control plane has a version, too:",
            ),
        ],
    },
    Chapter {
        title: "Put an application into the mesh",
        steps: &[
            step(
                "linkerd inject --tls=optional --explain emojivoto.yml",
                "First: what will happen, and what will break? See [explain.md](explain.md).",
            ),
            step(
                "linkerd inject --tls=optional emojivoto.yml | kubectl apply -f -",
                "Then do it:",
            ),
            step(
                "kubectl -n emojivoto wait --for=condition=Available --timeout=120s deploy --all",
                "Its pods start, each with a proxy:",
            ),
            step(
                "linkerd check --proxy --wait -n emojivoto",
                "Is every proxy well, and every certificate?",
            ),
        ],
    },
    Chapter {
        title: "See what happens",
        steps: &[
            Step {
                ready: Ready::Figures,
                ..step(
                    "linkerd stat deploy -n emojivoto",
                    "Requests, success, latency, and the share of TLS. See [stat.md](stat.md).",
                )
            },
            step(
                "linkerd stat authority -n emojivoto",
                "The same by what clients asked for:",
            ),
            step(
                "linkerd edges deploy -n emojivoto",
                "Who talks to whom, and whether that is secured or why not. See [edges.md](edges.md).",
            ),
            watch(
                "linkerd tap deploy/voting -n emojivoto",
                "Requests as they pass; Ctrl-C ends it. See [tap.md](tap.md).",
                5,
                CTRL_C,
            ),
            watch(
                "linkerd top deploy/web -n emojivoto",
                "The same added up, live; `q` ends it. See [top.md](top.md).",
                8,
                "q",
            ),
            step(
                "linkerd get pods -n emojivoto",
                "The pods that the control plane knows:",
            ),
            watch(
                "linkerd dashboard --show url",
                "All of it in a browser; Ctrl-C ends it. See [dashboard.md](dashboard.md).",
                3,
                CTRL_C,
            ),
        ],
    },
    Chapter {
        title: "Change it",
        steps: &[
            step(
                "linkerd upgrade --set injector.enabled=false | kubectl apply -f -",
                "`upgrade` begins with the values that are installed: to another value, or with a newer program \
                 to its version. Here the injector is not wanted any more:",
            ),
            step(
                "linkerd prune | kubectl delete -f -",
                "Applying takes nothing away. What has no use any more, `prune` prints:",
            ),
            step(
                "linkerd check --wait -o short",
                "Still well? Nothing to say:",
            ),
        ],
    },
    Chapter {
        title: "Leave",
        steps: &[
            step(
                "kubectl get -n emojivoto deploy -o yaml | linkerd uninject - | kubectl apply -f -",
                "First the application leaves the mesh:",
            ),
            step(
                "kubectl -n emojivoto wait --for=delete --timeout=120s pod -l linkerd.io/control-plane-ns",
                "Its pods are replaced by pods without a proxy:",
            ),
            step(
                "linkerd uninstall | kubectl delete -f -",
                "Then the control plane goes, with all that it has made:",
            ),
            step("kubectl delete namespace emojivoto", "And the application:"),
        ],
    },
    Chapter {
        title: "In the shell",
        steps: &[
            step(
                "linkerd completion bash | tail -n 3",
                "Completion for bash, zsh and fish (`source <(linkerd completion bash)`):",
            ),
            step(
                "linkerd man man1 && ls man1",
                "A manual page for each command:",
            ),
        ],
    },
];
