//! What `/metrics` shows is what the documentation says, no more and no less; and nothing that clients send adds to it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use headcount::measure::{METRICS, Metric, page};
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::ConnectOptions;

use crate::support::deployment::{Client, Deployment, PATIENCE, SERVER_KEY, start_with, tuning};
use crate::support::process::{Process, serve_logged};
use crate::wait;

/// A service of its own: metrics are a process's.
async fn service() -> (Deployment, Process) {
    let deployment = start_with(0, tuning()).await;
    deployment
        .execute("update headcount.sweep_state set last_sweep_at = clock_timestamp(), recovering = false")
        .await;
    let url = deployment.database.service.to_url_lossy().to_string();
    let settings = [("HEADCOUNT_LISTENER", "on"), ("HEADCOUNT_LEASE", "30s")];
    let process = serve_logged(&url, &[], &settings, Stdio::inherit());
    (deployment, process)
}

/// One that nobody answers.
async fn make_a_webhook(ann: &Client) {
    let server = Client { credential: SERVER_KEY.to_owned(), ..ann.clone() };
    server.send(Method::PUT, "/v1/webhooks/main", &json!({"url": "http://127.0.0.1:1/"})).await.ok();
}

fn is_counted(text: &str) -> bool {
    let missing = |metric: &Metric| !text.contains(&format!("# TYPE {} ", metric.name));
    !METRICS.iter().any(missing)
        && value(text, "headcount_frames_sent_total") > 0.0
        && value(text, "headcount_figures_timestamp_seconds") > 0.0
        && value(text, "headcount_listening") == 1.0
        && value(text, "headcount_listener_lag_seconds_count") > 0.0
}

async fn scrape(client: &Client) -> String {
    client.get("/metrics").await.ok().as_str().unwrap().to_owned()
}

/// Name and labels of everything in a scrape.
fn series(text: &str) -> BTreeSet<String> {
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    lines.map(|line| line.rsplit_once(' ').unwrap().0.to_owned()).collect()
}

fn value(text: &str, series: &str) -> f64 {
    let found = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    found.unwrap_or_else(|| panic!("no {series} in {text}")).parse().unwrap()
}

/// Scrapes until it says so.
async fn until(client: &Client, says: impl Fn(&str) -> bool) -> String {
    wait::until("metrics that say so", PATIENCE, async || {
        Some(scrape(client).await).filter(|text| says(text))
    })
    .await
}

