//! `/v1/users`: profiles.

use actix_web::{HttpResponse, delete, get, put, web};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::auth::token::{AVATAR_CHARS_MAX, NAME_CHARS_MAX, is_picture};
use crate::domain::id::UserId;
use crate::domain::last_seen::ShowLastSeen;
use crate::http::api::presence::may_meet;
use crate::http::request::body::{BULK_BODY_MAX, Body};
use crate::http::request::caller::Caller;
use crate::http::request::problem::{Code, Problem};
use crate::http::request::responses::problems;
use crate::http::service::Service;
use crate::settings::{ErasureBy, ProfilesBy};
use crate::store::users::Profile;

/// Profiles in one request, at most.
const PROFILES_MAX: usize = 1000;

/// What an erasure counts as, besides an event for each room: the search of the log.
const ERASURE_EVENTS: usize = 100;

/// A user's profile.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ProfileBody {
    /// Display name, 1 to 256 characters.
    #[schema(example = "Ann", min_length = 1, max_length = 256, pattern = r"^[^\u0000]*$")]
    name: String,
    /// Picture: an `https:` address of at most 2048 characters; none when not given.
    #[schema(
        example = "https://example.org/ann.png",
        max_length = 2048,
        pattern = r#"^[Hh][Tt][Tt][Pp][Ss]://[^/?#\u0000-\u0020\u007f-\u00a0"<>\\^`{|}][^\u0000-\u0020\u007f-\u00a0"<>\\^`{|}]*$"#
    )]
    avatar_url: Option<String>,
    /// What others are told of the time when the user was last seen. If not given: `exact` at first, then
    /// unchanged.
    show_last_seen: Option<ShowLastSeen>,
}

/// A user and their profile.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct User {
    /// The user's id.
    id: UserId,
    /// Display name, 1 to 256 characters.
    #[schema(example = "Ann", min_length = 1, max_length = 256, pattern = r"^[^\u0000]*$")]
    name: String,
    /// Picture: an `https:` address of at most 2048 characters, or null.
    #[schema(
        example = "https://example.org/ann.png",
        max_length = 2048,
        pattern = r#"^[Hh][Tt][Tt][Pp][Ss]://[^/?#\u0000-\u0020\u007f-\u00a0"<>\\^`{|}][^\u0000-\u0020\u007f-\u00a0"<>\\^`{|}]*$"#
    )]
    avatar_url: Option<String>,
    /// What others are told of the time when the user was last seen; unchanged if not given. Only the user
    /// and the server key can read this setting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    show_last_seen: Option<ShowLastSeen>,
}

impl User {
    fn check(self) -> Result<Profile, Problem> {
        let clean = |text: &str, max| text.chars().count() <= max && !text.contains('\0');
        if self.name.is_empty() || !clean(&self.name, NAME_CHARS_MAX) {
            return Err(Problem::with(
                Code::InvalidBody,
                format!("name is 1 to {NAME_CHARS_MAX} characters"),
            ));
        }
        if !self.avatar_url.as_deref().is_none_or(is_picture) {
            return Err(Problem::with(
                Code::InvalidBody,
                format!("avatar_url is an https: address of at most {AVATAR_CHARS_MAX} characters"),
            ));
        }
        Ok(Profile {
            user_id: self.id.to_string(),
            name: self.name,
            avatar_url: self.avatar_url,
            show_last_seen: self.show_last_seen.map(|show| show.as_str().to_owned()),
        })
    }

    fn from(profile: Profile) -> Result<Self, Problem> {
        Ok(Self {
            id: UserId::parse(&profile.user_id)?,
            name: profile.name,
            avatar_url: profile.avatar_url,
            show_last_seen: profile.show_last_seen.as_deref().map(ShowLastSeen::parse),
        })
    }
}

problems!(PutUserProblems: InvalidJson InvalidBody InvalidUser MissingToken InvalidToken ExpiredToken ServerOnly ProfileNotAllowed
    BodyTimeout BodyTooLarge UnsupportedType TooManyWrites TooManyEvents RoomBusy Overloaded Unavailable
    OutcomeUnknown);

