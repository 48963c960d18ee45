//! Every caller at every call, with their own and another's session or profile, in a room that they may enter, one
//! that they may not, and one that does not exist. What must come of each is computed by a rule; a call of the
//! document that the rule does not know fails. What is refused has changed nothing.

pub mod rule;

use std::collections::BTreeSet;

use headcount::auth::{Claims, Grant, Keys, Right, Rights, TokenKey};
use headcount::domain::id::UserId;
use headcount::domain::timestamp::Shown;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use time::OffsetDateTime;
use uuid::Uuid;

use self::rule::{About, CALLERS, Need, OPERATIONS, Operation, Place, Who, Within, expected};
use crate::support::deployment::{Client, Deployment, SERVER_KEY, secret, start_keyed, token, tuning};

pub const SECOND_SERVER_KEY: &str = "the server key that replaces the first one";

/// ann's session and bob's.
/// As random ones look (version 4).
const SESSIONS: [Uuid; 2] =
    [Uuid::from_u128((4 << 76) | (1 << 63) | 1), Uuid::from_u128((4 << 76) | (1 << 63) | 2)];
const USERS: [&str; 2] = ["ann", "bob"];

/// Everything that a call may change. But for the row of a room at version 0, in which nobody ever was: a join locks it
/// before it is refused, nothing shows it, and the trim forgets it.
const DIGEST: &str = "select md5(concat_ws('|', \
    (select string_agg(t::text, ',' order by t.user_id) from headcount.users t), \
    (select string_agg(t::text, ',' order by t.session_id) from headcount.presence t), \
    (select string_agg(t::text, ',' order by t.room_id, t.user_id, t.session_id) from headcount.memberships t), \
    (select string_agg(t::text, ',' order by t.room_id) from headcount.rooms t where t.version > 0), \
    (select string_agg(t::text, ',' order by t.room_id, t.version) from headcount.events t), \
    (select string_agg(t::text, ',' order by t.pattern) from headcount.room_settings t), \
    (select string_agg(t::text, ',' order by t.session_id, t.room_id) from headcount.departures t), \
    (select string_agg(t::text, ',' order by t.user_id) from headcount.revocations t), \
    (select string_agg(t::text, ',' order by t.name) from headcount.webhooks t), \
    (select string_agg(t::text, ',' order by t.name) from headcount.webhook_secrets t)))";

/// Signs what a webhook is told.
pub const WEBHOOK_SECRET: &str = "whsec_VGhpcyBzZWNyZXQgc2lnbnMgd2ViaG9va3M=";

/// Everybody, at one replica.
pub struct Callers {
    pub http: reqwest::Client,
    pub base: String,
    pub ticket: String,
}

impl Callers {
    /// The ticket is got with the server key.
    pub async fn at(server: &Client) -> Self {
        let answer = server.post("/v1/tickets", &json!({"rooms": ["here"]})).await.ok();
        let ticket = answer["ticket"].as_str().unwrap().to_owned();
        Self { http: server.http.clone(), base: server.base.clone(), ticket }
    }

    pub fn credential(&self, name: &str, who: Who) -> String {
        match who {
            Who::Nobody => String::new(),
            Who::Server if name.starts_with("second") => SECOND_SERVER_KEY.to_owned(),
            Who::Server => SERVER_KEY.to_owned(),
            Who::Ticket => self.ticket.clone(),
            Who::TokenInAddress => token("ann", Rights::everywhere()),
            Who::User(can, within) => token("ann", rights(can, within)),
            Who::Refused("expired_token") => minted(crate::support::deployment::JWT_SECRET, 1_000_000),
            Who::Refused(_) if name == "token of another secret" => minted("another secret", 4_000_000_000),
            Who::Refused(_) => name.replace(' ', "."),
        }
    }

