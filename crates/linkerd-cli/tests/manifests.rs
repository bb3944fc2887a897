//! `linkerd install`, `inject` and `uninject` as a user runs them.
//! `UPDATE_EXPECT=1 cargo test` rewrites the golden files.

mod common;

use std::{fs, process::Command};

use expect_test::{expect, expect_file};

/// What a run of the program left behind.
struct Run {
    stdout: String,
    stderr: String,
    code: Option<i32>,
}

fn linkerd(arguments: &[&str], stdin: &str) -> Run {
    let mut linkerd = Command::new(env!("CARGO_BIN_EXE_linkerd"));
    let output = common::run(linkerd.args(arguments).env_clear(), stdin);
    Run {
        stdout: String::from_utf8(output.stdout).expect("text"),
        stderr: String::from_utf8(output.stderr).expect("text"),
        code: output.status.code(),
    }
}

/// Runs the program, which has to refuse, and returns its words.
fn refusal(arguments: &[&str], stdin: &str) -> String {
    let Run {
        stdout,
        stderr,
        code,
    } = linkerd(arguments, stdin);
    assert_eq!(
        (stdout.as_str(), code),
        ("", Some(1)),
        "{arguments:?}: {stderr}"
    );
    stderr
}

const DEPLOYMENT: &str = "\
apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
spec:
  template:
    spec:
      containers:
      - name: web
        image: shop/web:1
";

#[test]
fn install_without_tls() {
    let run = linkerd(&["install"], "");
    assert_eq!((run.stderr.as_str(), run.code), ("", Some(0)));
    expect_file!["golden/install.yml"].assert_eq(&run.stdout);
}

#[test]
fn install_with_tls() {
    let run = linkerd(&["install", "--tls=optional"], "");
    assert_eq!((run.stderr.as_str(), run.code), ("", Some(0)));
    expect_file!["golden/install-tls.yml"].assert_eq(&run.stdout);
}

#[test]
fn install_with_the_identity_service() {
    let run = linkerd(&["install", "--tls=optional", "--identity=service"], "");
    assert_eq!((run.stderr.as_str(), run.code), ("", Some(0)));
    expect_file!["golden/install-identity-service.yml"].assert_eq(&run.stdout);
    // The root is mounted where it is needed, and nowhere else; nobody but linkerd-ca reads Secrets.
    assert_eq!(run.stdout.matches("secretName: linkerd-ca-root").count(), 1);
    assert_eq!(run.stdout.matches("[secrets]").count(), 1);
    let default = linkerd(&["install", "--tls=optional"], "").stdout;
    assert!(!default.contains("linkerd-ca-root") && !default.contains("tokenreviews"));
    let by_value = linkerd(&["install", "--set=tls=optional,identity=service"], "");
    assert_eq!(by_value.stdout, run.stdout);
}

#[test]
fn the_source_of_certificates_is_one_of_two_and_needs_tls() {
    for command in [&["install"][..], &["inject", "-"]] {
        let with = |flags: &[&str]| refusal(&[command, flags].concat(), DEPLOYMENT);
        assert_eq!(
            with(&["--tls=optional", "--identity=vault"]),
            "Error: --identity must be set to \"secret\" or \"service\"\n"
        );
        assert_eq!(
            with(&["--identity=service"]),
            "Error: --identity=service needs --tls=optional\n"
        );
    }
}

#[test]
fn prometheus_is_left_out_when_it_is_not_wanted_or_is_elsewhere() {
    let without = |flags: &[&str]| {
        let run = linkerd(&[&["install"], flags].concat(), "");
        assert_eq!((run.stderr.as_str(), run.code), ("", Some(0)));
        assert!(!run.stdout.contains("linkerd-prometheus"), "{flags:?}");
        run.stdout
    };
    let disabled = without(&["--set=prometheus.enabled=false,api.historySeriesMax=5000"]);
    assert!(disabled.contains("        - --history-series-max=5000\n"));
    assert!(!disabled.contains("--prometheus-url"));
    let url = "http://prometheus.monitoring:9090/p";
    let by_flag = without(&["--prometheus-url", url]);
    assert!(by_flag.contains(&format!("        - --prometheus-url={url}\n")));
    assert!(!by_flag.contains("--history-series-max"));
    let by_value = without(&[&format!("--set=prometheus.url={url}")]);
    assert!(by_value == by_flag);
    for wrong in ["https://prometheus", "prometheus:9090", "http://"] {
        assert_eq!(
            refusal(&["install", "--prometheus-url", wrong], ""),
            format!(
                "Error: values: prometheus.url: it has to be the URL of a Prometheus: \
                 http://host[:port][/path], not {wrong:?}\n"
            )
        );
    }
}

