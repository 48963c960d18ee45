//! Who calls, what can be called, and the rule that says what comes of it: written down here a second time, in
//! its own words, and not taken from the code that it is compared with.

use headcount::auth::Right;

/// A room, as a caller's token sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// The one that most tokens name.
    Here,
    /// One that is occupied too, and that they do not name.
    There,
    /// One that nobody ever joined.
    Nowhere,
}

/// Where a token gives its rights.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Within {
    Here,
    Elsewhere,
    Everywhere,
}

/// Who a credential is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Who {
    /// It shows nothing that counts.
    Nobody,
    /// It shows what is refused with this code.
    Refused(&'static str),
    /// The user ann.
    User(&'static [Right], Within),
    /// A ticket for the room here, in the address where that is possible.
    Ticket,
    /// A good token, but in the address.
    TokenInAddress,
    Server,
}

pub const CALLERS: &[(&str, Who)] = &[
    ("nothing", Who::Nobody),
    ("another scheme", Who::Nobody),
    ("garbage", Who::Refused("invalid_token")),
    ("expired token", Who::Refused("expired_token")),
    ("token of another secret", Who::Refused("invalid_token")),
    ("wrong server key", Who::Refused("invalid_token")),
    ("token in the address", Who::TokenInAddress),
    ("ticket", Who::Ticket),
    ("token without rooms", Who::User(&[], Within::Here)),
    ("token: watch", Who::User(&[Right::Watch], Within::Here)),
    ("token: join", Who::User(&[Right::Join], Within::Here)),
    ("token: list", Who::User(&[Right::List], Within::Here)),
    ("token: admin", Who::User(&[Right::Admin], Within::Here)),
    ("token: short form", Who::User(&[Right::Watch, Right::Join], Within::Here)),
    ("token: all, of another room", Who::User(&Right::ALL, Within::Elsewhere)),
    ("token: all, everywhere", Who::User(&Right::ALL, Within::Everywhere)),
    ("server key", Who::Server),
    ("second server key", Who::Server),
];

/// What a call needs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Need {
    Nothing,
    AnyToken,
    In(Right),
    /// A session of the caller's: if it is in the room, rights there do not matter.
    OwnSession,
    ListSomewhere,
    /// The user themselves, or one that may watch a room where they are.
    ToMeet,
    SelfOrServer,
    Server,
}

/// Whose thing it is about: then it is tried with the caller's own and with another's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum About {
    Nobody,
    Session,
    User,
}

pub struct Operation {
    pub method: &'static str,
    pub path: &'static str,
    /// The token goes into the body: `sendBeacon` cannot set headers.
    pub beacon: bool,
    pub need: Need,
    pub about: About,
}

const fn call(method: &'static str, path: &'static str, need: Need, about: About) -> Operation {
    Operation { method, path, beacon: false, need, about }
}

pub const OPERATIONS: &[Operation] = &[
    call("POST", "/v1/rooms/{room}/join", Need::In(Right::Join), About::Session),
    call("POST", "/v1/rooms/{room}/leave", Need::OwnSession, About::Session),
    Operation { beacon: true, ..call("POST", "/v1/rooms/{room}/leave", Need::OwnSession, About::Session) },
    call("POST", "/v1/join", Need::In(Right::Join), About::Session),
    call("POST", "/v1/leave", Need::OwnSession, About::Session),
    Operation { beacon: true, ..call("POST", "/v1/leave", Need::OwnSession, About::Session) },
    call("PATCH", "/v1/rooms/{room}/presence", Need::In(Right::Join), About::Session),
    call("POST", "/v1/heartbeats", Need::AnyToken, About::Session),
    call("GET", "/v1/rooms/{room}", Need::In(Right::Watch), About::Nobody),
    call("GET", "/v1/rooms/{room}/events", Need::In(Right::Watch), About::Nobody),
    call("GET", "/v1/events", Need::In(Right::Watch), About::Nobody),
    call("GET", "/v1/diagnostics/stream", Need::AnyToken, About::Nobody),
    call("POST", "/v1/tickets", Need::In(Right::Watch), About::Nobody),
    call("GET", "/v1/rooms", Need::ListSomewhere, About::Nobody),
    call("POST", "/v1/rooms/{room}/kick", Need::In(Right::Admin), About::Nobody),
    call("GET", "/v1/rooms/{room}/history/members", Need::In(Right::Admin), About::Nobody),
    call("GET", "/v1/rooms/{room}/history/attendance", Need::In(Right::Admin), About::Nobody),
    call("GET", "/v1/rooms/{room}/history/occupancy", Need::In(Right::Admin), About::Nobody),
    call("GET", "/v1/users/{id}", Need::ToMeet, About::User),
    call("GET", "/v1/users/{id}/presence", Need::AnyToken, About::User),
    call("GET", "/v1/users/events", Need::AnyToken, About::Nobody),
    call("POST", "/v1/users/presence", Need::AnyToken, About::User),
    call("PUT", "/v1/users/{id}", Need::SelfOrServer, About::User),
    call("DELETE", "/v1/users/{id}", Need::SelfOrServer, About::User),
    call("POST", "/v1/users/{id}/revoke", Need::Server, About::Nobody),
    call("PUT", "/v1/users", Need::Server, About::User),
    call("GET", "/v1/admin/overview", Need::Server, About::Nobody),
    call("GET", "/v1/admin/users", Need::Server, About::Nobody),
    call("GET", "/v1/settings/rooms", Need::Server, About::Nobody),
    call("PUT", "/v1/settings/rooms/{pattern}", Need::Server, About::Nobody),
    call("DELETE", "/v1/settings/rooms/{pattern}", Need::Server, About::Nobody),
    call("GET", "/v1/webhooks", Need::Server, About::Nobody),
    call("GET", "/v1/webhooks/{name}", Need::Server, About::Nobody),
    call("PUT", "/v1/webhooks/{name}", Need::Server, About::Nobody),
    call("POST", "/v1/webhooks/{name}/test", Need::Server, About::Nobody),
    call("DELETE", "/v1/webhooks/{name}", Need::Server, About::Nobody),
    call("GET", "/livez", Need::Nothing, About::Nobody),
    call("GET", "/readyz", Need::Nothing, About::Nobody),
    call("GET", "/metrics", Need::Nothing, About::Nobody),
];