/// Everything a client can do, well and badly, once.
async fn use_it(ann: &Client, room: &str) {
    let mut watcher = ann.watch(room).await;
    watcher.until_event("snapshot").await;
    ann.join(room).await;
    ann.update(room, json!({"status": "dnd"})).await.ok();
    assert_eq!(ann.beat(json!({"active": true})).await, "alive");
    watcher.until_event("diff").await;
    ann.roster(room).await;
    ann.get(&format!("/v1/rooms/{room}?limit=nonsense")).await;
    ann.get(&format!("/nothing/{room}")).await;
    ann.request(Method::from_bytes(b"BREW").unwrap(), &format!("/v1/rooms/{room}")).send().await.unwrap();
    ann.request(Method::GET, "/livez").header("x-request-id", room).send().await.unwrap();
    ann.leave(room).await;
    assert_eq!(ann.beat(json!({})).await, "gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_metric_is_documented_and_every_documented_metric_is_exposed() {
    let (_deployment, process) = service().await;
    let ann = process.user("ann");
    make_a_webhook(&ann).await;
    use_it(&ann, "lobby").await;
    let text = until(&ann, is_counted).await;
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    let exposed: BTreeMap<&str, &str> = types.collect();
    let table: BTreeMap<&str, &str> = METRICS.iter().map(|m| (m.name, m.kind.as_str())).collect();
    assert_eq!(exposed, table);
    for metric in METRICS {
        assert!(text.contains(&format!("# HELP {} ", metric.name)), "{}", metric.name);
    }
    // And they count.
    let route = r#"route="/v1/rooms/{room}/join",method="POST",status="2xx""#;
    assert_eq!(value(&text, &format!("headcount_http_requests_total{{{route}}}")), 1.0);
    assert_eq!(value(&text, r#"headcount_commands_total{op="join"}"#), 1.0);
    assert_eq!(value(&text, r#"headcount_heartbeats_total{state="alive"}"#), 1.0);
    assert_eq!(value(&text, r#"headcount_heartbeats_total{state="gone"}"#), 1.0);
    assert_eq!(value(&text, r#"headcount_http_problems_total{code="not_found"}"#), 1.0);
    for counted in [
        "headcount_notifications_received_total",
        "headcount_fanout_lag_seconds_count",
        "headcount_writer_commits_total",
        "headcount_streams_opened_total",
        r#"headcount_frames_encoded_total{mode="diff"}"#,
        r#"headcount_database_connections{pool="main"}"#,
        r#"headcount_table_size_bytes{table="presence"}"#,
        "headcount_process_memory_bytes",
        "headcount_process_open_descriptors",
        "headcount_sweeps_total",
    ] {
        assert!(value(&text, counted) > 0.0, "{counted}");
    }
    assert_eq!(value(&text, "headcount_stale"), 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_clients_send_adds_a_series() {
    let (_deployment, process) = service().await;
    let ann = process.user("ann");
    make_a_webhook(&ann).await;
    use_it(&ann, "lobby").await;
    scrape(&ann).await; // is counted, too
    let before = series(&until(&ann, is_counted).await);
    for n in 0..50 {
        use_it(&process.user(&format!("user-{n}")), &format!("room-{n}")).await;
    }
    let after = series(&scrape(&ann).await);
    let new: Vec<_> = after.difference(&before).collect();
    assert!(new.is_empty(), "{new:?}");
    assert!(after.len() < 1000, "{} series", after.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_listener_and_the_outage_rule_show() {
    let (deployment, process) = service().await;
    let server = Client { credential: SERVER_KEY.to_owned(), ..process.user("ann") };
    let mut watcher = server.watch("lobby").await;
    watcher.until_event("snapshot").await;
    let gaps = |text: &str| value(text, "headcount_listener_gaps_total");
    until(&server, |text| value(text, "headcount_listening") == 1.0).await;
    deployment
        .execute("select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and application_name like 'headcount-listener%'")
        .await;
    until(&server, |text| gaps(text) == 1.0).await;
    until(&server, |text| value(text, "headcount_figures_timestamp_seconds") > 0.0).await;
    assert_eq!(value(&scrape(&server).await, "headcount_outage_rule"), 0.0);
    // As if nobody had swept for a while: the outage rule comes into force, and is read within 15 s.
    deployment
        .execute("update headcount.sweep_state set last_sweep_at = last_sweep_at - interval '1 h'")
        .await;
    until(&server, |text| value(text, "headcount_outage_rule") == 1.0).await;
}

#[test]
fn the_page_about_metrics_has_them_all() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/metrics.md");
    let written = std::fs::read_to_string(path).unwrap();
    let (start, rest) = written.split_once("<!-- metrics: from the code -->\n").unwrap();
    let (_, end) = rest.split_once("<!-- end -->").unwrap();
    let wanted = format!("{start}<!-- metrics: from the code -->\n{}<!-- end -->{end}", page());
    if std::env::var_os("HEADCOUNT_WRITE_DOCS").is_some() {
        std::fs::write(path, &wanted).unwrap();
    }
    assert_eq!(std::fs::read_to_string(path).unwrap(), wanted, "run make metrics");
}

/// The page tells of every alert what to do.
#[test]
fn every_alert_is_documented_and_tried() {
    let page = include_str!("../../../docs/metrics.md");
    let tried = include_str!("../../../ops/prometheus/alerts_test.yml");
    let names = include_str!("../../../ops/prometheus/alerts.yml").lines();
    let names: Vec<_> = names.filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(names.len() > 15, "{names:?}");
    for name in names {
        assert!(page.contains(&format!("| `{name}` |")), "{name} is not in docs/metrics.md");
        assert!(tried.contains(&format!("- alertname: {name}\n")), "{name} is in no test");
    }
}

fn ops(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("ops").join(file)
}

/// Of Debian's package `prometheus`; `scripts/bootstrap promtool` gets it. None where that could not.
#[expect(clippy::print_stderr, reason = "whoever runs the tests should know what was not tried")]
fn promtool() -> Option<PathBuf> {
    let told = std::env::var_os("HEADCOUNT_PROMTOOL").map(PathBuf::from);
    let fetched = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/promtool/usr/bin/promtool");
    let found = told.or_else(|| fetched.exists().then_some(fetched));
    let found =
        found.or_else(|| Command::new("promtool").arg("--version").output().ok().map(|_| "promtool".into()));
    assert!(found.is_some() || std::env::var_os("CI").is_none(), "no promtool: scripts/bootstrap promtool");
    if found.is_none() {
        eprintln!("SKIPPED: no promtool (scripts/bootstrap promtool gets Debian's)");
    }
    found
}

fn passes(command: &mut Command) {
    let output = command.output().unwrap();
    let told = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert!(output.status.success() && !told.contains("error"), "{command:?}: {told}");
}

#[test]
fn the_alerts_fire_when_they_should_and_only_then() {
    let Some(promtool) = promtool() else { return };
    passes(Command::new(&promtool).args(["check", "rules"]).arg(ops("prometheus/alerts.yml")));
    passes(Command::new(&promtool).args(["test", "rules"]).arg(ops("prometheus/alerts_test.yml")));
}

/// Every expression of the dashboard, as Prometheus sees it.
fn dashboard() -> Vec<String> {
    fn collect(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(fields) => fields.iter().for_each(|(name, value)| match value {
                Value::String(text) if name == "expr" => found.push(text.clone()),
                value => collect(value, found),
            }),
            Value::Array(items) => items.iter().for_each(|item| collect(item, found)),
            _ => {}
        }
    }
    let mut found = Vec::new();
    collect(
        &serde_json::from_str(&std::fs::read_to_string(ops("grafana/headcount.json")).unwrap()).unwrap(),
        &mut found,
    );
    assert!(found.len() > 40, "{found:?}");
    let plain = |text: String| text.replace("$__rate_interval", "5m").replace("$instance", ".*");
    found.into_iter().map(plain).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_dashboard_and_the_alerts_ask_for_metrics_that_are_there() {
    let (_deployment, process) = service().await;
    let ann = process.user("ann");
    make_a_webhook(&ann).await;
    use_it(&ann, "lobby").await;
    let text = until(&ann, is_counted).await;
    let names: BTreeSet<String> =
        series(&text).iter().map(|s| s.split('{').next().unwrap().to_owned()).collect();
    let expressions = dashboard();
    let asked = format!(
        "{}\n{}",
        expressions.join("\n"),
        std::fs::read_to_string(ops("prometheus/alerts.yml")).unwrap()
    );
    let words = asked.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let wanted: BTreeSet<&str> = words.filter(|word| word.starts_with("headcount_")).collect();
    assert!(wanted.len() > 40, "{wanted:?}");
    for name in &wanted {
        let there = names.contains(*name) || names.contains(&format!("{name}_count"));
        assert!(there, "{name} is not in a scrape");
    }
    // What nobody looks at need not be measured.
    for metric in METRICS {
        let looked_at = |name: &&str| {
            name.strip_suffix("_bucket").or(name.strip_suffix("_sum")).unwrap_or(name) == metric.name
        };
        assert!(wanted.iter().any(looked_at), "{} is in no panel and no alert", metric.name);
    }
    let Some(promtool) = promtool() else { return };
    let folder = tempfile::tempdir().unwrap();
    let rules = folder.path().join("dashboard.yml");
    let rule = |(n, expr): (usize, &String)| json!({"record": format!("panel:{n}"), "expr": expr});
    let rules_of_it: Vec<_> = expressions.iter().enumerate().map(rule).collect();
    let file = json!({"groups": [{"name": "dashboard", "rules": rules_of_it}]}); // JSON is YAML
    std::fs::write(&rules, file.to_string()).unwrap();
    passes(Command::new(&promtool).args(["check", "rules"]).arg(&rules));
    let scraped = folder.path().join("scrape");
    std::fs::write(&scraped, &text).unwrap();
    let mut command = Command::new(&promtool);
    passes(command.args(["check", "metrics"]).stdin(Stdio::from(std::fs::File::open(&scraped).unwrap())));
}
