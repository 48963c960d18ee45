//! Tickets: credentials that a browser's `EventSource` can put into a URL, because it cannot send headers. A ticket
//! permits watching the rooms it names, for ten minutes, and nothing else.
//!
//! A ticket is signed with a key derived from the first server key, so that any replica accepts it, whatever signs the
//! tokens. While server keys are rotated, tickets signed with any of them are accepted.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, errors::ErrorKind};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::rights::{Grant, Right, Rights};
use super::token::{Claims, TokenError};
use crate::domain::id::{RoomId, UserId};

/// Maximum lifetime of a ticket. It never outlives the token with which it was requested.
pub const TICKET_TTL: Duration = Duration::from_secs(600);

/// Distinguishes a ticket from a token. A token must never be in a URL, because URLs end up in logs.
const PREFIX: &str = "hct_";

#[derive(Serialize, Deserialize)]
struct Inside {
    sub: Option<UserId>,
    exp: u64,
    /// When the token was issued with which it was requested, so that it is revoked with that token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    iat: Option<u64>,
    rooms: Vec<RoomId>,
}

/// Signs and checks tickets.
pub struct TicketKeys(Vec<[u8; 32]>);

impl TicketKeys {
    /// Derives them from the server keys, the first of which signs.
    pub fn new(server_keys: &[SecretString]) -> Self {
        let derive = |key: &SecretString| {
            Sha256::new()
                .chain_update("headcount ticket\0")
                .chain_update(key.expose_secret())
                .finalize()
                .into()
        };
        Self(server_keys.iter().map(derive).collect())
    }

    /// A ticket for these rooms, and its expiry in seconds since 1970. `token` are the claims of the caller's token.
    pub fn mint(
        &self,
        user: Option<&UserId>,
        rooms: &[RoomId],
        token: Option<&Claims>,
        now: SystemTime,
    ) -> (String, u64) {
        let longest = (now + TICKET_TTL).duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let exp = token.map_or(longest, |token| token.exp.min(longest));
        let iat = match token {
            Some(token) => token.iat,
            None => now.duration_since(UNIX_EPOCH).ok().map(|now| now.as_secs()), // a server key has no `iat`
        };
        let inside = Inside { sub: user.cloned(), exp, iat, rooms: rooms.to_vec() };
        let key = EncodingKey::from_secret(self.0.first().map_or(&[], |key| key.as_slice()));
        let signed = jsonwebtoken::encode(&Header::default(), &inside, &key);
        (format!("{PREFIX}{}", signed.expect("a ticket is a map, and HMAC takes any secret")), exp)
    }

    /// Checks a ticket, and returns claims with exactly its rights.
    pub fn check(&self, ticket: &str) -> Result<Claims, TokenError> {
        let signed = ticket.strip_prefix(PREFIX).ok_or(TokenError::Invalid)?;
        let mut validation = Validation::new(Algorithm::HS256);
        validation.set_required_spec_claims(&["exp"]);
        validation.leeway = 0;
        let mut refused = TokenError::Invalid;
        for key in &self.0 {
            match jsonwebtoken::decode::<Inside>(signed, &DecodingKey::from_secret(key), &validation) {
                Ok(data) => return Ok(claims(data.claims)),
                Err(error) if *error.kind() == ErrorKind::ExpiredSignature => refused = TokenError::Expired,
                Err(_) => {}
            }
        }
        Err(refused)
    }
}

/// Whether a text given as a ticket has the form of a token.
pub fn looks_like_a_token(ticket: &str) -> bool {
    !ticket.starts_with(PREFIX) && ticket.bytes().filter(|b| *b == b'.').count() == 2
}

