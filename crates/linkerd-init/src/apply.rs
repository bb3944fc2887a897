//! Puts rules into the kernel's tables and makes sure that they are there. Entry: [`apply`].
//! Both address families or none: what was changed before a failure is put back.

use std::io::{self, Write};
use std::process::{Command, Output, Stdio};

use thiserror::Error;

use crate::args::Mode;
use crate::rules::Rules;

/// The addresses of this network namespace; no such file where the kernel has no IPv6.
const IPV6_ADDRESSES: &str = "/proc/net/if_inet6";

/// How long a tool waits for another one that holds the tables.
const LOCK_WAIT_S_MAX: u32 = 30;

/// Why the rules are not in place.
#[derive(Debug, Error)]
pub(crate) enum ApplyError {
    #[error("cannot run {tool}")]
    Run {
        tool: String,
        #[source]
        source: io::Error,
    },
    #[error("{tool} ended with {status}: {message}")]
    Failed {
        tool: String,
        status: String,
        message: String,
    },
    #[error("{tool} ended with {status} at the rule `{rule}`: {message}")]
    RuleRefused {
        tool: String,
        status: String,
        rule: String,
        message: String,
    },
    #[error("{tool} reported success, but its table lacks, or has in addition, the rule `{rule}`")]
    Differs { tool: String, rule: String },
    #[error("cannot read {IPV6_ADDRESSES}")]
    Ipv6Addresses {
        #[source]
        source: io::Error,
    },
    #[error("{}; and the earlier rules could not be put back: {}", chain_text(.cause), chain_text(.undo))]
    NotUndone {
        cause: Box<ApplyError>,
        undo: Box<ApplyError>,
    },
    #[error("neither packet filter took the rules; nft: {}; legacy: {}", chain_text(.nft), chain_text(.legacy))]
    Neither {
        nft: Box<ApplyError>,
        legacy: Box<ApplyError>,
    },
}

#[derive(Clone, Copy)]
enum Family {
    V4,
    V6,
}

/// The save and restore commands of one family and packet filter.
#[derive(Clone, Copy)]
struct Table {
    family: Family,
    filter: &'static str,
}

/// Makes `wanted` the pod's rules for IPv4 and IPv6 and reads them back. Run again, it changes
/// nothing.
///
/// # Errors
/// When it fails no rule of this run is left, or [`ApplyError::NotUndone`] says so. IPv6 is left
/// out, with a line on stderr, where no interface has an IPv6 address that others could reach.
pub(crate) fn apply(wanted: &Rules, mode: Mode) -> Result<(), ApplyError> {
    if mode == Mode::Legacy {
        return apply_with("legacy", wanted);
    }
    let Err(nft) = apply_with("nft", wanted) else {
        return Ok(());
    };
    if matches!(nft, ApplyError::NotUndone { .. }) {
        return Err(nft);
    }
    eprintln!(
        "linkerd-init: nft cannot be used, trying legacy: {}",
        chain_text(&nft)
    );
    apply_with("legacy", wanted).map_err(|legacy| ApplyError::Neither {
        nft: Box::new(nft),
        legacy: Box::new(legacy),
    })
}

fn apply_with(filter: &'static str, wanted: &Rules) -> Result<(), ApplyError> {
    let v6 = Table {
        family: Family::V6,
        filter,
    };
    let v4 = Table {
        family: Family::V4,
        filter,
    };

    // IPv6 first: whether it can be left out is known before anything else has changed.
    let before_v6 = match v6.replace(wanted) {
        Ok(before) => Some(before),
        Err(error @ ApplyError::Run { .. }) => return Err(error),
        Err(error) if ipv6_is_reachable()? => return Err(error),
        Err(error) => {
            eprintln!(
                "linkerd-init: IPv6 is left out, this pod has no IPv6 address: {}",
                chain_text(&error)
            );
            None
        }
    };
    if let Err(cause) = v4.replace(wanted) {
        return Err(match before_v6 {
            Some(before) => v6.undo(cause, &before),
            None => cause,
        });
    }
    Ok(())
}

impl Table {
    /// Replaces our rules by `wanted`, reads them back, and returns what was there before. On
    /// failure the table is as it was.
    fn replace(self, wanted: &Rules) -> Result<Rules, ApplyError> {
        let before = self.rules()?;
        let name = self.name();
        if before == *wanted {
            eprintln!(
                "linkerd-init: {name}: all {} rules are in place already",
                wanted.len()
            );
            return Ok(before);
        }
        self.restore(&before.script_to(wanted))?;
        match self.check(wanted) {
            Ok(()) => {
                eprintln!("linkerd-init: {name}: {} rules in place", wanted.len());
                Ok(before)
            }
            Err(cause) => Err(self.undo(cause, &before)),
        }
    }

    /// Puts `before` back after `cause`, and returns the error to report.
    fn undo(self, cause: ApplyError, before: &Rules) -> ApplyError {
        let undone = self.rules().and_then(|now| {
            if now == *before {
                Ok(())
            } else {
                self.restore(&now.script_to(before))
            }
        });
        match undone {
            Ok(()) => cause,
            Err(undo) => ApplyError::NotUndone {
                cause: Box::new(cause),
                undo: Box::new(undo),
            },
        }
    }

    fn check(self, wanted: &Rules) -> Result<(), ApplyError> {
        let found = self.rules()?;
        match wanted.first_difference(&found) {
            None => Ok(()),
            Some(rule) => Err(ApplyError::Differs {
                tool: self.tool("restore"),
                rule: rule.to_owned(),
            }),
        }
    }

