//! `linkerd inject --explain` as a user runs it. `UPDATE_EXPECT=1 cargo test` rewrites the golden files.

use std::process::Command;

use expect_test::expect_file;

const MANIFESTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/explain.in.yml");

/// Runs the program; returns stdout, stderr and the exit code.
fn explain(flags: &[&str]) -> (String, String, Option<i32>) {
    let output = Command::new(env!("CARGO_BIN_EXE_linkerd"))
        .args(["inject", "--explain", "--linkerd-version=v1"])
        .args(flags)
        .arg(MANIFESTS)
        .env_clear()
        .output()
        .expect("the program starts");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (
        text(output.stdout),
        text(output.stderr),
        output.status.code(),
    )
}

#[test]
fn people_read_what_will_happen_and_what_breaks_first() {
    let (stdout, stderr, code) = explain(&["--tls=optional"]);
    assert_eq!((stderr.as_str(), code), ("", Some(1)));
    expect_file!["golden/explain.txt"].assert_eq(&stdout);
}

#[test]
fn programs_read_the_same() {
    let (stdout, stderr, code) = explain(&["--tls=optional", "-o", "json"]);
    assert_eq!((stderr.as_str(), code), ("", Some(1)));
    expect_file!["golden/explain.json"].assert_eq(&stdout);
}

#[test]
fn flags_change_what_will_happen() {
    let flags = [
        "--native-sidecar=false",
        "--skip-inbound-ports=9000",
        "--skip-outbound-ports=25",
        "--metrics-port=8080",
    ];
    let (stdout, stderr, code) = explain(&flags);
    assert_eq!((stderr.as_str(), code), ("", Some(1)));
    expect_file!["golden/explain-flags.txt"].assert_eq(&stdout);
}

#[test]
fn how_to_print_is_a_question_of_explanations_alone() {
    let output = Command::new(env!("CARGO_BIN_EXE_linkerd"))
        .args(["inject", "-o", "json", MANIFESTS])
        .output()
        .expect("the program starts");
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("--explain"), "{stderr}");
}
