//! `GET /v1/rooms/{room}`

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use actix_web::http::header::{ETAG, IF_NONE_MATCH};
use actix_web::{HttpRequest, HttpResponse, get, web};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::auth::Right;
use crate::domain::id::RoomId;
use crate::domain::member::{Member, Viewer};
use crate::http::request::caller::Caller;
use crate::http::request::problem::{Code, Problem};
use crate::http::request::responses::problems;
use crate::http::service::Service;
use crate::hub::Remembered;
use crate::store::StoreError;
use crate::store::rosters::RosterSlice;

/// Members on a page, at most.
const PAGE_MAX: i64 = 1000;

/// Timeout of a read from the database; after it the cached roster of a watched room is served. A second,
/// less the way to the caller.
const READ_MAX: Duration = Duration::from_millis(900);

/// Which page.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PageQuery {
    /// Members on the page, 1 to 1000.
    #[param(minimum = 1, maximum = 1000, default = 100, example = 100)]
    limit: Option<i64>,
    /// Members after this user id: the `next` of the page before.
    #[param(pattern = r"^[^\u0000]*$")]
    after: Option<String>,
}

impl PageQuery {
    /// Limit and start, checked.
    pub(super) fn check(&self) -> Result<(i64, &str), Problem> {
        let limit = self.limit.unwrap_or(100);
        if !(1..=PAGE_MAX).contains(&limit) {
            return Err(Problem::with(Code::InvalidQuery, format!("limit is 1 to {PAGE_MAX}")));
        }
        let after = self.after.as_deref().unwrap_or_default();
        if after.contains('\0') {
            Err(Problem::with(Code::InvalidQuery, "after holds U+0000"))
        } else {
            Ok((limit, after))
        }
    }
}

/// A page of a roster.
#[derive(Serialize, ToSchema)]
pub struct RosterPage {
    /// The room.
    room: RoomId,
    /// Position at which this was read: a stream resumed from here continues it.
    #[schema(example = "1f0c2a910.42")]
    cursor: String,
    /// All members of the room.
    #[schema(example = 1)]
    count: i64,
    /// Members by id.
    members: Vec<Member>,
    /// Give this as `after` for the next page; null on the last.
    next: Option<String>,
    /// Whether the database is away, so that this roster is from a cache and may be out of date.
    stale: bool,
}

problems!(RosterProblems: InvalidRoom InvalidQuery MissingToken InvalidToken ExpiredToken RoomNotFound TooManyReads
    Overloaded Unavailable);

/// Get a room's roster
///
/// A room that nobody has joined yet is empty. A roster that is read after the answer to a join, leave or
/// update includes that change, on any replica, unless it is `stale`. Invisible members are listed and
/// counted for the server key, and each for itself, marked `invisible`. Right: `watch` in the room.
#[utoipa::path(
    tag = "presence",
    params(("room" = inline(RoomId), Path, description = "The room.", example = "lobby"), PageQuery,
        ("If-None-Match" = Option<String>, Header, description = "The ETag of an earlier answer.")),
    responses(
        (status = 200, description = "A page of the roster.", body = RosterPage,
            headers(("ETag" = String, description = "Changes with the roster."))),
        (status = 304, description = "As it was."),
        RosterProblems
    ),
    security(("token" = []), ("server_key" = []))
)]
#[get("/v1/rooms/{room}")]
pub async fn get_roster(
    service: web::Data<Service>,
    request: HttpRequest,
    caller: Caller,
    room: web::Path<String>,
    query: web::Query<PageQuery>,
) -> Result<HttpResponse, Problem> {
    let room = RoomId::parse(&room)?;
    caller.may(Right::Watch, &room)?;
    let (limit, after) = query.check()?;
    service.limits.read(caller.subject(), 0)?;
    let (page, unseen) = match page(&service, &room, after, limit, caller.viewer()).await {
        Ok(page) => {
            let unseen = page.unseen;
            service.limits.have_read(caller.subject(), page.members.len());
            (answer(room, page, limit), unseen)
        }
        Err(error) => (remembered(&service, room, after, limit).await.ok_or(error)?, 0),
    };
    let tag = tag(&page, unseen);
    if !page.stale
        && request.headers().get(IF_NONE_MATCH).is_some_and(|given| given.as_bytes() == tag.as_bytes())
    {
        return Ok(HttpResponse::NotModified().insert_header((ETAG, tag)).finish());
    }
    Ok(HttpResponse::Ok().insert_header((ETAG, tag)).json(page))
}

/// The ETag: the cursor, which changes with every event of the room; a further tab of a member is none. A
/// hash covers what only this caller sees.
fn tag(page: &RosterPage, unseen: i64) -> String {
    if unseen == 0 {
        return format!("W/\"{}\"", page.cursor);
    }
    let mut hasher = DefaultHasher::new();
    let members = serde_json::to_string(&page.members).expect("members are maps with string keys");
    (page.count, members).hash(&mut hasher);
    format!("W/\"{}.{:x}\"", page.cursor, hasher.finish())
}

async fn page(
    service: &Service,
    room: &RoomId,
    after: &str,
    limit: i64,
    viewer: Viewer,
) -> Result<RosterSlice, StoreError> {
    let (room, after) = (room.clone(), after.to_owned());
    let reading = service
        .store
        .read(move |store| async move { store.roster_page(&room, &after, limit, &viewer).await });
    tokio::time::timeout(READ_MAX, reading).await.unwrap_or(Err(StoreError::OutcomeUnknown))
}

fn answer(room: RoomId, page: RosterSlice, limit: i64) -> RosterPage {
    let full = i64::try_from(page.members.len()).is_ok_and(|n| n == limit);
    let next = page.members.last().filter(|_| full).map(|m| m.id.to_string());
    RosterPage {
        room,
        cursor: page.cursor.to_string(),
        count: page.count,
        members: page.members,
        next,
        stale: false,
    }
}

/// The cached roster of a watched room, for when the database is away. It has no invisible members.
async fn remembered(service: &Service, room: RoomId, after: &str, limit: i64) -> Option<RosterPage> {
    let Remembered { cursor, roster } = service.hub.remembered(room.clone()).await?;
    let limit_usize = usize::try_from(limit).ok()?;
    let members: Vec<Member> = roster.members_after(Some(after)).take(limit_usize).cloned().collect();
    let count = i64::try_from(roster.len()).ok()?;
    Some(RosterPage { stale: true, ..answer(room, RosterSlice { cursor, count, unseen: 0, members }, limit) })
}