/// Set a profile
///
/// An upsert: creates or replaces the profile. A join with a token that was issued since, and has a `name` or an
/// `avatar_url`, sets those again. A change is an `updated` event in every room the user is in, and is charged as so many
/// (see `too_many_events`). Right: server key, or the user themselves, but for what their token says
/// (`HEADCOUNT_PROFILES_BY`).
#[utoipa::path(
    tag = "users",
    params(("id" = inline(UserId), Path, description = "The user.", example = "ann")),
    request_body = ProfileBody,
    responses((status = 200, description = "The profile as it is now.", body = User), PutUserProblems),
    security(("token" = []), ("server_key" = []))
)]
#[put("/v1/users/{id}")]
pub async fn put_user(
    service: web::Data<Service>,
    caller: Caller,
    id: web::Path<String>,
    Body(body): Body<ProfileBody>,
) -> Result<web::Json<User>, Problem> {
    service.limits.write(caller.subject())?;
    let id = UserId::parse(&id)?;
    caller.must_be_self_or_server(&id)?;
    let ProfileBody { name, avatar_url, show_last_seen } = body;
    let profile = User { id, name, avatar_url, show_last_seen }.check()?;
    may_write(&service, &caller, &profile).await?;
    pay_for_profile(&service, &caller, profile.clone()).await?;
    let stored = service.commands.put_users(vec![profile]).await?.pop().ok_or(Code::Internal)?;
    User::from(stored).map(web::Json)
}

/// Whether the caller may give that profile. What is as it was may always be given: `show_last_seen` is the user's own.
async fn may_write(service: &Service, caller: &Caller, profile: &Profile) -> Result<(), Problem> {
    let Some(claims) = caller.claims() else { return Ok(()) };
    let (name, picture) = match service.profiles_by {
        ProfilesBy::User => return Ok(()),
        ProfilesBy::Application => (true, true),
        ProfilesBy::Token => (claims.name.is_some(), claims.avatar_url.is_some()),
    };
    if !name && !picture {
        return Ok(());
    }
    let id = claims.sub.clone();
    let stored = service.store.detached(move |store| async move { store.user(&id).await }).await?;
    let same = |of: fn(&Profile) -> Option<&str>| stored.as_ref().and_then(of) == of(profile);
    let refused = name && !same(|p| Some(p.name.as_str())) || picture && !same(|p| p.avatar_url.as_deref());
    if refused { Err(Code::ProfileNotAllowed.into()) } else { Ok(()) }
}

problems!(PutUsersProblems: InvalidJson InvalidBody MissingToken InvalidToken ExpiredToken ServerOnly BodyTimeout
    BodyTooLarge UnsupportedType RoomBusy Overloaded Unavailable OutcomeUnknown);

/// Set many profiles
///
/// Upserts up to 1000 profiles, all or none. Of several for one user the last counts. Right: server key.
#[utoipa::path(
    tag = "users",
    request_body = Vec<User>,
    responses((status = 200, description = "The profiles as they are now.", body = Vec<User>), PutUsersProblems),
    security(("server_key" = []))
)]
#[put("/v1/users")]
pub async fn put_users(
    service: web::Data<Service>,
    caller: Caller,
    Body(users): Body<Vec<User>, BULK_BODY_MAX, true>,
) -> Result<web::Json<Vec<User>>, Problem> {
    caller.must_be_server()?;
    if users.len() > PROFILES_MAX {
        return Err(Problem::with(Code::InvalidBody, format!("at most {PROFILES_MAX} profiles")));
    }
    let profiles = users.into_iter().map(User::check).collect::<Result<_, _>>()?;
    let stored = service.commands.put_users(profiles).await?;
    stored.into_iter().map(User::from).collect::<Result<_, _>>().map(web::Json)
}

