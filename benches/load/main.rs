//! What headcount costs, beside raw limits and beside what people use today, in one run on one machine.
//!
//! `cargo bench --bench load -- PART...` measures the figures whose names have such a part, all without any. `QUICK=1`
//! tries the harness in a fraction of the time; its figures mean little. Prints a table and writes
//! `target/bench/summary.json` and `summary.svg`. Timings are no tests: nothing here passes or fails.
//!
//! All traffic is on loopback, everything has an end, and every process that is started ends with this one.

#![expect(clippy::print_stdout, reason = "a bench tells what it measured")]
#![expect(clippy::cast_precision_loss, reason = "figures are far below 2^52")]
#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "figures are small and positive"
)]

mod callers;
mod figures;
mod limits;
mod peers;
mod plot;
mod process;
mod report;
mod request;
mod stage;
mod watchers;

use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::time::Instant;

use futures_util::FutureExt;
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};

use report::Report;
use stage::Stage;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [argument, name] = arguments.as_slice()
        && argument == limits::ARGUMENT
    {
        return limits::serve(name);
    }
    process::raise_descriptor_limit();
    // The main thread starts all processes: the kernel ends them with the thread that started them.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("a runtime can be made").block_on(run(&arguments));
}

/// Cargo adds `--bench`.
fn wanted<'a>(arguments: &[String], names: &'a [&'a str]) -> Vec<&'a str> {
    let parts: Vec<&String> = arguments.iter().filter(|argument| !argument.starts_with('-')).collect();
    let wanted = |name: &&&str| parts.is_empty() || parts.iter().any(|part| name.contains(part.as_str()));
    names.iter().filter(wanted).copied().collect()
}

async fn run(arguments: &[String]) {
    let names = wanted(arguments, &figures::NAMES);
    let quick = std::env::var("QUICK").is_ok_and(|value| !value.is_empty() && value != "0");
    let stage = Stage::set(quick).await;
    let about = about(&stage).await;
    let mut report = Report::default();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/bench");
    for name in names {
        let begin = Instant::now();
        let measuring = figures::measure(name, &stage, &mut report);
        if let Err(panic) = AssertUnwindSafe(measuring).catch_unwind().await {
            let why = panic.downcast_ref::<String>().cloned();
            let why = why.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            report.fail(name, &why.unwrap_or_else(|| "it failed".into()));
        }
        println!("{name}: took {:.0} s", begin.elapsed().as_secs_f64());
        // After each, so that a run that is ended leaves what it has.
        report.write(&folder.join("summary.json"), &about).expect("target can be written");
        if let Some(picture) = plot::svg(&report) {
            std::fs::write(folder.join("summary.svg"), picture).expect("target can be written");
        }
    }
    println!("\n{}", report.table());
    stage.clear().await;
}

/// On what it was measured.
async fn about(stage: &Stage) -> Value {
    let line = |path: &str, prefix: &str| {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let found = text.lines().find_map(|line| line.strip_prefix(prefix).map(str::to_owned));
        found.unwrap_or_default().trim_start_matches([' ', '\t', ':']).to_owned()
    };
    let options = stage.postgres.connect_options("postgres");
    let mut connection = PgConnection::connect_with(&options).await.expect("Postgres takes connections");
    let version = sqlx::query_scalar::<_, String>("show server_version").fetch_one(&mut connection).await;
    json!({
        "quick": stage.quick,
        "cores": process::cores(),
        "processor": line("/proc/cpuinfo", "model name"),
        "kernel": line("/proc/sys/kernel/osrelease", ""),
        "postgres": version.expect("Postgres answers"),
        "headcount": env!("CARGO_PKG_VERSION"),
    })
}
