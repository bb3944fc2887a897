//! The command line, and the [`Plan`] it stands for.
//! Flags are those that `linkerd inject` writes into the pod; a bad one ends the process before
//! anything is touched.

use clap::{Parser, ValueEnum};

use crate::ports::{PortList, PortRange};
use crate::rules::Redirection;

/// Which of the kernel's two packet filters takes the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    /// nf_tables; legacy when the kernel or the image has no nf_tables.
    Nft,
    /// The older ip_tables, alone.
    Legacy,
}

/// Redirects a pod's TCP connections to its proxy.
#[derive(Debug, Parser)]
#[command(name = "linkerd-init", version = linkerd_names::VERSION)]
pub(crate) struct Args {
    /// Port of the proxy for connections to the application
    #[arg(short = 'p', long, value_name = "PORT", value_parser = parse_port)]
    incoming_proxy_port: u16,
    /// Port of the proxy for connections of the application
    #[arg(short = 'o', long, value_name = "PORT", value_parser = parse_port)]
    outgoing_proxy_port: u16,
    /// User id of the proxy, whose own connections are left alone
    #[arg(short = 'u', long, value_name = "UID", value_parser = parse_uid)]
    proxy_uid: Option<u32>,
    /// Redirect only these ports of the application, such as 80,8000-8099 (default: all)
    #[arg(short = 'r', long, value_name = "PORTS")]
    ports_to_redirect: Vec<PortList>,
    /// Ports of the application whose connections bypass the proxy
    #[arg(long, value_name = "PORTS")]
    inbound_ports_to_ignore: Vec<PortList>,
    /// Ports elsewhere that the application reaches without the proxy
    #[arg(long, value_name = "PORTS")]
    outbound_ports_to_ignore: Vec<PortList>,
    /// Packet filter of the kernel; nft falls back to legacy where nft cannot be used
    #[arg(long, value_enum, default_value_t = Mode::Nft)]
    iptables_mode: Mode,
    /// Print the script for iptables-restore and ip6tables-restore, and change nothing
    #[arg(long)]
    simulate: bool,
}

/// What the command line asks for.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) redirection: Redirection,
    pub(crate) mode: Mode,
    /// Print, change nothing.
    pub(crate) simulate: bool,
}

impl From<Args> for Plan {
    fn from(args: Args) -> Self {
        let Args {
            incoming_proxy_port,
            outgoing_proxy_port,
            proxy_uid,
            ports_to_redirect,
            inbound_ports_to_ignore,
            outbound_ports_to_ignore,
            iptables_mode,
            simulate,
        } = args;
        Self {
            redirection: Redirection {
                incoming_proxy_port,
                outgoing_proxy_port,
                proxy_uid,
                ports_to_redirect: join(ports_to_redirect),
                inbound_ports_to_ignore: join(inbound_ports_to_ignore),
                outbound_ports_to_ignore: join(outbound_ports_to_ignore),
            },
            mode: iptables_mode,
            simulate,
        }
    }
}

/// One list out of a flag's repetitions, each range once, in the order given.
fn join(lists: Vec<PortList>) -> Vec<PortRange> {
    let mut joined = Vec::new();
    for range in lists.into_iter().flat_map(|PortList(ranges)| ranges) {
        if !joined.contains(&range) {
            joined.push(range);
        }
    }
    joined
}

fn parse_port(text: &str) -> Result<u16, String> {
    match text.parse() {
        Ok(port) if port > 0 => Ok(port),
        _ => Err("must be a valid TCP port number, 1 to 65535".to_owned()),
    }
}

/// Root is refused: exempting it would exempt every container that runs as root.
fn parse_uid(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(uid) if uid > 0 => Ok(uid),
        _ => Err("must be a user id of 1 or more".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(flags: &str) -> Result<Plan, String> {
        Args::try_parse_from(std::iter::once("linkerd-init").chain(flags.split_whitespace()))
            .map(Plan::from)
            .map_err(|error| {
                error
                    .to_string()
                    .lines()
                    .next()
                    .unwrap_or_default()
                    .to_owned()
            })
    }

    #[test]
    fn lists_may_be_split_repeated_and_empty() {
        let plan =
            parse("-p 4143 -o 4140 -u 2102 -r 80,8000-8099 -r 443,80 --inbound-ports-to-ignore=")
                .unwrap();
        let ports: Vec<_> = plan
            .redirection
            .ports_to_redirect
            .iter()
            .map(PortRange::to_string)
            .collect();
        assert_eq!(ports, ["80", "8000-8099", "443"]);
        assert!(plan.redirection.inbound_ports_to_ignore.is_empty());
        assert_eq!(plan.mode, Mode::Nft);
    }

    #[test]
    fn bad_flags_are_refused_and_named() {
        for (flags, message) in [
            (
                "-p 0 -o 4140",
                "invalid value '0' for '--incoming-proxy-port <PORT>'",
            ),
            (
                "-p 70000 -o 4140",
                "invalid value '70000' for '--incoming-proxy-port <PORT>'",
            ),
            (
                "-p 4143 -o x",
                "invalid value 'x' for '--outgoing-proxy-port <PORT>'",
            ),
            (
                "-p 4143 -o 4140 -u 0",
                "invalid value '0' for '--proxy-uid <UID>'",
            ),
            (
                "-p 4143 -o 4140 -r 9-1",
                "invalid value '9-1' for '--ports-to-redirect <PORTS>'",
            ),
            (
                "-p 4143 -o 4140 --iptables-mode bpf",
                "invalid value 'bpf' for '--iptables-mode",
            ),
            (
                "-p 4143",
                "the following required arguments were not provided:",
            ),
            ("-p 4143 -o 4140 extra", "unexpected argument 'extra' found"),
        ] {
            let error = parse(flags).unwrap_err();
            assert!(error.contains(message), "{flags}: {error}");
        }
    }
}
