//! The errors of a call to a service, each with a sentence that says how to mend it.

use std::fmt;
use std::io::ErrorKind;
use std::time::Duration;

use hyper::StatusCode;
use hyper_util::client::legacy::Error as HttpError;

use crate::auth::remote::causes;

/// Timeout of a call.
pub const CALL_MAX: Duration = Duration::from_secs(10);

/// Why a call failed.
#[derive(Debug)]
pub enum CallError {
    /// Nothing listens at that address.
    Refused(String),
    /// The host name does not resolve.
    UnknownHost(String),
    /// The certificate is not trusted.
    Untrusted {
        /// The service.
        url: String,
        /// What TLS says.
        reason: String,
    },
    /// Anything else below HTTP.
    Connection {
        /// The service.
        url: String,
        /// What the system says.
        reason: String,
    },
    /// No answer before the timeout.
    Late(String),
    /// An error response.
    Refusal(Refusal),
    /// The answer is not one of headcount's.
    Foreign(String),
}

/// An answer that is no success.
#[derive(Debug)]
pub struct Refusal {
    /// Its status.
    pub status: StatusCode,
    /// The code of a problem; empty when it was none of headcount's.
    pub code: String,
    /// What the response says is wrong.
    pub says: String,
    /// The delay before a retry, from `Retry-After`.
    pub retry_after: Option<Duration>,
}

impl std::error::Error for CallError {}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}. {}", self.says(), self.mend())
    }
}

impl CallError {
    /// Whether a retry may succeed.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Refusal(refusal) => {
                refusal.status.is_server_error() || refusal.status == StatusCode::TOO_MANY_REQUESTS
            }
            Self::Refused(_) | Self::Connection { .. } | Self::Late(_) => true,
            Self::UnknownHost(_) | Self::Untrusted { .. } | Self::Foreign(_) => false,
        }
    }

    /// The code, if the service gave one.
    pub fn code(&self) -> &str {
        if let Self::Refusal(refusal) = self { &refusal.code } else { "" }
    }

    /// From an error of the HTTP client. The cause is further down its chain of sources.
    pub(super) fn below_http(url: String, error: &HttpError) -> Self {
        let reason = causes(error);
        let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
        while let Some(below) = source {
            let io = below.downcast_ref::<std::io::Error>();
            if io.is_some_and(|io| io.kind() == ErrorKind::ConnectionRefused) {
                return Self::Refused(url);
            }
            source = below.source();
        }
        // Errors of TLS and of name resolution are wrapped in others that do not expose them: match the text.
        if reason.contains("certificate") {
            return Self::Untrusted { url, reason };
        }
        if reason.contains("dns error") {
            return Self::UnknownHost(url);
        }
        Self::Connection { url, reason }
    }

    /// What is wrong, without a full stop.
    pub fn says(&self) -> String {
        match self {
            Self::Refused(url) => format!("{url} refuses connections"),
            Self::UnknownHost(url) => format!("no address is known for the host of {url}"),
            Self::Untrusted { url, reason } => {
                format!("{url} shows a certificate that cannot be believed ({reason})")
            }
            Self::Connection { url, reason } => format!("{url} cannot be reached ({reason})"),
            Self::Late(url) => format!("{url} did not answer within {} s", CALL_MAX.as_secs()),
            Self::Refusal(Refusal { status, says, .. }) => format!("the service answers {status}: {says}"),
            Self::Foreign(url) => format!("{url} answers as headcount does not"),
        }
    }

    /// A sentence that says how to mend it.
    pub fn mend(&self) -> &'static str {
        match self {
            Self::Refused(_) => "Start headcount there, or say where it is with --url or HEADCOUNT_URL.",
            Self::UnknownHost(_) => "Correct the host in --url or HEADCOUNT_URL.",
            Self::Untrusted { .. } => {
                "Name the file of the authority's certificate in SSL_CERT_FILE, or correct the certificate."
            }
            Self::Connection { .. } => "Correct --url or HEADCOUNT_URL, or what is between here and there.",
            Self::Late(_) => "Look at its log and at its database.",
            Self::Refusal(refusal) => refusal.mend(),
            Self::Foreign(_) => {
                "Give the address of headcount, not of another service, as --url or HEADCOUNT_URL."
            }
        }
    }
}

impl Refusal {
    fn mend(&self) -> &'static str {
        match (self.code.as_str(), self.status.as_u16()) {
            ("missing_token", _) => "Give HEADCOUNT_SERVER_KEY or HEADCOUNT_TOKEN.",
            ("invalid_token", _) => {
                "Give the key of that service as HEADCOUNT_SERVER_KEY, or a token of its as HEADCOUNT_TOKEN, which goes first."
            }
            ("expired_token", _) => "Give a new HEADCOUNT_TOKEN; `headcount token USER` makes one.",
            ("server_only", _) => "Ask with the server key (HEADCOUNT_SERVER_KEY) and without a token.",
            ("room_not_found", _) => {
                "Ask with a token whose claim `rooms` allows it, or with the server key."
            }
            ("list_not_allowed", _) => "Ask with a token that has the right `list`, or with the server key.",
            ("not_found", _) => {
                "Give --url without a path, and that of operators if they have one of their own (HEADCOUNT_OPERATOR_LISTEN); \
                 else the service is older than this command."
            }
            ("history_gone", _) => "Ask for a later time; HEADCOUNT_RETENTION says how long the log is kept.",
            ("unavailable" | "outcome_unknown", _) => {
                "Look at its database; `headcount doctor` says what is wrong."
            }
            ("", 502..=504) => "Look whether headcount runs behind the proxy that answers.",
            ("", _) => "Give the address of headcount, not of another service, as --url or HEADCOUNT_URL.",
            (_, 429 | 503) => "Try again in a moment.",
            (_, 500..) => "Look at its log.",
            _ => "Correct what was asked for.",
        }
    }
}