impl Operation {
    pub fn is_stream(&self) -> bool {
        self.path.ends_with("/events") || self.path.ends_with("/stream")
    }

    pub fn has_room(&self) -> bool {
        matches!(self.need, Need::In(_) | Need::OwnSession)
    }

    /// Whether it takes many rooms and answers what became of each.
    pub fn is_of_many_rooms(&self) -> bool {
        ["/v1/join", "/v1/leave"].contains(&self.path)
    }

    /// Whether it writes at all.
    pub fn changes(&self) -> bool {
        let reads = ["/v1/tickets", "/v1/users/presence", "/v1/webhooks/{name}/test"];
        self.method != "GET" && !reads.contains(&self.path)
    }
}

/// Done, or refused with this status and code.
pub type Outcome = Result<(), (u16, &'static str)>;

/// What must come of it.
pub fn expected(operation: &Operation, who: Who, place: Place, own: bool) -> Outcome {
    if operation.need == Need::Nothing {
        return Ok(());
    }
    let user = match (who, operation.is_stream()) {
        (Who::Server, _) => None,
        (Who::User(can, within), _) => Some((can, within)),
        (Who::Ticket, true) => Some((&[Right::Watch][..], Within::Here)),
        (Who::Ticket, false) => return Err((401, "invalid_token")),
        (Who::TokenInAddress, true) => return Err((400, "token_in_url")),
        (Who::TokenInAddress, false) | (Who::Nobody, _) => return Err((401, "missing_token")),
        (Who::Refused(code), _) => return Err((401, code)),
    };
    let reaches = |within| within == Within::Everywhere || within == Within::Here && place == Place::Here;
    match (operation.need, user) {
        (Need::In(right), Some((can, within))) if !can.contains(&right) || !reaches(within) => {
            Err((404, "room_not_found"))
        }
        (Need::ListSomewhere, Some((can, _))) if !can.contains(&Right::List) => {
            Err((403, "list_not_allowed"))
        }
        // The other is in both rooms.
        (Need::ToMeet, Some((can, within)))
            if !own && (!can.contains(&Right::Watch) || within == Within::Elsewhere) =>
        {
            Err((404, "user_not_found"))
        }
        (Need::SelfOrServer, Some(_)) if !own => Err((403, "server_only")),
        (Need::Server, Some(_)) => Err((403, "server_only")),
        // One that the token does not allow is left by a session that is there; for any other it does not exist.
        (Need::OwnSession, Some((can, within)))
            if (!own || place == Place::Nowhere) && !(can.contains(&Right::Join) && reaches(within)) =>
        {
            Err((404, "room_not_found"))
        }
        // A beacon is a browser's, and names no user.
        (Need::In(_) | Need::OwnSession, None) if operation.beacon => Err((400, "user_required")),
        (Need::OwnSession, _) if !own => Err((404, "session_not_found")),
        // A session that is another's, or that is not in the room, is one that does not exist.
        (Need::In(_), _) if operation.about == About::Session && !own => Err((404, "session_not_found")),
        (Need::In(_), _) if operation.method == "PATCH" && place == Place::Nowhere => {
            Err((404, "session_not_found"))
        }
        _ => Ok(()),
    }
}

/// The rule as a page of the documentation.
pub fn page() -> String {
    let mut page = String::from(
        "# Who may do what\n\n\
         Made by a test of `tests/service/security/access` from the rule that it holds the service to, for each of these \
         callers and calls. A cell is `yes`, or the code of the refusal. \"All\" are the rights `watch`, `join`, `list` \
         and `admin`; \"short form\" is an entry of the claim `rooms` that is a room alone. A room that the token does \
         not name is answered alike whether it exists or not.\n",
    );
    let cases = [
        ("The caller's own session or profile, in a room that the token names", Place::Here, true),
        ("Another's session or profile, in a room that the token names", Place::Here, false),
        ("The caller's own session or profile, in a room that the token does not name", Place::There, true),
    ];
    for (title, place, own) in cases {
        page += &format!("\n## {title}\n\n| caller |");
        let shown = |operation: &&Operation| {
            operation.need != Need::Nothing
                && (own || operation.about != About::Nobody)
                && (place == Place::Here || operation.has_room())
        };
        let columns: Vec<_> = OPERATIONS.iter().filter(shown).collect();
        for operation in &columns {
            let how = if operation.beacon { " (token in the body)" } else { "" };
            page += &format!(" `{} {}`{how} |", operation.method, operation.path);
        }
        page += &format!("\n|---|{}\n", "---|".repeat(columns.len()));
        for (name, who) in CALLERS {
            let cells = columns.iter().map(|operation| match expected(operation, *who, place, own) {
                Ok(()) => "yes".to_owned(),
                Err((_, code)) => format!("`{code}`"),
            });
            page += &format!("| {name} | {} |\n", cells.collect::<Vec<_>>().join(" | "));
        }
    }
    page + "\nA heartbeat for another's session is answered, with `gone`, but under a server key. \
            `/livez`, `/readyz` and `/metrics` need nothing.\n"
}
