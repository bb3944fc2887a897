//! Manifests mean the same to kubectl before and after.

use linkerd_inject::yaml::{read, to_kube_string};
use serde_json::{Value, json};

/// Strings that a YAML 1.1 parser takes for something else unless they are in quotes.
const WORDS: [&str; 25] = [
    "on", "On", "OFF", "off", "y", "Y", "n", "N", "yes", "No", "1_000", "0._1", "5E_-50", "0X1F",
    "0b1", "0b-1", "+0b1", "-0b+1", "0644", "true", "null", "~", "1e3", "", ".inf",
];

#[test]
fn words_that_yaml_1_1_knows_are_quoted_as_values_and_as_keys() {
    for word in WORDS {
        let text = to_kube_string(&json!({"k": word}));
        let value = text.strip_prefix("k: ").unwrap().trim_end();
        assert!(value.starts_with(['"', '\'']), "{word}: {text}");
        let text = to_kube_string(&json!({word: 1}));
        assert!(text.starts_with(['"', '\'']), "{word}: {text}");
    }
}

#[test]
fn every_short_string_is_read_back_as_itself() {
    let alphabet: Vec<char> = "ynoOfesS01xXbB_+-.~:#'\"{[&*!|> \n\t%@".chars().collect();
    let mut strings = WORDS.map(ToOwned::to_owned).to_vec();
    for a in &alphabet {
        strings.push(a.to_string());
        for b in &alphabet {
            strings.push([*a, *b].iter().collect());
            for c in &alphabet {
                strings.push([*a, *b, *c].iter().collect());
            }
        }
    }
    let read = read(&to_kube_string(&json!(strings)), 1).unwrap();
    let different = strings
        .iter()
        .zip(read.as_array().unwrap())
        .find(|(a, b)| *a != *b);
    assert_eq!(different, None);
}

#[test]
fn a_text_with_the_sentinels_of_the_writer_is_kept() {
    let value = json!(["quoted0x", "quoted0x0x", "on", "quoted1x0x", "off"]);
    assert_eq!(read(&to_kube_string(&value), 1), Ok(value));
}

#[test]
fn scalars_are_read_as_kubectl_reads_them() {
    for (text, expected) in [
        ("0644", json!(420)),
        ("0o644", json!(420)),
        ("0x1F", json!(31)),
        ("1_000", json!(1000)),
        ("on", json!(true)),
        ("No", json!(false)),
        ("~", Value::Null),
        ("'on'", json!("on")),
        ("1.10", json!(1.1)),
        ("12:30:00x", json!("12:30:00x")),
        ("2001-01-01", json!("2001-01-01")),
        ("!custom x", json!("x")),
        (
            "18446744073709551615",
            json!(18_446_744_073_709_551_615_u64),
        ),
    ] {
        assert_eq!(
            read(&format!("k: {text}\n"), 1),
            Ok(json!({"k": expected})),
            "{text}"
        );
    }
}

#[test]
fn merge_keys_and_anchors_are_resolved_and_the_last_of_two_equal_keys_wins() {
    let text = "a: &x {b: 1, c: 2}\nd: {<<: *x, c: 3}\ne: *x\nf: 1\nf: 2\n";
    let expected =
        json!({"a": {"b": 1, "c": 2}, "d": {"b": 1, "c": 3}, "e": {"b": 1, "c": 2}, "f": 2});
    assert_eq!(read(text, 1), Ok(expected));
}

#[test]
fn what_is_no_yaml_is_refused_with_its_line() {
    for (text, line) in [
        ("a: 1\nb: [\n", 12),
        ("a: \"x\n", 10),
        ("a: 1\n b: 2\n", 11),
        ("a: .inf\n", 10),
    ] {
        let error = read(text, 10).unwrap_err();
        assert!(
            error
                .line
                .is_some_and(|found| found >= 10 && found <= line + 1),
            "{text}: {error}"
        );
    }
}

#[test]
fn a_document_that_would_fill_the_memory_is_refused() {
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x]\n");
    for n in 1..12 {
        let items = vec![format!("*a{}", n - 1); 9].join(", ");
        bomb.push_str(&format!("a{n}: &a{n} [{items}]\n"));
    }
    assert!(read(&bomb, 1).is_err());
    // One level, and wide: 10,000 times 1,000.
    let wide = format!(
        "a: &a [{}]\nb: [{}]\n",
        vec!["x"; 1000].join(", "),
        vec!["*a"; 10_000].join(", ")
    );
    assert!(read(&wide, 1).is_err());
    // Few events, and long ones.
    let long = format!(
        "a: &a {}\nb: [{}]\n",
        "x".repeat(100_000),
        vec!["*a"; 10_000].join(", ")
    );
    assert!(read(&long, 1).is_err());
    let deep = "[".repeat(100_000);
    assert!(read(&deep, 1).is_err());
}

/// `kubectl get all -o yaml` of a large namespace is one document.
#[test]
fn a_document_may_be_as_large_as_its_text() {
    let items = "- [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]\n".repeat(25_000);
    let value = read(&format!("items:\n{items}"), 1).expect("275,000 nodes");
    assert_eq!(value["items"].as_array().map(Vec::len), Some(25_000));
}

#[test]
fn one_anchor_may_be_used_often() {
    let uses = "- *labels\n".repeat(2000);
    let value = read(&format!("x: &labels {{app: web}}\ny:\n{uses}"), 1).expect("no bomb");
    assert_eq!(value["y"][1999], json!({"app": "web"}));
}
