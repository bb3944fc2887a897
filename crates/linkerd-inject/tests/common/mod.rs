//! What the tests of this crate share.

use linkerd_inject::{Options, Source, options::TlsMode};

/// One source, called `test.yml`.
pub(crate) fn source(text: &str) -> [Source; 1] {
    [Source {
        name: "test.yml".to_owned(),
        text: text.to_owned(),
    }]
}

/// Options that do not change with the version of this build.
pub(crate) fn options(tls: TlsMode) -> Options {
    Options {
        tls,
        version: "v1".to_owned(),
        created_by: "linkerd/cli v1".to_owned(),
        ..Options::default()
    }
}
