//! Everything that can go wrong, as clients see it: one table of stable codes, and `application/problem+json`.

use std::fmt;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use actix_web::{HttpResponse, ResponseError};
use serde::Serialize;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};
use utoipa::{PartialSchema, ToSchema};

use super::quota::{self, Quota};
use crate::auth::TokenError;
use crate::commands::CommandError;
use crate::domain::id::IdError;
use crate::hub::Unreadable;
use crate::measure::throttle;
use crate::store::StoreError;

macro_rules! codes {
    ($($variant:ident $code:literal $status:literal $retry:literal $title:literal;)*) => {
        /// A stable code: what clients may switch on.
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
        pub enum Code {
            $(#[doc = $title] #[serde(rename = $code)] $variant,)*
        }

        impl Code {
            /// The whole table.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The code as text.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $code,)* }
            }

            /// The HTTP status it comes with.
            pub fn status(self) -> StatusCode {
                let status: u16 = match self { $(Self::$variant => $status,)* };
                StatusCode::from_u16(status).expect("the table holds valid statuses")
            }

            /// Seconds after which a retry makes sense; 0 when it does not.
            pub fn retry_after(self) -> u64 {
                match self { $(Self::$variant => $retry,)* }
            }

            /// Its meaning.
            pub fn title(self) -> &'static str {
                match self { $(Self::$variant => $title,)* }
            }
        }
    };
}

codes! {
    InvalidJson       "invalid_json"         400 0 "The body is not JSON.";
    InvalidBody       "invalid_body"         400 0 "The body does not have the documented form.";
    InvalidQuery      "invalid_query"        400 0 "The query does not have the documented form.";
    InvalidRoom       "invalid_room"         400 0 "A room is 1 to 128 characters of A-Z a-z 0-9 _ . : ~ - and neither . nor ..";
    InvalidPattern    "invalid_pattern"      400 0 "A pattern is a room, or the beginning of rooms with * after it.";
    InvalidUser       "invalid_user"         400 0 "A user id is 1 to 128 characters without control characters.";
    InvalidState      "invalid_state"        400 0 "The state holds something that is not stored: U+0000, or more than 32 levels.";
    InvalidWebhook    "invalid_webhook"      400 0 "The webhook does not have the documented form.";
    UserRequired      "user_required"        400 0 "Under the server key, the body must name the user.";
    StateTooLarge     "state_too_large"      413 0 "The state is larger than 1 KiB as it is stored, or has a number of over 32 characters written out.";
    BodyTooLarge      "body_too_large"       413 0 "The body is larger than this call takes.";
    BodyTimeout       "body_timeout"         408 0 "The body did not arrive in time.";
    UnsupportedType   "unsupported_media_type" 415 0 "The body must be application/json.";
    TokenInUrl        "token_in_url"         400 0 "A token must not be in an address; get a ticket.";
    MissingToken      "missing_token"        401 0 "Authorization: Bearer is missing.";
    InvalidToken      "invalid_token"        401 0 "The token is not valid.";
    ExpiredToken      "expired_token"        401 0 "The token has expired; get a new one.";
    TokenRevoked      "token_revoked"        401 0 "The user's tokens were revoked after this one was issued; get a new one.";
    UserNotAllowed    "user_not_allowed"     403 0 "Only the server key may name a user.";
    ServerOnly        "server_only"          403 0 "Only the server key may do this.";
    ProfileNotAllowed "profile_not_allowed"  403 0 "The application says what this user is called; you may not change it.";
    ForeignHost       "foreign_host"         403 0 "Tokens are given here to pages of this machine only.";
    ListNotAllowed    "list_not_allowed"     403 0 "Your token gives the right to list in no room.";
    RoomNotFound      "room_not_found"       404 0 "There is no such room for you.";
    SessionNotFound   "session_not_found"    404 0 "You have no such session in that room; join first.";
    UserNotFound      "user_not_found"       404 0 "There is no such user.";
    WebhookNotFound   "webhook_not_found"    404 0 "There is no such webhook.";
    HistoryGone       "history_gone"         410 0 "The log no longer reaches back to that time.";
    NotFound          "not_found"            404 0 "There is nothing here.";
    MethodNotAllowed  "method_not_allowed"   405 0 "This address does not take that method.";
    TooManyWebhooks   "too_many_webhooks"    409 0 "There are as many webhooks as there may be; delete one.";
    TooManyWrites     "too_many_writes"      429 1 "This user joins, leaves or updates too often.";
    TooManySessionWrites "too_many_session_writes" 429 1 "This session joins, leaves or updates too often.";
    TooManyReads      "too_many_reads"      429 1 "This user asks for too much.";
    TooManyEvents     "too_many_events"     429 1 "This user causes too many events.";
    TooManyPlaces     "too_many_places"     400 0 "These users are in too many rooms for one answer; ask for fewer users.";
    TooManyHeartbeats "too_many_heartbeats"  429 1 "This user sends heartbeats too often.";
    TooManySessionHeartbeats "too_many_session_heartbeats" 429 1 "This session sends heartbeats too often.";
    TooManyRooms      "too_many_rooms"       429 30 "This user is in as many rooms as one may be; leave one.";
    TooManySessions   "too_many_sessions"    429 30 "This user has as many sessions as one may have; end one.";
    RoomFull          "room_full"            409 5 "The room has as many members as it takes.";
    TooManySettings   "too_many_settings"    409 0 "There are as many patterns as there may be; remove one.";
    TooManyRequests   "too_many_requests"    429 1 "This address sends requests too often.";
    TooManyStreams    "too_many_streams"     429 30 "This user or address has too many open streams.";
    ReplicaFull       "replica_full"         503 5 "This replica has too many open streams; another may have room.";
    RoomBusy          "room_busy"            503 1 "The room is locked by somebody; nothing was done.";
    Overloaded        "overloaded"           503 1 "Too much at once; nothing was done.";
    Unavailable       "unavailable"          503 1 "The database is away; nothing was done.";
    OutcomeUnknown    "outcome_unknown"      503 1 "The database did not answer; it may have been done. Repeating is safe.";
    KeysUnavailable   "keys_unavailable"     503 5 "The keys of tokens cannot be fetched now; nothing was done.";
    Draining          "draining"             503 1 "This replica is shutting down; another will answer.";
    Internal          "internal"             500 0 "A fault of ours.";
}

