//! `POST /v1/heartbeats`

use std::collections::HashMap;

use actix_web::{post, web};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::join::{millis, spread};
use crate::auth::Right;
use crate::commands::CommandError;
use crate::commands::many_rooms::LeaveRooms;
use crate::domain::id::{SessionId, UserId};
use crate::domain::lease::{Advice, Pace};
use crate::http::request::body::{self, Body};
use crate::http::request::caller::Caller;
use crate::http::request::problem::{Code, Problem};
use crate::http::request::responses::problems;
use crate::http::service::Service;
use crate::store::commands::Leased;
use crate::store::heartbeats::Heartbeat;

/// Heartbeats in one request, at most.
const BEATS_MAX: usize = 100;

/// "This session still lives."
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Beat {
    /// The session.
    #[schema(value_type = uuid::Uuid, example = "3f2b8c1e-52a4-4a57-9d6b-0f4f3a1c9e77")]
    session: SessionId,
    /// Whether the page is visible; unchanged if not given.
    #[schema(example = true)]
    visible: Option<bool>,
    /// Whether the user did something since the last heartbeat. After five minutes (by default) without it,
    /// an `online` session is `idle`.
    #[schema(example = true)]
    #[serde(default)]
    active: bool,
    /// Increases with each new call of the session. A call with a lower number than the newest seen is a
    /// no-op.
    #[schema(example = 4)]
    #[serde(default, deserialize_with = "crate::http::request::body::integer")]
    seq: Option<i64>,
}

/// One heartbeat, or up to 100 of them.
#[derive(Deserialize, ToSchema)]
#[expect(dead_code, reason = "documents the two forms; the body is read by its first character")]
#[serde(untagged)]
pub enum Beats {
    /// One.
    One(Beat),
    /// Up to 100.
    Many(Vec<Beat>),
}

/// Whether a session lives.
#[derive(Serialize, ToSchema, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Life {
    /// Its lease was renewed.
    Alive,
    /// It left, it was swept, or it is not yours: join again.
    Gone,
}

/// The answer for one session.
#[derive(Serialize, ToSchema)]
pub struct BeatAnswer {
    /// The session.
    #[schema(value_type = uuid::Uuid, example = "3f2b8c1e-52a4-4a57-9d6b-0f4f3a1c9e77")]
    session: SessionId,
    /// Whether it lives.
    state: Life,
    /// Of a session that is gone: rooms that it was kicked out of. Join the others again, and these only if
    /// the user wants that. Absent if there are none.
    #[schema(example = json!([]), required = false)]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    kicked: Vec<String>,
    /// Rooms that the session was in and that the token does not allow (any more): it has left them. Absent if there are
    /// none.
    #[schema(example = json!([]), required = false)]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    not_allowed: Vec<String>,
}

/// The answer to heartbeats.
#[derive(Serialize, ToSchema)]
pub struct BeatAnswers {
    /// In the order of the request.
    sessions: Vec<BeatAnswer>,
    /// Send the next heartbeat after this many milliseconds: the shortest interval of any of the sessions.
    #[schema(example = 15000)]
    heartbeat_ms: u64,
    /// Without a heartbeat, a session ends after this many milliseconds: the shortest lease of any of the
    /// sessions.
    #[schema(example = 45000)]
    lease_ms: u64,
}

problems!(BeatProblems: InvalidJson InvalidBody MissingToken InvalidToken ExpiredToken BodyTimeout BodyTooLarge
    UnsupportedType TooManyHeartbeats TooManySessionHeartbeats Overloaded Unavailable OutcomeUnknown);

/// Send heartbeats
///
/// One heartbeat renews the lease of a session in all its rooms. It never creates a session: after a leave,
/// or if it came too late, the answer is `gone`. A room that the token does not allow any more is left, and named in
/// `not_allowed`. The client then joins its rooms again, but not those that it
/// was kicked out of. Right: own sessions, or any under the server key.
#[utoipa::path(
    tag = "presence",
    request_body = Beats,
    responses((status = 200, description = "Committed.", body = BeatAnswers), BeatProblems),
    security(("token" = []), ("server_key" = []))
)]
#[post("/v1/heartbeats")]
pub async fn heartbeats(
    service: web::Data<Service>,
    caller: Caller,
    Body(body): Body<Box<RawValue>, { body::BODY_MAX }, true>,
) -> Result<web::Json<BeatAnswers>, Problem> {
    let beats = one_or_many(&body)?;
    service.limits.heartbeats(caller.subject(), beats.len())?;
    let sessions: Vec<SessionId> = beats.iter().map(|beat| beat.session).collect();
    service.limits.session_heartbeats(caller.subject(), &sessions)?;
    let user = caller.subject().cloned();
    let beats = beats.into_iter().map(|beat| Heartbeat {
        session: beat.session,
        user: user.clone(),
        visible: beat.visible,
        active: beat.active,
        seq: beat.seq,
    });
    let found = service.commands.heartbeat(beats.collect()).await?;
    let advice = advise(service.commands.pace(), &found);
    let life = |found: Option<Leased>| {
        if found.is_some() { Life::Alive } else { Life::Gone }
    };
    let mut lost = end_lost_rooms(&service, &caller, &sessions, &found).await;
    let mut kicked = kicked(&service, &caller, &sessions, &found).await;
    let answers = sessions.into_iter().zip(found).map(|(session, found)| BeatAnswer {
        session,
        state: life(found),
        kicked: kicked.remove(&session).unwrap_or_default(),
        not_allowed: lost.remove(&session).unwrap_or_default(),
    });
    Ok(web::Json(BeatAnswers {
        sessions: answers.collect(),
        heartbeat_ms: millis(advice.heartbeat),
        lease_ms: millis(advice.lease),
    }))
}

