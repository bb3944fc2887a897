//! linkerd-destination.

fn main() {}
