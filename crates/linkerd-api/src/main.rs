//! linkerd-api.

fn main() {}
