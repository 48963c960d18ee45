//! The caller of a request, from the `Authorization` header, or from a ticket in the address.

use actix_web::dev::Payload;
use actix_web::http::header::AUTHORIZATION;
use actix_web::{FromRequest, HttpRequest, web};
use futures_util::future::LocalBoxFuture;

use super::problem::{Code, Problem};
use crate::auth::keys::Owner;
use crate::auth::ticket::looks_like_a_token;
use crate::auth::{Claims, Right};
use crate::domain::id::{RoomId, UserId};
use crate::domain::member::Viewer;
use crate::domain::range::KeyRange;
use crate::http::service::Service;

/// The caller of a request: a user, or an application's server. A token identifies its user; only the server
/// key may name any user.
#[derive(Clone, Debug)]
pub struct Caller(Owner);

impl Caller {
    /// From the `Authorization` header.
    pub async fn from_header(request: &HttpRequest) -> Result<Self, Problem> {
        let service = request.app_data::<web::Data<Service>>().expect("registered when the app is built");
        let header = request.headers().get(AUTHORIZATION).ok_or(Code::MissingToken)?;
        let (scheme, credential) =
            header.to_str().ok().and_then(|h| h.split_once(' ')).ok_or(Code::InvalidToken)?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(Code::MissingToken.into());
        }
        Self::from_credential(service, credential.trim()).await
    }

    /// From a credential that did not come in the header.
    pub async fn from_credential(service: &Service, credential: &str) -> Result<Self, Problem> {
        Ok(Self(service.keys.identify(credential).await?))
    }

    /// A watcher: by the header, or by a ticket in the address.
    pub async fn watching(
        service: &Service,
        request: &HttpRequest,
        ticket: Option<&str>,
    ) -> Result<Self, Problem> {
        match ticket {
            None => Self::from_header(request).await,
            Some(ticket) if looks_like_a_token(ticket) => Err(Code::TokenInUrl.into()),
            Some(ticket) => Ok(Self(service.keys.identify_ticket(ticket)?)),
        }
    }

    /// The user to act for: the token's own, or the one that the server key names.
    pub fn user(&self, named: Option<UserId>) -> Result<UserId, Problem> {
        match (&self.0, named) {
            (Owner::User(claims), None) => Ok(claims.sub.clone()),
            (Owner::User(_), Some(_)) => Err(Code::UserNotAllowed.into()),
            (Owner::Server, Some(user)) => Ok(user),
            (Owner::Server, None) => Err(Code::UserRequired.into()),
        }
    }

    /// The claims of the token or ticket; none for the server key.
    pub fn claims(&self) -> Option<&Claims> {
        match &self.0 {
            Owner::Server => None,
            Owner::User(claims) => Some(claims),
        }
    }

    /// The user whose token it is; none for the server key.
    pub fn subject(&self) -> Option<&UserId> {
        self.claims().map(|claims| &claims.sub)
    }

    /// The user whose places it takes; none for the server key, and for a ticket that names nobody.
    pub fn counted(&self) -> Option<&UserId> {
        self.subject().filter(|user| !user.is_nobody())
    }

    /// The caller as a reader of rosters.
    pub fn viewer(&self) -> Viewer {
        self.subject().map_or(Viewer::Server, |user| Viewer::User(user.clone()))
    }

    /// Checks a right in a room. Without it, the room is refused as one that does not exist.
    pub fn may(&self, right: Right, room: &RoomId) -> Result<(), Problem> {
        let allowed = self.claims().is_none_or(|claims| claims.rooms.allow(room, right));
        if allowed { Ok(()) } else { Err(Code::RoomNotFound.into()) }
    }

    /// The rooms whose key has this prefix and that the caller may list; for the server key all with the
    /// prefix.
    pub fn may_list(&self, prefix: &str) -> Result<Vec<KeyRange>, Problem> {
        match self.claims() {
            None => Ok(vec![KeyRange::beginning_with(prefix)]),
            Some(claims) if claims.rooms.anywhere(Right::List) => {
                Ok(claims.rooms.ranges(Right::List, prefix))
            }
            Some(_) => Err(Code::ListNotAllowed.into()),
        }
    }

    /// Whether what others may know of a user may be told wherever the user is: to the user, to the server key, and to
    /// a token that may watch every room or names the user in its claim `users`.
    pub fn knows(&self, user: &UserId) -> bool {
        self.claims().is_none_or(|claims| {
            claims.sub == *user || claims.rooms.everywhere_watched() || claims.users.hold(user)
        })
    }

    /// Only the server key passes.
    pub fn must_be_server(&self) -> Result<(), Problem> {
        if self.claims().is_none() { Ok(()) } else { Err(Code::ServerOnly.into()) }
    }

    /// Only the server key and this user pass.
    pub fn must_be_self_or_server(&self, user: &UserId) -> Result<(), Problem> {
        if self.subject().is_none_or(|own| own == user) { Ok(()) } else { Err(Code::ServerOnly.into()) }
    }
}

impl FromRequest for Caller {
    type Error = Problem;
    type Future = LocalBoxFuture<'static, Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let request = request.clone();
        Box::pin(async move { Self::from_header(&request).await })
    }
}
