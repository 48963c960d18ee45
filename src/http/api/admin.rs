//! `GET /v1/admin/overview` and `GET /v1/admin/users`: the data of the operators' page.

use actix_web::{get, web};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::{IntoParams, ToSchema};

use super::presence::{UserPresence, find};
use super::rooms::OccupiedRoom;
use crate::domain::id::UserId;
use crate::http::request::audience::Audience;
use crate::http::request::caller::Caller;
use crate::http::request::problem::{Code, Problem};
use crate::http::request::responses::problems;
use crate::http::service::Service;

/// Seconds of the log in one answer, at most: a busy log has tens of thousands of events in each.
const SECONDS_MAX: i32 = 120;

/// Rooms in one answer, at most.
const ROOMS_MAX: i64 = 100;

/// Users that a search gives, at most.
const FOUND_MAX: i64 = 20;

/// Rooms of each of them, at most: 20 users are then never in too many for one answer.
const FOUND_ROOMS_MAX: usize = 200;

/// The size of the overview.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct OverviewQuery {
    /// Whole seconds of the event log, 1 to 120.
    #[param(minimum = 1, maximum = 120, default = 60, example = 60)]
    seconds: Option<i32>,
    /// The fullest rooms, 1 to 100.
    #[param(minimum = 1, maximum = 100, default = 20, example = 20)]
    rooms: Option<i64>,
}

/// An overview of the deployment.
#[derive(Serialize, ToSchema)]
pub struct Overview {
    /// The database's clock.
    #[serde(serialize_with = "crate::domain::timestamp::serialize")]
    #[schema(value_type = String, format = DateTime)]
    now: OffsetDateTime,
    /// Occupied rooms.
    #[schema(example = 12)]
    rooms: i64,
    /// Members of all rooms; a user in two rooms counts twice.
    #[schema(example = 40)]
    members: i64,
    /// Live sessions.
    #[schema(example = 44)]
    sessions: i64,
    /// The fullest rooms, by count.
    fullest: Vec<OccupiedRoom>,
    /// Events of each whole second, oldest first.
    seconds: Vec<EventsOfSecond>,
    /// The sweep, whichever replica runs it.
    sweep: Sweep,
    /// The replicas that are connected to this database.
    replicas: Vec<ReplicaSeen>,
    /// The replica that answers.
    here: Here,
}

/// The number of events in a second.
#[derive(Serialize, ToSchema)]
pub struct EventsOfSecond {
    /// Its beginning.
    #[serde(serialize_with = "crate::domain::timestamp::serialize")]
    #[schema(value_type = String, format = DateTime)]
    at: OffsetDateTime,
    /// `joined`
    joined: i64,
    /// `updated`
    updated: i64,
    /// `left`
    left: i64,
}

/// The state of the sweep.
#[derive(Serialize, ToSchema)]
pub struct Sweep {
    /// Milliseconds since the last sweep.
    #[schema(example = 400)]
    age_ms: i64,
    /// Whether departures are throttled after an outage.
    recovering: bool,
}

/// A replica, as the database sees it.
#[derive(Serialize, ToSchema)]
pub struct ReplicaSeen {
    /// Host name and port.
    #[schema(example = "web-1:8080")]
    name: String,
    /// Its connections, without the one that listens.
    #[schema(example = 4)]
    connections: i64,
    /// Whether it has a connection that listens. Without one it finds changes of others by a poll, within 2 s.
    listening: bool,
    /// Milliseconds since it last used any of its connections; each replica sweeps once a second.
    #[schema(example = 300)]
    quiet_ms: i64,
}

/// Facts that only the replica itself knows.
#[derive(Serialize, ToSchema)]
pub struct Here {
    /// Host name and port.
    #[schema(example = "web-1:8080")]
    name: String,
    /// Its open streams.
    #[schema(example = 30)]
    watchers: usize,
    /// Whether its rosters may be out of date, because it cannot reach the database.
    stale: bool,
}

/// The search.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct SearchQuery {
    /// A part of an id or a name, in any case; 1 to 128 characters.
    #[param(min_length = 1, max_length = 128, example = "ann")]
    search: String,
}

/// A user that was found, and where they are.
#[derive(Serialize, ToSchema)]
pub struct FoundUser {
    /// Display name.
    #[schema(example = "Ann")]
    name: String,
    #[serde(flatten)]
    presence: UserPresence,
}