fn claims(Inside { sub, exp, iat, rooms }: Inside) -> Claims {
    let watch = |room: RoomId| Grant::Some { room: room.to_string(), can: vec![Right::Watch] };
    let rooms = Rights(Some(rooms.into_iter().map(watch).collect()));
    Claims { rooms, iat, ..Claims::new(sub.unwrap_or_else(UserId::nobody), exp) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(names: &[&str]) -> TicketKeys {
        TicketKeys::new(&names.iter().map(|name| SecretString::from((*name).to_owned())).collect::<Vec<_>>())
    }

    fn room(name: &str) -> RoomId {
        RoomId::parse(name).unwrap()
    }

    #[test]
    fn a_ticket_lets_watch_its_rooms_and_nothing_else() {
        let (ticket, _) = keys(&["a"]).mint(None, &[room("lobby")], None, SystemTime::now());
        let rights = keys(&["a"]).check(&ticket).unwrap().rooms;
        assert!(rights.allow(&room("lobby"), Right::Watch));
        assert!(!rights.allow(&room("lobby"), Right::Join));
        assert!(!rights.allow(&room("lobby2"), Right::Watch));
    }

    #[test]
    fn tickets_survive_the_rotation_of_server_keys_and_nothing_else() {
        let (ticket, _) = keys(&["old"]).mint(None, &[room("lobby")], None, SystemTime::now());
        assert!(keys(&["new", "old"]).check(&ticket).is_ok());
        assert_eq!(keys(&["new"]).check(&ticket).unwrap_err(), TokenError::Invalid);
        assert_eq!(keys(&["old"]).check(&ticket[PREFIX.len()..]).unwrap_err(), TokenError::Invalid);
        assert_eq!(keys(&["old"]).check(&format!("{ticket}x")).unwrap_err(), TokenError::Invalid);
    }

    #[test]
    fn a_ticket_ends_with_the_token_it_was_got_with_and_after_ten_minutes() {
        let now = SystemTime::now();
        let seconds = now.duration_since(UNIX_EPOCH).unwrap().as_secs();
        let token = |exp| Claims::new(UserId::parse("ann").unwrap(), exp);
        let mint =
            |token: Option<Claims>, now| keys(&["a"]).mint(None, &[room("lobby")], token.as_ref(), now);
        assert_eq!(mint(Some(token(seconds + 60)), now).1, seconds + 60);
        assert_eq!(mint(Some(token(seconds + 6000)), now).1, seconds + 600);
        let (old, _) = mint(None, now - Duration::from_secs(601));
        assert_eq!(keys(&["a"]).check(&old).unwrap_err(), TokenError::Expired);
    }

    /// So that it is revoked with the token, and one that the server asked for after a revocation is good.
    #[test]
    fn a_ticket_counts_as_issued_with_its_token_and_the_servers_as_issued_now() {
        let now = SystemTime::now();
        let seconds = now.duration_since(UNIX_EPOCH).unwrap().as_secs();
        let ann = UserId::parse("ann").unwrap();
        let token = |iat| Claims { iat, ..Claims::new(ann.clone(), seconds + 60) };
        let issued = |token: Option<Claims>| {
            let (ticket, _) = keys(&["a"]).mint(Some(&ann), &[room("lobby")], token.as_ref(), now);
            keys(&["a"]).check(&ticket).unwrap().iat
        };
        assert_eq!(issued(Some(token(Some(seconds - 50)))), Some(seconds - 50));
        assert_eq!(issued(Some(token(None))), None);
        assert_eq!(issued(None), Some(seconds));
    }

    #[test]
    fn a_token_in_the_place_of_a_ticket_is_recognised() {
        assert!(looks_like_a_token("eyJhbGciOiJIUzI1NiJ9.e30.c2ln"));
        assert!(!looks_like_a_token("hct_eyJhbGciOiJIUzI1NiJ9.e30.c2ln"));
        assert!(!looks_like_a_token("nonsense"));
    }

    proptest::proptest! {
        #[test]
        fn no_ticket_panics(text in ".*") {
            let _ = keys(&["a"]).check(&text);
            let _ = keys(&["a"]).check(&format!("{PREFIX}{text}"));
        }
    }
}
