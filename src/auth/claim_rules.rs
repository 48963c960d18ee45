//! Reads the claims of a token whose signature is good: pure, without a clock of its own.
//!
//! A claim that decides who the caller is or what it may do refuses the token, and the refusal names the claim. A claim
//! for display never does: a picture that cannot be shown is left out, a name that is too long is cut, and a blank one
//! becomes the user's id.

use std::time::Duration;

use serde_json::{Map, Value};

use super::rights::Acquaintances;
use super::token::{AVATAR_CHARS_MAX, Claims, LEEWAY, NAME_CHARS_MAX, Refusal, TokenError, is_picture};
use crate::domain::id::UserId;

/// Seconds since 1970 at the end of the year 9999. A later time counts as this one, so that no sum overflows.
const LATEST: f64 = 253_402_300_799.0;

/// What a token must say beside `exp`.
#[derive(Clone, Debug)]
pub struct ClaimRules {
    /// The claim `iss` that is required, if set.
    pub issuer: Option<String>,
    /// The claim `aud` that is required, if set.
    pub audience: Option<String>,
    /// The claim that holds the user's id.
    pub user: String,
    /// The longest time that a token may be good for, if limited.
    pub lifetime_max: Option<Duration>,
}

impl Default for ClaimRules {
    fn default() -> Self {
        Self { issuer: None, audience: None, user: "sub".into(), lifetime_max: None }
    }
}

/// The claims as they were signed.
pub(super) type Given = Map<String, Value>;

impl ClaimRules {
    /// The claims, if a token with them is good at `now`, in seconds since 1970.
    pub(super) fn read(&self, mut given: Given, now: u64) -> Result<Claims, TokenError> {
        let exp = time(&given, "exp")?.ok_or(Refusal::new("exp", "is missing"))?;
        if exp.saturating_add(LEEWAY) < now {
            return Err(TokenError::Expired);
        }
        if time(&given, "nbf")?.is_some_and(|from| from > now.saturating_add(LEEWAY)) {
            return Err(Refusal::new("nbf", "is in the future").into());
        }
        let iat = time(&given, "iat")?;
        // A token that says it is from the future is as one from now.
        let lifetime = exp.saturating_sub(iat.unwrap_or(now).min(now));
        if self.lifetime_max.is_some_and(|max| lifetime > max.as_secs().saturating_add(LEEWAY)) {
            return Err(Refusal::new("exp", "is later than tokens may be good for here").into());
        }
        self.issued_for_us(&given)?;
        let sub = self.user(&given)?;
        let rooms = given.remove("rooms").unwrap_or_default();
        let rooms = serde_json::from_value(rooms)
            .map_err(|_| Refusal::new("rooms", "is neither null nor a list of patterns and grants"))?;
        let users = match given.remove("users").unwrap_or_default() {
            Value::Null => Acquaintances::default(),
            users => serde_json::from_value(users)
                .map_err(|_| Refusal::new("users", "is neither null nor a list of ids and patterns"))?,
        };
        let (name, avatar_url) = (name(&given, &sub), picture(&given));
        Ok(Claims { iat, name, avatar_url, rooms, users, ..Claims::new(sub, exp) })
    }

    fn issued_for_us(&self, given: &Given) -> Result<(), Refusal> {
        let text = |claim: &str| given.get(claim).and_then(Value::as_str);
        if self.issuer.as_deref().is_some_and(|issuer| text("iss") != Some(issuer)) {
            return Err(Refusal::new("iss", "is not the issuer that is required here"));
        }
        let Some(audience) = self.audience.as_deref() else { return Ok(()) };
        let among = given.get("aud").and_then(Value::as_array);
        let among = among.is_some_and(|list| list.iter().any(|one| one.as_str() == Some(audience)));
        if among || text("aud") == Some(audience) {
            Ok(())
        } else {
            Err(Refusal::new("aud", "does not hold the audience that is required here"))
        }
    }

