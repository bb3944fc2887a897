//! What a run leaves behind: once, again, after an older one, and when something is wrong.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output, Stdio};

use crate::pod::{in_a_pod, init, init_command, rules, run, text};

const FLAGS: &str = "-p 4143 -o 4140 -u 2102 --inbound-ports-to-ignore 4190,4191";

fn install(flags: &str) {
    let output = init(flags);
    assert!(output.status.success(), "{}", text(&output));
}

/// Runs with a folder of stand-ins in front of PATH, each a shell script.
fn init_with(tools: &[(&str, &str)], flags: &str) -> Output {
    let folder = tempfile::tempdir().unwrap();
    for (tool, script) in tools {
        let path = folder.path().join(tool);
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    }
    let path = format!(
        "{}:{}",
        folder.path().display(),
        std::env::var("PATH").unwrap()
    );
    init_command(flags).env("PATH", path).output().unwrap()
}

fn feed(tool: &str, script: &str) {
    let mut child = Command::new(tool)
        .arg("--noflush")
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(script.as_bytes())
        .unwrap();
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_second_run_gives_the_same_rules() {
    in_a_pod(|_| {
        for mode in ["nft", "legacy"] {
            let flags = format!("{FLAGS} --iptables-mode {mode}");
            install(&flags);
            let once = rules();
            install(&flags);
            assert_eq!(rules(), once);
        }
    });
}

#[test]
fn other_flags_replace_the_rules() {
    in_a_pod(|_| {
        install(FLAGS);
        let wanted = rules();
        install("-p 5143 -o 5140 -r 80 --outbound-ports-to-ignore 443");
        assert_ne!(rules(), wanted);
        install(FLAGS);
        assert_eq!(rules(), wanted);
    });
}

#[test]
fn what_an_older_run_left_is_replaced_and_rules_of_others_stay() {
    in_a_pod(|_| {
        for mode in ["nft", "legacy"] {
            let theirs = "-A PREROUTING -p udp -m udp --dport 53 -j RETURN";
            let half = "-A PREROUTING -m comment --comment \"proxy-init/install-proxy-init-prerouting/1533000000\" -j PROXY_INIT_REDIRECT";
            let script = format!("*nat\n:PROXY_INIT_REDIRECT - [0:0]\n{theirs}\n{half}\nCOMMIT\n");
            feed(&format!("iptables-{mode}-restore"), &script);
            install(&format!("{FLAGS} --iptables-mode {mode}"));
            let found = rules();
            let of_mode = |rule: &str| {
                let rule = format!("iptables-{mode} {rule}");
                found.iter().filter(|line| **line == rule).count()
            };
            assert_eq!((of_mode(theirs), of_mode(half)), (1, 0), "{found:#?}");
        }
    });
}

#[test]
fn bad_flags_leave_no_rule() {
    in_a_pod(|_| {
        for flags in [
            "",
            "-p 4143",
            "-p 0 -o 4140",
            "-p 4143 -o 4140 -r 9-1",
            "--no-such-flag",
        ] {
            let output = init(flags);
            assert!(!output.status.success(), "{flags}");
            assert!(text(&output).starts_with("error: "), "{}", text(&output));
            assert!(rules().is_empty(), "{flags}");
        }
    });
}

#[test]
fn simulate_prints_the_script_and_changes_nothing() {
    in_a_pod(|_| {
        let output = init(&format!("{FLAGS} --simulate"));
        assert!(output.status.success());
        assert!(rules().is_empty());
        feed(
            "iptables-nft-restore",
            &String::from_utf8(output.stdout).unwrap(),
        );
        assert_eq!(rules().len(), 8);
    });
}

/// Takes every script of ours but the one that adds rules.
const REFUSES: &str = r#"
script=$(cat)
case "$script" in
*"REDIRECT --to-ports"*) echo "line 8: RULE_APPEND failed (No such file or directory)" >&2; exit 4 ;;
esac
exit 0"#;

#[test]
fn a_refused_rule_is_named_and_the_other_family_put_back() {
    in_a_pod(|_| {
        let tools = [
            ("iptables-nft-restore", REFUSES),
            ("iptables-legacy-restore", REFUSES),
        ];
        let output = init_with(&tools, FLAGS);
        let text = text(&output);
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(
            text.contains("at the rule `-A PROXY_INIT_OUTPUT -p tcp"),
            "{text}"
        );
        assert!(text.contains("No such file or directory"), "{text}");
        assert!(rules().is_empty(), "{:#?}", rules());
    });
}

#[test]
fn rules_that_do_not_read_back_are_an_error() {
    in_a_pod(|_| {
        let tools = [("iptables-legacy-restore", "cat > /dev/null")];
        let output = init_with(&tools, &format!("{FLAGS} --iptables-mode legacy"));
        let text = text(&output);
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains("its table lacks"), "{text}");
        assert!(rules().is_empty(), "{:#?}", rules());
    });
}

#[test]
fn legacy_takes_over_where_nft_cannot_be_used() {
    in_a_pod(|_| {
        let broken = "echo 'Could not fetch rule set generation id' >&2; exit 4";
        let output = init_with(&[("ip6tables-nft-save", broken)], FLAGS);
        let text = text(&output);
        assert!(output.status.success(), "{text}");
        assert!(text.contains("nft cannot be used, trying legacy"), "{text}");
        assert!(
            text.contains("Could not fetch rule set generation id"),
            "{text}"
        );
        assert!(
            rules().iter().all(|rule| rule.contains("tables-legacy ")),
            "{:#?}",
            rules()
        );
        assert_eq!(rules().len(), 16);
    });
}

/// Stand-ins for a kernel without table `nat` for IPv6.
const NO_NAT_FOR_IPV6: [(&str, &str); 2] = [
    (
        "ip6tables-nft-restore",
        "echo 'Table does not exist' >&2; exit 3",
    ),
    (
        "ip6tables-legacy-save",
        "echo 'Table does not exist' >&2; exit 3",
    ),
];

#[test]
fn ipv6_is_left_out_only_where_the_pod_has_no_ipv6_address() {
    in_a_pod(|_| {
        let refused = init_with(&NO_NAT_FOR_IPV6, FLAGS);
        assert_eq!(refused.status.code(), Some(1), "{}", text(&refused));
        assert!(rules().is_empty(), "{:#?}", rules());

        run("ip -6 address flush dev eth0 scope global");
        let left_out = init_with(&NO_NAT_FOR_IPV6, FLAGS);
        assert!(left_out.status.success(), "{}", text(&left_out));
        assert!(
            text(&left_out).contains("IPv6 is left out"),
            "{}",
            text(&left_out)
        );
        assert_eq!(rules().len(), 8);
    });
}

#[test]
fn two_capabilities_and_a_read_only_root_are_enough() {
    in_a_pod(|_| {
        // legacy takes a lock on this file; the image has it, as nobody could make it there.
        run("mount --make-rprivate /");
        run("mount -t tmpfs tmpfs /run");
        run("touch /run/xtables.lock");
        run("mount -o remount,ro /run");
        run("mount -o remount,bind,ro /");
        for folder in ["/run", "/"] {
            assert!(tempfile::tempfile_in(folder).is_err(), "{folder}");
        }
        for mode in ["nft", "legacy"] {
            let output = Command::new("setpriv")
                .args(["--bounding-set=-all,+net_admin,+net_raw", "--no-new-privs"])
                .arg(env!("CARGO_BIN_EXE_linkerd-init"))
                .args(FLAGS.split_whitespace())
                .args(["--iptables-mode", mode])
                .output()
                .unwrap();
            assert!(output.status.success(), "{}", text(&output));
        }
    });
}
