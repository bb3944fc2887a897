//! Connections are seen to arrive where the rules send them.

use crate::pod::{ELSEWHERE, Listener, PEER, POD, Pod, destination, in_a_pod, init, text};

const FLAGS: &str = "-p 4143 -o 4140 -u 2102";

fn install(flags: &str) {
    let output = init(flags);
    assert!(output.status.success(), "{}", text(&output));
}

fn check_inbound(mode: &str, pod: &Pod) {
    install(&format!("{FLAGS} --iptables-mode {mode}"));
    for address in POD {
        let proxy = Listener::bind(address, 4143);
        assert!(pod.peer_connects_to(address, 8080), "{address}");
        assert_eq!(proxy.next_destination(), destination(address, 8080));
    }
}

fn check_outbound(mode: &str, pod: &Pod) {
    install(&format!("{FLAGS} --iptables-mode {mode}"));
    for (loopback, address) in ["127.0.0.1", "::1"].into_iter().zip(ELSEWHERE) {
        let proxy = Listener::bind(loopback, 4140);
        assert!(pod.app_connects_to(address, 80), "{address}");
        assert_eq!(proxy.next_destination(), destination(address, 80));
    }
}

#[test]
fn nft_brings_inbound_connections_to_the_proxy() {
    in_a_pod(|pod| check_inbound("nft", pod));
}

#[test]
fn legacy_brings_inbound_connections_to_the_proxy() {
    in_a_pod(|pod| check_inbound("legacy", pod));
}

#[test]
fn nft_brings_outbound_connections_to_the_proxy() {
    in_a_pod(|pod| check_outbound("nft", pod));
}

#[test]
fn legacy_brings_outbound_connections_to_the_proxy() {
    in_a_pod(|pod| {
        check_outbound("legacy", pod);
    });
}

#[test]
fn ignored_inbound_ports_go_to_the_application() {
    in_a_pod(|pod| {
        install(&format!("{FLAGS} --inbound-ports-to-ignore 22,7000-7009"));
        for address in POD {
            let proxy = Listener::bind(address, 4143);
            for port in [22, 7000, 7009] {
                let app = Listener::bind(address, port);
                assert!(pod.peer_connects_to(address, port), "{address} {port}");
                assert_eq!(app.next_destination(), destination(address, port));
            }
            assert_eq!(proxy.next_destination(), None);
            assert!(pod.peer_connects_to(address, 7010), "{address}");
            assert_eq!(proxy.next_destination(), destination(address, 7010));
        }
    });
}

#[test]
fn ignored_outbound_ports_do_not_reach_the_proxy() {
    in_a_pod(|pod| {
        install(&format!("{FLAGS} --outbound-ports-to-ignore 25"));
        for (loopback, peer) in ["127.0.0.1", "::1"].into_iter().zip(PEER) {
            let proxy = Listener::bind(loopback, 4140);
            assert!(!pod.app_connects_to(peer, 25), "nobody listens on {peer}");
            assert_eq!(proxy.next_destination(), None);
            assert!(pod.app_connects_to(peer, 26), "{peer}");
            assert_eq!(proxy.next_destination(), destination(peer, 26));
        }
    });
}

#[test]
fn only_the_named_inbound_ports_are_redirected() {
    in_a_pod(|pod| {
        install(&format!("{FLAGS} --ports-to-redirect 80 -r 8000-8001"));
        for address in POD {
            let proxy = Listener::bind(address, 4143);
            for port in [80, 8000, 8001] {
                assert!(pod.peer_connects_to(address, port), "{address} {port}");
                assert_eq!(proxy.next_destination(), destination(address, port));
            }
            assert!(
                !pod.peer_connects_to(address, 8002),
                "nobody listens on {address} 8002"
            );
            assert_eq!(proxy.next_destination(), None);
        }
    });
}

#[test]
fn connections_of_the_proxy_are_left_alone() {
    in_a_pod(|pod| {
        install(FLAGS);
        for (loopback, peer) in ["127.0.0.1", "::1"].into_iter().zip(PEER) {
            let proxy = Listener::bind(loopback, 4140);
            assert!(!pod.proxy_connects_to(peer, 80), "nobody listens on {peer}");
            assert_eq!(proxy.next_destination(), None);
        }
    });
}

#[test]
fn connections_within_the_pod_are_left_alone() {
    in_a_pod(|pod| {
        install(FLAGS);
        for (loopback, address) in ["127.0.0.1", "::1"].into_iter().zip(POD) {
            let outbound = Listener::bind(loopback, 4140);
            let inbound = Listener::bind(address, 4143);
            for own in [loopback, address] {
                let app = Listener::bind(own, 8080);
                assert!(pod.app_connects_to(own, 8080), "{own}");
                assert_eq!(app.next_destination(), destination(own, 8080));
                assert!(pod.proxy_connects_to(own, 8080), "{own}");
                assert_eq!(app.next_destination(), destination(own, 8080));
            }
            assert_eq!(outbound.next_destination(), None);
            assert_eq!(inbound.next_destination(), None);
        }
    });
}
