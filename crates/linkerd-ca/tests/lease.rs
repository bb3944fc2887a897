//! Who leads, by whose clock, and how the lease changes hands.

mod script;

use std::time::Duration;

use linkerd_ca::lease::{Candidate, Leadership};
use script::{Script, conflict, created, found, not_found};
use serde_json::{Value, json};
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/linkerd/leases";
const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/linkerd/leases/linkerd-ca";

/// A lease whose times are absurd: nobody may look at them.
fn lease(holder: &str, version: &str) -> Value {
    json!({
        "metadata": {"name": "linkerd-ca", "resourceVersion": version},
        "spec": {
            "holderIdentity": holder, "leaseDurationSeconds": 15, "leaseTransitions": 3,
            "acquireTime": "1999-01-01T00:00:00.000000Z", "renewTime": "1999-01-01T00:00:00.000000Z",
        },
    })
}

/// Takes part as `me` until `until` is what is told, then leaves. Returns what was told, with the time
/// since the start.
async fn take_part(script: Script<'_>, until: Leadership) -> Vec<(Leadership, Duration)> {
    script
        .run(async |client| {
            let (sender, mut receiver) = watch::channel(Leadership::Unknown);
            let shutdown = CancellationToken::new();
            let candidate = Candidate::new(client, "linkerd", "me".to_owned());
            let running = tokio::spawn(candidate.run(sender, shutdown.clone()));
            let start = Instant::now();
            let mut told = Vec::new();
            while receiver.changed().await.is_ok() {
                let now = *receiver.borrow_and_update();
                told.push((now, start.elapsed()));
                if now == until {
                    shutdown.cancel();
                    break;
                }
            }
            running.await.expect("no panic");
            told
        })
        .await
}

#[tokio::test(start_paused = true)]
async fn the_first_replica_leads_at_once_and_gives_the_lease_back_at_the_end() {
    let script = Script::new()
        .expect("GET", LEASE, |_| not_found())
        .expect("POST", LEASES, |request| {
            assert_eq!(request.body["spec"]["holderIdentity"], "me");
            assert_eq!(request.body["spec"]["leaseDurationSeconds"], 15);
            assert_eq!(request.body["spec"]["leaseTransitions"], 0);
            created(&request.body)
        })
        .expect("PUT", LEASE, |request| {
            assert_eq!(request.body["spec"]["holderIdentity"], "");
            assert_eq!(request.body["spec"]["leaseDurationSeconds"], 1);
            found(&request.body)
        });
    let told = take_part(script, Leadership::Leader).await;
    assert_eq!(told, [(Leadership::Leader, Duration::ZERO)]);
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_does_not_change_is_taken_after_its_duration_by_our_own_clock() {
    let mut script = Script::new();
    // Renewed once while we look on: the clock starts anew.
    script = script.expect("GET", LEASE, |_| found(&lease("other", "1")));
    for _ in 0..20 {
        script = script.maybe("GET", LEASE, |_| found(&lease("other", "2")));
    }
    let script = script.expect("PUT", LEASE, |request| {
        assert_eq!(request.body["metadata"]["resourceVersion"], "2");
        assert_eq!(request.body["spec"]["holderIdentity"], "me");
        assert_eq!(request.body["spec"]["leaseTransitions"], 4);
        found(&request.body)
    });
    let script = script.expect("PUT", LEASE, |request| found(&request.body));
    let told = take_part(script, Leadership::Leader).await;
    let [(Leadership::Follower, _), (Leadership::Leader, after)] = told[..] else {
        panic!("{told:?}")
    };
    let seconds = after.as_secs();
    assert!((15..20).contains(&seconds), "after {seconds} s");
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_was_given_back_is_taken_at_once() {
    let script = Script::new()
        .expect("GET", LEASE, |_| found(&lease("", "1")))
        .expect("PUT", LEASE, |request| found(&request.body))
        .expect("PUT", LEASE, |request| found(&request.body));
    let told = take_part(script, Leadership::Leader).await;
    assert_eq!(told, [(Leadership::Leader, Duration::ZERO)]);
}

#[tokio::test(start_paused = true)]
async fn a_process_that_comes_back_under_its_name_leads_on_at_once() {
    let script = Script::new()
        .expect("GET", LEASE, |_| found(&lease("me", "1")))
        .expect("PUT", LEASE, |request| {
            assert_eq!(request.body["spec"]["leaseTransitions"], 3);
            assert_eq!(
                request.body["spec"]["acquireTime"],
                "1999-01-01T00:00:00.000000Z"
            );
            found(&request.body)
        })
        .expect("PUT", LEASE, |request| found(&request.body));
    let told = take_part(script, Leadership::Leader).await;
    assert_eq!(told, [(Leadership::Leader, Duration::ZERO)]);
}

#[tokio::test(start_paused = true)]
async fn a_leader_whose_lease_was_taken_stops() {
    let script = Script::new()
        .expect("GET", LEASE, |_| not_found())
        .expect("POST", LEASES, |request| created(&request.body))
        .expect("PUT", LEASE, |_| conflict("Conflict"))
        .expect("GET", LEASE, |_| found(&lease("other", "9")))
        .maybe("GET", LEASE, |_| found(&lease("other", "9")));
    let told = take_part(script, Leadership::Follower).await;
    assert_eq!(told[1], (Leadership::Follower, Duration::from_secs(2)));
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_cannot_renew_stops_before_another_may_begin() {
    let mut script =
        Script::new()
            .expect("GET", LEASE, |_| not_found())
            .expect("POST", LEASES, |request| created(&request.body));
    for _ in 0..6 {
        script = script.maybe("PUT", LEASE, |_| script::refused());
    }
    let told = take_part(script, Leadership::Follower).await;
    let [(Leadership::Leader, _), (Leadership::Follower, after)] = told[..] else {
        panic!("{told:?}")
    };
    assert!(
        after >= Duration::from_secs(10) && after < Duration::from_secs(15),
        "{after:?}"
    );
}
