//! `GET /v1/rooms/{room}/events` and `GET /v1/events`

use std::rc::Rc;

use actix_web::{HttpRequest, HttpResponse, get, web};
use futures_util::future::try_join_all;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::stream::{Ends, EventStream, head};
use crate::auth::Right;
use crate::domain::cursor::{Cursor, Epoch, parse_joined};
use crate::domain::id::RoomId;
use crate::http::request::caller::Caller;
use crate::http::request::problem::{Code, Problem};
use crate::http::request::responses::problems;
use crate::http::service::Service;
use crate::hub::Fan;
use crate::hub::frame::{ByeFrame, CountFrame, DiffFrame, Mode, PresenceFrame, SnapshotFrame, SyncFrame};

/// Rooms on one stream, at most.
pub(super) const ROOMS_MAX: usize = 32;

/// How to watch a room.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct WatchQuery {
    /// `diff`, the default: a snapshot, then changes. `list`: the whole list at each change. `count`: the
    /// count only.
    #[serde(default)]
    #[param(inline)]
    mode: Mode,
    /// Resume after this `id`, as `Last-Event-ID` does; the header takes precedence.
    last_event_id: Option<String>,
    /// Instead of the `Authorization` header, for `EventSource`: see `POST /v1/tickets`.
    ticket: Option<String>,
}

/// How to watch many rooms.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct WatchManyQuery {
    /// 1 to 32 rooms, separated by commas.
    #[param(example = "lobby,team:1")]
    rooms: String,
    /// `diff`, the default: a snapshot, then changes. `list`: the whole list at each change. `count`: the
    /// count only.
    #[serde(default)]
    #[param(inline)]
    mode: Mode,
    /// Resume after this `id`, as `Last-Event-ID` does; the header takes precedence.
    last_event_id: Option<String>,
    /// Instead of the `Authorization` header, for `EventSource`: see `POST /v1/tickets`.
    ticket: Option<String>,
}