    /// The call that the caller makes.
    pub fn request(
        &self,
        operation: &Operation,
        caller: &(&str, Who),
        room: &str,
        own: bool,
    ) -> RequestBuilder {
        let (name, who) = *caller;
        let credential = self.credential(name, who);
        // Not one of the callers: whoever is revoked is refused at every call after.
        let target = if operation.path.ends_with("/revoke") { "cat" } else { USERS[usize::from(!own)] };
        let mut path =
            operation.path.replace("{room}", room).replace("{id}", target).replace("{pattern}", "here*");
        path = path.replace("{name}", "hook");
        if operation.path == "/v1/events" {
            path += &format!("?rooms={room}");
        }
        if operation.path == "/v1/users/events" {
            path += "?ids=ann,bob";
        }
        if operation.path == "/v1/admin/users" {
            path += "?search=a";
        }
        if operation.path.ends_with("/members") {
            path += &format!("?at={}", Shown(OffsetDateTime::now_utc()));
        }
        let in_address = operation.is_stream() && matches!(who, Who::Ticket | Who::TokenInAddress);
        if in_address {
            path += if path.contains('?') { "&" } else { "?" };
            path += &format!("ticket={credential}");
        }
        let method = operation.method.parse().unwrap();
        let request = self.http.request(method, format!("{}{path}", self.base));
        let shown = !in_address && !matches!(who, Who::Nobody | Who::TokenInAddress);
        let mut body = body(operation, who, room, own);
        if operation.beacon {
            if shown {
                body["token"] = json!(credential);
            }
            return request.header("content-type", "text/plain").body(body.to_string());
        }
        let request = match name {
            _ if shown => request.bearer_auth(credential),
            "another scheme" => request.basic_auth("ann", Some("secret")),
            _ => request,
        };
        if body.is_null() { request } else { request.json(&body) }
    }
}

struct Table {
    deployment: Deployment,
    server: Client,
    callers: Callers,
    /// Of the tables as they are.
    digest: String,
    /// Rooms that nobody ever joined have ever new names.
    rooms: usize,
}

impl Table {
    async fn start() -> Self {
        let mut tuning = tuning();
        (tuning.lease, tuning.hidden_lease) = (tuning.retention / 24, tuning.retention / 24); // an hour: none ends
        (tuning.limits.writes_per_user, tuning.limits.writes_per_session) = (0, 0);
        (tuning.limits.heartbeats_per_user, tuning.limits.heartbeats_per_session) = (0, 0);
        (tuning.limits.events_per_user, tuning.limits.reads_per_user) = (0, 0);
        let server_keys = [SERVER_KEY.to_owned().into(), SECOND_SERVER_KEY.to_owned().into()];
        let keys = Keys::new(&server_keys, secret().into(), Rights::default());
        let deployment = start_keyed(tuning, keys).await;
        let server = deployment.server();
        let callers = Callers::at(&server).await;
        let mut table = Self { deployment, server, callers, digest: String::new(), rooms: 0 };
        table.restore().await;
        table
    }

    /// ann and bob are in both rooms, with the names they had.
    async fn restore(&mut self) {
        for (user, session) in USERS.into_iter().zip(SESSIONS) {
            let profile = json!({"name": user});
            self.server.send(Method::PUT, &format!("/v1/users/{user}"), &profile).await.ok();
            for room in ["here", "there"] {
                let join = json!({"session": session, "user": user, "status": "online"});
                self.server.post(&format!("/v1/rooms/{room}/join"), &join).await.ok();
            }
        }
        let settings = json!({"coalesce_ms": 50});
        self.server.send(Method::PUT, "/v1/settings/rooms/here*", &settings).await.ok();
        self.server.send(Method::PUT, "/v1/webhooks/hook", &webhook()).await.ok();
        // What a task would remove from the log at some later time.
        self.deployment.until("select not headcount.erase_step(100000, '0')").await;
        self.digest = self.digest().await;
    }

