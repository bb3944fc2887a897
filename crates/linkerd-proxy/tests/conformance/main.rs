//! What the protocols demand of an intermediary, byte by byte: scripted clients and servers with one
//! or two real proxies between them. Nothing here knows how the proxy is made.

#![allow(unreachable_pub, reason = "pub says what other files of the test use")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]
#![allow(
    clippy::let_underscore_must_use,
    reason = "a peer may close at any time"
)]

#[path = "../common/mod.rs"]
mod common;

mod grpc;
mod h2talk;
mod http1;
mod http1_bodies;
mod http1_ends;
mod http1_upgrades;
mod http2;
mod http2_floods;
mod http2_refusals;
mod message;
mod responses;
mod slow;
mod smuggling;
mod talk;
mod tcp;
mod transparent;
