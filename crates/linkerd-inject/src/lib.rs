//! linkerd-inject.
