//! linkerd-init.

fn main() {}
