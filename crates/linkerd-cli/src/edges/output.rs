//! Prints edges. Entries: [`table()`], [`json()`]. Pure; columns and keys are an interface.

use linkerd_proto::public::{Resource, edges_response::Edge};
use serde_json::{Value, json};

use crate::{
    json_text,
    resource::{parse_type, prefix},
    table::left_aligned,
};

const COLUMNS: [&str; 5] = ["SRC", "DST", "SRC_NS", "DST_NS", "SECURED"];
const WIDE_COLUMNS: [&str; 6] = [
    "CLIENT_ID",
    "SERVER_ID",
    "TLS",
    "RESPONSES",
    "CONNECTIONS",
    "OPEN",
];
/// What comes after owner, kind and namespace in an identity is the same for all.
const IDENTITY_TAIL: &str = ".linkerd-managed.";

/// A row for each edge; nothing at all without edges. Where ends are of several types, names have the
/// type before them.
pub(super) fn table(edges: &[Edge], wide: bool) -> String {
    if edges.is_empty() {
        return String::new();
    }
    let wide_columns = if wide { &WIDE_COLUMNS[..] } else { &[] };
    let heads = COLUMNS.iter().chain(wide_columns);
    let mut rows: Vec<Vec<String>> = vec![heads.map(|head| (*head).to_owned()).collect()];
    let ends = edges.iter().flat_map(|edge| [&edge.src, &edge.dst]);
    let named = ends.flatten().filter(|end| !end.name.is_empty());
    let mut types = named.map(|end| end.r#type.as_str());
    let first = types.next();
    let several = types.any(|kind| Some(kind) != first);
    rows.extend(edges.iter().map(|edge| {
        let (src, src_namespace) = end(edge.src.as_ref(), several);
        let (dst, dst_namespace) = end(edge.dst.as_ref(), several);
        let mut row = vec![src, dst, src_namespace, dst_namespace, secured(edge)];
        if wide {
            row.extend([
                short(&edge.client_id),
                short(&edge.server_id),
                dash(&edge.tls),
                edge.responses.to_string(),
                edge.connections.to_string(),
                edge.open_connections.to_string(),
            ]);
        }
        row
    }));
    left_aligned(&rows)
}

/// Name, with its type or without, and namespace.
fn end(end: Option<&Resource>, with_type: bool) -> (String, String) {
    let Some(end) = end else {
        return (dash(""), dash(""));
    };
    let mut name = dash(&end.name);
    if with_type
        && !end.name.is_empty()
        && let Ok(kind) = parse_type(&end.r#type)
    {
        name.insert_str(0, prefix(kind));
    }
    (name, dash(&end.namespace))
}

fn secured(edge: &Edge) -> String {
    match (edge.tls.as_str(), edge.no_tls_reason.as_str()) {
        ("true", _) => "√".to_owned(),
        (word, "") => dash(word),
        (_, reason) => reason.to_owned(),
    }
}

fn short(identity: &str) -> String {
    let owner = identity.split_once(IDENTITY_TAIL);
    dash(owner.map_or(identity, |(owner, _)| owner))
}

fn dash(text: &str) -> String {
    if text.is_empty() { "-" } else { text }.to_owned()
}

/// All edges in one array, indented by two blanks. What is not known is empty.
pub(super) fn json(edges: &[Edge]) -> String {
    let edges: Vec<Value> = edges
        .iter()
        .map(|edge| {
            let (src, dst) = (
                edge.src.clone().unwrap_or_default(),
                edge.dst.clone().unwrap_or_default(),
            );
            json!({
                "src": src.name,
                "src_type": src.r#type,
                "src_namespace": src.namespace,
                "dst": dst.name,
                "dst_type": dst.r#type,
                "dst_namespace": dst.namespace,
                "secured": edge.tls == "true",
                "tls": edge.tls,
                "no_tls_reason": edge.no_tls_reason,
                "client_id": edge.client_id,
                "server_id": edge.server_id,
                "responses": edge.responses,
                "connections": edge.connections,
                "open_connections": edge.open_connections,
            })
        })
        .collect();
    json_text::pretty(&edges)
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    fn resource(namespace: &str, name: &str) -> Option<Resource> {
        Some(Resource {
            namespace: namespace.into(),
            r#type: "deployment".into(),
            name: name.into(),
        })
    }

    fn edges() -> [Edge; 3] {
        let id = |name| format!("{name}.deployment.shop.linkerd-managed.linkerd.svc.cluster.local");
        [
            Edge {
                src: resource("", ""),
                dst: resource("shop", "web"),
                tls: "no_proxy_tls".into(),
                no_tls_reason: "peer_sent_plaintext".into(),
                responses: 3,
                ..Edge::default()
            },
            Edge {
                src: resource("shop", "vote-bot"),
                dst: resource("shop", "web"),
                client_id: id("vote-bot"),
                server_id: id("web"),
                tls: "true".into(),
                responses: 1234,
                connections: 5,
                open_connections: 1,
                ..Edge::default()
            },
            Edge {
                src: resource("shop", "web"),
                dst: resource("", ""),
                tls: "no_identity".into(),
                no_tls_reason: "off_cluster".into(),
                connections: 2,
                ..Edge::default()
            },
        ]
    }

    #[test]
    fn a_row_says_whether_an_edge_is_secured_or_why_not() {
        expect![[r#"
            SRC        DST   SRC_NS   DST_NS   SECURED
            -          web   -        shop     peer_sent_plaintext
            vote-bot   web   shop     shop     √
            web        -     shop     -        off_cluster
        "#]]
        .assert_eq(&table(&edges(), false));
        assert_eq!(table(&[], false), "");
    }

    #[test]
    fn names_of_several_types_have_their_type() {
        let mut edges = edges();
        if let Some(dst) = &mut edges[1].dst {
            dst.r#type = "statefulset".into();
        }
        expect![[r#"
            SRC               DST          SRC_NS   DST_NS   SECURED
            -                 deploy/web   -        shop     peer_sent_plaintext
            deploy/vote-bot   sts/web      shop     shop     √
            deploy/web        -            shop     -        off_cluster
        "#]]
        .assert_eq(&table(&edges, false));
    }

    #[test]
    fn wide_rows_have_identities_and_counts() {
        expect![[r#"
            SRC        DST   SRC_NS   DST_NS   SECURED               CLIENT_ID                  SERVER_ID             TLS            RESPONSES   CONNECTIONS   OPEN
            -          web   -        shop     peer_sent_plaintext   -                          -                     no_proxy_tls   3           0             0
            vote-bot   web   shop     shop     √                     vote-bot.deployment.shop   web.deployment.shop   true           1234        5             1
            web        -     shop     -        off_cluster           -                          -                     no_identity    0           2             0
        "#]]
        .assert_eq(&table(&edges(), true));
    }

    #[test]
    fn what_proxies_count_steers_no_terminal() {
        let mut edges = edges();
        edges[0].no_tls_reason = "\u{1b}[2J\nweb".into();
        edges[1].client_id = "\u{9b}2J\u{202e}".into();
        for text in [table(&edges, true), json(&edges)] {
            let hidden = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
            assert!(!text.contains(hidden), "{text:?}");
        }
        assert_eq!(table(&edges, true).lines().count(), 4);
    }

    #[test]
    fn json_has_whole_identities() {
        expect![[r#"
            [
              {
                "src": "vote-bot",
                "src_type": "deployment",
                "src_namespace": "shop",
                "dst": "web",
                "dst_type": "deployment",
                "dst_namespace": "shop",
                "secured": true,
                "tls": "true",
                "no_tls_reason": "",
                "client_id": "vote-bot.deployment.shop.linkerd-managed.linkerd.svc.cluster.local",
                "server_id": "web.deployment.shop.linkerd-managed.linkerd.svc.cluster.local",
                "responses": 1234,
                "connections": 5,
                "open_connections": 1
              }
            ]
        "#]]
        .assert_eq(&json(&edges()[1..2]));
    }
}
