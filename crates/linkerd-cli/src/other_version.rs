//! Questions to `linkerd-api`, which may be of another version than this program and not know them.
//! Entries: [`ask`]; [`explain`] for answers that show the same in other ways; [`is_newer`] compares versions.

use linkerd_names::CONTROL_PLANE_NAMESPACE_DEFAULT;
use linkerd_proto::public::{Empty, api_client::ApiClient};
use tonic::{Code, Response, Status, transport::Channel};

use crate::{control_plane, global::Global};

/// Asks `linkerd-api` a question that not every version knows; `what` it is about, for people.
///
/// # Errors
/// Why there is no answer: of another version both versions, and what to do.
pub(crate) async fn ask<T>(
    global: &Global,
    client: &ApiClient<Channel>,
    what: &str,
    question: impl AsyncFnOnce(&mut ApiClient<Channel>) -> Result<Response<T>, Status>,
) -> Result<T, String> {
    let mut asked = client.clone();
    let mut unknown = false;
    let call = async {
        let answer = question(&mut asked).await;
        answer.inspect_err(|status| unknown = status.code() == Code::Unimplemented)
    };
    match control_plane::answer(call).await {
        Err(_) if unknown => Err(explain(global, client, what).await),
        answer => answer,
    }
}

/// What to say of a control plane that does not know `what`.
pub(crate) async fn explain(global: &Global, client: &ApiClient<Channel>, what: &str) -> String {
    let mut client = client.clone();
    let answer = control_plane::answer(client.version(Empty {})).await;
    // One that does not even say its version is of another one all the same.
    let theirs = answer.map_or_else(|_| String::new(), |info| info.release_version);
    words(
        &theirs,
        linkerd_names::VERSION,
        what,
        &global.linkerd_namespace,
    )
}

/// `theirs` is empty when nobody knows it.
fn words(theirs: &str, own: &str, what: &str, namespace: &str) -> String {
    let of = match theirs {
        "" => "of another version".to_owned(),
        version => format!("of version {version}"),
    };
    let trouble =
        format!("the control plane is {of} and does not know {what}; this program is of {own}");
    if is_newer(theirs, own) {
        return format!("{trouble}: use the linkerd program of version {theirs}");
    }
    let flag = if namespace == CONTROL_PLANE_NAMESPACE_DEFAULT {
        String::new()
    } else {
        format!(" --linkerd-namespace {namespace}")
    };
    format!(
        "{trouble}: upgrade the control plane with `linkerd upgrade{flag} | kubectl apply -f -`"
    )
}

/// Whether `left` is a later version than `right`; what is no version is not.
pub(crate) fn is_newer(left: &str, right: &str) -> bool {
    let numbers = |text: &str| -> Option<Vec<u64>> {
        let (release, _) = text.split_once(['-', '+']).unwrap_or((text, ""));
        release
            .split('.')
            .map(|number| number.parse().ok())
            .collect()
    };
    matches!((numbers(left), numbers(right)), (Some(left), Some(right)) if left > right)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_older_is_upgraded_and_what_is_newer_has_its_own_program() {
        let begin = "and does not know edges; this program is of 1.10.0: ";
        for (theirs, namespace, expected) in [
            (
                "1.9.0",
                "linkerd",
                "the control plane is of version 1.9.0 {}upgrade the control plane with `linkerd \
                 upgrade | kubectl apply -f -`",
            ),
            (
                "",
                "mesh",
                "the control plane is of another version {}upgrade the control plane with `linkerd \
                 upgrade --linkerd-namespace mesh | kubectl apply -f -`",
            ),
            (
                "1.11.0-rc.1",
                "linkerd",
                "the control plane is of version 1.11.0-rc.1 {}use the linkerd program of version \
                 1.11.0-rc.1",
            ),
            // A build of one's own: nobody knows which is later.
            (
                "git-abc",
                "linkerd",
                "the control plane is of version git-abc {}upgrade the control plane with `linkerd \
                 upgrade | kubectl apply -f -`",
            ),
        ] {
            assert_eq!(
                words(theirs, "1.10.0", "edges", namespace),
                expected.replace("{}", begin)
            );
        }
    }

    #[test]
    fn versions_are_compared_as_numbers() {
        for (left, right, newer) in [
            ("0.10.0", "0.9.0", true),
            ("0.9.0", "0.9.0", false),
            ("0.9.0", "0.10.0", false),
            ("1.0.0-rc.1", "0.9.9", true),
            ("", "0.1.0", false),
            ("main", "0.1.0", false),
        ] {
            assert_eq!(is_newer(left, right), newer, "{left} {right}");
        }
    }
}
