//! The redirection rules as text: what they must be, and the script that gets there.
//! Entry: [`Rules::wanted`] and [`Rules::script_to`]. Pure: whether a kernel takes them is
//! `apply.rs`'s affair. The same text serves IPv4 and IPv6.

use crate::ports::PortRange;

/// Chain for connections that come into the pod.
const REDIRECT_CHAIN: &str = "PROXY_INIT_REDIRECT";
/// Chain for connections that the pod's processes open.
const OUTPUT_CHAIN: &str = "PROXY_INIT_OUTPUT";

/// Which connections go to the proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Redirection {
    pub(crate) incoming_proxy_port: u16,
    pub(crate) outgoing_proxy_port: u16,
    /// The proxy's own connections leave the pod untouched, or they would come back to it forever.
    pub(crate) proxy_uid: Option<u32>,
    /// Empty: every port.
    pub(crate) ports_to_redirect: Vec<PortRange>,
    pub(crate) inbound_ports_to_ignore: Vec<PortRange>,
    pub(crate) outbound_ports_to_ignore: Vec<PortRange>,
}

/// Our rules in table `nat`, each in the words of `iptables-save`, in order within its chain.
///
/// Two values are equal when the kernel would treat every connection alike; rules of others are
/// not part of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rules(Vec<String>);

impl Rules {
    /// The rules that bring `redirection` about.
    ///
    /// A connection of the pod to itself leaves through `lo` and is nobody's business, also when a
    /// Service address led there: the application's side goes to the outbound port (the Service
    /// address is not local), the proxy's side is exempt by its user id, so the inbound port never
    /// sees it. The outbound proxy must therefore speak plaintext to an address of its own pod.
    pub(crate) fn wanted(redirection: &Redirection) -> Self {
        let Redirection {
            incoming_proxy_port,
            outgoing_proxy_port,
            proxy_uid,
            ports_to_redirect,
            inbound_ports_to_ignore,
            outbound_ports_to_ignore,
        } = redirection;
        let mut rules = Vec::new();

        for ports in inbound_ports_to_ignore {
            rules.push(ignore_ports(REDIRECT_CHAIN, *ports));
        }
        let to_incoming = format!("REDIRECT --to-ports {incoming_proxy_port}");
        for ports in ports_to_redirect {
            rules.push(rule(
                REDIRECT_CHAIN,
                &format!("-p tcp -m tcp --dport {}", ports.iptables()),
                &format!("redirect-port-{ports}-to-proxy-port"),
                &to_incoming,
            ));
        }
        if ports_to_redirect.is_empty() {
            let comment = "redirect-all-incoming-to-proxy-port";
            rules.push(rule(REDIRECT_CHAIN, "-p tcp", comment, &to_incoming));
        }
        rules.push(rule(
            "PREROUTING",
            "",
            "install-proxy-init-prerouting",
            REDIRECT_CHAIN,
        ));

        if let Some(uid) = proxy_uid {
            let owner = format!("-m owner --uid-owner {uid}");
            rules.push(rule(OUTPUT_CHAIN, &owner, "ignore-proxy-user-id", "RETURN"));
        }
        rules.push(rule(OUTPUT_CHAIN, "-o lo", "ignore-loopback", "RETURN"));
        for ports in outbound_ports_to_ignore {
            rules.push(ignore_ports(OUTPUT_CHAIN, *ports));
        }
        let to_outgoing = format!("REDIRECT --to-ports {outgoing_proxy_port}");
        let comment = "redirect-all-outgoing-to-proxy-port";
        rules.push(rule(OUTPUT_CHAIN, "-p tcp", comment, &to_outgoing));
        rules.push(rule(
            "OUTPUT",
            "",
            "install-proxy-init-output",
            OUTPUT_CHAIN,
        ));

        Self::in_chain_order(rules)
    }

    /// Our rules among all those that `iptables-save -t nat` printed.
    pub(crate) fn in_save(save: &str) -> Self {
        let ours = |line: &&str| {
            line.starts_with("-A ")
                && line
                    .split(' ')
                    .any(|word| word == REDIRECT_CHAIN || word == OUTPUT_CHAIN)
        };
        Self::in_chain_order(save.lines().filter(ours).map(str::to_owned).collect())
    }

