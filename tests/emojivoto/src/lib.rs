//! The sample application: people vote for their favourite emoji.
//! `web` (HTTP) asks `emoji` and `voting` (gRPC); `vote_bot` votes all day. The other subcommands are
//! small clients and servers for trying the mesh from inside a pod that has no shell.

pub mod catalogue;
pub mod dialogue;
pub mod emoji;
pub mod first_byte;
pub mod first_mtls;
pub mod http_client;
pub mod http_get;
pub mod load;
pub mod page;
pub mod process;
pub mod proxy_metrics;
pub mod ready;
pub mod tcp_client;
pub mod tcp_server;
pub mod vote_bot;
pub mod voting;
pub mod web;

/// Generated from `proto/emojivoto.proto`.
#[allow(missing_docs)]
pub mod api {
    tonic::include_proto!("emojivoto.v1");
}
