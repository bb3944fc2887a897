//! The binary in network namespaces that each test makes for itself. Needs root.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod pod;
mod redirection;
mod running;
