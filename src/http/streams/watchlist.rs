//! `GET /v1/users/events`: users, wherever they are, on one stream.
//!
//! Bounded: the queue holds the frames of one look at the list, at most one for each user, and a `sync`. A
//! slow watcher is sent only the newest state when it reads on.

use std::collections::VecDeque;
use std::time::Duration;

use actix_web::rt::time::{Instant, sleep_until};
use actix_web::{HttpRequest, HttpResponse, get, web};
use bytes::Bytes;
use futures_util::stream::unfold;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::stream::{Ends, bye_of, head, retry_line};
use crate::domain::id::UserId;
use crate::http::api::presence::{UserPresence, seen_by};
use crate::http::request::caller::Caller;
use crate::http::request::limits::StreamPermit;
use crate::http::request::problem::{Code, Problem};
use crate::http::request::responses::problems;
use crate::http::service::Service;
use crate::hub::frame::{ByeFrame, event};
use crate::hub::{Following, Places};
use crate::measure::meters;

/// Users on one stream, at most.
const IDS_MAX: usize = 100;

/// Between `sync` frames, as on every stream.
const SYNC_EVERY: Duration = Duration::from_secs(15);

/// The users to follow.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct WatchlistQuery {
    /// 1 to 100 users, separated by commas. One whose id holds a comma cannot be named here.
    #[param(example = "ann,bob")]
    ids: String,
    /// Instead of the `Authorization` header, for `EventSource`: see `POST /v1/tickets`.
    ticket: Option<String>,
}

/// `event: snapshot`, at the start: where everybody on the list is.
#[derive(Serialize, ToSchema)]
pub struct UsersSnapshotFrame {
    /// One for each id, in the order asked.
    users: Vec<UserPresence>,
}

/// `event: sync`, every 15 seconds.
#[derive(Serialize, ToSchema)]
pub struct UsersSyncFrame {
    /// Whether the last read of the database failed, so that the stream may be out of date.
    stale: bool,
}

/// A frame of a watchlist: the `data:` of the event that has its name.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "documents what the stream carries; frames are encoded one by one")]
pub enum WatchlistFrame {
    /// `event: snapshot`
    Snapshot(UsersSnapshotFrame),
    /// `event: online`, `event: offline`, `event: updated`
    User(UserPresence),
    /// `event: sync`
    Sync(UsersSyncFrame),
    /// `event: bye`
    Bye(ByeFrame),
}

problems!(WatchlistProblems: InvalidQuery InvalidUser TokenInUrl MissingToken InvalidToken ExpiredToken TooManyReads TooManyStreams
    ReplicaFull Unavailable Draining);

/// Follow users
///
/// Server-Sent Events; every frame is one line of JSON. First `snapshot`: where each of the users is. Then
/// `online` when a user joins their first room, `offline` when they have left the last, and `updated` when
/// their status or their rooms change. A further tab is no change. Every 15 s `sync`; a client that receives
/// nothing for 40 s reopens the stream. Before the end, `bye` with its reason. There is nothing to resume:
/// each stream begins with a snapshot. A user that was never seen is offline. An invisible user is offline to
/// everybody but themselves and the server key. Right: any token sees the rooms it may watch; the server key
/// sees all.
#[utoipa::path(
    tag = "streams",
    params(WatchlistQuery),
    responses(
        (status = 200, description = "The stream.", content_type = "text/event-stream", body = WatchlistFrame),
        WatchlistProblems
    ),
    security(("token" = []), ("server_key" = []), ("ticket" = []))
)]
#[get("/v1/users/events")]
pub async fn users_events(
    service: web::Data<Service>,
    request: HttpRequest,
    query: web::Query<WatchlistQuery>,
) -> Result<HttpResponse, Problem> {
    let WatchlistQuery { ids, ticket } = query.into_inner();
    let caller = Caller::watching(&service, &request, ticket.as_deref()).await?;
    let ids: Vec<UserId> = ids.split(',').map(UserId::parse).collect::<Result<_, _>>()?;
    let mut different: Vec<&UserId> = ids.iter().collect();
    different.sort_unstable();
    different.dedup();
    if different.len() != ids.len() || ids.len() > IDS_MAX {
        return Err(Problem::with(Code::InvalidQuery, format!("ids are 1 to {IDS_MAX} different ones")));
    }
    if service.draining() {
        return Err(Code::Draining.into());
    }
    service.limits.read(caller.subject(), ids.len())?;
    let permit = service.limits.stream(&request, caller.counted())?;
    let following = service.hub.follow(ids.clone()).await?;
    let ends = Ends::of(&service, &caller);
    let list = Watchlist::new(service, caller, ids, following, ends, permit);
    Ok(head().streaming(unfold(list, |mut list| async move {
        let bytes = list.next().await?;
        meters().frames_sent.increment(1);
        meters().stream_bytes.increment(bytes.len() as u64);
        Some((Ok::<_, actix_web::Error>(bytes), list))
    })))
}

struct Watchlist {
    service: web::Data<Service>,
    caller: Caller,
    ids: Vec<UserId>,
    following: Following,
    /// The state that was sent last, of each user.
    sent: Vec<UserPresence>,
    ready: VecDeque<Bytes>,
    sync_at: Instant,
    ends: Ends,
    ended: bool,
    _permit: StreamPermit,
}

impl Watchlist {
    fn new(
        service: web::Data<Service>,
        caller: Caller,
        ids: Vec<UserId>,
        mut following: Following,
        ends: Ends,
        permit: StreamPermit,
    ) -> Self {
        // They have all been looked up: the first news are of all of them, in their order.
        let first = following.news();
        let sent: Vec<_> =
            first.iter().map(|(n, places)| seen_by(&caller, &ids[*n], places.iter())).collect();
        let snapshot = UsersSnapshotFrame { users: sent.clone() };
        let ready = VecDeque::from([retry_line(), event("snapshot", &snapshot)]);
        let sync_at = Instant::now() + SYNC_EVERY;
        meters().watchlists.increment(1.0);
        meters().streams.increment(1);
        Self { service, caller, ids, following, sent, ready, sync_at, ends, ended: false, _permit: permit }
    }

    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(bytes) = self.ready.pop_front() {
                return Some(bytes);
            }
            if self.ended {
                return None;
            }
            if let Some(reason) = self.ends.reached(self.following.draining()) {
                self.ended = true;
                return Some(bye_of(reason));
            }
            for (index, places) in self.following.news() {
                self.tell(index, &places);
            }
            if self.sync_at <= Instant::now() {
                self.sync_at = Instant::now() + SYNC_EVERY;
                let stale = self.service.hub.follow_stale();
                self.ready.push_back(event("sync", &UsersSyncFrame { stale }));
            }
            if self.ready.is_empty() {
                let due = self.sync_at.min(self.ends.at());
                tokio::select! {
                    () = self.following.woken() => {}
                    () = sleep_until(due) => {}
                }
            }
        }
    }

    /// Queues one frame, if the caller may see the change.
    fn tell(&mut self, index: usize, places: &Places) {
        let mut now = seen_by(&self.caller, &self.ids[index], places.iter());
        let before = &self.sent[index];
        now.still_seen(before);
        let name = match (before.online, now.online) {
            (false, true) => "online",
            (true, false) => "offline",
            _ if before.status != now.status || before.rooms != now.rooms => "updated",
            _ => return,
        };
        self.ready.push_back(event(name, &now));
        self.sent[index] = now;
    }
}

impl Drop for Watchlist {
    fn drop(&mut self) {
        meters().watchlists.decrement(1.0);
    }
}