    async fn digest(&self) -> String {
        let mut connection = self.deployment.database.connect().await;
        sqlx::query_scalar(DIGEST).fetch_one(&mut connection).await.unwrap()
    }

    async fn case(&mut self, operation: &Operation, caller: &(&str, Who), place: Place, own: bool) {
        let room = match place {
            Place::Here => "here".to_owned(),
            Place::There => "there".to_owned(),
            Place::Nowhere => format!("nowhere{}", self.rooms),
        };
        self.rooms += 1;
        let what = format!("{} {} {caller:?} {place:?} own: {own}", operation.method, operation.path);
        let response = self.callers.request(operation, caller, &room, own).send().await.unwrap();
        let status = response.status();
        let challenged = response.headers().contains_key("www-authenticate");
        if status.is_success() && operation.is_stream() {
            return assert_eq!(expected(operation, caller.1, place, own), Ok(()), "{what}");
        }
        let text = response.text().await.unwrap();
        let body: Value = serde_json::from_str(&text).unwrap_or_default();
        let body = match operation.is_of_many_rooms() && status.is_success() {
            true => &body["rooms"][0]["problem"],
            false => &body,
        };
        match expected(operation, caller.1, place, own) {
            Ok(()) => {
                assert!(status.is_success() && body.get("code").is_none(), "{what}: {status} {text}");
                self.answered(operation, caller.1, own, &text, &what).await;
            }
            Err((refusal, code)) => {
                let told = (body["status"].as_u64(), body["code"].as_str());
                assert_eq!(told, (Some(refusal.into()), Some(code)), "{what}: {body}");
                assert_eq!(challenged, refusal == 401, "{what}");
                // Nothing in it tells an unknown room from a forbidden one.
                assert!(refusal != 404 || body.get("detail").is_none(), "{what}: {body}");
                assert_eq!(self.digest().await, self.digest, "{what}: refused, and something changed");
            }
        }
    }

    /// What a success must say, and what it may have changed.
    async fn answered(&mut self, operation: &Operation, who: Who, own: bool, text: &str, what: &str) {
        let answer: Value = serde_json::from_str(text).unwrap_or_default();
        if operation.path == "/v1/heartbeats" {
            let lives = own || who == Who::Server;
            assert_eq!(answer["sessions"][0]["state"], if lives { "alive" } else { "gone" }, "{what}");
            assert!(lives || self.digest().await == self.digest, "{what}: another's session was renewed");
        }
        if operation.path == "/v1/rooms" {
            let listed: Vec<&str> =
                answer["rooms"].as_array().unwrap().iter().filter_map(|room| room["room"].as_str()).collect();
            let allowed: &[&str] = match who {
                Who::User(_, Within::Here) => &["here"],
                Who::User(_, Within::Elsewhere) => &[],
                _ => &["here", "there"],
            };
            let known: Vec<&str> = listed.into_iter().filter(|room| !room.starts_with("nowhere")).collect();
            assert_eq!(known, allowed, "{what}");
        }
        if operation.changes() {
            self.restore().await;
        } else {
            assert_eq!(self.digest().await, self.digest, "{what}: read, and something changed");
        }
    }
}

fn rights(can: &[Right], within: Within) -> Rights {
    let room = match within {
        Within::Here => "here",
        Within::Elsewhere => "elsewhere",
        Within::Everywhere => "*",
    };
    match can {
        [] => Rights::default(),
        [Right::Watch, Right::Join] => Rights(Some(vec![Grant::WatchAndJoin(room.into())])),
        _ => Rights(Some(vec![Grant::Some { room: room.into(), can: can.to_vec() }])),
    }
}

fn minted(secret: &str, exp: u64) -> String {
    let sub = UserId::parse("ann").unwrap();
    let claims = Claims { rooms: Rights::everywhere(), ..Claims::new(sub, exp) };
    TokenKey::new(secret.to_owned().into()).mint(&claims)
}