    fn rules(self) -> Result<Rules, ApplyError> {
        let tool = self.tool("save");
        let output = Command::new(&tool)
            .args(["-t", "nat"])
            .stdin(Stdio::null())
            .output()
            .map_err(|source| ApplyError::Run {
                tool: tool.clone(),
                source,
            })?;
        if output.status.success() {
            Ok(Rules::in_save(&String::from_utf8_lossy(&output.stdout)))
        } else {
            Err(refusal(tool, &output, ""))
        }
    }

    fn restore(self, script: &str) -> Result<(), ApplyError> {
        let tool = self.tool("restore");
        let output = run_with_input(
            Command::new(&tool)
                .arg("--noflush")
                .arg(format!("--wait={LOCK_WAIT_S_MAX}")),
            script,
        )
        .map_err(|source| ApplyError::Run {
            tool: tool.clone(),
            source,
        })?;
        if output.status.success() {
            Ok(())
        } else {
            Err(refusal(tool, &output, script))
        }
    }

    /// Such as `ip6tables-nft-restore`.
    fn tool(self, what: &str) -> String {
        let family = match self.family {
            Family::V4 => "iptables",
            Family::V6 => "ip6tables",
        };
        format!("{family}-{}-{what}", self.filter)
    }

    fn name(self) -> String {
        let family = match self.family {
            Family::V4 => "IPv4",
            Family::V6 => "IPv6",
        };
        format!("{family} ({})", self.filter)
    }
}

fn run_with_input(command: &mut Command, input: &str) -> io::Result<Output> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    // A tool that fails early closes its input; its exit status then tells more than the pipe.
    let written = match child.stdin.take() {
        Some(mut stdin) => stdin.write_all(input.as_bytes()),
        None => Ok(()),
    };
    let output = child.wait_with_output()?;
    if output.status.success() {
        written?;
    }
    Ok(output)
}

/// The error for a tool that ended badly, with the line of `script` that it complained about.
fn refusal(tool: String, output: &Output, script: &str) -> ApplyError {
    let status = output.status.to_string();
    let stderr = String::from_utf8_lossy(&output.stderr);
    let message = stderr
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with("Try `"))
        .collect::<Vec<_>>()
        .join("; ");
    match refused_rule(&message, script) {
        Some(rule) => ApplyError::RuleRefused {
            tool,
            status,
            rule: rule.to_owned(),
            message,
        },
        None => ApplyError::Failed {
            tool,
            status,
            message,
        },
    }
}

/// The line of `script` whose number stands in the tool's `message`, when that line is a rule.
fn refused_rule<'a>(message: &str, script: &'a str) -> Option<&'a str> {
    let words: Vec<_> = message
        .split([' ', ':', ';'])
        .filter(|word| !word.is_empty())
        .collect();
    let number: usize = words
        .windows(2)
        .find(|pair| pair[0] == "line")
        .and_then(|pair| pair[1].parse().ok())?;
    script
        .lines()
        .nth(number.checked_sub(1)?)
        .filter(|line| line.starts_with('-'))
}

fn ipv6_is_reachable() -> Result<bool, ApplyError> {
    match std::fs::read_to_string(IPV6_ADDRESSES) {
        Ok(addresses) => Ok(has_reachable_address(&addresses)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(source) => Err(ApplyError::Ipv6Addresses { source }),
    }
}

/// Whether one of the addresses has a scope wider than a link (`00` global, `40` site). The others
/// are on every interface of an IPv4-only pod, too.
fn has_reachable_address(if_inet6: &str) -> bool {
    if_inet6
        .lines()
        .filter_map(|line| line.split_whitespace().nth(3))
        .any(|scope| scope == "00" || scope == "40")
}

/// An error and its sources on one line.
fn chain_text(error: &ApplyError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        text.push_str(&format!(": {error}"));
        source = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCRIPT: &str = "*nat\n:PROXY_INIT_REDIRECT - [0:0]\n-A PREROUTING -j NOWHERE\nCOMMIT\n";

    #[test]
    fn the_rule_is_named_whatever_the_tool_calls_its_line() {
        for message in [
            "iptables-restore v1.8.9 (legacy): Couldn't load target; Error occurred at line: 3",
            "iptables-nft-restore v1.8.9 (nf_tables): line 3: RULE_APPEND failed (No such file)",
            "iptables-restore: line 3 failed",
        ] {
            assert_eq!(
                refused_rule(message, SCRIPT),
                Some("-A PREROUTING -j NOWHERE"),
                "{message}"
            );
        }
    }

    #[test]
    fn no_rule_is_named_when_none_was_meant() {
        for message in [
            "",
            "line",
            "line x",
            "line 0",
            "line 1 failed",
            "line: 4",
            "line 99",
        ] {
            assert_eq!(refused_rule(message, SCRIPT), None, "{message}");
        }
    }

    #[test]
    fn only_a_global_address_makes_ipv6_reachable() {
        let loopback = "00000000000000000000000000000001 01 80 10 80       lo\n";
        let link = "fe800000000000000042acfffe110002 02 40 20 80     eth0\n";
        let unique_local = "fd000000000000000000000000000002 02 40 00 80     eth0\n";
        for (addresses, reachable) in [
            (String::new(), false),
            (format!("{loopback}{link}"), false),
            (format!("{loopback}{link}{unique_local}"), true),
        ] {
            assert_eq!(has_reachable_address(&addresses), reachable, "{addresses}");
        }
    }
}
