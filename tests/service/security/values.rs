//! One set of rules: whatever HTTP takes as a value SQL takes, and whatever HTTP refuses SQL refuses, in functions and in
//! rows. The same values are played against both, some chosen and many at random.

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::postgres::{PgArguments, Postgres};
use sqlx::query::Query;
use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use crate::support::deployment::{Answer, Client, start};

/// Values of each kind at random.
const RANDOM: usize = 150;

const SEED: u64 = 12;

fn taken(answer: &Answer) -> bool {
    assert!(answer.status.is_success() || matches!(answer.status.as_u16(), 400 | 413), "{}", answer.body);
    answer.status.is_success()
}

/// Whether the statement takes its values. What it did is undone.
async fn takes(connection: &mut PgConnection, query: Query<'static, Postgres, PgArguments>) -> bool {
    let mut transaction = connection.begin().await.unwrap();
    let done = query.execute(&mut *transaction).await;
    transaction.rollback().await.unwrap();
    match done {
        Ok(_) => true,
        Err(sqlx::Error::Database(error)) => {
            let code = error.code().unwrap_or_default().into_owned();
            assert!(["22", "23"].contains(&&code[..2]), "{error}");
            false
        }
        Err(other) => panic!("{other}"),
    }
}

/// Pieces of any text, with those that rules are about more often than they would be.
fn text(random: &mut StdRng) -> String {
    const PIECES: &[&str] = &[
        "a",
        "Zoë",
        "\0",
        "\n",
        "\t",
        "\u{1f}",
        "\u{7f}",
        "\u{80}",
        "\u{9f}",
        "\u{a0}",
        " ",
        ".",
        "..",
        ":",
        "~",
        "-",
        "/",
        "?",
        "#",
        "%",
        "\"",
        "<",
        "\\",
        "{",
        "|",
        "`",
        "^",
        "@",
        "\u{2028}",
        "\u{feff}",
        "\u{10ffff}",
        "ſ",
        "İ",
    ];
    let mut text: String = (0..random.random_range(0..5)).map(|_| *PIECES.choose(random).unwrap()).collect();
    if random.random_ratio(1, 8) {
        text += &"é".repeat(random.random_range(120..=130));
    }
    text
}

fn number(random: &mut StdRng) -> String {
    let digits = |random: &mut StdRng, max| -> String {
        (0..random.random_range(1..=max)).map(|_| char::from(b'0' + random.random_range(0..10))).collect()
    };
    let whole = if random.random_ratio(1, 3) { "0".to_owned() } else { format!("1{}", digits(random, 33)) };
    let sign = if random.random() { "-" } else { "" };
    let fraction = if random.random() { format!(".{}", digits(random, 33)) } else { String::new() };
    let exponent = if random.random() { format!("e{}", random.random_range(-40..40)) } else { String::new() };
    format!("{sign}{whole}{fraction}{exponent}")
}

/// A state as it may be written, good or bad.
fn state(random: &mut StdRng, levels: usize) -> String {
    match random.random_range(0..if levels > 0 { 7 } else { 4 }) {
        0 => number(random),
        1 => json!(text(random)).to_string(),
        2 => ["null", "true", "false", "nul", "1.", "\"\\ud800\"", "{\"a\":1,\"a\":2}", "1e999"]
            .choose(random)
            .unwrap()
            .to_string(),
        3 => format!("\"{}\"", "x".repeat(random.random_range(1018..1026))),
        4 => {
            let items: Vec<String> =
                (0..random.random_range(0..4)).map(|_| state(random, levels - 1)).collect();
            format!("[{}]", items.join(" ,\n"))
        }
        5 => {
            let deep = random.random_range(29..35);
            format!("{}{}{}", "[".repeat(deep), state(random, 0), "]".repeat(deep))
        }
        _ => {
            let key = json!(text(random));
            format!(
                "{{{key}: {}, \"$serde_json::private::RawValue\": {}}}",
                state(random, levels - 1),
                json!("[[")
            )
        }
    }
}

fn pictures() -> Vec<String> {
    let long = format!("https://a/{}", "x".repeat(2038));
    [
        "https://a",
        "HTTPS://example.org/a.png?b#c",
        "http://a",
        "https:/a",
        "https://",
        "https:///a",
        "https://?",
        "javascript:alert(1)",
        " https://a",
        "https://a b",
        "https://a\nb",
        "https://müller.example/é",
        "data:image/png,",
        "//a",
        "https://a\"b",
        "httpſ://a",
    ]
    .into_iter()
    .map(str::to_owned)
    .chain([format!("{long}x"), long])
    .collect()
}

