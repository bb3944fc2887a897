//! Label selectors as kubectl reads them: `app=web,tier!=cache,env in (a, b),!canary`.
//! Entry: [`parse`]. Pure.

use std::collections::BTreeSet;

use kube::core::{Expression, Selector};

/// A text that is no label selector.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a label selector such as app=web or env in (test,prod): {reason}")]
pub(crate) struct InvalidSelector {
    text: String,
    reason: String,
}

/// Reads a selector; one without text selects everything.
///
/// # Errors
/// [`InvalidSelector`] quotes the part that makes no sense.
pub(crate) fn parse(text: &str) -> Result<Selector, InvalidSelector> {
    let expressions: Result<Vec<Expression>, String> = parts(text)
        .into_iter()
        .filter(|_| !text.trim().is_empty())
        .map(|part| expression(part.trim()))
        .collect();
    expressions
        .map(|all| all.into_iter().collect())
        .map_err(|reason| InvalidSelector {
            text: text.to_owned(),
            reason,
        })
}

/// What is between commas, but not those within parentheses.
fn parts(text: &str) -> Vec<&str> {
    let mut inside = false;
    text.split(|c| {
        match c {
            '(' => inside = true,
            ')' => inside = false,
            _ => {}
        }
        c == ',' && !inside
    })
    .collect()
}

fn expression(part: &str) -> Result<Expression, String> {
    if let Some(key) = part.strip_prefix('!') {
        return Ok(Expression::DoesNotExist(word("key", key)?));
    }
    if let Some((key, value)) = part.split_once("!=") {
        return Ok(Expression::NotEqual(word("key", key)?, value_of(value)?));
    }
    if let Some((key, value)) = part.split_once('=') {
        // `==` says the same.
        let value = value.strip_prefix('=').unwrap_or(value);
        return Ok(Expression::Equal(word("key", key)?, value_of(value)?));
    }
    let Some((head, set)) = part.split_once('(') else {
        return Ok(Expression::Exists(word("key", part)?));
    };
    let set = set
        .strip_suffix(')')
        .ok_or_else(|| format!("{part:?} has no closing parenthesis"))?;
    let values: Result<BTreeSet<String>, String> = set.split(',').map(value_of).collect();
    match head.split_whitespace().collect::<Vec<_>>()[..] {
        [key, "in"] => Ok(Expression::In(word("key", key)?, values?)),
        [key, "notin"] => Ok(Expression::NotIn(word("key", key)?, values?)),
        _ => Err(format!("{head:?} is not KEY in or KEY notin")),
    }
}

fn value_of(text: &str) -> Result<String, String> {
    if text.trim().is_empty() {
        return Ok(String::new());
    }
    word("value", text)
}

/// A key or value; what Kubernetes allows in both.
fn word(what: &str, text: &str) -> Result<String, String> {
    let text = text.trim();
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/');
    if text.is_empty() || !text.chars().all(allowed) {
        return Err(format!("{text:?} is no {what}"));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use kube::core::SelectorExt as _;

    use super::*;

    #[test]
    fn every_form_of_kubectl_is_understood() {
        let labels = [("app", "web"), ("env", "test")].map(|(k, v)| (k.to_owned(), v.to_owned()));
        let labels = labels.into();
        for (text, matches) in [
            ("", true),
            ("app=web", true),
            ("app==web", true),
            ("app = web , env", true),
            ("app=", false),
            ("app!=web", false),
            ("tier!=cache", true),
            ("env in (test, prod),app", true),
            ("env notin (test)", false),
            ("!env", false),
            ("!example.com/canary", true),
        ] {
            let selector = parse(text).expect(text);
            assert_eq!(selector.matches(&labels), matches, "{text}");
        }
    }

    #[test]
    fn other_texts_are_refused() {
        for (text, reason) in [
            ("app=web,", "\"\" is no key"),
            ("=web", "\"\" is no key"),
            ("app=a b", "\"a b\" is no value"),
            ("env in (a", "\"env in (a\" has no closing parenthesis"),
            ("env is (a)", "\"env is \" is not KEY in or KEY notin"),
        ] {
            let error = parse(text).expect_err(text).to_string();
            assert!(error.ends_with(reason), "{error}");
        }
    }
}
