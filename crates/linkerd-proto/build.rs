//! Generates the gRPC code.
fn main() {}
