//! What the program says to a cluster and of one, which is played: its objects or its answers, nothing behind
//! them. Runs the real program. Entry: [`kubernetes::Cluster`].

mod check;
mod control_plane;
mod kubernetes;
mod lifecycle;
mod objects;
mod port_forward;
mod shell;