    fn user(&self, given: &Given) -> Result<UserId, Refusal> {
        let refusal = |what| Refusal::new(&self.user, what);
        let user = given.get(&self.user).ok_or_else(|| refusal("is missing"))?;
        let user = user.as_str().ok_or_else(|| refusal("is not a string"))?;
        UserId::parse(user).map_err(|_| refusal("is not 1 to 128 characters without control characters"))
    }
}

/// A NumericDate of RFC 7519: a number of seconds, of which a fraction is cut off.
fn time(given: &Given, claim: &str) -> Result<Option<u64>, Refusal> {
    let Some(value) = given.get(claim) else { return Ok(None) };
    let seconds = value.as_f64().ok_or_else(|| Refusal::new(claim, "is not a number of seconds"))?;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to what fits")]
    Ok(Some(seconds.clamp(0.0, LATEST) as u64))
}

/// The name to show: `name`, or `preferred_username` as OpenID Connect has it. NUL cannot be stored and is left out.
fn name(given: &Given, user: &UserId) -> Option<String> {
    let text = |claim: &str| given.get(claim).and_then(Value::as_str);
    let names: Vec<String> = ["name", "preferred_username"]
        .into_iter()
        .filter_map(text)
        .map(|name| name.chars().filter(|c| *c != '\0').take(NAME_CHARS_MAX).collect())
        .collect();
    let shown = names.iter().find(|name| !name.trim().is_empty());
    shown.cloned().or_else(|| names.first().map(|_| user.to_string()))
}

