//! What is counted, under which names, and what is not.

use super::{
    super::samples::{BOT, EMOJI, NOBODY, PLAINTEXT, Sample, WEB, figures},
    *,
};

fn only(figures: &Figures) -> Row {
    let rows = figures.rows();
    assert_eq!(rows.len(), 1, "{rows:#?}");
    rows.into_iter().next().expect("one")
}

/// The best, the worst and the last one, in milliseconds.
fn latencies(row: &Row) -> [u128; 3] {
    [row.tally.best, row.tally.worst, row.tally.last].map(|it| it.as_millis())
}

#[test]
fn requests_with_all_in_common_are_one_row_with_the_best_worst_and_last_latency() {
    let mut figures = figures();
    for (stream, millis) in [(1, 5), (2, 1), (3, 9), (4, 4)] {
        let sample = Sample {
            latency: Duration::from_millis(millis),
            ..Sample::default()
        };
        sample.add_to(&mut figures, stream);
    }
    let row = only(&figures);
    assert_eq!(
        [
            &row.source,
            &row.destination,
            &row.method,
            &row.path,
            &row.tls
        ],
        ["vote-bot", "web", "GET", "/api/vote", ENCRYPTED]
    );
    assert_eq!((row.tally.count, row.tally.successes), (4, 4));
    assert_eq!(latencies(&row), [1, 9, 4]);
}

#[test]
fn success_is_no_5xx_no_reset_and_grpc_status_0() {
    let grpc = |code| Some(eos::End::GrpcStatusCode(code));
    for (status, end, success) in [
        (200, None, 1),
        (404, None, 1),
        (500, None, 0),
        (200, grpc(0), 1),
        (200, grpc(5), 0),
        (200, Some(eos::End::ResetErrorCode(0)), 0),
    ] {
        let mut figures = figures();
        let sample = Sample {
            status,
            end,
            ..Sample::default()
        };
        sample.add_to(&mut figures, 1);
        assert_eq!(only(&figures).tally.successes, success, "{status} {end:?}");
    }
}

#[test]
fn a_request_counts_when_it_has_ended_and_its_beginning_was_seen() {
    let mut figures = figures();
    let sample = Sample::default();
    figures.add(&sample.head(1));
    figures.add(&sample.end(1));
    figures.add(&sample.request(2));
    figures.add(&sample.head(2));
    assert!(figures.rows().is_empty());
    figures.add(&sample.end(2));
    assert_eq!(only(&figures).tally.count, 1);
}

#[test]
fn connections_count_when_they_have_closed_by_the_port_and_are_good_unless_broken() {
    let mut figures = figures();
    let connection = |millis| Sample {
        latency: Duration::from_millis(millis),
        ..Sample::default()
    };
    figures.add(&connection(9).opened(1));
    assert!(figures.rows().is_empty());
    figures.add(&connection(9).closed(1, End::Clean));
    for (stream, end) in [(2, End::Reset), (3, End::Error)] {
        figures.add(&connection(20).closed(stream, end));
    }
    let row = only(&figures);
    assert_eq!(
        [&row.source, &row.destination, &row.method, &row.path],
        ["vote-bot", "web", CONNECTION, ":8080"]
    );
    assert_eq!((row.tally.count, row.tally.successes), (3, 1));
    assert_eq!(latencies(&row), [9, 20, 20]);
}

#[test]
fn a_request_that_both_proxies_tell_of_is_shown_once_and_by_the_clients_reason() {
    let mut figures = figures();
    let inbound = Sample {
        tls: PLAINTEXT,
        ..Sample::default()
    };
    let outbound = Sample {
        direction: ProxyDirection::Outbound,
        tls: &[("tls", "no_identity"), ("no_tls_reason", "off_cluster")],
        ..Sample::default()
    };
    inbound.add_to(&mut figures, 1);
    outbound.add_to(&mut figures, 2);
    let row = only(&figures);
    assert_eq!((row.tally.count, row.tls.as_str()), (1, "off_cluster"));
    inbound.add_to(&mut figures, 3);
    let row = only(&figures);
    assert_eq!(
        (row.tally.count, row.tls.as_str()),
        (2, "peer_sent_plaintext")
    );
}

