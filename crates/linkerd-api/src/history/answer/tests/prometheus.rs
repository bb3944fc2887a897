//! The same questions to the store and to a real Prometheus that has the same points.

use std::{
    fmt::Write as _,
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::Instant,
};

use serde_json::Value;

use super::*;
use crate::promql::render;

/// Names the program; promtool is beside it. `cargo xtask test` sets it.
const PROGRAM: &str = "PROMETHEUS_BIN";
/// Prometheus is ready within seconds.
const START_TIMEOUT: Duration = Duration::from_secs(60);
const SCRAPES: u64 = 375;

#[test]
fn a_real_prometheus_answers_alike() {
    let Some(program) = std::env::var_os(PROGRAM).map(PathBuf::from) else {
        println!("skipped: {PROGRAM} is not set");
        return;
    };
    let mut store = Store::new(10_000);
    let mut points = String::new();
    let mut scrapes = (0..SCRAPES)
        .flat_map(|scrape| (0..4).map(move |pod| (pod, scrape)))
        .peekable();
    let mut ours = Vec::new();
    // First when something that was away has just come again.
    let times = [3_244_500, 3_600_000, 3_612_345, 3_700_001, 3_741_000];
    for now in times.map(|after| START + after) {
        while let Some((pod, scrape)) = scrapes.next_if(|(pod, scrape)| at(*pod, *scrape) <= now) {
            say(pod, scrape, &mut store, &mut points);
        }
        for query in queries() {
            let mut samples = answer(&store, &query, now);
            samples.sort_by(|a, b| a.labels.cmp(&b.labels));
            ours.push((now, render(&query), samples));
        }
    }
    assert_eq!(in_use_again(&store), ["ended_twice"]);
    points.push_str("# EOF\n");
    let folder = tempfile::tempdir().expect("a folder");
    let prometheus = Running::start(&program, folder.path(), &points);
    let mut compared = 0;
    for (now, query, ours) in ours {
        let theirs = prometheus.ask(&query, now);
        assert_alike(&ours, &theirs, &format!("{query} at {now}"));
        compared += ours.len();
    }
    assert!(compared > 1000, "{compared}");
    println!("{compared} values are alike");
}

#[test]
fn the_past_is_what_was_answered_then() {
    let mut store = Store::new(10_000);
    let mut scrapes = (0..SCRAPES)
        .flat_map(|scrape| (0..4).map(move |pod| (pod, scrape)))
        .peekable();
    let short = |query: &Query| {
        let window = query.function.window();
        window.is_none_or(|window| window <= Duration::from_secs(300))
    };
    let queries: Vec<Query> = queries().into_iter().filter(short).collect();
    // With the minute and a half in which one pod does not answer, and the start of another.
    let times: Vec<u64> = (0..20).map(|n| START + 1_900_005 + n * 97_000).collect();
    let mut then = Vec::new();
    for now in &times {
        while let Some((pod, scrape)) = scrapes.next_if(|(pod, scrape)| at(*pod, *scrape) <= *now) {
            say(pod, scrape, &mut store, &mut String::new());
        }
        then.push(
            queries
                .iter()
                .map(|query| answer(&store, query, *now))
                .collect::<Vec<_>>(),
        );
    }
    let mut compared = 0;
    for (number, query) in queries.iter().enumerate() {
        let courses = courses(&store, query, &times);
        for (index, now) in times.iter().enumerate() {
            let past = courses.iter().filter_map(|course| {
                let value = course.values[index]?;
                let labels = course.labels.clone();
                Some(Sample { labels, value })
            });
            let past: Vec<Sample> = past.collect();
            let question = format!("{} at {now}", render(query));
            assert_alike(&past, &then[index][number], &question);
            compared += past.len();
        }
    }
    assert!(compared > 1000, "{compared}");
}

/// Each pod has its own moment in the interval, and is not asked to the millisecond.
fn at(pod: u64, scrape: u64) -> u64 {
    START + scrape * 10_000 + pod * 1_234 + noise(pod * 1000 + scrape) % 50
}