/// The picture to show: `avatar_url`, or `picture` as OpenID Connect has it. An empty `avatar_url` removes it.
fn picture(given: &Given) -> Option<String> {
    let text = |claim: &str| given.get(claim).and_then(Value::as_str);
    let usable =
        |url: &&str| is_picture(url) && !url.contains('\0') && url.chars().count() <= AVATAR_CHARS_MAX;
    let removed = text("avatar_url").filter(|url| url.is_empty());
    removed.or_else(|| ["avatar_url", "picture"].into_iter().filter_map(text).find(usable)).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const NOW: u64 = 1_800_000_000;

    fn read(changes: Value) -> Result<Claims, TokenError> {
        read_by(&ClaimRules::default(), changes)
    }

    #[expect(clippy::needless_pass_by_value, reason = "cases are written where they are read")]
    fn read_by(rules: &ClaimRules, changes: Value) -> Result<Claims, TokenError> {
        let mut given = json!({"sub": "ann", "exp": NOW + 60});
        for (claim, value) in changes.as_object().unwrap() {
            given[claim] = value.clone();
        }
        rules.read(given.as_object().unwrap().clone(), NOW)
    }

    #[test]
    fn a_claim_for_display_never_refuses_a_person() {
        let shown = |changes| read(changes).map(|claims| (claims.name, claims.avatar_url)).unwrap();
        let (ann, none) = (Some("Ann".to_owned()), None::<String>);
        for picture in [json!("/media/1.png"), json!("http://a"), json!(7), json!("https://a\0"), json!(null)]
        {
            assert_eq!(shown(json!({"avatar_url": picture, "name": "Ann"})), (ann.clone(), none.clone()));
        }
        assert_eq!(shown(json!({"name": "ä".repeat(257)})).0, Some("ä".repeat(256)));
        assert_eq!(shown(json!({"name": " \t"})).0, Some("ann".into()));
        assert_eq!(shown(json!({"name": "A\0nn"})).0, ann);
        for name in [json!(7), json!({"a": 1}), json!(null)] {
            assert_eq!(shown(json!({"name": name})).0, None, "what is no text says nothing");
        }
    }

    #[test]
    fn the_claims_of_openid_connect_are_understood_and_ours_go_before_them() {
        let oidc = json!({"preferred_username": "ann42", "picture": "https://a/p"});
        let claims = read(oidc.clone()).unwrap();
        assert_eq!(
            (claims.name.as_deref(), claims.avatar_url.as_deref()),
            (Some("ann42"), Some("https://a/p"))
        );
        let mut both = oidc;
        both["name"] = json!("Ann");
        both["avatar_url"] = json!("https://a/ours");
        let claims = read(both).unwrap();
        assert_eq!(
            (claims.name.as_deref(), claims.avatar_url.as_deref()),
            (Some("Ann"), Some("https://a/ours"))
        );
        let removed = read(json!({"avatar_url": "", "picture": "https://a/p"})).unwrap();
        assert_eq!(removed.avatar_url.as_deref(), Some(""));
    }

    #[test]
    fn times_are_numbers_with_or_without_a_fraction_and_of_any_size() {
        #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
        let soon = NOW as f64 + 10.5;
        let claims = read(json!({"exp": soon, "iat": soon - 20.0, "nbf": 0.5})).unwrap();
        assert_eq!((claims.exp, claims.iat), (NOW + 10, Some(NOW - 10)));
        for huge in [json!(u64::MAX), json!(1e308), json!(9_223_372_036_854_775_808_u64)] {
            assert_eq!(read(json!({"exp": huge})).unwrap().exp, 253_402_300_799);
        }
        for past in [json!(0), json!(-1), json!(-1e308), json!(NOW - 6)] {
            assert_eq!(read(json!({"exp": past})).unwrap_err(), TokenError::Expired);
        }
        assert!(read(json!({"exp": NOW - 5, "nbf": NOW + 5})).is_ok(), "clocks may differ that much");
    }

    #[test]
    fn a_refusal_names_the_claim() {
        let rules =
            ClaimRules { issuer: Some("us".into()), audience: Some("here".into()), ..ClaimRules::default() };
        let good = json!({"iss": "us", "aud": ["there", "here"]});
        assert!(read_by(&rules, good.clone()).is_ok());
        for (claim, value) in [
            ("sub", json!(42)),
            ("sub", json!("")),
            ("sub", json!(null)),
            ("exp", json!("tomorrow")),
            ("nbf", json!(NOW + 6)),
            ("nbf", json!("today")),
            ("iat", json!("today")),
            ("iss", json!("them")),
            ("aud", json!("there")),
            ("aud", json!([7])),
            ("users", json!("ann")),
            ("users", json!([7])),
            ("rooms", json!("*")),
            ("rooms", json!([{"room": "a", "can": ["everything"]}])),
        ] {
            let mut wrong = good.clone();
            wrong[claim] = value.clone();
            let refused = read_by(&rules, wrong).unwrap_err().to_string();
            assert!(refused.contains(&format!("`{claim}`")), "{claim} {value}: {refused}");
        }
    }

    #[test]
    fn the_claim_of_the_user_can_be_chosen() {
        let rules = ClaimRules { user: "email".into(), ..ClaimRules::default() };
        let claims = read_by(&rules, json!({"email": "ann@example.org", "sub": 42})).unwrap();
        assert_eq!(claims.sub.as_str(), "ann@example.org");
        assert!(read_by(&rules, json!({})).unwrap_err().to_string().contains("`email` is missing"));
    }

    #[test]
    fn a_token_that_is_good_for_too_long_is_refused() {
        let rules = ClaimRules { lifetime_max: Some(Duration::from_secs(3600)), ..ClaimRules::default() };
        let told = |changes| read_by(&rules, changes).map(|_| ()).map_err(|error| error.to_string());
        assert_eq!(told(json!({"exp": NOW + 3600})), Ok(()));
        assert_eq!(told(json!({"exp": NOW + 60, "iat": NOW - 3540})), Ok(()));
        for (exp, iat) in [(NOW + 3606, None), (NOW + 60, Some(NOW - 3546)), (NOW + 9000, Some(NOW + 8999))] {
            let changes = iat.map_or(json!({"exp": exp}), |iat| json!({"exp": exp, "iat": iat}));
            assert!(told(changes).unwrap_err().contains("`exp` is later"), "{exp} {iat:?}");
        }
    }

    proptest! {
        #[test]
        fn no_number_of_seconds_panics(exp: f64, nbf: f64, iat: f64, now: u64) {
            let given = json!({"sub": "ann", "exp": exp, "nbf": nbf, "iat": iat});
            let _ = ClaimRules::default().read(given.as_object().unwrap().clone(), now);
        }
    }
}
