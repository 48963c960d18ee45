//! Which pages of other origins may call. An origin is scheme, host and port, as browsers write it: host names of other
//! scripts in their ASCII form, the port only where it is not the scheme's own. What is not written that way would never
//! match, so it is brought into that form, and what cannot be an origin is refused by name.

use std::str::FromStr;

use url::{Host, Url};

/// Stands for the labels of a wildcard while the rest is parsed.
const LABEL: &str = "any.";

/// The origins that may call.
#[derive(Debug, Clone, Default)]
pub struct Origins(Vec<Origin>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Origin {
    Exact(String),
    /// All hosts below a domain.
    Below {
        /// With the separator: `https://`.
        scheme: String,
        /// With the dot before it, and with the port.
        suffix: String,
    },
}

impl Origins {
    /// Whether pages of this origin may call. It is the header's value.
    pub fn allow(&self, origin: &str) -> bool {
        self.0.iter().any(|allowed| allowed.matches(origin))
    }
}

impl Origin {
    fn matches(&self, origin: &str) -> bool {
        match self {
            Self::Exact(exact) => exact == origin,
            Self::Below { scheme, suffix } => origin
                .strip_prefix(scheme.as_str())
                .and_then(|rest| rest.strip_suffix(suffix.as_str()))
                .is_some_and(is_labels),
        }
    }
}

/// Labels of a host name, separated by dots: nothing that could end the host.
fn is_labels(text: &str) -> bool {
    let plain = |label: &str| {
        !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    text.split('.').all(plain)
}

impl FromStr for Origins {
    type Err = String;

    /// Separated by commas or white space.
    fn from_str(text: &str) -> Result<Self, String> {
        let pieces = text.split(|c: char| c == ',' || c.is_whitespace()).filter(|piece| !piece.is_empty());
        pieces.map(parse).collect::<Result<_, _>>().map(Self)
    }
}

fn parse(text: &str) -> Result<Origin, String> {
    let bad =
        |why: &str| format!("{text} {why}: an origin is https://host, https://host:port or https://*.domain");
    if ["*", "null"].contains(&text) {
        return Err(bad("would let pages of anybody call"));
    }
    let (scheme, host) = text.split_once("://").ok_or_else(|| bad("has no scheme"))?;
    let below = host.strip_prefix("*.");
    if below.unwrap_or(host).contains('*') {
        return Err(bad("has a wildcard elsewhere than in front"));
    }
    if host.contains(['/', '?', '#', '@', '\\']) || host.is_empty() {
        return Err(bad("has more than a host, or none"));
    }
    let whole = below.map_or_else(|| text.to_owned(), |domain| format!("{scheme}://{LABEL}{domain}"));
    let url = Url::parse(&whole).map_err(|error| bad(&format!("cannot be read ({error})")))?;
    let serialized = serialize(&url).ok_or_else(|| bad("has no host that can be read"))?;
    if below.is_none() {
        return Ok(Origin::Exact(serialized));
    }
    let scheme = format!("{}://", url.scheme());
    let suffix = serialized.strip_prefix(&format!("{scheme}{LABEL}")).map(|domain| format!(".{domain}"));
    // A wildcard directly below a top-level domain is everybody who has a name there.
    let suffix = suffix.filter(|suffix| suffix.matches('.').count() > 1);
    suffix
        .map(|suffix| Origin::Below { scheme, suffix })
        .ok_or_else(|| bad("holds more than one owner's names"))
}

/// As browsers write an origin, also for schemes of applications, which the standard calls opaque.
fn serialize(url: &Url) -> Option<String> {
    let host = match url.host()? {
        Host::Domain(domain) => domain.to_ascii_lowercase(),
        address => address.to_string(),
    };
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    Some(format!("{}://{host}{port}", url.scheme()))
        .filter(|origin| origin.is_ascii() && !origin.contains('%'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_compared_as_browsers_write_it() {
        for (setting, origin) in [
            ("https://app.example", "https://app.example"),
            ("https://app.example:443", "https://app.example"),
            ("http://app.example:80", "http://app.example"),
            ("http://app.example:443", "http://app.example:443"),
            ("https://app.example:8443", "https://app.example:8443"),
            ("HTTPS://App.Example", "https://app.example"),
            ("https://müller.example", "https://xn--mller-kva.example"),
            ("https://xn--mller-kva.example", "https://xn--mller-kva.example"),
            ("https://例え.テスト:8443", "https://xn--r8jz45g.xn--zckzah:8443"),
            ("http://192.0.2.1:3000", "http://192.0.2.1:3000"),
            ("http://[::1]:3000", "http://[::1]:3000"),
            ("http://[2001:DB8:0::1]", "http://[2001:db8::1]"),
            ("capacitor://localhost", "capacitor://localhost"),
            ("tauri://localhost", "tauri://localhost"),
            ("ionic://localhost:8100", "ionic://localhost:8100"),
            (
                "chrome-extension://abcdefghijklmnopabcdefghijklmnop",
                "chrome-extension://abcdefghijklmnopabcdefghijklmnop",
            ),
            (
                "moz-extension://0b5c7d3e-1111-2222-3333-444455556666",
                "moz-extension://0b5c7d3e-1111-2222-3333-444455556666",
            ),
        ] {
            let origins: Origins = setting.parse().unwrap_or_else(|error| panic!("{error}"));
            assert!(origins.allow(origin), "{setting} is {origin}: {origins:?}");
            for other in
                ["null", "*", "", "https://evil.test", &format!("{origin}.evil.test"), &format!("{origin}/")]
            {
                assert!(!origins.allow(other), "{setting} is not {other}");
            }
        }
    }

    #[test]
    fn a_wildcard_is_every_host_below_a_domain_and_no_other() {
        let origins: Origins = "https://*.preview.example,https://*.bücher.example:8443".parse().unwrap();
        for good in [
            "https://a.preview.example",
            "https://pr-17.app.preview.example",
            "https://a.xn--bcher-kva.example:8443",
        ] {
            assert!(origins.allow(good), "{good}");
        }
        for bad in [
            "https://preview.example",
            "https://.preview.example",
            "https://a..preview.example",
            "https://evilpreview.example",
            "http://a.preview.example",
            "https://a.preview.example:444",
            "https://a.preview.example.evil.test",
            "https://evil.test/.preview.example",
            "https://evil.test:1.preview.example",
            "https://evil@a.preview.example",
            "https://a.xn--bcher-kva.example",
        ] {
            assert!(!origins.allow(bad), "{bad}");
        }
    }

    #[test]
    fn a_list_may_have_blanks_and_lines_and_what_is_no_origin_is_named() {
        let list: Origins =
            " https://a.example ,\n\thttps://b.example\n http://c.example,, ".parse().unwrap();
        assert!(
            ["https://a.example", "https://b.example", "http://c.example"]
                .iter()
                .all(|origin| list.allow(origin))
        );
        assert!(!"".parse::<Origins>().unwrap().allow("https://a.example"));
        for bad in [
            "*",
            "null",
            "app.example",
            "//app.example",
            "https://",
            "https://app.example/",
            "https://app.example/path",
            "https://app.example?x",
            "https://app.example#x",
            "https://user@app.example",
            "https://app.example:99999",
            "https://app.example:x",
            "https://*",
            "https://*.com",
            "https://*.*.example",
            "https://a.*.example",
            "https://app*.example",
            "https://bad%host.example",
            "https://[::1",
            "file://",
            "capacitor://müller",
        ] {
            let error = format!("https://good.example,{bad}").parse::<Origins>().unwrap_err();
            assert!(error.starts_with(&format!("{bad} ")), "{bad}: {error}");
        }
    }
}
