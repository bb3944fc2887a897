//! The binary `linkerd-proxy`: settings from the environment, one runtime, and the subcommand `await`.

use std::{process::ExitCode, time::Duration};

use linkerd_names::{env, log_filter};
use linkerd_proxy::{Config, Proxy};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Exit code for settings that are wrong (EX_USAGE).
const EXIT_CONFIG: u8 = 64;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let config = Config::from_env(|name| std::env::var(name).ok());
    match (arguments.first().map(String::as_str), config) {
        (_, Err(error)) => {
            eprintln!("{error}");
            ExitCode::from(EXIT_CONFIG)
        }
        (None, Ok(config)) => run(config),
        (Some("await"), Ok(config)) => match wait_bound(&arguments[1..]) {
            Some(bound) => wait::until_ready(config.metrics_listener, bound),
            None => usage(),
        },
        (Some(_), Ok(_)) => usage(),
    }
}

fn usage() -> ExitCode {
    eprintln!("usage: linkerd-proxy [await [--timeout 10s]]");
    ExitCode::from(EXIT_CONFIG)
}

fn run(config: Config) -> ExitCode {
    linkerd_process::install_crypto_provider();
    if let Err(error) = linkerd_process::init_logs(log_filter_of(&config)) {
        eprintln!("{error:#}");
        return ExitCode::FAILURE;
    }
    let mut builder = if config.cores == 1 {
        tokio::runtime::Builder::new_current_thread()
    } else {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(config.cores);
        builder
    };
    let result = builder.enable_all().build().and_then(|runtime| {
        runtime.block_on(async {
            let bound = Proxy::bind(config)?;
            bound.run(linkerd_process::shutdown_on_signal()).await;
            Ok(())
        })
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// The filter of the settings, or the default one, and a word about it: a slip in it must not stop traffic.
fn log_filter_of(config: &Config) -> &str {
    match log_filter::check(&config.log) {
        Ok(()) => &config.log,
        Err(error) => {
            eprintln!(
                "{}={:?} is not valid: {error}. It is {} instead",
                env::LOG,
                config.log,
                log_filter::DEFAULT
            );
            log_filter::DEFAULT
        }
    }
}

fn wait_bound(arguments: &[String]) -> Option<Duration> {
    match arguments {
        [] => Some(wait::TIMEOUT_DEFAULT),
        [flag, value] if flag == "--timeout" => linkerd_proxy::parse_duration(value).ok(),
        [one] => linkerd_proxy::parse_duration(one.strip_prefix("--timeout=")?).ok(),
        _ => None,
    }
}

mod wait;