#[test]
fn install_with_every_flag() {
    let folder = tempfile::tempdir().unwrap();
    let values = folder.path().join("values.yaml");
    fs::write(
        &values,
        "prometheus: {retention: 1h, image: ignored}\nca: {leafLifetime: 1h}\n",
    )
    .unwrap();
    let run = linkerd(
        &[
            "install",
            "--linkerd-namespace=mesh",
            "--tls=optional",
            "--linkerd-version=v9",
            "--registry=registry.test:5000/mesh",
            "--image-pull-policy=Always",
            "--proxy-uid=9",
            "--proxy-log-level=warn",
            "--proxy-bind-timeout=5s",
            "--api-port=18086",
            "--control-port=14190",
            "--metrics-port=14191",
            "--native-sidecar=false",
            "--skip-inbound-ports=25",
            "--skip-outbound-ports=26,27",
            "--controller-replicas=3",
            "--prometheus-replicas=2",
            "--controller-log-level=fatal",
            "--prometheus-image=registry.test/prometheus:v2",
            "--values",
            values.to_str().unwrap(),
            "--set=prometheus.scrapeInterval=5s,prometheus.resources.limits.memory=1Gi",
            "--set=tolerations[0].operator=Exists",
        ],
        "",
    );
    assert_eq!((run.stderr.as_str(), run.code), ("", Some(0)));
    expect_file!["golden/install-flags.yml"].assert_eq(&run.stdout);
}

#[test]
fn install_for_high_availability() {
    let run = linkerd(&["install", "--tls=optional", "--ha"], "");
    assert_eq!((run.stderr.as_str(), run.code), ("", Some(0)));
    expect_file!["golden/install-ha.yml"].assert_eq(&run.stdout);
    // Flags lie on top of it.
    let two = linkerd(&["install", "--ha", "--controller-replicas=2"], "");
    assert_eq!(two.stdout.matches("\n  replicas: 2\n").count(), 2);
}

#[test]
fn values_come_from_stdin_and_texts_stay_texts() {
    let values = "image: {tag: v2}\nprometheus: {retention: 1h}\n";
    let by_stdin = linkerd(&["install", "-f", "-"], values);
    let by_set = linkerd(
        &["install", "--set=image.tag=v2,prometheus.retention=1h"],
        "",
    );
    assert_eq!((by_stdin.stderr.as_str(), by_stdin.code), ("", Some(0)));
    assert_eq!(by_stdin.stdout, by_set.stdout);
    let text = linkerd(&["install", "--set-string=image.tag=2"], "");
    assert!(text.stdout.contains("/destination:2"), "{}", text.stderr);
    assert_eq!(linkerd(&["install", "-v=2"], "").stdout, text.stdout);
    assert_eq!(
        refusal(&["install", "--values=-", "-f", "-"], ""),
        "Error: --values - can be given once: stdin ends\n"
    );
    assert_eq!(
        refusal(&["install", "-f", "-"], "[1]"),
        "Error: cannot read stdin: values have to be a mapping\n"
    );
}

#[test]
fn values_and_flags_are_two_ways_to_the_same_manifests() {
    let by_flags = linkerd(
        &["install", "--tls=optional", "--registry=r.test/x", "-v=v2"],
        "",
    );
    let by_values = linkerd(
        &[
            "install",
            "--set=tls=optional,image.registry=r.test/x",
            "--set=image.tag=v2",
        ],
        "",
    );
    assert_eq!(by_values.code, Some(0));
    assert_eq!(by_flags.stdout, by_values.stdout);
}