/// What a pod says at a scrape, to both.
fn say(pod: u64, scrape: u64, store: &mut Store, points: &mut String) {
    let name = format!("p{pod}");
    let at = at(pod, scrape);
    // One does not answer for a minute and a half.
    if pod == 1 && (200..209).contains(&scrape) {
        store.miss(&target("ns", &name), at, "away".into());
        return;
    }
    // Another starts again.
    let since = if pod == 2 && scrape >= 350 {
        scrape - 350
    } else {
        scrape
    };
    let mut lines: Vec<(String, String, u64)> = Vec::new();
    let mut add = |name: &str, labels: &str, value| {
        lines.push((name.to_owned(), labels.to_owned(), value));
    };
    for (n, labels) in [
        r#"direction="inbound",tls="true",classification="success""#,
        r#"direction="inbound",tls="true",classification="failure""#,
        r#"direction="inbound",tls="no_identity",no_tls_reason="probe",classification="success""#,
        r#"direction="outbound",tls="true",dst_namespace="ns",dst_pod="p0",classification="success""#,
        r#"direction="outbound",dst_namespace="o\"th\\er",dst_pod="x",classification="failure""#,
        r#"direction="inbound",tls="no_proxy_tls",classification="success""#,
        r#"direction="inbound",tls="ended_twice",classification="success""#,
        r#"direction="inbound",tls="ended_once",classification="success""#,
    ]
    .into_iter()
    .enumerate()
    {
        let n = n as u64;
        // One begins late, one ends early, one rests for a long time, and one is away for as long as an imported
        // series without a value takes to have none. One ends, is away for longer, comes again and ends again.
        let away = match n {
            1 => scrape < 365,
            3 => pod == 3 && scrape > 360,
            5 => (289..324).contains(&scrape),
            6 => (180..240).contains(&scrape) || scrape >= 260,
            // What a pod says begins again when it answers again, but with imported points not after so little.
            7 => scrape > 260 || pod == 1,
            _ => false,
        };
        if away {
            continue;
        }
        let steps = match n {
            4 => since / 100,
            5..=7 => 1,
            _ => since,
        };
        let total = steps * (n + pod + 1) + noise(n * 7919 + steps) % (n + 3);
        add("response_total", labels, total);
        add("tcp_read_bytes_total", labels, total * 1_000_003);
        let mut below = 0;
        for (bucket, bound) in ["1", "2", "5", "10", "100", "1000"].into_iter().enumerate() {
            below += total * (bucket as u64 + 1) / (20 + n);
            let labels = format!("{labels},le=\"{bound}\"");
            add("response_latency_ms_bucket", &labels, below);
        }
        let labels_of_all = format!("{labels},le=\"+Inf\"");
        add("response_latency_ms_bucket", &labels_of_all, below + total / 9);
    }
    add(
        "tcp_open_connections",
        r#"direction="inbound",peer="src",tls="true""#,
        noise(pod + scrape) % 9,
    );
    add("process_start_time_seconds", "", 1_800_000_000 + pod);
    let mut text = String::new();
    for (metric, labels, value) in lines {
        writeln!(text, "{metric}{{{labels}}} {value}").expect("a String");
        let comma = if labels.is_empty() { "" } else { "," };
        let seconds = format!("{}.{:03}", at / 1000, at % 1000);
        writeln!(
            points,
            "{metric}{{{labels}{comma}namespace=\"ns\",pod=\"{name}\"}} {value} {seconds}"
        )
        .expect("a String");
    }
    assert_eq!(store.record(&target("ns", &name), at, &text), 0);
}

