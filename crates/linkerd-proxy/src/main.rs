//! linkerd-proxy.

fn main() {}