#[test]
fn wrong_flags_are_refused_in_these_words() {
    for (arguments, expected) in [
        (
            &["--tls=yes"][..],
            "--tls must be blank or set to \"optional\"",
        ),
        (&["--linkerd-version=v 1"], "v 1 is not a valid version"),
        (&["--registry=a b"], "a b is not a valid Docker registry"),
        (
            &["--registry=host:port/x"],
            "host:port/x is not a valid Docker registry",
        ),
        (
            &["--image-pull-policy=Sometimes"],
            "--image-pull-policy must be one of: Always, IfNotPresent, Never",
        ),
        (
            &["--proxy-bind-timeout=10"],
            "Invalid duration '10' for --proxy-bind-timeout flag",
        ),
        (
            &["--tls=x", "--linkerd-version=?"],
            "? is not a valid version",
        ),
        (&["--linkerd-namespace=a_b"], "a_b is not a valid namespace"),
        (
            &["--skip-inbound-ports=80,0"],
            "\"0\" is not a port (1 to 65535) or a range of ports (8000-8010)",
        ),
    ] {
        for command in ["install", "inject"] {
            let mut all = vec![command];
            all.extend(arguments);
            if command == "inject" {
                all.push("-");
            }
            assert_eq!(refusal(&all, DEPLOYMENT), format!("Error: {expected}\n"));
        }
    }
}

#[test]
fn a_file_after_tls_is_no_mode() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let path = file.path().display().to_string();
    assert_eq!(
        refusal(&["inject", "--tls", &path], ""),
        format!("Error: --tls takes a mode: linkerd inject --tls=optional {path}\n")
    );
}

#[test]
fn the_help_of_upgrade_speaks_of_no_defaults_of_what_is_kept() {
    let help = |command| linkerd(&[command, "--help"], "").stdout;
    let of_install = help("install");
    let of_upgrade = help("upgrade");
    for default in [
        "[default: warn,linkerd=info]",
        "[default: 8086]",
        "no TLS when not given",
    ] {
        assert!(of_install.contains(default), "{of_install}");
        assert!(!of_upgrade.contains(default), "{of_upgrade}");
    }
    // The flags of all commands have theirs.
    assert_eq!(of_upgrade.matches("[default: ").count(), 1, "{of_upgrade}");
    assert!(
        of_upgrade.contains("Log filter of the proxy\n"),
        "{of_upgrade}"
    );
}

#[test]
fn the_control_plane_logs_at_the_level_of_the_flag() {
    for (level, expected) in [("trace", "trace"), ("panic", "error"), ("warn", "warn")] {
        let flag = format!("--controller-log-level={level}");
        let run = linkerd(&["install", "--tls=optional", &flag], "");
        let argument = format!("- --log-level={expected}\n");
        assert_eq!(
            run.stdout.matches(&argument).count(),
            4,
            "{level}: {}",
            run.stderr
        );
    }
}

#[test]
fn wrong_flags_of_install_alone_are_refused_in_these_words() {
    for (argument, expected) in [
        (
            "--controller-log-level=loud",
            "--controller-log-level must be one of: error, warn, info, debug, trace",
        ),
        ("--set=x", "--set \"x\": it has to be key=value"),
        (
            "--set-string=.x=1",
            "--set-string \".x\": a part of the key is empty",
        ),
        (
            "--set=image.tag=2",
            "values: image.tag: it has to be of type string, not 2",
        ),
        (
            "--values=https://shop.test/v.yaml",
            "https://shop.test/v.yaml: URLs are not read; download it yourself: curl -sSfL \
             https://shop.test/v.yaml | linkerd … -f -",
        ),
        (
            "--set=prometheus.replica=2",
            "values: prometheus.replica: there is no such value",
        ),
        (
            "--set=ca.replicas=0",
            "values: ca.replicas: it has to be at least 1, not 0",
        ),
        (
            "--set=tls=on",
            "values: tls: it has to be one of \"\", \"optional\", not \"on\"",
        ),
        (
            "--control-port=4143",
            "values: proxy.controlPort: it has to be a port other than 4140 and 4143, where the proxy \
             takes connections, not 4143",
        ),
        (
            "--values=/nowhere",
            "cannot read /nowhere: No such file or directory (os error 2)",
        ),
    ] {
        assert_eq!(
            refusal(&["install", argument], ""),
            format!("Error: {expected}\n")
        );
    }
}

