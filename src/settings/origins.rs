//! Origins of pages that may call: the setting, parsed as browsers write an origin.
//!
//! An origin that could never match is refused when the service starts. Browsers send the scheme and the host in lower
//! case, the host in ASCII (Punycode), and no port where it is the default of the scheme.

use url::{Host, Url};

use super::SettingError;

/// What may call. Empty: no page of another origin.
#[derive(Clone, Debug, Default)]
pub struct Origins(Vec<Origin>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Origin {
    /// As browsers send it.
    Exact(String),
    /// `https://*.preview.example`: any host below that one.
    Below {
        /// `https://`
        scheme: String,
        /// `.preview.example`, with the port where there is one.
        end: String,
    },
}

impl Origins {
    /// From the setting: origins separated by commas, blanks or lines.
    pub fn parse(setting: &[String]) -> Result<Self, SettingError> {
        let entries = setting.iter().flat_map(|part| part.split(|c: char| c == ',' || c.is_whitespace()));
        let named = |text: &str| {
            parse(text).map_err(|why| SettingError(format!("HEADCOUNT_CORS_ORIGINS holds {text}: {why}")))
        };
        entries.filter(|text| !text.is_empty()).map(named).collect::<Result<_, _>>().map(Self)
    }

    /// Whether a page of this origin may call.
    pub fn allow(&self, origin: &str) -> bool {
        let origin = origin.to_ascii_lowercase();
        self.0.iter().any(|allowed| allowed.matches(&origin))
    }
}

impl Origin {
    fn matches(&self, origin: &str) -> bool {
        match self {
            Self::Exact(exact) => exact == origin,
            Self::Below { scheme, end } => {
                let below =
                    origin.strip_prefix(scheme.as_str()).and_then(|rest| rest.strip_suffix(end.as_str()));
                below.is_some_and(|name| !name.is_empty() && name.split('.').all(is_label))
            }
        }
    }
}

fn is_label(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
}

const FORM: &str = "an origin is https://host or https://host:port, without a slash after it";

fn parse(text: &str) -> Result<Origin, &'static str> {
    let Some((scheme, host)) = text.split_once("://") else { return Err(FORM) };
    if host.is_empty() || host.contains(['/', '?', '#', '@', '\\']) {
        return Err(FORM);
    }
    if scheme.eq_ignore_ascii_case("file") {
        return Err("the origin of a file is null, which any page can have");
    }
    match host.strip_prefix("*.") {
        None if host.contains('*') => {
            Err("a * stands for whole labels at the beginning: https://*.preview.example")
        }
        None => canonical(scheme, host).map(|(scheme, host)| Origin::Exact(scheme + &host)),
        Some(above) => {
            let (scheme, host) = canonical(scheme, above)?;
            let is_name =
                host.split(':').next().is_some_and(|name| name.contains('.') || name == "localhost");
            if !is_name || host.contains('*') || host.starts_with('[') {
                return Err("a * needs a domain of its own after it: https://*.preview.example");
            }
            Ok(Origin::Below { scheme, end: format!(".{host}") })
        }
    }
}

/// Scheme and host, with the port where it is not the default.
fn canonical(scheme: &str, host: &str) -> Result<(String, String), &'static str> {
    let url = Url::parse(&format!("{scheme}://{host}")).map_err(|_| FORM)?;
    let name = match url.host() {
        Some(Host::Domain(name)) if !name.is_empty() => name.to_ascii_lowercase(),
        Some(host @ (Host::Ipv4(_) | Host::Ipv6(_))) => host.to_string(),
        _ => return Err(FORM),
    };
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    Ok((format!("{}://", url.scheme()), name + &port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(setting: &str, origin: &str) -> bool {
        Origins::parse(&[setting.to_owned()]).unwrap().allow(origin)
    }

    #[test]
    fn an_origin_matches_what_browsers_send_for_it() {
        for (setting, sent) in [
            ("https://app.example", "https://app.example"),
            ("https://app.example:443", "https://app.example"),
            ("http://app.example:80", "http://app.example"),
            ("https://app.example:8443", "https://app.example:8443"),
            ("HTTPS://App.Example", "https://app.example"),
            ("https://müller.example", "https://xn--mller-kva.example"),
            ("https://xn--mller-kva.example", "https://xn--mller-kva.example"),
            ("http://[::1]:3000", "http://[::1]:3000"),
            ("http://127.0.0.1:3000", "http://127.0.0.1:3000"),
            ("capacitor://localhost", "capacitor://localhost"),
            ("tauri://localhost", "tauri://localhost"),
            ("ionic://localhost", "ionic://localhost"),
            (
                "chrome-extension://abcdefghijklmnopabcdefghijklmnop",
                "chrome-extension://abcdefghijklmnopabcdefghijklmnop",
            ),
            (
                "moz-extension://3f2b8c1e-52a4-4a57-9d6b-0f4f3a1c9e77",
                "moz-extension://3f2b8c1e-52a4-4a57-9d6b-0f4f3a1c9e77",
            ),
            (" https://a.example , https://app.example\n https://b.example ", "https://app.example"),
            ("https://*.preview.example", "https://pr-17.preview.example"),
            ("https://*.preview.example", "https://a.b.preview.example"),
            ("https://*.preview.example:8443", "https://a.preview.example:8443"),
            ("https://*.müller.example", "https://a.xn--mller-kva.example"),
        ] {
            assert!(allows(setting, sent), "{setting} {sent}");
        }
    }

    #[test]
    fn and_nothing_else() {
        for (setting, sent) in [
            ("", "https://app.example"),
            ("https://app.example", "http://app.example"),
            ("https://app.example", "https://app.example.evil.test"),
            ("https://app.example", "https://app.example:8443"),
            ("https://app.example", "null"),
            ("https://*.preview.example", "https://preview.example"),
            ("https://*.preview.example", "https://.preview.example"),
            ("https://*.preview.example", "https://evil.test/.preview.example"),
            ("https://*.preview.example", "https://evilpreview.example"),
            ("https://*.preview.example", "http://a.preview.example"),
            ("https://*.preview.example", "https://a.preview.example:8443"),
        ] {
            assert!(!allows(setting, sent), "{setting} {sent}");
        }
    }

    #[test]
    fn what_could_never_match_is_refused_by_name() {
        for bad in [
            "*",
            "null",
            "app.example",
            "https://",
            "https:///",
            "https://app.example/",
            "https://app.example/path",
            "https://app.example?x",
            "https://user@app.example",
            "https://app.example:99999",
            "https://app.*.example",
            "https://*",
            "https://*.example",
            "https://*.*.example",
            "https://exa mple",
            "https://[::1",
            "file://localhost",
        ] {
            let refused = Origins::parse(&[bad.to_owned()]);
            assert!(
                refused.is_err_and(|error| error.to_string().starts_with("HEADCOUNT_CORS_ORIGINS holds ")),
                "{bad}"
            );
        }
    }
}
