//! Values of the chart, good ones and bad ones. Entries: [`read`], [`rounds`].

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// What the schema has to say of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Good,
    Bad,
    /// Refused, though what reads it could.
    Unusual,
}

/// A value, and where it belongs.
#[derive(Clone, Debug)]
pub(crate) struct Example {
    pub(crate) path: String,
    pub(crate) kind: Kind,
    pub(crate) value: Value,
}

/// Reads `values.yml`, which is beside this file.
pub(crate) fn read() -> Vec<Example> {
    let values: Value = serde_yaml::from_str(include_str!("values.yml")).expect("YAML");
    let mut examples = Vec::new();
    for (path, lists) in values.as_object().expect("a mapping") {
        for (list, values) in lists.as_object().expect("a mapping") {
            let kind = match list.as_str() {
                "good" => Kind::Good,
                "bad" => Kind::Bad,
                "unusual" => Kind::Unusual,
                _ => panic!("{path}: {list}"),
            };
            examples.extend(
                values
                    .as_array()
                    .expect("a list")
                    .iter()
                    .map(|value| Example {
                        path: path.clone(),
                        kind,
                        value: value.clone(),
                    }),
            );
        }
    }
    examples
}

/// The good ones and then the others, in rounds: each has one example of every path, as long as there are some.
pub(crate) fn rounds() -> [Vec<BTreeMap<String, Value>>; 2] {
    let mut both: [Vec<BTreeMap<String, Value>>; 2] = [Vec::new(), Vec::new()];
    for Example { path, kind, value } in read() {
        let rounds = &mut both[usize::from(kind != Kind::Good)];
        match rounds.iter_mut().find(|round| !round.contains_key(&path)) {
            Some(round) => drop(round.insert(path, value)),
            None => rounds.push(BTreeMap::from([(path, value)])),
        }
    }
    both
}

/// A file of values with each one at its path.
pub(crate) fn file<'a>(values: impl IntoIterator<Item = (&'a String, &'a Value)>) -> String {
    let mut file = json!({});
    for (path, value) in values {
        let place = path
            .split('.')
            .fold(&mut file, |place, key| &mut place[key]);
        *place = value.clone();
    }
    file.to_string()
}