/// A number that looks like chance and is the same in every run.
fn noise(seed: u64) -> u64 {
    let mixed = (seed + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (mixed ^ (mixed >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9) >> 40
}

fn queries() -> Vec<Query> {
    let inbound = ("direction", Condition::is("inbound"));
    let no_probe = ("no_tls_reason", Condition::IsNot("probe".into()));
    let selectors = [
        vec![],
        vec![inbound.clone()],
        vec![inbound, no_probe],
        vec![("dst_namespace", Condition::is("o\"th\\er"))],
        vec![
            ("dst_pod", Condition::is_set()),
            ("pod", Condition::is("p3")),
        ],
        // As the dashboard asks for pods that stand for themselves.
        vec![
            ("deployment", Condition::is("")),
            ("dst_pod", Condition::is("")),
            ("pod", Condition::is_set()),
        ],
    ];
    let groups: [&[&str]; 4] = [
        &["namespace", "pod", "tls"],
        &["namespace", "dst_namespace"],
        &["classification", "no_tls_reason"],
        &["pod"],
    ];
    let mut queries = Vec::new();
    for selector in &selectors {
        for by in groups {
            for seconds in [25, 60, 300, 3600] {
                let window = Duration::from_secs(seconds);
                for function in [
                    Function::Increase(window),
                    Function::Rate(window),
                    Function::LastRate(window),
                    Function::Max(window),
                    Function::Growth(window),
                ] {
                    queries.push(query(function, Metric::Responses, by, selector));
                    queries.push(query(function, Metric::ReadBytes, by, selector));
                }
                for function in [Function::Rate(window), Function::LastRate(window)] {
                    let buckets = query(function, Metric::LatencyBuckets, by, selector);
                    queries.extend([0.5, 0.95, 0.99].map(|share| Query {
                        aggregate: Aggregate::Quantile(share),
                        ..buckets.clone()
                    }));
                }
            }
            queries.push(query(
                Function::Latest,
                Metric::OpenConnections,
                by,
                selector,
            ));
        }
    }
    let by = ["pod", "dst_pod", "tls"];
    // Of some groups the second has another part, others are of the third alone.
    let alternatives: [(&str, &str, &[&str]); 3] = [
        ("dst_pod", "p0", &by),
        ("pod", "p1", &by),
        ("pod", "p2", &["tls", "classification"]),
    ];
    let parts = alternatives.map(|(label, pod, by)| {
        let condition = [(label, Condition::is(pod))];
        query(Function::Max(MINUTE), Metric::Responses, by, &condition).parts
    });
    queries.push(Query {
        parts: parts.concat(),
        ..query(Function::Max(MINUTE), Metric::Responses, &[], &[])
    });
    // At its start nothing is away, and later something is at one of its moments.
    let away = Function::Growth(Duration::from_secs(900));
    queries.push(query(away, Metric::Responses, &by, &[]));
    queries.push(Query {
        aggregate: Aggregate::Max,
        ..query(Function::Latest, Metric::StartTime, &["pod"], &[])
    });
    queries
}

/// Of what ended within the last hour, long before now: what was in use in it.
fn in_use_again(store: &Store) -> Vec<String> {
    let growth = Function::Growth(Duration::from_secs(3600));
    let now = START + 3_741_000;
    let in_use = |tls: &str| {
        let conditions = [("tls", Condition::is(tls))];
        let query = query(growth, Metric::Responses, &["tls"], &conditions);
        answer(store, &query, now).iter().any(|it| it.value > 0.0)
    };
    let ended = ["ended_once", "ended_twice"].into_iter();
    ended.filter(|tls| in_use(tls)).map(str::to_owned).collect()
}

fn assert_alike(ours: &[Sample], theirs: &[Sample], question: &str) {
    let labels = |samples: &[Sample]| -> Vec<_> {
        samples.iter().map(|sample| sample.labels.clone()).collect()
    };
    assert_eq!(labels(ours), labels(theirs), "{question}");
    for (our, their) in ours.iter().zip(theirs) {
        let difference = (our.value - their.value).abs();
        let alike = our.value.is_nan() && their.value.is_nan()
            || difference <= 1e-9 * their.value.abs().max(1e-9);
        assert!(alike, "{question}: {our:?} and {their:?}");
    }
}

/// A Prometheus with the points, which ends with the test.
struct Running {
    process: Child,
    address: SocketAddr,
}

impl Running {
    fn start(program: &Path, folder: &Path, points: &str) -> Self {
        let (points_file, blocks) = (folder.join("points"), folder.join("blocks"));
        fs::write(&points_file, points).expect("written");
        fs::write(folder.join("prometheus.yml"), "").expect("written");
        let import = Command::new(program.with_file_name("promtool"))
            .args(["tsdb", "create-blocks-from", "openmetrics"])
            .args([&points_file, &blocks])
            .output()
            .expect("promtool starts");
        let words = String::from_utf8_lossy(&import.stderr);
        assert!(import.status.success(), "{words}");
        // Whoever takes the port in between makes the start fail, and the test say so.
        let free = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let address = free.local_addr().expect("bound");
        drop(free);
        let process = Command::new(program)
            .arg(format!("--web.listen-address={address}"))
            .arg(format!("--storage.tsdb.path={}", blocks.display()))
            .arg("--storage.tsdb.retention.time=100y")
            .arg("--config.file=prometheus.yml")
            .current_dir(folder)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("Prometheus starts");
        let running = Self { process, address };
        let until = Instant::now() + START_TIMEOUT;
        while running.get("/-/ready").is_none() {
            assert!(Instant::now() < until, "Prometheus is not ready");
            thread::sleep(Duration::from_millis(50));
        }
        running
    }

    /// The answer's samples, sorted by their labels.
    fn ask(&self, promql: &str, now: u64) -> Vec<Sample> {
        let query: String = promql.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let at = format!("{}.{:03}", now / 1000, now % 1000);
        let body = self.get(&format!("/api/v1/query?time={at}&query={query}"));
        let body: Value = serde_json::from_str(&body.expect(promql)).expect("JSON");
        let result = body["data"]["result"].as_array().expect("a vector");
        let mut samples: Vec<Sample> = result
            .iter()
            .map(|series| Sample {
                labels: serde_json::from_value(series["metric"].clone()).expect("labels"),
                value: series["value"][1]
                    .as_str()
                    .and_then(|text| text.parse().ok())
                    .expect("a number"),
            })
            .collect();
        samples.sort_by(|a, b| a.labels.cmp(&b.labels));
        samples
    }

    /// The body of a good answer.
    fn get(&self, path: &str) -> Option<String> {
        let mut stream = TcpStream::connect(self.address).ok()?;
        write!(stream, "GET {path} HTTP/1.0\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        head.starts_with("HTTP/1.0 200").then(|| body.to_owned())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}