/// One that is told nothing, and that nobody receives.
fn webhook() -> Value {
    json!({"url": "http://127.0.0.1:1/", "enabled": false, "secrets": [WEBHOOK_SECRET]})
}

/// A body that is right but for whose it is. Under a server key, a user goes with their session: naming another is
/// the forgery.
fn body(operation: &Operation, who: Who, room: &str, own: bool) -> Value {
    let (session, target) = (SESSIONS[usize::from(!own)], USERS[usize::from(!own)]);
    let profile = json!({"name": format!("{target}, changed")});
    match (operation.method, operation.path) {
        (_, "/v1/heartbeats") => json!({"session": session, "active": true}),
        (_, "/v1/tickets") => json!({"rooms": [room]}),
        (_, "/v1/rooms/{room}/kick") => json!({"user": "bob"}),
        (_, "/v1/users/presence") => json!({"ids": [target]}),
        ("PUT", "/v1/settings/rooms/{pattern}") => json!({"coalesce_ms": 60}),
        ("PUT", "/v1/webhooks/{name}") => webhook(),
        ("PUT", "/v1/users") => json!([{"id": target, "name": profile["name"]}]),
        ("PUT", _) => profile,
        _ if operation.about == About::Session => {
            let mut body = json!({"session": session});
            if who == Who::Server && !operation.beacon {
                body["user"] = json!("ann");
            }
            if operation.method == "PATCH" {
                body["status"] = json!("dnd");
            }
            if operation.is_of_many_rooms() {
                body["rooms"] = json!([room]);
            }
            body
        }
        _ => Value::Null,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_caller_at_every_call_gets_what_the_rule_says_and_refusals_change_nothing() {
    let mut table = Table::start().await;
    let mut cases = 0;
    for operation in OPERATIONS {
        let places: &[Place] = match operation.has_room() {
            true => &[Place::Here, Place::There, Place::Nowhere],
            false => &[Place::Here],
        };
        let owners: &[bool] = if operation.about == About::Nobody { &[true] } else { &[true, false] };
        for caller in CALLERS {
            for place in places {
                for own in owners {
                    table.case(operation, caller, *place, *own).await;
                    cases += 1;
                }
            }
        }
    }
    assert!(cases > 900, "{cases} cases");
}

#[test]
fn the_rule_knows_every_call_of_the_document() {
    let document: Value = serde_json::from_str(include_str!("../../../../openapi/headcount.json")).unwrap();
    let calls = document["paths"].as_object().unwrap().iter().flat_map(|(path, methods)| {
        methods.as_object().unwrap().keys().map(move |method| (method.to_uppercase(), path.clone()))
    });
    let known = OPERATIONS.iter().map(|operation| (operation.method.to_owned(), operation.path.to_owned()));
    assert_eq!(known.collect::<BTreeSet<_>>(), calls.collect::<BTreeSet<_>>());
    for operation in OPERATIONS {
        let security = &document["paths"][operation.path][operation.method.to_lowercase()]["security"];
        let accepts = |scheme: &str| security.as_array().unwrap().iter().any(|one| one.get(scheme).is_some());
        let (token, ticket) =
            (!matches!(operation.need, Need::Nothing | Need::Server), operation.is_stream());
        assert_eq!((accepts("token"), accepts("ticket")), (token, ticket), "{}", operation.path);
        assert_eq!(accepts("server_key"), operation.need != Need::Nothing, "{}", operation.path);
    }
}

/// With `HEADCOUNT_WRITE_DOCS=1` it is written.
#[test]
fn the_page_about_rights_is_what_the_rule_says() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/rights.md");
    if std::env::var_os("HEADCOUNT_WRITE_DOCS").is_some() {
        std::fs::write(path, rule::page()).unwrap();
    }
    let written = std::fs::read_to_string(path).unwrap_or_default();
    assert!(written == rule::page(), "docs/rights.md is not what the rule says: run make rights");
}
