//! HTTP/1 and HTTP/2: a server for the client's connection, clients for the endpoints', and what
//! lies between. Entry: [`server::serve`].

mod attempts;
mod classify;
mod error;
pub(crate) mod forward;
mod h1;
mod headers;
pub(crate) mod http2;
mod orig_proto;
pub(crate) mod pool;
mod record;
pub(crate) mod server;
