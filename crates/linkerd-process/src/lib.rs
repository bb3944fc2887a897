//! linkerd-process.