#[test]
fn a_log_filter_that_is_none_is_refused_with_an_example() {
    for command in [&["install"][..], &["inject", "-"]] {
        let arguments = [command, &["--proxy-log-level=((("]].concat();
        let words = refusal(&arguments, DEPLOYMENT);
        for part in [
            "'--proxy-log-level <FILTER>'",
            "\"(((\" is neither",
            "example: warn,linkerd=info",
        ] {
            assert!(words.contains(part), "{part}: {words}");
        }
    }
    let words = refusal(&["install", "--set=proxy.logLevel=inof"], "");
    let expected = "Error: values: proxy.logLevel: it has to be a log filter, such as \
                    warn,linkerd=debug, not \"inof\"\n";
    assert_eq!(words, expected);
}

#[test]
fn certificates_that_end_before_kubelet_has_brought_the_next_ones_are_warned_of() {
    let run = |arguments: &[&str]| {
        let run = linkerd(&[&["install"], arguments].concat(), "");
        assert!(
            run.code == Some(0) && run.stdout.len() > 1000,
            "{}",
            run.stderr
        );
        run.stderr
    };
    let warning = run(&["--tls=optional", "--set=ca.leafLifetime=5m59s"]);
    let begin = "Warning: ca.leafLifetime is 5m59s: ";
    let end = "give it 6m or more, or --identity=service\n";
    assert!(
        warning.starts_with(begin) && warning.ends_with(end),
        "{warning}"
    );
    for well in [
        &["--tls=optional", "--set=ca.leafLifetime=6m"][..],
        &[
            "--tls=optional",
            "--identity=service",
            "--set=ca.leafLifetime=30s",
        ],
        &["--set=ca.leafLifetime=30s"],
    ] {
        assert_eq!(run(well), "", "{well:?}");
    }
}

#[test]
fn ports_of_the_proxy_that_are_one_are_refused() {
    for argument in ["--control-port=4191", "--set=proxy.metricsPort=4190"] {
        let words = refusal(&["install", argument], "");
        let expected =
            "values: proxy.metricsPort: it has to be another port than proxy.controlPort\n";
        assert!(words.ends_with(expected), "{argument}: {words}");
    }
    let words = refusal(&["inject", "--control-port=4143", "-"], DEPLOYMENT);
    let expected = "deployment/web: the proxy would listen on port 4143 twice: give another one to \
                    config.linkerd.io/inbound-port (--inbound-port) or to \
                    config.linkerd.io/control-port (--control-port)\n";
    assert!(words.ends_with(expected), "{words}");
}

