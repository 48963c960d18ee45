//! The verbs of the command line that ask a running service: the program itself, as a user runs it.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdout, Stdio};
use std::time::Duration;

use headcount::auth::{Grant, Rights};
use reqwest::Method;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use sqlx::ConnectOptions;

use crate::support::certificates::Authority;
use crate::support::deployment::{Client, PATIENCE, SERVER_KEY, start, start_with, token, tuning};
use crate::support::process::serve_with;
use crate::support::program::{ask, program, run};

/// `headcount watch`, for as long as the test reads. Ended when dropped.
struct Watching {
    child: Child,
    lines: Option<std::io::Lines<BufReader<ChildStdout>>>,
}

impl Watching {
    fn start(server: &Client, arguments: &[&str]) -> Self {
        let variables = [("HEADCOUNT_URL", server.base.as_str()), ("HEADCOUNT_SERVER_KEY", SERVER_KEY)];
        let arguments = [&["watch"], arguments].concat();
        let mut child = program(&arguments, &variables).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines: Some(lines) }
    }

    /// The next line. nextest ends a test for which none comes.
    fn line(&mut self) -> String {
        self.lines.as_mut().unwrap().next().expect("it goes on").unwrap()
    }

    /// The next line without its time.
    fn said(&mut self) -> String {
        let line = self.line();
        let (time, said) = line.split_once(' ').unwrap();
        assert!(time.len() == "12:01:03Z".len() && time.ends_with('Z'), "{line}");
        said.to_owned()
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// How it ended, by itself.
    fn ended(&mut self) -> Option<i32> {
        let deadline = std::time::Instant::now() + PATIENCE;
        while std::time::Instant::now() < deadline {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            std::thread::yield_now();
        }
        panic!("it does not end");
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_prints_everybody_however_many_pages_it_takes() {
    let deployment = start().await;
    let server = deployment.server();
    deployment
        .execute("select headcount.join('hall', 'u' || n, gen_random_uuid()) from generate_series(1, 2001) n")
        .await;
    let hall = ask(&server, &["who", "hall", "--json"]).await.json();
    let ids: std::collections::BTreeSet<&str> =
        hall["members"].as_array().unwrap().iter().map(|member| member["id"].as_str().unwrap()).collect();
    assert_eq!((ids.len(), hall["count"].as_i64(), &hall["room"]), (2001, Some(2001), &json!("hall")));
    assert_eq!(hall["stale"], false);

    let table = ask(&server, &["who", "hall"]).await.ok();
    assert_eq!(table.lines().count(), 2 + 2001);
    assert!(table.starts_with("hall: 2001 members (at "), "{table}");
    assert!(ask(&server, &["who", "empty"]).await.ok().starts_with("empty: 0 members (at "));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_shows_status_sessions_and_since_and_no_name_commands_the_terminal() {
    let deployment = start().await;
    let (server, ann) = (deployment.server(), deployment.user("ann"));
    ann.join_with("lobby", json!({"status": "dnd"})).await.ok();
    ann.tab().join_with("lobby", json!({"status": "dnd"})).await.ok();
    server.join_with("lobby", json!({"user": "eve", "invisible": true})).await.ok();
    server.send(Method::PUT, "/v1/users/eve", &json!({"name": "E\u{9b}31mve\u{202e}"})).await.ok();
    let table = ask(&server, &["who", "lobby"]).await.ok();
    let rows: Vec<Vec<&str>> =
        table.lines().map(|line| line.split("  ").filter(|c| !c.is_empty()).collect()).collect();
    let trimmed = |row: &[&str]| row.iter().map(|cell| cell.trim().to_owned()).collect::<Vec<_>>();
    assert_eq!(trimmed(&rows[1]), ["USER", "NAME", "STATUS", "SESSIONS", "SINCE"], "{table}");
    assert_eq!(trimmed(&rows[2])[..4], ["ann", "The ann", "dnd", "2"], "{table}");
    assert_eq!(
        trimmed(&rows[3])[..4],
        ["eve", "E\u{fffd}31mve\u{fffd}", "online, invisible", "1"],
        "{table}"
    );
    let since = rows[2][4].trim();
    assert!(since.len() == "2026-11-24 12:01:03Z".len() && since.ends_with('Z'), "{since}");
}

#[tokio::test(flavor = "multi_thread")]
async fn user_tells_where_each_one_is_in_the_order_asked() {
    let deployment = start().await;
    let (server, ann) = (deployment.server(), deployment.user("ann"));
    ann.join("team:1").await;
    ann.join("lobby").await;
    let table = ask(&server, &["user", "zoe", "ann"]).await.ok();
    let lines: Vec<&str> = table.lines().collect();
    assert!(lines[1].starts_with("zoe   offline  never, or not told"), "{table}");
    assert!(lines[2].starts_with("ann   online   2") && lines[2].ends_with("Z  lobby team:1"), "{table}");
    let many: Vec<String> = (0..1500).map(|n| format!("u{n}")).collect();
    let many: Vec<&str> = ["user", "--json"].into_iter().chain(many.iter().map(String::as_str)).collect();
    let out = ask(&server, &many).await.ok();
    let ids = out.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["id"].clone());
    assert!(ids.eq((0..1500).map(|n| json!(format!("u{n}")))));
}

#[tokio::test(flavor = "multi_thread")]
async fn kick_removes_a_member_and_is_content_when_nobody_is_there() {
    let deployment = start().await;
    let server = deployment.server();
    deployment.user("ann").join("lobby").await;
    for _ in 0..2 {
        let said = ask(&server, &["kick", "lobby", "ann"]).await.ok();
        assert!(said.starts_with("ann is not in lobby (at "), "{said}");
    }
    assert_eq!(deployment.log("lobby").await, ["joined ann", "left ann kicked"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn watch_says_each_change_once_though_its_stream_ends_again_and_again() {
    let mut short = tuning();
    short.max_stream_age = Duration::from_secs(1);
    let deployment = start_with(1, short).await;
    let (server, ann, bob) = (deployment.server(), deployment.user("ann"), deployment.user("bob"));
    ann.join("lobby").await;
    let mut watching = Watching::start(&server, &["lobby"]);
    assert_eq!(watching.said(), "= 1 here: ann The ann");
    let began = std::time::Instant::now();
    let mut rounds = 0;
    while began.elapsed() < Duration::from_secs(4) || rounds < 5 {
        bob.join("lobby").await;
        assert_eq!(watching.said(), "+ bob The bob");
        bob.update("lobby", json!({"status": "dnd", "state": {"typing": true}})).await.ok();
        assert_eq!(watching.said(), r#"~ bob is dnd, {"typing": true}"#);
        bob.leave("lobby").await;
        assert_eq!(watching.said(), "- bob left");
        rounds += 1;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn watch_goes_on_when_the_service_was_away() {
    let deployment = start_with(0, tuning()).await;
    let url = deployment.database.service.to_url_lossy().to_string();
    let first = serve_with(&url, &[]);
    let (address, server) = (first.address.clone(), first.server());
    let listen = address.strip_prefix("http://").unwrap().to_owned();
    let mut watching = Watching::start(&server, &["lobby", "team:1"]);
    assert_eq!([watching.said(), watching.said()], ["lobby = 0 here", "team:1 = 0 here"]);
    server.join_with("team:1", json!({"user": "ann"})).await.ok();
    assert_eq!(watching.said(), "team:1 + ann ann");
    drop(first); // killed: the stream breaks off without a word
    deployment.execute("select headcount.join('lobby', 'bob', gen_random_uuid())").await;
    let _second = serve_with(&url, &["--listen", &listen]);
    assert_eq!(watching.said(), "lobby + bob bob", "exactly what was missed");
    watching.signal(Signal::TERM);
    assert_eq!(watching.ended(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn watch_passes_frames_on_as_lines_of_json() {
    let deployment = start().await;
    let server = deployment.server();
    for (mode, first) in [("diff", "snapshot"), ("list", "presence"), ("count", "count")] {
        let mut watching = Watching::start(&server, &["--json", "--mode", mode, "lobby"]);
        let frame: Value = serde_json::from_str(&watching.line()).unwrap();
        assert_eq!((&frame["event"], &frame["data"]["room"]), (&json!(first), &json!("lobby")));
        assert_eq!(frame["id"], frame["data"]["cursor"]);
        watching.signal(Signal::INT);
        assert_eq!(watching.ended(), Some(0), "Ctrl-C");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn watch_ends_when_nobody_reads_it_any_more_though_nothing_happens() {
    let deployment = start().await;
    let mut watching = Watching::start(&deployment.server(), &["lobby"]);
    assert_eq!(watching.said(), "= 0 here");
    drop(watching.lines.take());
    assert_eq!(watching.ended(), Some(0));
}

/// Code, what is said, arguments, variables.
type Case<'a> = (i32, &'a str, &'a [&'a str], &'a [(&'a str, &'a str)]);

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_wrong_is_said_with_what_to_do_and_a_code() {
    let deployment = start().await;
    let (server, here) = (deployment.server(), deployment.server().base);
    let nowhere =
        format!("http://{}", std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap());
    let narrow = token("ann", Rights(Some(vec![Grant::parse("lobby").unwrap()])));
    let key = ("HEADCOUNT_SERVER_KEY", SERVER_KEY);
    let url = ("HEADCOUNT_URL", here.as_str());
    let cases: &[Case<'_>] = &[
        (1, "refuses connections. Start headcount there", &["who", "lobby", "--url", &nowhere], &[key]),
        (
            1,
            "no address is known for the host",
            &["who", "lobby", "--url", "http://no-such-host.invalid"],
            &[key],
        ),
        (2, "who is asking?", &["who", "lobby"], &[url]),
        (2, "it must be like https://", &["who", "lobby", "--url", "presence"], &[key]),
        (2, "a room is 1 to 128 characters", &["who", "a b"], &[url, key]),
        (1, "Give the key of that service", &["who", "lobby"], &[url, ("HEADCOUNT_SERVER_KEY", "another")]),
        (1, "Ask with the server key", &["top", "--once"], &[url, ("HEADCOUNT_TOKEN", &narrow)]),
        (1, "whose claim `rooms` allows it", &["watch", "team:1"], &[url, key, ("HEADCOUNT_TOKEN", &narrow)]),
        (1, "Give --url without a path", &["who", "lobby", "--url", &format!("{here}/prefix")], &[key]),
    ];
    for (code, said, arguments, variables) in cases {
        let ran = run(arguments, variables).await;
        assert!(ran.code == *code && ran.err.contains(said), "{arguments:?}: {} {}", ran.code, ran.err);
        assert_eq!(ran.out, "", "{arguments:?}");
        assert!(!ran.err.contains(SERVER_KEY) && !ran.err.contains(&narrow), "{}", ran.err);
    }
    run(&["who", "lobby"], &[url, ("HEADCOUNT_SERVER_KEY", &format!("{SERVER_KEY},another"))]).await.ok();
    drop(server);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_speaks_tls_is_asked_if_its_authority_is_known() {
    let (authority, deployment) = (Authority::new(), start_with(0, tuning()).await);
    authority.issue(&["127.0.0.1"]);
    let url = deployment.database.service.to_url_lossy().to_string();
    let (cert, key) = (authority.path("cert.pem"), authority.path("key.pem"));
    let process = serve_with(&url, &["--tls-cert", &cert, "--tls-key", &key]);
    let ca = authority.path("ca.pem");
    let variables = [("HEADCOUNT_URL", process.address.as_str()), ("HEADCOUNT_SERVER_KEY", SERVER_KEY)];
    let ran = run(&["who", "lobby"], &variables).await;
    assert!(ran.code == 1 && ran.err.contains("SSL_CERT_FILE"), "{}", ran.err);
    let variables = [variables[0], variables[1], ("SSL_CERT_FILE", &ca)];
    assert!(run(&["who", "lobby"], &variables).await.ok().starts_with("lobby: 0 members"));
}

#[tokio::test(flavor = "multi_thread")]
async fn completions_know_every_verb() {
    for shell in ["bash", "zsh", "fish"] {
        let script = run(&["completions", shell], &[]).await.ok();
        for verb in ["who", "watch", "doctor", "serve"] {
            assert!(script.contains(verb), "{shell}: {verb}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn top_prints_one_table_where_no_terminal_is() {
    let deployment = start().await;
    let server = deployment.server();
    deployment.user("ann").join("lobby").await;
    let busy = deployment.user("bob");
    let joining = tokio::spawn(async move {
        loop {
            busy.join("busy").await;
            busy.leave("busy").await;
        }
    });
    deployment.user("cat").join("busy").await;
    let table = ask(&server, &["top", "--interval", "1s"]).await.ok();
    joining.abort();
    let row = |name: &str| -> Vec<&str> {
        let found = table.lines().find(|line| line.starts_with(name));
        found.unwrap_or_else(|| panic!("{name} in {table}")).split_whitespace().collect()
    };
    assert_eq!(row("lobby "), ["lobby", "1", "0.0"]);
    assert!(row("busy ")[2].parse::<f64>().unwrap() > 1.0, "{table}");
    let port = server.base.rsplit_once(':').unwrap().1;
    assert!(table.lines().any(|line| line.contains(&format!(":{port}")) && line.contains(" ago")), "{table}");
    assert!(
        table.contains("last sweep ") && table.contains("events/s ") && table.contains("heartbeats/s "),
        "{table}"
    );
    assert!(!table.contains('\u{1b}'), "{table}");
}

#[tokio::test(flavor = "multi_thread")]
async fn top_gives_the_terminal_back_as_it_was() {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    let deployment = start().await;
    let server = deployment.server();
    deployment.user("ann").join("lobby").await;
    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&terminal).unwrap();
    unlockpt(&terminal).unwrap();
    let name = ptsname(&terminal, Vec::new()).unwrap();
    let side = std::fs::File::options().read(true).write(true).open(name.to_str().unwrap()).unwrap();
    let before = rustix::termios::tcgetattr(&side).unwrap();
    let variables = [("HEADCOUNT_URL", server.base.as_str()), ("HEADCOUNT_SERVER_KEY", SERVER_KEY)];
    let mut command = program(&["top", "--interval", "500ms"], &variables);
    command.stdin(side.try_clone().unwrap()).stdout(side.try_clone().unwrap());
    let child = command.spawn().unwrap();
    drop(command); // it holds copies of that side
    let mut ending = Watching { child, lines: None };
    let keyboard = terminal.try_clone().unwrap();
    let mut terminal = std::fs::File::from(terminal);
    let mut shown = String::new();
    let mut read = |until: &str| {
        let mut bytes = [0; 4096];
        while !shown.contains(until) {
            let count = terminal.read(&mut bytes).unwrap();
            shown.push_str(&String::from_utf8_lossy(&bytes[..count]));
        }
        shown.clone()
    };
    let first = read("lobby");
    assert!(first.contains("\u{1b}[?1049h"), "{first:?}");
    assert_ne!(rustix::termios::tcgetattr(&side).unwrap().local_modes, before.local_modes);
    rustix::io::write(&keyboard, b"q").unwrap();
    let whole = read("\u{1b}[?1049l");
    assert!(whole.ends_with("\u{1b}[?25h\u{1b}[?1049l"), "{whole:?}");
    assert_eq!(ending.ended(), Some(0));
    assert_eq!(rustix::termios::tcgetattr(&side).unwrap().local_modes, before.local_modes);
}