/// The shortest heartbeat interval and lease of these sessions. One that is gone counts as a new visible
/// session, because it will join again.
fn advise(pace: &Pace, found: &[Option<Leased>]) -> Advice {
    let spread = spread();
    let of = |found: &Option<Leased>| match found {
        Some(session) => pace.advise(session.visible, Some(session.lease), spread),
        None => pace.advise(true, None, spread),
    };
    let advices = || found.iter().map(of);
    let usual = pace.advise(true, None, spread);
    Advice {
        heartbeat: advices().map(|advice| advice.heartbeat).min().unwrap_or(usual.heartbeat),
        lease: advices().map(|advice| advice.lease).min().unwrap_or(usual.lease),
    }
}

/// Ends the sessions' memberships in rooms that the token does not allow any more, and names those rooms. What cannot be
/// read or ended now is left to the next heartbeat.
async fn end_lost_rooms(
    service: &Service,
    caller: &Caller,
    sessions: &[SessionId],
    found: &[Option<Leased>],
) -> HashMap<SessionId, Vec<String>> {
    let mut lost = HashMap::new();
    let Some(claims) = caller.claims() else { return lost };
    let alive = sessions.iter().zip(found).filter(|(_, found)| found.is_some());
    for session in alive.map(|(session, _)| *session) {
        if service.checked.is_checked(session, claims) {
            continue;
        }
        if let Ok(rooms) = leave_lost_rooms(service, caller, &claims.sub, session).await {
            service.checked.keep(session, claims);
            if !rooms.is_empty() {
                lost.insert(session, rooms);
            }
        }
    }
    lost
}

async fn leave_lost_rooms(
    service: &Service,
    caller: &Caller,
    user: &UserId,
    session: SessionId,
) -> Result<Vec<String>, CommandError> {
    let mut rooms = service.commands.rooms_of_session(session, user.clone()).await?;
    rooms.retain(|room| caller.may(Right::Join, room).is_err());
    let names = rooms.iter().map(ToString::to_string).collect();
    let leave = LeaveRooms { rooms: Some(rooms), user: user.clone(), session, seq: None, grace: false };
    for (_, result) in service.commands.leave_rooms(leave).await? {
        result?;
    }
    Ok(names)
}

/// The rooms out of which the sessions that are gone were kicked. If they cannot be read, none is listed, and
/// clients join those rooms again too.
async fn kicked(
    service: &Service,
    caller: &Caller,
    sessions: &[SessionId],
    found: &[Option<Leased>],
) -> HashMap<SessionId, Vec<String>> {
    let gone = |(session, found): (&SessionId, &Option<Leased>)| found.is_none().then_some(*session);
    let gone: Vec<SessionId> = sessions.iter().zip(found).filter_map(gone).collect();
    let mut rooms = HashMap::<SessionId, Vec<String>>::new();
    if gone.is_empty() {
        return rooms;
    }
    let user = caller.subject().cloned();
    let read =
        service.store.detached(move |store| async move { store.kicked(&gone, user.as_ref()).await }).await;
    for (session, room) in read.unwrap_or_default() {
        rooms.entry(SessionId(session)).or_default().push(room);
    }
    rooms
}

fn one_or_many(body: &RawValue) -> Result<Vec<Beat>, Problem> {
    let text = body.get();
    if !text.starts_with('[') {
        return Ok(vec![body::parse(text.as_bytes())?]);
    }
    let beats: Vec<Box<RawValue>> = body::parse_list(text.as_bytes())?;
    if beats.len() > BEATS_MAX {
        return Err(Problem::with(Code::InvalidBody, format!("at most {BEATS_MAX} heartbeats")));
    }
    beats.iter().map(|beat| body::parse(beat.get().as_bytes())).collect()
}
