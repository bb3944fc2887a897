//! Redirects a pod's TCP connections to its proxy, then exits. Entry: [`main`].
//! `rules.rs` decides what the rules are, `apply.rs` puts them in place; nothing runs afterwards.

mod apply;
mod args;
mod ports;
mod rules;

use std::process::ExitCode;

use clap::Parser;

use crate::args::{Args, Plan};
use crate::rules::Rules;

fn main() -> ExitCode {
    match run(Args::parse().into()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("linkerd-init: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(plan: Plan) -> anyhow::Result<()> {
    let Plan {
        redirection,
        mode,
        simulate,
    } = plan;
    let wanted = Rules::wanted(&redirection);
    let script = Rules::default().script_to(&wanted);
    if simulate {
        print!("{script}");
        return Ok(());
    }
    eprint!("{script}");
    apply::apply(&wanted, mode)?;
    Ok(())
}
