//! The binary `linkerd`.

fn main() {}
