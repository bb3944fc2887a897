//! The chart `charts/linkerd`, which is in this binary, rendered as Helm would render it.
//! Entry: [`render`]. The values are checked against the chart's schema before.

mod functions;
mod order;
mod schema;
mod values;

use std::rc::Rc;

use gtmpl_ng::Context;
use include_dir::{Dir, include_dir};
use linkerd_inject::yaml;
use serde_json::{Value, json};
use thiserror::Error;

pub(crate) use values::{difference, drop_nulls, merge, set, set_string};

static CHART: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../../charts/linkerd");

/// Why the chart cannot be rendered.
#[derive(Debug, Error)]
pub(crate) enum ChartError {
    #[error("the chart lacks {0}")]
    Missing(&'static str),
    #[error("cannot read the chart's {file}")]
    Yaml {
        file: String,
        #[source]
        source: serde_yaml::Error,
    },
    #[error("values")]
    Values(#[from] schema::Violation),
    #[error("cannot render the chart: {file}: {reason}")]
    Template { file: String, reason: String },
}

/// The chart's own values, `values.yaml`.
///
/// # Errors
/// [`ChartError`] when this build's chart is broken.
pub(crate) fn default_values() -> Result<Value, ChartError> {
    chart_yaml("values.yaml")
}

/// The values for a control plane that outlives nodes, `values-ha.yaml`, to be merged into others.
///
/// # Errors
/// [`ChartError`] when this build's chart is broken.
pub(crate) fn ha_values() -> Result<Value, ChartError> {
    chart_yaml("values-ha.yaml")
}

/// Renders the chart with `values`, which are complete, for `namespace`. Returns YAML documents in
/// the order in which they can be applied. `overrides` is kept beside the values in the cluster: what
/// the user wants otherwise than the defaults, for `upgrade` to a version with other defaults.
///
/// # Errors
/// [`ChartError::Values`] when the schema refuses a value; the others when a template is wrong.
pub(crate) fn render(
    namespace: &str,
    values: &Value,
    overrides: &Value,
) -> Result<String, ChartError> {
    schema::check(&chart_yaml("values.schema.json")?, values)?;
    let chart: Value = chart_yaml("Chart.yaml")?;
    let top = functions::to_template_value(&json!({
        "Values": values,
        // Helm has no such thing, and its users upgrade by Helm.
        "Overrides": yaml::to_kube_string(overrides).trim_end(),
        "Release": {"Name": "linkerd", "Namespace": namespace, "Service": "linkerd-cli"},
        "Chart": {
            "Name": chart["name"],
            "Version": chart["version"],
            "AppVersion": chart["appVersion"],
        },
    }));

    let helpers = helpers();
    let mut documents = Vec::new();
    for (file, text) in templates("yaml") {
        let failed = |reason: String| ChartError::Template {
            file: file.to_owned(),
            reason,
        };
        let template = functions::template(file, &helpers, Some(text)).map_err(failed)?;
        let rendered =
            functions::with_helpers(&helpers, || template.render(&Context::from(top.clone())));
        let rendered = rendered.map_err(|error| failed(error.to_string()))?;
        documents.extend(order::documents(&rendered));
    }
    Ok(order::sorted(documents))
}

/// The files with named templates.
fn helpers() -> Rc<functions::Helpers> {
    let files = templates("tpl").into_iter();
    Rc::new(
        files
            .map(|(file, text)| (file.to_owned(), text.to_owned()))
            .collect(),
    )
}

/// The files of the folder `templates` with this extension, by name.
fn templates(extension: &str) -> Vec<(&'static str, &'static str)> {
    let files = CHART.get_dir("templates").into_iter().flat_map(Dir::files);
    let mut templates: Vec<_> = files
        .filter(|file| {
            file.path()
                .extension()
                .is_some_and(|found| found == extension)
        })
        .filter_map(|file| Some((file.path().to_str()?, file.contents_utf8()?)))
        .collect();
    templates.sort_unstable();
    templates
}

fn chart_yaml(file: &'static str) -> Result<Value, ChartError> {
    let text = CHART
        .get_file(file)
        .and_then(include_dir::File::contents_utf8)
        .ok_or(ChartError::Missing(file))?;
    serde_yaml::from_str(text).map_err(|source| ChartError::Yaml {
        file: file.to_owned(),
        source,
    })
}