#[test]
fn inject_prints_manifests_on_stdout_and_the_report_on_stderr() {
    let run = linkerd(&["inject", "--tls=optional", "-"], DEPLOYMENT);
    assert_eq!(run.code, Some(0));
    assert!(
        run.stdout
            .contains("secretName: web-deployment-tls-linkerd-io"),
        "{}",
        run.stdout
    );
    assert!(run.stdout.ends_with("\n---\n"));
    expect![[r#"

        hostNetwork: pods do not use host networking...............................[ok]
        sidecar: pods do not have a proxy or initContainer already injected........[ok]
        supported: at least one resource injected..................................[ok]
        udp: pod specs do not include UDP ports....................................[ok]

        Summary: 1 of 1 YAML document(s) injected
          deployment/web

    "#]]
    .assert_eq(&run.stderr);
}

#[test]
fn uninject_is_the_way_back() {
    let injected = linkerd(&["inject", "--tls=optional", "-"], DEPLOYMENT);
    let run = linkerd(&["uninject", "-"], &injected.stdout);
    assert_eq!(run.code, Some(0));
    assert_eq!(run.stdout, format!("{DEPLOYMENT}---\n"));
    assert_eq!(
        run.stderr,
        "\nSummary: 1 of 1 YAML document(s) uninjected\n  deployment/web\n\n"
    );
}

#[test]
fn a_folder_stands_for_all_files_in_it_in_the_order_of_their_names() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("b")).unwrap();
    for (file, name) in [
        ("c.yml", "third"),
        ("b/x.txt", "second"),
        ("a.yaml", "first"),
    ] {
        let text = format!("kind: ConfigMap\nmetadata: {{name: {name}}} # {name}\n");
        fs::write(folder.path().join(file), text).unwrap();
    }
    let run = linkerd(&["inject", folder.path().to_str().unwrap()], "");
    let expected: String = ["first", "second", "third"]
        .map(|name| format!("kind: ConfigMap\nmetadata: {{name: {name}}} # {name}\n---\n"))
        .concat();
    assert_eq!(run.stdout, expected);
    assert_eq!(run.code, Some(0));
}

#[test]
fn one_bad_file_in_a_folder_and_nothing_is_printed() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a.yml"), DEPLOYMENT).unwrap();
    let bad = folder.path().join("b.yml");
    fs::write(
        &bad,
        format!("a: 1\n---\nb: 1\n---\n{DEPLOYMENT} x: [\n---\nc: 1\n---\nd: 1\n"),
    )
    .unwrap();
    let words = refusal(&["inject", folder.path().to_str().unwrap()], "");
    let expected = format!("Error: {}: document 3 of 5, line 15: ", bad.display());
    assert!(words.starts_with(&expected), "{words}");
    assert_eq!(words.lines().count(), 1, "{words}");
}

#[test]
fn what_cannot_be_read_is_refused_in_these_words() {
    let folder = tempfile::tempdir().unwrap();
    let picture = folder.path().join("picture");
    fs::write(&picture, [0xff, 0xfe, 0]).unwrap();
    let picture = picture.to_str().unwrap();
    for command in ["inject", "uninject"] {
        for (argument, expected) in [
            (
                "/nowhere.yml",
                "cannot read /nowhere.yml: No such file or directory (os error 2)".into(),
            ),
            (
                picture,
                format!("cannot read {picture}: it is not text in UTF-8"),
            ),
            (
                "https://shop.test/a.yml",
                format!(
                    "https://shop.test/a.yml: URLs are not read; download it yourself and pipe it: \
                     curl -sSfL https://shop.test/a.yml | linkerd {command} -"
                ),
            ),
        ] {
            assert_eq!(
                refusal(&[command, argument], ""),
                format!("Error: {expected}\n")
            );
        }
        let nothing = "Error: please specify a kubernetes resource file\n";
        assert_eq!(refusal(&[command], ""), nothing);
    }
}

#[test]
fn wrong_usage_is_an_error_like_any_other() {
    for arguments in [
        &["unknown"][..],
        &["install", "--unknown"],
        &[],
        &["inject", "--api-port=0", "-"],
    ] {
        let words = refusal(arguments, "");
        assert!(
            words.starts_with("Error: ") || arguments.is_empty(),
            "{words}"
        );
    }
    assert_eq!(
        refusal(&["completion", "tcsh"], ""),
        "Error: unsupported shell type (must be bash, zsh or fish): tcsh\n"
    );
}

/// A pipe whose other end is closed already.
fn without_reader() -> std::io::PipeWriter {
    std::io::pipe().expect("a pipe").1
}

#[test]
fn an_error_that_nobody_reads_is_an_error_still() {
    let output = Command::new(env!("CARGO_BIN_EXE_linkerd"))
        .args(["stat", "nonsense"])
        .stderr(without_reader())
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "");
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn a_reader_that_goes_away_ends_the_program_quietly() {
    let output = Command::new(env!("CARGO_BIN_EXE_linkerd"))
        .args(["install", "--tls=optional"])
        .stdout(without_reader())
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert_eq!(output.status.code(), Some(141));
}
