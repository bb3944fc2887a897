//! One binary, one subcommand for each part of the sample application.

use std::{io::IsTerminal as _, process::ExitCode};

use clap::{Parser, Subcommand};
use emojivoto::{
    dialogue, emoji, first_byte, first_mtls, http_get, load, process, ready, tcp_client,
    tcp_server, vote_bot, voting, web,
};

/// The sample application: people vote for their favourite emoji.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Web(web::Args),
    Emoji(emoji::Args),
    Voting(voting::Args),
    VoteBot(vote_bot::Args),
    Ready(ready::Args),
    HttpGet(http_get::Args),
    Load(load::Args),
    FirstMtls(first_mtls::Args),
    TcpServer(tcp_server::Args),
    TcpClient(tcp_client::Args),
    FirstByte(first_byte::Args),
    Dialogue(dialogue::Args),
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    match run(Cli::parse().command).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(command: Command) -> anyhow::Result<()> {
    let shutdown = process::shutdown_on_signal()?;
    match command {
        Command::Web(args) => web::run(args, shutdown).await,
        Command::Emoji(args) => emoji::run(args, shutdown).await,
        Command::Voting(args) => voting::run(args, shutdown).await,
        Command::VoteBot(args) => vote_bot::run(args, shutdown).await,
        Command::Ready(args) => ready::run(args).await,
        Command::HttpGet(args) => http_get::run(args, shutdown).await,
        Command::Load(args) => load::run(args, shutdown).await,
        Command::FirstMtls(args) => first_mtls::run(args, shutdown).await,
        Command::TcpServer(args) => tcp_server::run(args, shutdown).await,
        Command::TcpClient(args) => tcp_client::run(args, shutdown).await,
        Command::FirstByte(args) => first_byte::run(args, shutdown).await,
        Command::Dialogue(args) => dialogue::run(args, shutdown).await,
    }
}
