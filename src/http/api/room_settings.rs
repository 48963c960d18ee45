//! `/v1/settings/rooms`: settings of rooms, by pattern.

use std::time::Duration;

use actix_web::{HttpResponse, delete, get, put, web};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::join::millis;
use crate::domain::pattern::can_match;
use crate::domain::room_settings::RoomSettings;
use crate::http::request::body::Body;
use crate::http::request::caller::Caller;
use crate::http::request::problem::{Code, Problem};
use crate::http::request::responses::problems;
use crate::http::service::Service;

/// Settings of rooms. A setting that is null or absent is taken from a shorter pattern, or else from the
/// deployment.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SettingsBody {
    /// The lease of a visible session: how long its heartbeat lasts. A session in several rooms has the
    /// shortest of their leases, and is told when to send heartbeats. Takes effect for a session with its
    /// next join or update.
    #[schema(minimum = 3000, maximum = 3_600_000, example = 15000)]
    #[serde(default, deserialize_with = "crate::http::request::body::integer")]
    lease_ms: Option<u64>,
    /// The same of a hidden session; not shorter than `lease_ms`.
    #[schema(minimum = 3000, maximum = 3_600_000, example = 60000)]
    #[serde(default, deserialize_with = "crate::http::request::body::integer")]
    hidden_lease_ms: Option<u64>,
    /// Changes are coalesced into frames at least this far apart, whatever the size of the room.
    #[schema(minimum = 20, maximum = 60000, example = 100)]
    #[serde(default, deserialize_with = "crate::http::request::body::integer")]
    coalesce_ms: Option<u64>,
    /// Members that a frame lists at most: past that `mode=list` sends the count, and a snapshot the first page.
    #[schema(minimum = 1, maximum = 1000, example = 200)]
    #[serde(default, deserialize_with = "crate::http::request::body::integer")]
    list_max: Option<usize>,
    /// Members of the room, at most; one more is refused with `room_full`.
    #[schema(minimum = 1, maximum = 1_000_000, example = 500)]
    #[serde(default, deserialize_with = "crate::http::request::body::integer")]
    members_max: Option<u32>,
}

/// A pattern and its settings.
#[derive(Serialize, ToSchema)]
pub struct PatternSettings {
    /// A room, or the beginning of rooms with `*` after it.
    #[schema(example = "team:*")]
    pattern: String,
    /// Their settings.
    settings: SettingsBody,
}

/// All settings of rooms.
#[derive(Serialize, ToSchema)]
pub struct AllSettings {
    /// By pattern; at most 100.
    rooms: Vec<PatternSettings>,
}

impl SettingsBody {
    fn check(self) -> Result<RoomSettings, Problem> {
        within("lease_ms", self.lease_ms, 3000, 3_600_000)?;
        within("hidden_lease_ms", self.hidden_lease_ms, 3000, 3_600_000)?;
        within("coalesce_ms", self.coalesce_ms, 20, 60_000)?;
        within("list_max", self.list_max.map(|max| max as u64), 1, 1000)?;
        within("members_max", self.members_max.map(u64::from), 1, 1_000_000)?;
        if self.lease_ms.zip(self.hidden_lease_ms).is_some_and(|(visible, hidden)| hidden < visible) {
            return Err(Problem::with(Code::InvalidBody, "hidden_lease_ms is not less than lease_ms"));
        }
        let duration = |ms: Option<u64>| ms.map(Duration::from_millis);
        Ok(RoomSettings {
            lease: duration(self.lease_ms),
            lease_hidden: duration(self.hidden_lease_ms),
            spacing: duration(self.coalesce_ms),
            list_max: self.list_max,
            members_max: self.members_max,
        })
    }

    fn of(settings: RoomSettings) -> Self {
        Self {
            lease_ms: settings.lease.map(millis),
            hidden_lease_ms: settings.lease_hidden.map(millis),
            coalesce_ms: settings.spacing.map(millis),
            list_max: settings.list_max,
            members_max: settings.members_max,
        }
    }
}

fn within(name: &str, value: Option<u64>, least: u64, most: u64) -> Result<(), Problem> {
    match value {
        Some(value) if !(least..=most).contains(&value) => {
            Err(Problem::with(Code::InvalidBody, format!("{name} is {least} to {most}")))
        }
        _ => Ok(()),
    }
}

