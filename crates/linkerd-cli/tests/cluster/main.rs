//! What the program says to a cluster and of one, which is played: its objects or its answers, nothing behind
//! them; or not even that. Runs the real program. Entry: [`kubernetes::Running`].

mod check;
mod completion;
mod control_plane;
mod endings;
mod explain;
mod figures;
mod hostile;
mod kubernetes;
mod lifecycle;
mod objects;
mod port_forward;
mod shell;
mod terminal;
mod unreachable;