    /// The script for `iptables-restore --noflush` that replaces these rules by `wanted`, whole or
    /// not at all. Rules of others stay.
    pub(crate) fn script_to(&self, wanted: &Self) -> String {
        let mut lines = vec!["*nat".to_owned()];
        // Naming a chain makes it, or empties it when it is there already.
        lines.extend([REDIRECT_CHAIN, OUTPUT_CHAIN].map(|chain| format!(":{chain} - [0:0]")));
        lines.extend(self.0.iter().filter(|rule| is_jump(rule)).map(|rule| {
            let (_, rest) = rule.split_at("-A".len());
            format!("-D{rest}")
        }));
        lines.extend(wanted.0.iter().cloned());
        if wanted.0.is_empty() {
            lines.extend([REDIRECT_CHAIN, OUTPUT_CHAIN].map(|chain| format!("-X {chain}")));
        }
        lines.push("COMMIT".to_owned());
        lines.join("\n") + "\n"
    }

    /// How many they are.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The first rule that is not in `other` at its place, from either side.
    pub(crate) fn first_difference<'a>(&'a self, other: &'a Self) -> Option<&'a str> {
        let at = (0..self.len().max(other.len())).find(|at| self.0.get(*at) != other.0.get(*at))?;
        self.0.get(at).or(other.0.get(at)).map(String::as_str)
    }

    /// Back ends print chains in orders of their own, so the order between chains says nothing.
    fn in_chain_order(mut rules: Vec<String>) -> Self {
        rules.sort_by(|a, b| a.split(' ').nth(1).cmp(&b.split(' ').nth(1)));
        Self(rules)
    }
}

/// Whether `rule` leads from a chain that is not ours into one of ours.
fn is_jump(rule: &str) -> bool {
    let chain = rule.split(' ').nth(1);
    chain != Some(REDIRECT_CHAIN) && chain != Some(OUTPUT_CHAIN)
}

fn ignore_ports(chain: &str, ports: PortRange) -> String {
    let matches = format!("-p tcp -m tcp --dport {}", ports.iptables());
    rule(chain, &matches, &format!("ignore-port-{ports}"), "RETURN")
}

