//! What may have been meant by a word that is no type. Entries: [`kind`], [`objects`]. Pure.

use super::WORDS;

/// Other letters than these many in a word make it another word: one in four to seven, two in eight.
const LETTERS_FOR_ONE_ERROR: usize = 4;

/// The word for a type of which this one is a misspelling.
pub(super) fn kind(word: &str) -> Option<&'static str> {
    let word = word.to_ascii_lowercase();
    let errors_max = word.len() / LETTERS_FOR_ONE_ERROR;
    let known = WORDS.iter().flat_map(|(_, words, _)| words.iter().copied());
    known
        .map(|known| (strsim::damerau_levenshtein(&word, known), known))
        .filter(|(errors, _)| *errors <= errors_max)
        .min_by_key(|(errors, _)| *errors)
        .map(|(_, known)| known)
}

/// How to ask for objects with these names; none when they can be no names.
pub(super) fn objects(names: &[&str]) -> Option<String> {
    if !names.iter().all(|name| is_name(name)) {
        return None;
    }
    match names {
        [] => None,
        [name] => Some(format!("deploy/{name}")),
        names => Some(format!("deploy {}", names.join(" "))),
    }
}

/// Whether Kubernetes takes it for the name of an object.
fn is_name(word: &str) -> bool {
    let is_end = |byte: Option<&u8>| {
        byte.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
    };
    let bytes = word.as_bytes();
    is_end(bytes.first())
        && is_end(bytes.last())
        && bytes
            .iter()
            .all(|byte| is_end(Some(byte)) || b"-.".contains(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misspelt_types_are_recognized_and_names_are_not() {
        for (word, expected) in [
            ("deploymnt", Some("deployment")),
            ("depoly", Some("deploy")),
            ("Deployments", Some("deployments")),
            ("PO", Some("po")),
            ("stafulset", Some("statefulset")),
            ("sevice", Some("service")),
            ("web", None),
            ("dns", None),
            ("auth", None),
            ("node", None),
            ("job-runner", None),
            ("", None),
        ] {
            assert_eq!(kind(word), expected, "{word}");
        }
    }

    #[test]
    fn what_can_be_a_name_is_asked_for_with_a_type() {
        assert_eq!(objects(&["web"]).as_deref(), Some("deploy/web"));
        assert_eq!(
            objects(&["web-1", "a.b"]).as_deref(),
            Some("deploy web-1 a.b")
        );
        for names in [&["Web"][..], &["-web"], &["web/x"], &["web", ""], &[]] {
            assert_eq!(objects(names), None, "{names:?}");
        }
    }
}