fn pattern(text: String) -> Result<String, Problem> {
    if can_match(&text) { Ok(text) } else { Err(Code::InvalidPattern.into()) }
}

problems!(AllSettingsProblems: MissingToken InvalidToken ExpiredToken ServerOnly Overloaded Unavailable);

/// List settings of rooms
///
/// For each setting the most precise pattern that has it counts: the room itself, then the longest prefix.
/// Right: server key.
#[utoipa::path(
    tag = "operators",
    responses((status = 200, description = "All settings of rooms.", body = AllSettings), AllSettingsProblems),
    security(("server_key" = []))
)]
#[get("/v1/settings/rooms")]
pub async fn list_settings(
    service: web::Data<Service>,
    caller: Caller,
) -> Result<web::Json<AllSettings>, Problem> {
    caller.must_be_server()?;
    let found = service.store.read(|store| async move { store.room_settings_list().await }).await?;
    let entry = |(pattern, settings)| PatternSettings { pattern, settings: SettingsBody::of(settings) };
    Ok(web::Json(AllSettings { rooms: found.into_iter().map(entry).collect() }))
}

problems!(PutSettingsProblems: InvalidJson InvalidBody InvalidPattern MissingToken InvalidToken ExpiredToken ServerOnly
    TooManySettings BodyTimeout BodyTooLarge UnsupportedType Overloaded Unavailable OutcomeUnknown);

/// Change settings of rooms
///
/// Replaces the settings of the pattern. Every replica applies them within 2 s, without a restart. Right:
/// server key.
#[utoipa::path(
    tag = "operators",
    params(("pattern" = String, Path, description = "A room, or the beginning of rooms with `*` after it.", example = "team:*",
        min_length = 1, max_length = 129, pattern = r"^(\*|\.*[A-Za-z0-9_:~-][A-Za-z0-9_.:~-]*\*?|\.{3,}\*?)$")),
    request_body = SettingsBody,
    responses((status = 200, description = "The settings as they are now.", body = PatternSettings), PutSettingsProblems),
    security(("server_key" = []))
)]
#[put("/v1/settings/rooms/{pattern}")]
pub async fn put_settings(
    service: web::Data<Service>,
    caller: Caller,
    path: web::Path<String>,
    Body(body): Body<SettingsBody>,
) -> Result<web::Json<PatternSettings>, Problem> {
    caller.must_be_server()?;
    let (pattern, settings) = (pattern(path.into_inner())?, body.check()?);
    let key = pattern.clone();
    let put =
        service.store.detached(move |store| async move { store.put_room_settings(&key, &settings).await });
    if !put.await.map_err(|error| Problem::of_write(&error))? {
        return Err(Code::TooManySettings.into());
    }
    service.hub.settings().nudge();
    Ok(web::Json(PatternSettings { pattern, settings: SettingsBody::of(settings) }))
}

problems!(RemoveSettingsProblems: InvalidPattern MissingToken InvalidToken ExpiredToken ServerOnly Overloaded Unavailable
    OutcomeUnknown);

/// Remove settings of rooms
///
/// Idempotent: succeeds if nothing is set for the pattern. Right: server key.
#[utoipa::path(
    tag = "operators",
    params(("pattern" = String, Path, description = "The pattern.", example = "team:*", min_length = 1, max_length = 129,
        pattern = r"^(\*|\.*[A-Za-z0-9_:~-][A-Za-z0-9_.:~-]*\*?|\.{3,}\*?)$")),
    responses((status = 204, description = "Nothing is set for it."), RemoveSettingsProblems),
    security(("server_key" = []))
)]
#[delete("/v1/settings/rooms/{pattern}")]
pub async fn remove_settings(
    service: web::Data<Service>,
    caller: Caller,
    path: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    caller.must_be_server()?;
    let pattern = pattern(path.into_inner())?;
    let removed =
        service.store.detached(move |store| async move { store.remove_room_settings(&pattern).await });
    removed.await.map_err(|error| Problem::of_write(&error))?;
    service.hub.settings().nudge();
    Ok(HttpResponse::NoContent().finish())
}
