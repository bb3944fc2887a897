//! How a proxy names the pod that it is part of. Entry: [`parse`]. Pure text work.

use serde::Deserialize;

use crate::pod::PodKey;

/// The words that an injector writes: `{"ns":"shop","pod":"web-5d4f-x"}`; other members are of no use here.
#[derive(Deserialize)]
struct Words {
    ns: String,
    pod: String,
}

/// Reads the words, or the older `shop:web-5d4f-x`. None for anything else, and for empty names.
pub fn parse(text: &str) -> Option<PodKey> {
    let (namespace, name) = match serde_json::from_str(text) {
        Ok(Words { ns, pod }) => (ns, pod),
        Err(_) => {
            let (namespace, name) = text.split_once(':')?;
            (namespace.to_owned(), name.to_owned())
        }
    };
    let is_name = |text: &str| {
        !text.is_empty()
            && text
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'))
    };
    (is_name(&namespace) && is_name(&name)).then_some(PodKey { namespace, name })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_is_read_from_either_form() {
        for text in [
            r#"{"ns":"shop","pod":"web-5d4f-x"}"#,
            r#" { "pod": "web-5d4f-x", "ns": "shop", "nodeName": "a" }"#,
            "shop:web-5d4f-x",
        ] {
            let pod = parse(text).expect(text);
            assert_eq!((&*pod.namespace, &*pod.name), ("shop", "web-5d4f-x"));
        }
    }

    #[test]
    fn other_words_name_no_pod() {
        for text in [
            "",
            ":",
            "shop",
            "shop:",
            ":web",
            "shop:web:x",
            r#"{"ns":"shop"}"#,
            r#"{"ns":"shop","external_workload":"vm"}"#,
            r#"{"ns":"","pod":"web"}"#,
            r#"{"ns":1,"pod":"web"}"#,
            r#"{"ns":"shop","pod":"web"#,
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