problems!(GetUserProblems: InvalidUser MissingToken InvalidToken ExpiredToken UserNotFound TooManyReads Overloaded Unavailable);

/// Get a profile
///
/// Right: server key, or any token, of users that it may meet: those in a room that it may watch, or in its claim
/// `users` (ids, and beginnings of ids with `*`), or anybody, if it may watch every room. Another user is as one who does
/// not exist.
#[utoipa::path(
    tag = "users",
    params(("id" = inline(UserId), Path, description = "The user.", example = "ann")),
    responses((status = 200, description = "The profile.", body = User), GetUserProblems),
    security(("token" = []), ("server_key" = []))
)]
#[get("/v1/users/{id}")]
pub async fn get_user(
    service: web::Data<Service>,
    caller: Caller,
    id: web::Path<String>,
) -> Result<web::Json<User>, Problem> {
    let id = UserId::parse(&id)?;
    let own = caller.must_be_self_or_server(&id).is_ok();
    let met = may_meet(&service, &caller, &id).await?;
    let found = service.store.read(move |store| async move { store.user(&id).await }).await?;
    let mut user = User::from(found.filter(|_| met).ok_or(Code::UserNotFound)?)?;
    user.show_last_seen = user.show_last_seen.filter(|_| own);
    Ok(web::Json(user))
}

problems!(EraseUserProblems: InvalidUser MissingToken InvalidToken ExpiredToken ServerOnly UserNotFound TooManyWrites
    TooManyEvents RoomBusy Overloaded Unavailable OutcomeUnknown);

/// Erase a user
///
/// Ends their presence everywhere (`left`) and removes their profile, at once: from then on nobody is told anything of
/// them. What the event log says of them is removed by a task, in steps, some minutes for a log of a day. Repeat the call
/// to ask: it is answered `202` until the log has been searched, then `user_not_found`. Counts as 100 events, and one for
/// each room the user is in (see `too_many_events`). Right: server key, or the user themselves (`HEADCOUNT_ERASURE_BY`). That they were kicked stays known as long as the log.
#[utoipa::path(
    tag = "users",
    params(("id" = inline(UserId), Path, description = "The user.", example = "ann")),
    responses((status = 202, description = "Erased for everybody who asks; the log is being searched."), EraseUserProblems),
    security(("token" = []), ("server_key" = []))
)]
#[delete("/v1/users/{id}")]
pub async fn erase_user(
    service: web::Data<Service>,
    caller: Caller,
    id: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let id = UserId::parse(&id)?;
    caller.must_be_self_or_server(&id)?;
    if service.erasure_by == ErasureBy::Application {
        caller.must_be_server()?;
    }
    pay_for_erasure(&service, &caller, id.clone()).await?;
    match service.commands.erase_user(id).await? {
        true => Ok(HttpResponse::Accepted().finish()),
        false => Err(Code::UserNotFound.into()),
    }
}

/// Before the write, so that many at once do not all start before the first is paid for.
async fn pay_for_profile(service: &Service, caller: &Caller, profile: Profile) -> Result<(), Problem> {
    service.limits.cause(caller.subject(), 1)?;
    if caller.subject().is_some() {
        let events =
            service.store.read(move |store| async move { store.events_of_profile(&profile).await }).await?;
        pay(service, caller, events)?;
    }
    Ok(())
}

async fn pay_for_erasure(service: &Service, caller: &Caller, user: UserId) -> Result<(), Problem> {
    service.limits.write(caller.subject())?;
    service.limits.cause(caller.subject(), ERASURE_EVENTS)?;
    if caller.subject().is_some() {
        let rooms = service.store.read(move |store| async move { store.rooms_of(&user).await }).await?;
        pay(service, caller, rooms)?;
    }
    Ok(())
}

fn pay(service: &Service, caller: &Caller, events: i64) -> Result<(), Problem> {
    match usize::try_from(events) {
        Ok(events) if events > 1 => service.limits.cause(caller.subject(), events - 1),
        _ => Ok(()),
    }
}