/// A frame of an event stream: the `data:` of the event that has its name.
#[derive(Serialize, ToSchema)]
#[schema(as = Frame)]
#[serde(untagged)]
#[expect(dead_code, reason = "documents what streams carry; frames are encoded one by one")]
pub enum StreamFrame<'a> {
    /// `event: snapshot`
    Snapshot(SnapshotFrame<'a>),
    /// `event: diff`
    Diff(DiffFrame<'a>),
    /// `event: presence`
    Presence(PresenceFrame<'a>),
    /// `event: count`
    Count(CountFrame<'a>),
    /// `event: sync`
    Sync(SyncFrame),
    /// `event: bye`
    Bye(ByeFrame),
}

problems!(WatchProblems: InvalidQuery InvalidRoom TokenInUrl MissingToken InvalidToken ExpiredToken RoomNotFound
    TooManyReads TooManyStreams ReplicaFull Unavailable Draining);

/// Watch a room
///
/// Server-Sent Events; every frame is one line of JSON. First a `snapshot`. With `Last-Event-ID` a replay
/// instead: a `diff` of exactly what was missed, if the log still has it. Then a `diff` for changes,
/// coalesced: at most one per 20 ms, 250 ms in rooms of over 100 members, 1 s in rooms of over 1000. With
/// `mode=list`, `presence` with the whole list each time; with `mode=count`, `count`. Every 15 s `sync`:
/// everything up to its cursor has been sent. A client that receives nothing for 40 s reopens the stream.
/// Before the end, `bye` with its reason. The schemas are `SnapshotFrame`, `DiffFrame`, `PresenceFrame`,
/// `CountFrame`, `SyncFrame`, `ByeFrame`. Right: `watch` in the room.
#[utoipa::path(
    tag = "streams",
    params(("room" = inline(RoomId), Path, description = "The room.", example = "lobby"), WatchQuery,
        ("Last-Event-ID" = Option<String>, Header, description = "Resume after this `id`.", example = "1f0c2a910.42")),
    responses(
        (status = 200, description = "The stream.", content_type = "text/event-stream", body = StreamFrame),
        WatchProblems
    ),
    security(("token" = []), ("server_key" = []), ("ticket" = []))
)]
#[get("/v1/rooms/{room}/events")]
pub async fn room_events(
    service: web::Data<Service>,
    fan: web::Data<Rc<Fan>>,
    request: HttpRequest,
    room: web::Path<String>,
    query: web::Query<WatchQuery>,
) -> Result<HttpResponse, Problem> {
    let WatchQuery { mode, last_event_id, ticket } = query.into_inner();
    let caller = Caller::watching(&service, &request, ticket.as_deref()).await?;
    open(&service, &fan, &request, &caller, vec![RoomId::parse(&room)?], mode, last_event_id).await
}

/// Watch many rooms
///
/// As for one room, on one connection. The frames carry their room; the `id` is the cursors of all rooms, joined by
/// commas in the order of the room keys, so that it resumes all of them when the same rooms are asked for again. Right: `watch`
/// in each room.
#[utoipa::path(
    tag = "streams",
    params(WatchManyQuery,
        ("Last-Event-ID" = Option<String>, Header, description = "Resume after this `id`.", example = "1f0c2a910.42,1f0c2a910.7")),
    responses(
        (status = 200, description = "The stream.", content_type = "text/event-stream", body = StreamFrame),
        WatchProblems
    ),
    security(("token" = []), ("server_key" = []), ("ticket" = []))
)]
#[get("/v1/events")]
pub async fn events(
    service: web::Data<Service>,
    fan: web::Data<Rc<Fan>>,
    request: HttpRequest,
    query: web::Query<WatchManyQuery>,
) -> Result<HttpResponse, Problem> {
    let WatchManyQuery { rooms, mode, last_event_id, ticket } = query.into_inner();
    let caller = Caller::watching(&service, &request, ticket.as_deref()).await?;
    let mut rooms: Vec<RoomId> = rooms.split(',').map(RoomId::parse).collect::<Result<_, _>>()?;
    let asked = rooms.len();
    rooms.sort_unstable();
    rooms.dedup();
    if rooms.len() != asked || asked > ROOMS_MAX {
        return Err(Problem::with(Code::InvalidQuery, format!("rooms are 1 to {ROOMS_MAX} different ones")));
    }
    open(&service, &fan, &request, &caller, rooms, mode, last_event_id).await
}

async fn open(
    service: &Service,
    fan: &Rc<Fan>,
    request: &HttpRequest,
    caller: &Caller,
    rooms: Vec<RoomId>,
    mode: Mode,
    last_event_id: Option<String>,
) -> Result<HttpResponse, Problem> {
    for room in &rooms {
        caller.may(Right::Watch, room)?;
    }
    if service.draining() {
        return Err(Code::Draining.into());
    }
    service.limits.read(caller.subject(), rooms.len())?;
    let permit = service.limits.stream(request, caller.counted())?;
    let header = request.headers().get("last-event-id").and_then(|h| h.to_str().ok()).map(str::to_owned);
    let last = last_cursors(header.or(last_event_id), rooms.len());
    let watches = rooms.into_iter().zip(last).map(|(room, last)| fan.watch(room, mode, last));
    let watched = try_join_all(watches).await?;
    Ok(head().body(EventStream::new(fan.clone(), watched, Ends::of(service, caller), permit)))
}

/// The cursors to resume from, one per room. A malformed id becomes cursors of a foreign epoch, so the
/// watcher gets a snapshot with that reason: after an error status a browser's `EventSource` would never
/// retry.
fn last_cursors(text: Option<String>, rooms: usize) -> Vec<Option<Cursor>> {
    let Some(text) = text.filter(|text| !text.is_empty()) else {
        return vec![None; rooms];
    };
    let foreign = || Cursor { epoch: Epoch::foreign(), version: 0 };
    let cursors = parse_joined(&text, rooms).unwrap_or_else(|_| vec![foreign(); rooms]);
    cursors.into_iter().map(Some).collect()
}