/// The answer to a join whose body is written by hand: JSON numbers and states as they stand.
async fn join(server: &Client, room: &str, user: &str, rest: &str) -> bool {
    let room: String = room.bytes().map(|byte| format!("%{byte:02x}")).collect();
    let body = format!("{{\"session\":\"{}\",\"user\":{}{rest}}}", Uuid::new_v4(), json!(user));
    let request = server.request(Method::POST, &format!("/v1/rooms/{room}/join"));
    let response = request.header("content-type", "application/json").body(body).send().await.unwrap();
    let status = response.status();
    let body = Value::String(response.text().await.unwrap()); // to Value, a key of serde's own is no data
    taken(&Answer { status, body })
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_and_states_are_taken_alike_over_http_and_in_sql() {
    const JOIN: &str = "select headcount.join($1, $2, gen_random_uuid(), p_state => $3::jsonb)";
    let deployment = start().await;
    let (server, random) = (deployment.server(), &mut StdRng::seed_from_u64(SEED));
    let mut connection = deployment.database.connect().await;
    let mut both = 0;
    for n in 0..4 * RANDOM {
        let (mut room, mut user, mut of_state) = ("values".to_owned(), "ann".to_owned(), "{}".to_owned());
        match n % 4 {
            0 => room = format!("r{}", text(random)), // steps in a path never arrive
            1 => user = text(random),
            _ => of_state = state(random, 3),
        }
        let http = join(&server, &room, &user, &format!(", \"state\": {of_state}")).await;
        let sql = sqlx::query(JOIN).bind(room.clone()).bind(user.clone()).bind(of_state.clone());
        assert_eq!(takes(&mut connection, sql).await, http, "{room:?} {user:?} {of_state:?}");
        both += usize::from(http);
    }
    assert!((RANDOM / 2..4 * RANDOM - RANDOM / 2).contains(&both), "good and bad ones: {both}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_is_stored_as_long_as_it_was_measured() {
    let (deployment, random) = (start().await, &mut StdRng::seed_from_u64(SEED + 1));
    let mut connection = deployment.database.connect().await;
    for _ in 0..4 * RANDOM {
        let text = state(random, 3);
        let Ok(form) = headcount::domain::state::stored_form(&text) else { continue };
        let stored: i32 = sqlx::query_scalar("select octet_length($1::jsonb::text)")
            .bind(&text)
            .fetch_one(&mut connection)
            .await
            .unwrap();
        assert_eq!(usize::try_from(stored).unwrap(), form.len(), "{text:?} as {form:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn profiles_are_taken_alike_over_http_in_functions_and_in_rows() {
    const JOIN: &str =
        "select headcount.join('values', 'zed', gen_random_uuid(), p_name => $1, p_avatar_url => $2)";
    const PUT: &str = "select headcount.put_users(array[('zed', $1, $2, $3)::headcount.profile])";
    const INSERT: &str =
        "insert into headcount.users (user_id, name, avatar_url, show_last_seen) values ('zed', $1, $2, $3)";
    let deployment = start().await;
    let (server, random) = (deployment.server(), &mut StdRng::seed_from_u64(SEED));
    let mut connection = deployment.database.connect().await;
    let mut profiles: Vec<(String, Option<String>, &str)> =
        pictures().into_iter().map(|url| ("Ann".to_owned(), Some(url), "exact")).collect();
    profiles.extend(
        [String::new(), " ".into(), "x".repeat(256), "é".repeat(257)].map(|name| (name, None, "hidden")),
    );
    profiles.push(("Ann".into(), None, "all"));
    for n in 0..2 * RANDOM {
        let url = format!("https://{}", text(random));
        profiles.push(if n % 2 == 0 {
            (text(random), None, "exact")
        } else {
            ("Ann".into(), Some(url), "coarse")
        });
    }
    for (name, url, show) in profiles {
        let body = json!({"name": name, "avatar_url": url, "show_last_seen": show});
        let http = taken(&server.send(Method::PUT, "/v1/users/ann", &body).await);
        for statement in [PUT, INSERT] {
            let sql = sqlx::query(statement).bind(name.clone()).bind(url.clone()).bind(show);
            assert_eq!(takes(&mut connection, sql).await, http, "{statement}: {body}");
        }
        if show != "all" {
            let sql = sqlx::query(JOIN).bind(name.clone()).bind(url.clone());
            assert_eq!(takes(&mut connection, sql).await, http, "{JOIN}: {body}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_of_rooms_are_taken_alike_over_http_and_in_rows() {
    const INSERT: &str = "insert into headcount.room_settings (pattern, lease, lease_hidden, coalesce_ms, list_max, members_max) \
         values ($1, $2 * interval '1 ms', $3 * interval '1 ms', $4, $5, $6)";
    let deployment = start().await;
    let server = deployment.server();
    let mut connection = deployment.database.connect().await;
    let patterns = ["*", "a", "a:*", "...", "...*", ".*x", ".*", "..*", "a b", "é*", "a**", "a*b"];
    let none: [Option<i32>; 5] = [None; 5];
    let mut cases: Vec<(String, [Option<i32>; 5])> =
        patterns.map(|pattern| (pattern.to_owned(), none)).to_vec();
    cases.extend([128, 129].map(|length| ("x".repeat(length), none)));
    for (field, bounds) in [
        (0, [3000, 3_600_000]),
        (1, [3000, 3_600_000]),
        (2, [20, 60_000]),
        (3, [1, 1000]),
        (4, [1, 1_000_000]),
    ] {
        for value in [0, bounds[0] - 1, bounds[0], bounds[1], bounds[1] + 1] {
            let mut values = none;
            values[field] = Some(value);
            cases.push(("a".into(), values));
        }
    }
    cases.push(("a".into(), [Some(5000), Some(4000), None, None, None]));
    for (pattern, values) in cases {
        let [lease, hidden, coalesce, list, members] = values;
        let body = json!({"lease_ms": lease, "hidden_lease_ms": hidden, "coalesce_ms": coalesce, "list_max": list,
            "members_max": members});
        let path: String = pattern.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let http = taken(&server.send(Method::PUT, &format!("/v1/settings/rooms/{path}"), &body).await);
        taken(&server.send(Method::DELETE, &format!("/v1/settings/rooms/{path}"), &Value::Null).await);
        let mut sql = sqlx::query(INSERT).bind(pattern.clone());
        for value in values {
            sql = sql.bind(value);
        }
        assert_eq!(takes(&mut connection, sql).await, http, "{pattern} {body}");
    }
}
