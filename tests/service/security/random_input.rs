//! Bytes from outside, thousands of them at random: cursors, tickets, notifications, claims, key sets, queries, bodies; and
//! what goes back out as event streams. Nothing panics, nothing is taken for more than it is, and no state, name or
//! id begins a second frame. `PROPTEST_CASES` in the environment tries another number.

use std::time::SystemTime;

use headcount::auth::ticket::TicketKeys;
use headcount::auth::token::{AVATAR_CHARS_MAX, NAME_CHARS_MAX};
use headcount::auth::{Right, Verifier};
use headcount::domain::cursor::{Cursor, Epoch, parse_joined};
use headcount::domain::event::Diff;
use headcount::domain::hint;
use headcount::domain::id::{RoomId, UserId};
use headcount::domain::member::Member;
use headcount::domain::resume::SnapshotReason;
use headcount::domain::roster::Roster;
use headcount::http::request::problem::Code;
use headcount::hub::frame::{ByeReason, LISTED_MAX, Mode, Seen, bye, missed, opening, sync};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, TestRunner};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use crate::support::deployment::{JWT_SECRET, secret, start};

fn cases(usual: u32) -> u32 {
    std::env::var("PROPTEST_CASES").map_or(usual, |cases| cases.parse().unwrap())
}

fn config() -> Config {
    Config { cases: cases(2048), failure_persistence: None, ..Config::default() }
}

/// Any text, but line ends, NUL and their like more often than they would be.
fn text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => any::<char>().prop_map(String::from),
        4 => "[a-z0-9:., ]{1,6}",
        3 => prop::sample::select(vec![
            "\n", "\r", "\r\n", "\n\n", "\0", "\u{85}", "\u{2028}", "\u{feff}", "\"", "\\", "data: ", "\nevent: bye\ndata: {}\n\n",
            "id: a.1\n", "</script>", "\u{7f}", "\u{1f}", "\u{10ffff}",
        ]).prop_map(str::to_owned),
    ];
    prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<i32>().prop_map(|eighths| Value::from(f64::from(eighths) / 8.0)), // read back exactly
        text().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((text(), inner), 0..4)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

/// A member with this name and state; the state as it was written, with whatever is between its tokens.
fn member(id: &str, name: &str, state: &str) -> Member {
    let (id, name) = (json!(id), json!(name));
    let text = format!(
        r#"{{"id":{id},"name":{name},"avatar_url":null,"status":"online","state":{state},"sessions":1,"joined_at":"2026-01-01T00:00:00.000Z"}}"#
    );
    serde_json::from_str(&text).unwrap()
}

#[derive(Debug, Default)]
struct Event {
    name: String,
    data: Vec<String>,
    id: Option<String>,
}

/// An event stream as the standard reads it: a line ends with CR, LF or both, an empty one ends an event.
fn events(stream: &[u8]) -> Vec<Event> {
    let text =
        std::str::from_utf8(stream).expect("a stream is UTF-8").replace("\r\n", "\n").replace('\r', "\n");
    let (mut found, mut event) = (Vec::new(), Event::default());
    for line in text.split('\n') {
        match line.split_once(": ").unwrap_or((line, "")) {
            ("", _) if !event.data.is_empty() => found.push(std::mem::take(&mut event)),
            ("", _) => {}
            ("event", name) => event.name = name.to_owned(),
            ("data", data) => event.data.push(data.to_owned()),
            ("id", id) => event.id = Some(id.to_owned()),
            ("retry", _) => {}
            (other, _) => panic!("a line that is no field: {other:?}"),
        }
    }
    assert!(event.data.is_empty(), "an event without its end");
    found
}