/// By hand: the derive does not see through the macro that the codes are renamed.
impl PartialSchema for Code {
    fn schema() -> RefOr<Schema> {
        let text = ObjectBuilder::new().schema_type(Type::String);
        let text = text.description(Some("A stable code: what clients may switch on."));
        text.enum_values(Some(Self::ALL.iter().map(|code| code.as_str()))).into()
    }
}

impl ToSchema for Code {}

/// The body of every error: RFC 9457.
#[derive(Serialize, ToSchema)]
#[schema(as = Problem)]
pub struct ProblemBody {
    /// Where the code is explained.
    #[serde(rename = "type")]
    #[schema(example = "/problems#room_not_found")]
    kind: String,
    /// What the code means.
    #[schema(example = "There is no such room for you.")]
    title: &'static str,
    /// The HTTP status.
    #[schema(example = 404)]
    status: u16,
    /// The stable code.
    code: Code,
    /// What was wrong with this request.
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
}

/// An error on its way to a client.
#[derive(Debug, Clone)]
pub struct Problem {
    code: Code,
    detail: Option<String>,
    retry_after: u64,
    /// The limit that refused it.
    quota: Option<Box<Quota>>,
    /// For the log, not for the client.
    cause: Option<String>,
}

impl Problem {
    /// Refused by a limit. Trying again makes sense after this long; whole seconds, rounded up.
    pub fn limited(code: Code, quota: Quota, wait: Duration) -> Self {
        Self { retry_after: wait.as_secs() + 1, quota: Some(Box::new(quota)), ..code.into() }
    }

    /// Refused because all places are taken.
    pub fn full(code: Code, quota: Quota) -> Self {
        Self { quota: Some(Box::new(quota)), ..code.into() }
    }

    /// With what was wrong with this request.
    pub fn with(code: Code, detail: impl Into<String>) -> Self {
        Self { detail: Some(detail.into()), ..code.into() }
    }

