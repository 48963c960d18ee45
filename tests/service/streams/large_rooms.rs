//! Large rooms: ten thousand members, and what they cost those who watch.

use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::future::join_all;
use reqwest::{Method, Response};
use serde_json::Value;
use sqlx::PgConnection;

use crate::support::deployment::{Client, PATIENCE, start};

const MEMBERS: i32 = 10_000;

/// A page of members here, with room for a longer one. Also what no frame may be longer than.
const PAGE_BYTES_MAX: usize = 1000 * 250;

/// Members `first` to `last`, by the batch function, 500 at a time.
const APPLY: &str = "select count(*) from headcount.apply(( \
         select jsonb_agg(jsonb_build_object('ord', n, 'op', $1, 'room_id', 'stadium', 'user_id', 'u' || lpad(n::text, 6, '0'), \
             'session_id', md5('stadium' || n)::uuid, 'lease', '1 h', 'lease_hidden', '1 h', 'status', $4)) \
         from generate_series($2, $3) n))";

async fn all(connection: &mut PgConnection, op: &str, first: i32, last: i32, status: Option<&str>) {
    for from in (first..=last).step_by(500) {
        let to = last.min(from + 499);
        sqlx::query(APPLY).bind(op).bind(from).bind(to).bind(status).execute(&mut *connection).await.unwrap();
    }
}

/// What came on a stream.
#[derive(Default)]
struct Heard {
    frames: Vec<(String, usize)>,
    buffer: Vec<u8>,
    last: Value,
}

impl Heard {
    fn take(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
        while let Some(end) = memchr::memmem::find(&self.buffer, b"\n\n") {
            let block: Vec<u8> = self.buffer.drain(..end + 2).collect();
            let text = String::from_utf8(block).unwrap();
            let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
            if let Some(event) = field("event: ").filter(|event| *event != "sync") {
                self.frames.push((event.to_owned(), text.len()));
                self.last = serde_json::from_str(field("data: ").unwrap()).unwrap();
            }
        }
    }

    fn count_of(&self, event: &str) -> usize {
        self.frames.iter().filter(|(name, _)| name == event).count()
    }
}

/// A busy machine may take longer for ten thousand members than a stream waits.
async fn open(client: &Client, path: &str) -> Response {
    loop {
        let response = client.request(Method::GET, path).send().await.unwrap();
        match response.status().as_u16() {
            200 => return response,
            status => assert_eq!(status, 503, "{path}"),
        }
    }
}

/// Reads until the end, or until the last frame is as wished after `from`.
async fn listen(client: &Client, path: &str, from: Instant, count: i32) -> Heard {
    let response = open(client, path).await;
    let (mut bytes, mut heard) = (Box::pin(response.bytes_stream()), Heard::default());
    let reading = async {
        while heard.last["count"] != count || Instant::now() < from {
            heard.take(&bytes.next().await.expect("the stream goes on").unwrap());
        }
    };
    tokio::time::timeout(PATIENCE * 2, reading).await.expect("the last count in time");
    heard
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_members_are_a_page_and_a_count_and_a_frame_a_second() {
    let deployment = start().await;
    let mut connection = deployment.database.connect().await;
    all(&mut connection, "join", 1, MEMBERS, None).await;
    let eve = deployment.user("eve");
    let churning = Duration::from_secs(5);
    let begin = Instant::now();
    let modes = ["diff", "list", "count"].repeat(10);
    let paths: Vec<String> =
        modes.iter().map(|mode| format!("/v1/rooms/stadium/events?mode={mode}")).collect();
    // A hundred changes a second; at the end one that only this test makes.
    let changing = async {
        let mut ticks = tokio::time::interval(Duration::from_millis(250));
        let mut changes = 0;
        while begin.elapsed() < churning {
            ticks.tick().await;
            let op = if changes % 2 == 0 { "leave" } else { "join" };
            all(&mut connection, op, 101, 125, None).await;
            changes += 1;
        }
        all(&mut connection, "join", 101, 125, None).await;
        all(&mut connection, "leave", 1, 3, None).await;
    };
    let listening = join_all(paths.iter().map(|path| listen(&eve, path, begin + churning, MEMBERS - 3)));
    let (heard, ()) = futures_util::future::join(listening, changing).await;
    let seconds = usize::try_from(begin.elapsed().as_secs()).unwrap() + 1;
    for (mode, heard) in modes.iter().zip(heard) {
        let (first, rest) = heard.frames.split_first().unwrap();
        let bytes: usize = rest.iter().map(|(_, bytes)| bytes).sum();
        assert!(rest.len() <= seconds + 1, "{mode}: {} frames in {seconds} s", rest.len());
        match *mode {
            "diff" => {
                assert_eq!((first.0.as_str(), heard.count_of("diff")), ("snapshot", rest.len()));
                assert!(first.1 < PAGE_BYTES_MAX, "a page: {first:?}");
                assert!(bytes < seconds * 100 * 250, "{bytes} bytes in {seconds} s");
            }
            _ => {
                assert_eq!(heard.count_of("count"), heard.frames.len(), "{mode}");
                assert!(bytes < seconds * 300, "{mode}: {bytes} bytes in {seconds} s");
            }
        }
    }
    pages_hold_everybody(&eve, MEMBERS - 3).await;
}

async fn pages_hold_everybody(client: &Client, members: i32) {
    let (mut found, mut after) = (0, String::new());
    loop {
        let page = client.get(&format!("/v1/rooms/stadium?limit=1000{after}")).await.ok();
        assert_eq!(page["count"], members);
        found += page["members"].as_array().unwrap().len();
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => break,
        }
    }
    assert_eq!(found, usize::try_from(members).unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn when_more_changes_than_a_frame_lists_a_large_room_is_a_page_again() {
    let deployment = start().await;
    let mut connection = deployment.database.connect().await;
    all(&mut connection, "join", 1, 2000, None).await;
    let eve = deployment.user("eve");
    let mut watcher = eve.watch("stadium").await;
    watcher.until_event("snapshot").await;
    // One transaction, so that one frame tells of all of it.
    let changes = "begin; \
         update headcount.users set name = 'Another' where user_id <= 'u001500'; \
         select count(*) from headcount.leave('stadium', 'u002000', md5('stadium2000')::uuid); \
         commit";
    sqlx::Executor::execute(&mut connection, sqlx::raw_sql(changes)).await.unwrap();
    let page = watcher.until_event("snapshot").await;
    assert_eq!((&page.data["reason"], &page.data["count"]), (&"too_much".into(), &1999.into()));
    assert_eq!(page.data["members"].as_array().unwrap().len(), 1000);
    assert_eq!(page.data["members"][999]["name"], "Another");
    // And so for who comes back after as much.
    let cursor = watcher.heard[0].data["cursor"].as_str().unwrap().to_owned();
    let again = eve.watch_from("stadium", &cursor).await.next().await.unwrap();
    assert_eq!((again.event.as_str(), &again.data["reason"]), ("snapshot", &"too_much".into()));
    // Fewer are told one by one.
    all(&mut connection, "update", 1, 400, Some("dnd")).await;
    let diff = watcher.until_event("diff").await;
    assert_eq!(diff.data["updated"].as_array().unwrap().len(), 400);
}
