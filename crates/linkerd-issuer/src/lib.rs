//! linkerd-issuer.