    /// From a failed write of a single statement.
    pub fn of_write(error: &StoreError) -> Self {
        if let Some(suppressed) = throttle::admit("a write failed", error.name()) {
            tracing::warn!(%error, suppressed, "a write failed");
        }
        match CommandError::from(error) {
            CommandError::Busy => Code::Unavailable.into(),
            failure => failure.into(),
        }
    }

    /// As it is written in an answer.
    pub fn body(&self) -> ProblemBody {
        ProblemBody {
            kind: format!("/problems#{}", self.code.as_str()),
            title: self.code.title(),
            status: self.code.status().as_u16(),
            code: self.code,
            detail: self.detail.clone(),
        }
    }

    /// Its code.
    pub fn code(&self) -> Code {
        self.code
    }

    /// As RFC 6750 has it: no error where there was no token. The description is ASCII without quotes.
    fn challenge(&self) -> String {
        let plain = |c: char| if matches!(c, ' '..='~') && !matches!(c, '"' | '\\') { c } else { '?' };
        match (self.code, &self.detail) {
            (Code::MissingToken, _) => "Bearer".into(),
            (_, None) => "Bearer error=\"invalid_token\"".into(),
            (_, Some(detail)) => {
                let detail: String = detail.chars().map(plain).collect();
                format!("Bearer error=\"invalid_token\", error_description=\"{detail}\"")
            }
        }
    }

    /// What went wrong inside.
    pub fn cause(&self) -> Option<&str> {
        self.cause.as_deref()
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code.as_str())
    }
}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        self.code.status()
    }

    fn error_response(&self) -> HttpResponse {
        let code = self.code;
        let mut response = HttpResponse::build(code.status());
        response.insert_header((CONTENT_TYPE, "application/problem+json"));
        if self.retry_after > 0 {
            response.insert_header((RETRY_AFTER, self.retry_after));
        }
        if code.status() == StatusCode::UNAUTHORIZED {
            response.insert_header((WWW_AUTHENTICATE, self.challenge()));
        }
        let mut response =
            response.body(serde_json::to_string(&self.body()).expect("a problem is a map with string keys"));
        if let Some(quota) = &self.quota {
            quota::tell(std::slice::from_ref(quota), response.headers_mut());
        }
        response
    }
}

impl From<Code> for Problem {
    fn from(code: Code) -> Self {
        Self { code, detail: None, retry_after: code.retry_after(), quota: None, cause: None }
    }
}

impl From<IdError> for Problem {
    fn from(error: IdError) -> Self {
        match error {
            IdError::Room => Code::InvalidRoom.into(),
            IdError::User => Code::InvalidUser.into(),
        }
    }
}

impl From<TokenError> for Problem {
    fn from(error: TokenError) -> Self {
        match error {
            TokenError::Revoked => Code::TokenRevoked.into(),
            TokenError::Expired => Self::with(Code::ExpiredToken, error.to_string()),
            TokenError::Invalid => Code::InvalidToken.into(),
            TokenError::Refused(refusal) => Self::with(Code::InvalidToken, refusal.to_string()),
            TokenError::UnknownKey => Code::KeysUnavailable.into(),
        }
    }
}

impl From<CommandError> for Problem {
    fn from(failure: CommandError) -> Self {
        match failure {
            CommandError::Overloaded => Code::Overloaded,
            CommandError::Unavailable => Code::Unavailable,
            CommandError::OutcomeUnknown => Code::OutcomeUnknown,
            CommandError::Busy => Code::RoomBusy,
            CommandError::TooManyRooms => Code::TooManyRooms,
            CommandError::TooManySessions => Code::TooManySessions,
            CommandError::RoomFull => Code::RoomFull,
            CommandError::Revoked => Code::TokenRevoked,
            CommandError::NoSession => Code::SessionNotFound,
            CommandError::Refused => Code::InvalidState,
            CommandError::Internal => Code::Internal,
        }
        .into()
    }
}

/// For reads. They change nothing, so an unknown outcome is `unavailable`, which says so.
impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        let problem = match CommandError::from(&error) {
            CommandError::OutcomeUnknown | CommandError::Busy => Code::Unavailable.into(),
            failure => Self::from(failure),
        };
        Self { cause: Some(error.to_string()), ..problem }
    }
}

/// The room cannot be read now.
impl From<Unreadable> for Problem {
    fn from(_: Unreadable) -> Self {
        CommandError::Unavailable.into()
    }
}
