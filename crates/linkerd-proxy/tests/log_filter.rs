//! A log filter that cannot be read, in the program itself.

use std::{
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
};

use linkerd_names::{env, log_filter};

/// Whether the proxy has come up, and what it has said until then, or until it has ended.
fn started(filter: &str) -> (bool, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_linkerd-proxy"));
    command.env_clear().env(env::POD_NAMESPACE, "shop");
    for listener in [
        env::PRIVATE_LISTENER,
        env::PUBLIC_LISTENER,
        env::CONTROL_LISTENER,
        env::METRICS_LISTENER,
    ] {
        command.env(listener, "tcp://127.0.0.1:0");
    }
    let mut proxy = command
        .env(env::LOG, filter)
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let stderr = BufReader::new(proxy.stderr.take().expect("a pipe"));
    let mut said = String::new();
    let mut up = false;
    for line in stderr.lines() {
        let line = line.expect("text");
        said += &format!("{line}\n");
        up = line.contains("proxy is up");
        if up {
            break;
        }
    }
    proxy.kill().expect("it is ours");
    proxy.wait().expect("it ends");
    (up, said)
}

#[test]
fn the_proxy_says_that_it_cannot_be_read_and_logs_as_it_does_by_default() {
    for filter in ["(((", "linkerd=inof", "linkerd[{client}]=debug"] {
        let (up, said) = started(filter);
        let first = said.lines().next().unwrap_or_default();
        let begin = format!("{}={filter:?} is not valid: ", env::LOG);
        assert!(first.starts_with(&begin), "{said}");
        assert!(
            first.ends_with(&format!("{} instead", log_filter::DEFAULT)),
            "{said}"
        );
        assert!(up, "{said}");
    }
    let (up, said) = started("linkerd=info");
    assert!(up && !said.contains("not valid"), "{said}");
}