fn claims_of(claims: &Value, algorithm: Algorithm) -> String {
    let key = EncodingKey::from_secret(JWT_SECRET.as_bytes());
    jsonwebtoken::encode(&Header::new(algorithm), claims, &key).unwrap()
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_cursor_is_read_as_written_or_not_at_all(text in prop_oneof![text(), "[0-9a-f]{0,34}\\.[0-9]{0,20}"]) {
        if let Ok(cursor) = text.parse::<Cursor>() {
            prop_assert!(cursor.version >= 0);
            prop_assert_eq!(cursor.to_string().parse::<Cursor>().unwrap(), cursor);
        }
    }

    #[test]
    fn joined_cursors_are_as_many_as_rooms_or_none(text in prop_oneof![text(), "([0-9a-f]{1,3}\\.[0-9]{1,3},?){0,5}"], rooms in 0usize..5) {
        if let Ok(cursors) = parse_joined(&text, rooms) {
            prop_assert_eq!(cursors.len(), rooms);
        }
    }

    #[test]
    fn a_notification_gives_marks_that_it_holds_or_nothing(payload in prop_oneof![text(), "([a-z:~ é*]{0,4}[-+]?[0-9]{0,20} ?){0,6}"]) {
        for mark in hint::parse(&payload) {
            prop_assert!(payload.contains(&mark.0.unsigned_abs().to_string()));
        }
    }

    #[test]
    fn an_id_is_what_it_was_or_refused(text in text()) {
        if let Ok(room) = RoomId::parse(&text) {
            prop_assert!(room.as_str() == text && text.is_ascii() && (1..=128).contains(&text.len()));
        }
        if let Ok(user) = UserId::parse(&text) {
            let clean = !text.contains(['\n', '\r', '\0', '\u{85}']);
            prop_assert!(user.as_str() == text && clean);
        }
    }

    #[test]
    fn a_ticket_with_any_change_is_no_ticket(at in any::<prop::sample::Index>(), by in "[ -~é]{0,3}", text in text()) {
        let keys = TicketKeys::new(&[secret()]);
        prop_assert!(keys.check(&text).is_err());
        let (ticket, _) = keys.mint(None, &[RoomId::parse("lobby").unwrap()], None, SystemTime::now());
        prop_assert!(keys.check(&ticket).is_ok());
        let at = at.index(ticket.len());
        let changed = format!("{}{by}{}", &ticket[..at], &ticket[at + 1..]);
        prop_assert!(changed == ticket || keys.check(&changed).is_err(), "{}", changed);
    }

    #[test]
    fn claims_of_any_form_are_refused_or_hold_what_they_must(
        sub in prop_oneof![2 => text().prop_map(Value::from), 1 => json_value()],
        exp in prop_oneof![3 => Just(json!(4_000_000_000_u64)), 1 => any::<u64>().prop_map(Value::from), 1 => json_value()],
        name in json_value(), avatar in prop_oneof![json_value(), text().prop_map(|t| json!(format!("https://{t}")))],
        rooms in prop_oneof![json_value(), Just(json!(["lobby", {"room": "x*", "can": ["watch"]}]))],
        header in text(),
    ) {
        let verifier = Verifier::from(secret());
        let claims = json!({"sub": sub, "exp": exp, "name": name, "avatar_url": avatar, "rooms": rooms});
        prop_assert!(verifier.check_now(&claims_of(&claims, Algorithm::HS512)).is_err());
        prop_assert!(verifier.check_now(&header).is_err());
        if let Ok(held) = verifier.check_now(&claims_of(&claims, Algorithm::HS256)) {
            prop_assert_eq!(json!(held.sub.as_str()), sub);
            prop_assert!(UserId::parse(held.sub.as_str()).is_ok());
            prop_assert!(held.name.is_none_or(|name| name.chars().count() <= NAME_CHARS_MAX && !name.contains('\0')));
            let picture = |url: String| url.is_empty() || url.to_lowercase().starts_with("https://");
            prop_assert!(held.avatar_url.is_none_or(|url| url.chars().count() <= AVATAR_CHARS_MAX && picture(url)));
            let elsewhere = RoomId::parse("never-named").unwrap();
            let named = rooms.to_string().contains('*') || rooms.to_string().contains("never-named");
            prop_assert!(named || Right::ALL.iter().all(|right| !held.rooms.allow(&elsewhere, *right)));
        }
    }

    #[test]
    fn no_name_state_or_id_begins_a_second_frame(
        id in text(), name in text(), state in json_value(), pretty in any::<bool>(), gap in "[ \t\r\n]{0,3}",
    ) {
        let id = UserId::parse(&id).map_or_else(|_| "ann".to_owned(), |id| id.to_string());
        let written = if pretty { serde_json::to_string_pretty(&state) } else { serde_json::to_string(&state) };
        let member = member(&id, &name, &format!("[{gap}{}{gap}]", written.unwrap()));
        let (room, cursor) = (RoomId::parse("lobby").unwrap(), Cursor { epoch: Epoch::foreign(), version: 7 });
        let (roster, reason) = (Roster::new([member.clone()]), SnapshotReason::Initial);
        let seen = Seen { cursor: &cursor, roster: &roster, list_max: LISTED_MAX };
        let diff = Diff { joined: vec![member.clone()], updated: vec![member], left: Vec::new() };
        let wires = [
            ("snapshot", "members", opening(&room, &seen, Mode::Diff, reason).whole()),
            ("presence", "members", opening(&room, &seen, Mode::List, reason).whole()),
            ("diff", "joined", missed(&room, &seen, &diff).whole()),
            ("diff", "updated", missed(&room, &seen, &diff).whole()),
        ];
        for (event, list, wire) in wires {
            let stream = [wire.as_ref(), &sync("0.7".into(), false), &bye(ByeReason::Slow, 1)].concat();
            let found = events(&stream);
            let names: Vec<&str> = found.iter().map(|event| event.name.as_str()).collect();
            prop_assert_eq!(names, [event, "sync", "bye"]);
            prop_assert_eq!((found[0].data.len(), found[0].id.as_deref()), (1, Some("0.7")));
            let data: Value = serde_json::from_str(&found[0].data[0]).unwrap();
            prop_assert_eq!(&data[list][0]["name"], &json!(name));
            prop_assert_eq!(&data[list][0]["id"], &json!(id));
            prop_assert_eq!(&data[list][0]["state"], &json!([state]));
        }
    }
}

fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02x}")).collect()
}

/// Sends what a strategy makes. Each answer is no fault of ours, and each refusal one of the table.
async fn try_all<S: Strategy>(strategy: S, request: impl Fn(S::Value) -> RequestBuilder) {
    let mut runner = TestRunner::new(config());
    let codes: Vec<&str> = Code::ALL.iter().map(|code| code.as_str()).collect();
    for _ in 0..cases(500) {
        let request = request(strategy.new_tree(&mut runner).unwrap().current());
        let shown = format!("{request:?}");
        let response = request.send().await.unwrap();
        let status = response.status();
        assert!(status.as_u16() < 500, "{status}: {shown}");
        if !status.is_success() {
            let problem: Value =
                response.json().await.unwrap_or_else(|error| panic!("{status} {error}: {shown}"));
            assert!(codes.contains(&problem["code"].as_str().unwrap_or_default()), "{problem}: {shown}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_of_any_bytes_are_answered() {
    let deployment = start().await;
    let ann = deployment.user("ann");
    let list = || prop_oneof![text(), "([a-c]{1,2},?){0,40}"].prop_map(|list| encoded(&list));
    let parameter = prop::sample::select(vec!["ticket", "last_event_id", "mode", "other"]);
    try_all((list(), parameter, text()), |(rooms, name, value)| {
        ann.request(Method::GET, &format!("/v1/events?rooms={rooms}&{name}={}", encoded(&value)))
    })
    .await;
    let parameter = prop::sample::select(vec!["limit", "after", "prefix", "other"]);
    try_all((text(), parameter, text()), |(room, name, value)| {
        ann.request(Method::GET, &format!("/v1/rooms/{}?{name}={}", encoded(&room), encoded(&value)))
    })
    .await;
    let server = deployment.server();
    let parameter = prop::sample::select(vec!["limit", "after", "prefix", "other"]);
    try_all((parameter, text()), |(name, value)| {
        server.request(Method::GET, &format!("/v1/rooms?{name}={}", encoded(&value)))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_of_any_bytes_are_answered() {
    let deployment = start().await;
    let ann = deployment.user("ann");
    ann.join("lobby").await;
    let paths = [
        "/v1/rooms/lobby/join",
        "/v1/rooms/lobby/leave",
        "/v1/heartbeats",
        "/v1/tickets",
        "/v1/users/presence",
    ];
    let path = prop::sample::select(paths.to_vec());
    let raw = prop::collection::vec(any::<u8>(), 0..60);
    try_all((path.clone(), raw), |(path, body)| {
        ann.request(Method::POST, path).header("content-type", "application/json").body(body)
    })
    .await;
    let field = prop::sample::select(vec![
        "session",
        "status",
        "state",
        "visible",
        "invisible",
        "seq",
        "rooms",
        "ids",
        "user",
    ]);
    try_all((path, field, json_value()), |(path, field, value)| {
        let mut body = ann.with(json!({}));
        body[field] = value;
        ann.request(Method::POST, path).json(&body)
    })
    .await;
    try_all((json_value(), json_value()), |(state, name)| {
        let path = if name.is_string() { "/v1/users/ann" } else { "/v1/rooms/lobby/presence" };
        let (method, body) = match name.is_string() {
            true => (Method::PUT, json!({"name": name, "avatar_url": state})),
            false => (Method::PATCH, ann.with(json!({"state": state}))),
        };
        ann.request(method, path).json(&body)
    })
    .await;
}