/// Up to 20 users, by id. A user with exactly the id that was searched for comes first.
#[derive(Serialize, ToSchema)]
pub struct FoundUsers {
    /// The users.
    users: Vec<FoundUser>,
}

problems!(OverviewProblems: InvalidQuery MissingToken InvalidToken ExpiredToken ServerOnly NotFound Overloaded
    Unavailable);

/// Get an overview
///
/// Totals, the fullest rooms, events per second, replicas and the sweep, as the operators' page shows them.
/// Each call counts every room and session, so poll it every few seconds at most. Where operators have a
/// listener of their own, ask there. Right: server key.
#[utoipa::path(
    tag = "operators",
    params(OverviewQuery),
    responses((status = 200, description = "The overview.", body = Overview), OverviewProblems),
    security(("server_key" = []))
)]
#[get("/v1/admin/overview")]
pub async fn overview(
    service: web::Data<Service>,
    audience: web::Data<Audience>,
    caller: Caller,
    query: web::Query<OverviewQuery>,
) -> Result<web::Json<Overview>, Problem> {
    audience.must_be_operators()?;
    caller.must_be_server()?;
    let (seconds, rooms) = (query.seconds.unwrap_or(60), query.rooms.unwrap_or(20));
    if !(1..=SECONDS_MAX).contains(&seconds) || !(1..=ROOMS_MAX).contains(&rooms) {
        let limits = format!("seconds is 1 to {SECONDS_MAX}, rooms 1 to {ROOMS_MAX}");
        return Err(Problem::with(Code::InvalidQuery, limits));
    }
    let (totals, crowds, log, peers) = service
        .store
        .read(move |store| async move {
            Ok((
                store.totals().await?,
                store.largest_rooms(rooms).await?,
                store.seconds(seconds).await?,
                store.peers().await?,
            ))
        })
        .await?;
    let since = |then: OffsetDateTime| {
        i64::try_from((totals.now - then).whole_milliseconds()).unwrap_or(i64::MAX).max(0)
    };
    Ok(web::Json(Overview {
        now: totals.now,
        rooms: totals.rooms,
        members: totals.members,
        sessions: totals.sessions,
        fullest: crowds.into_iter().map(|c| OccupiedRoom::new(c.room_id, c.member_count)).collect(),
        seconds: log
            .into_iter()
            .map(|s| EventsOfSecond { at: s.at, joined: s.joined, updated: s.updated, left: s.gone })
            .collect(),
        sweep: Sweep { age_ms: since(totals.last_sweep_at), recovering: totals.recovering },
        replicas: peers
            .into_iter()
            .map(|p| ReplicaSeen {
                name: p.name,
                connections: p.connections,
                listening: p.listening,
                quiet_ms: since(p.heard_at),
            })
            .collect(),
        here: Here {
            name: service.store.replica().to_owned(),
            watchers: service.hub.watchers(),
            stale: service.hub.stale(),
        },
    }))
}

/// Search users
///
/// Finds users by a part of their id or name, and tells where they are. It scans all profiles: it is for
/// people, not for programs. Where operators have a listener of their own, ask there. Right: server key.
#[utoipa::path(
    tag = "operators",
    params(SearchQuery),
    responses((status = 200, description = "The users that were found.", body = FoundUsers), OverviewProblems),
    security(("server_key" = []))
)]
#[get("/v1/admin/users")]
pub async fn search_users(
    service: web::Data<Service>,
    audience: web::Data<Audience>,
    caller: Caller,
    query: web::Query<SearchQuery>,
) -> Result<web::Json<FoundUsers>, Problem> {
    audience.must_be_operators()?;
    caller.must_be_server()?;
    let text = query.into_inner().search;
    if UserId::parse(&text).is_err() {
        return Err(Problem::with(
            Code::InvalidQuery,
            "search is 1 to 128 characters without control characters",
        ));
    }
    let matches =
        service.store.read(move |store| async move { store.search_users(&text, FOUND_MAX).await }).await?;
    let ids = matches.iter().map(|found| UserId::parse(&found.user_id)).collect::<Result<Vec<_>, _>>()?;
    let found = find(&service, &caller, ids, FOUND_ROOMS_MAX).await?;
    let users = matches.into_iter().zip(found).map(|(m, presence)| FoundUser { name: m.name, presence });
    Ok(web::Json(FoundUsers { users: users.collect() }))
}
