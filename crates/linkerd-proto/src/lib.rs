//! linkerd-proto.