#[test]
fn plaintext_and_tls_are_never_one_row() {
    let mut figures = figures();
    Sample::default().add_to(&mut figures, 1);
    Sample {
        tls: PLAINTEXT,
        ..Sample::default()
    }
    .add_to(&mut figures, 2);
    let mut words: Vec<String> = figures.rows().into_iter().map(|row| row.tls).collect();
    words.sort();
    assert_eq!(words, ["peer_sent_plaintext", ENCRYPTED]);
    assert_eq!(without_sources(figures.rows()).len(), 2);
}

#[test]
fn names_are_of_workloads_or_pods_with_foreign_namespaces_and_else_addresses() {
    let name = |of_pods, namespace: &str, source| {
        let mut figures = Figures::new(Names {
            of_pods,
            namespace: namespace.into(),
        });
        let sample = Sample {
            source,
            ..Sample::default()
        };
        sample.add_to(&mut figures, 1);
        only(&figures).source
    };
    for (of_pods, namespace, source, expected) in [
        (false, "emojivoto", BOT, "vote-bot"),
        (false, "other", BOT, "vote-bot.emojivoto"),
        (false, "", BOT, "vote-bot.emojivoto"),
        (true, "emojivoto", BOT, "vote-bot-5d7b6c-x2x9z"),
        (false, "emojivoto", NOBODY, "10.0.0.1"),
    ] {
        assert_eq!(name(of_pods, namespace, source), expected);
    }
}

#[test]
fn without_sources_the_figures_of_all_are_added_up() {
    let mut figures = figures();
    for (stream, source, millis) in [(1, BOT, 4), (2, EMOJI, 2), (3, NOBODY, 8)] {
        let sample = Sample {
            source,
            latency: Duration::from_millis(millis),
            ..Sample::default()
        };
        sample.add_to(&mut figures, stream);
    }
    assert_eq!(figures.rows().len(), 3);
    let rows = without_sources(figures.rows());
    let [row] = &rows[..] else {
        panic!("{rows:#?}")
    };
    assert_eq!((row.source.as_str(), row.tally.count), ("", 3));
    assert_eq!(latencies(row), [2, 8, 8]);
}

#[test]
fn memory_is_bounded_and_the_idlest_row_goes_first() {
    let mut figures = figures();
    let many = u64::try_from(ROWS_MAX).expect("small");
    for stream in 0..=many {
        let mut request = Sample::default().request(stream);
        if let Some(Event::Http(http)) = &mut request.event
            && let Some(HttpEvent::RequestInit(init)) = &mut http.event
        {
            init.path = format!("/{stream}");
        }
        figures.add(&request);
        figures.add(&Sample::default().end(stream));
    }
    let rows = figures.rows();
    assert_eq!((rows.len(), figures.idle_rows_dropped()), (ROWS_MAX, 1));
    assert!(rows.iter().all(|row| row.path != "/0"));
    let open = u64::try_from(OPEN_MAX).expect("small");
    for stream in 0..=open {
        figures.add(&Sample::default().request(stream));
    }
    assert!(figures.open.len() <= OPEN_MAX, "{}", figures.open.len());
    assert!(figures.open.contains_key(&(0, open)));
}

#[test]
fn clear_forgets_figures_and_not_what_is_under_way() {
    let mut figures = figures();
    let sample = Sample {
        source: WEB,
        destination: EMOJI,
        ..Sample::default()
    };
    figures.add(&sample.request(7));
    Sample::default().add_to(&mut figures, 8);
    figures.clear();
    assert!(figures.rows().is_empty());
    figures.add(&sample.end(7));
    assert_eq!(only(&figures).destination, "emoji");
}