/// One rule exactly as `iptables-save` prints it. The comment is how people find it again.
fn rule(chain: &str, matches: &str, comment: &str, target: &str) -> String {
    let matches = if matches.is_empty() {
        String::new()
    } else {
        format!(" {matches}")
    };
    format!("-A {chain}{matches} -m comment --comment \"proxy-init/{comment}\" -j {target}")
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::ports::PortList;

    fn ports(text: &str) -> Vec<PortRange> {
        text.parse::<PortList>().unwrap().0
    }

    fn redirection() -> Redirection {
        Redirection {
            incoming_proxy_port: 4143,
            outgoing_proxy_port: 4140,
            proxy_uid: Some(2102),
            ports_to_redirect: Vec::new(),
            inbound_ports_to_ignore: Vec::new(),
            outbound_ports_to_ignore: Vec::new(),
        }
    }

    fn check_script(redirection: &Redirection, expected: Expect) {
        expected.assert_eq(&Rules::default().script_to(&Rules::wanted(redirection)));
    }

    #[test]
    fn everything_is_redirected_but_the_proxy_and_loopback() {
        check_script(
            &redirection(),
            expect![[r#"
                *nat
                :PROXY_INIT_REDIRECT - [0:0]
                :PROXY_INIT_OUTPUT - [0:0]
                -A OUTPUT -m comment --comment "proxy-init/install-proxy-init-output" -j PROXY_INIT_OUTPUT
                -A PREROUTING -m comment --comment "proxy-init/install-proxy-init-prerouting" -j PROXY_INIT_REDIRECT
                -A PROXY_INIT_OUTPUT -m owner --uid-owner 2102 -m comment --comment "proxy-init/ignore-proxy-user-id" -j RETURN
                -A PROXY_INIT_OUTPUT -o lo -m comment --comment "proxy-init/ignore-loopback" -j RETURN
                -A PROXY_INIT_OUTPUT -p tcp -m comment --comment "proxy-init/redirect-all-outgoing-to-proxy-port" -j REDIRECT --to-ports 4140
                -A PROXY_INIT_REDIRECT -p tcp -m comment --comment "proxy-init/redirect-all-incoming-to-proxy-port" -j REDIRECT --to-ports 4143
                COMMIT
            "#]],
        );
    }

    #[test]
    fn ignored_ports_come_before_the_redirection() {
        check_script(
            &Redirection {
                inbound_ports_to_ignore: ports("4190,4191,7000-7099"),
                outbound_ports_to_ignore: ports("25,587"),
                ..redirection()
            },
            expect![[r#"
                *nat
                :PROXY_INIT_REDIRECT - [0:0]
                :PROXY_INIT_OUTPUT - [0:0]
                -A OUTPUT -m comment --comment "proxy-init/install-proxy-init-output" -j PROXY_INIT_OUTPUT
                -A PREROUTING -m comment --comment "proxy-init/install-proxy-init-prerouting" -j PROXY_INIT_REDIRECT
                -A PROXY_INIT_OUTPUT -m owner --uid-owner 2102 -m comment --comment "proxy-init/ignore-proxy-user-id" -j RETURN
                -A PROXY_INIT_OUTPUT -o lo -m comment --comment "proxy-init/ignore-loopback" -j RETURN
                -A PROXY_INIT_OUTPUT -p tcp -m tcp --dport 25 -m comment --comment "proxy-init/ignore-port-25" -j RETURN
                -A PROXY_INIT_OUTPUT -p tcp -m tcp --dport 587 -m comment --comment "proxy-init/ignore-port-587" -j RETURN
                -A PROXY_INIT_OUTPUT -p tcp -m comment --comment "proxy-init/redirect-all-outgoing-to-proxy-port" -j REDIRECT --to-ports 4140
                -A PROXY_INIT_REDIRECT -p tcp -m tcp --dport 4190 -m comment --comment "proxy-init/ignore-port-4190" -j RETURN
                -A PROXY_INIT_REDIRECT -p tcp -m tcp --dport 4191 -m comment --comment "proxy-init/ignore-port-4191" -j RETURN
                -A PROXY_INIT_REDIRECT -p tcp -m tcp --dport 7000:7099 -m comment --comment "proxy-init/ignore-port-7000-7099" -j RETURN
                -A PROXY_INIT_REDIRECT -p tcp -m comment --comment "proxy-init/redirect-all-incoming-to-proxy-port" -j REDIRECT --to-ports 4143
                COMMIT
            "#]],
        );
    }

    #[test]
    fn only_the_named_ports_are_redirected() {
        check_script(
            &Redirection {
                proxy_uid: None,
                ports_to_redirect: ports("80,8000-8099"),
                inbound_ports_to_ignore: ports("8080"),
                ..redirection()
            },
            expect![[r#"
                *nat
                :PROXY_INIT_REDIRECT - [0:0]
                :PROXY_INIT_OUTPUT - [0:0]
                -A OUTPUT -m comment --comment "proxy-init/install-proxy-init-output" -j PROXY_INIT_OUTPUT
                -A PREROUTING -m comment --comment "proxy-init/install-proxy-init-prerouting" -j PROXY_INIT_REDIRECT
                -A PROXY_INIT_OUTPUT -o lo -m comment --comment "proxy-init/ignore-loopback" -j RETURN
                -A PROXY_INIT_OUTPUT -p tcp -m comment --comment "proxy-init/redirect-all-outgoing-to-proxy-port" -j REDIRECT --to-ports 4140
                -A PROXY_INIT_REDIRECT -p tcp -m tcp --dport 8080 -m comment --comment "proxy-init/ignore-port-8080" -j RETURN
                -A PROXY_INIT_REDIRECT -p tcp -m tcp --dport 80 -m comment --comment "proxy-init/redirect-port-80-to-proxy-port" -j REDIRECT --to-ports 4143
                -A PROXY_INIT_REDIRECT -p tcp -m tcp --dport 8000:8099 -m comment --comment "proxy-init/redirect-port-8000-8099-to-proxy-port" -j REDIRECT --to-ports 4143
                COMMIT
            "#]],
        );
    }

    /// As the 2018 init container left it, among rules of others.
    const OLDER: &str = r#"# Generated by iptables-save v1.8.9 on Tue Nov 24 23:59:46 2026
*nat
:PREROUTING ACCEPT [7:420]
:OUTPUT ACCEPT [0:0]
:PROXY_INIT_OUTPUT - [0:0]
:PROXY_INIT_REDIRECT - [0:0]
-A PREROUTING -p udp -m udp --dport 53 -j RETURN
-A PREROUTING -m comment --comment "proxy-init/install-proxy-init-prerouting/1533000000" -j PROXY_INIT_REDIRECT
-A PROXY_INIT_REDIRECT -p tcp -m comment --comment "proxy-init/redirect-all-incoming-to-proxy-port/1533000000" -j REDIRECT --to-ports 4143
COMMIT
"#;

    #[test]
    fn rules_of_an_earlier_run_are_replaced_and_those_of_others_stay() {
        let script = Rules::in_save(OLDER).script_to(&Rules::wanted(&redirection()));
        expect![[r#"
            *nat
            :PROXY_INIT_REDIRECT - [0:0]
            :PROXY_INIT_OUTPUT - [0:0]
            -D PREROUTING -m comment --comment "proxy-init/install-proxy-init-prerouting/1533000000" -j PROXY_INIT_REDIRECT
            -A OUTPUT -m comment --comment "proxy-init/install-proxy-init-output" -j PROXY_INIT_OUTPUT
            -A PREROUTING -m comment --comment "proxy-init/install-proxy-init-prerouting" -j PROXY_INIT_REDIRECT
            -A PROXY_INIT_OUTPUT -m owner --uid-owner 2102 -m comment --comment "proxy-init/ignore-proxy-user-id" -j RETURN
            -A PROXY_INIT_OUTPUT -o lo -m comment --comment "proxy-init/ignore-loopback" -j RETURN
            -A PROXY_INIT_OUTPUT -p tcp -m comment --comment "proxy-init/redirect-all-outgoing-to-proxy-port" -j REDIRECT --to-ports 4140
            -A PROXY_INIT_REDIRECT -p tcp -m comment --comment "proxy-init/redirect-all-incoming-to-proxy-port" -j REDIRECT --to-ports 4143
            COMMIT
        "#]]
        .assert_eq(&script);
    }

    #[test]
    fn going_back_to_nothing_removes_the_chains() {
        expect![[r#"
            *nat
            :PROXY_INIT_REDIRECT - [0:0]
            :PROXY_INIT_OUTPUT - [0:0]
            -D PREROUTING -m comment --comment "proxy-init/install-proxy-init-prerouting/1533000000" -j PROXY_INIT_REDIRECT
            -X PROXY_INIT_REDIRECT
            -X PROXY_INIT_OUTPUT
            COMMIT
        "#]]
        .assert_eq(&Rules::in_save(OLDER).script_to(&Rules::default()));
    }

    #[test]
    fn the_order_of_chains_in_a_save_does_not_matter() {
        let wanted = Rules::wanted(&redirection());
        let reversed: Vec<_> = {
            let mut chains: Vec<_> = wanted.0.chunk_by(|a, b| a[..12] == b[..12]).collect();
            chains.reverse();
            chains.concat()
        };
        assert_eq!(Rules::in_save(&reversed.join("\n")), wanted);
    }

    #[test]
    fn a_missing_rule_is_named() {
        let wanted = Rules::wanted(&redirection());
        let mut lines = wanted.0.clone();
        let lost = lines.remove(2);
        let found = Rules::in_save(&lines.join("\n"));
        assert_eq!(wanted.first_difference(&found), Some(lost.as_str()));
        assert_eq!(wanted.first_difference(&wanted), None);
    }
}
