//! linkerd-ca.

fn main() {}
