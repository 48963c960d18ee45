//! Tokens signed by other parties: public keys, sets of them, and the attacks on both.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as URL_SAFE_NO_PAD;
use headcount::auth::keys::{Keys, Owner};
use headcount::auth::{ClaimRules, Rights, Sources, TokenError, Verifier};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

use crate::support::signing::{claims, jwk, path, pem, sign};

fn with_public_key(name: &str) -> Verifier {
    let file = Some(path(&format!("{name}.pub.pem")));
    Verifier::new(Sources { public_key_file: file, ..Sources::default() }).unwrap()
}

#[test]
fn tokens_are_checked_by_a_public_key_of_each_kind_and_by_no_other() {
    let names = ["rsa", "p256", "ed25519"];
    for name in names {
        for signer in names {
            let result = with_public_key(name).check_now(&sign(signer, None, &claims()));
            assert_eq!(result.is_ok(), name == signer, "{signer} by {name}");
        }
    }
}

#[test]
fn an_rsa_key_that_can_be_factored_is_refused_as_a_file_and_left_out_of_a_set() {
    let pem = path("rsa1024.pub.pem");
    assert!(Verifier::new(Sources { public_key_file: Some(pem), ..Sources::default() }).is_err());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("jwks.json");
    let short = json!({"kty": "RSA", "kid": "short", "e": "AQAB", "n": URL_SAFE_NO_PAD.encode([0xc5; 128])});
    let mut sources = Sources { jwks_file: Some(file.clone()), ..Sources::default() };
    std::fs::write(&file, json!({"keys": [short]}).to_string()).unwrap();
    assert!(Verifier::new(sources.clone()).is_err());
    std::fs::write(&file, json!({"keys": [short, jwk("rsa", "long")]}).to_string()).unwrap();
    sources.jwks_file = Some(file);
    assert!(Verifier::new(sources).unwrap().check_now(&sign("rsa", Some("long"), &claims())).is_ok());
}

#[test]
fn a_public_key_is_never_taken_for_a_secret() {
    for name in ["rsa", "p256", "ed25519"] {
        let secret = EncodingKey::from_secret(&pem(&format!("{name}.pub.pem")));
        let forged = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims(), &secret).unwrap();
        assert_eq!(with_public_key(name).check_now(&forged).unwrap_err(), TokenError::Invalid);
    }
}

#[test]
fn issuer_and_audience_are_required_once_configured() {
    let sources = Sources {
        public_key_file: Some(path("rsa.pub.pem")),
        rules: ClaimRules {
            issuer: Some("https://id.example".into()),
            audience: Some("headcount".into()),
            ..ClaimRules::default()
        },
        ..Sources::default()
    };
    let verifier = Verifier::new(sources).unwrap();
    let mut right = claims();
    right["iss"] = json!("https://id.example");
    right["aud"] = json!(["other", "headcount"]);
    assert!(verifier.check_now(&sign("rsa", None, &right)).is_ok());
    for (field, value) in
        [("iss", json!("https://evil.example")), ("aud", json!("other")), ("iss", json!(null))]
    {
        let mut wrong = right.clone();
        wrong[field] = value;
        let refused = verifier.check_now(&sign("rsa", None, &wrong)).unwrap_err().to_string();
        assert!(refused.contains(&format!("`{field}`")), "{refused}");
        let by_another = verifier.check_now(&sign("p256", None, &wrong)).unwrap_err();
        assert_eq!(by_another, TokenError::Invalid, "whoever signs nothing learns nothing");
    }
    assert!(matches!(verifier.check_now(&sign("rsa", None, &claims())), Err(TokenError::Refused(_))));
}

#[test]
fn wrong_claim_types_are_refused() {
    let verifier = with_public_key("ed25519");
    for (field, value) in [
        ("sub", json!(7)),
        ("sub", json!("")),
        ("sub", json!("a\u{0}")),
        ("exp", json!("tomorrow")),
        ("exp", json!(-1)),
        ("rooms", json!("*")),
        ("rooms", json!([{"room": "a", "can": ["everything"]}])),
        ("rooms", json!([1])),
    ] {
        let mut wrong = claims();
        wrong[field] = value.clone();
        assert!(verifier.check_now(&sign("ed25519", None, &wrong)).is_err(), "{field}: {value}");
    }
}

#[test]
fn a_set_of_keys_rotates_without_a_restart_and_a_broken_file_changes_nothing() {
    let old = json!({"keys": [jwk("rsa", "old"), {"kty": "oct", "k": "c2VjcmV0"}]});
    let new = json!({"keys": [jwk("p256", "new")]});
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("jwks.json");
    std::fs::write(&file, old.to_string()).unwrap();
    let verifier = Verifier::new(Sources { jwks_file: Some(file.clone()), ..Sources::default() }).unwrap();
    assert!(verifier.check_now(&sign("rsa", Some("old"), &claims())).is_ok());
    assert!(verifier.check_now(&sign("rsa", Some("other"), &claims())).is_err());
    let secret = EncodingKey::from_secret(b"secret");
    let by_secret = jsonwebtoken::encode(&Header::default(), &claims(), &secret).unwrap();
    assert!(verifier.check_now(&by_secret).is_err(), "a secret in a set of public keys is no key");
    std::fs::write(&file, new.to_string()).unwrap();
    verifier.reload().unwrap();
    assert!(verifier.check_now(&sign("p256", Some("new"), &claims())).is_ok());
    assert!(verifier.check_now(&sign("rsa", Some("old"), &claims())).is_err());
    std::fs::write(&file, "{").unwrap();
    assert!(verifier.reload().is_err());
    assert!(verifier.check_now(&sign("p256", Some("new"), &claims())).is_ok());
}

#[tokio::test]
async fn a_token_found_good_is_refused_when_its_key_is_gone_or_its_time_is_over() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("jwks.json");
    let set = |keys: Value| std::fs::write(&file, json!({"keys": keys}).to_string()).unwrap();
    set(json!([jwk("rsa", "one"), jwk("p256", "two")]));
    let verifier = Verifier::new(Sources { jwks_file: Some(file.clone()), ..Sources::default() }).unwrap();
    let keys = Keys::new(&[], verifier, Rights::default());
    let user = async |token: &str| match keys.identify(token).await? {
        Owner::User(claims) => Ok(claims.sub.to_string()),
        Owner::Server => unreachable!("there is no server key"),
    };
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let short = json!({"sub": "bob", "exp": now - 1}); // five seconds are forgiven
    let (long, short) = (sign("rsa", Some("one"), &claims()), sign("p256", Some("two"), &short));
    for _ in 0..2 {
        assert_eq!(user(&long).await.as_deref(), Ok("ann"));
        assert_eq!(user(&short).await.as_deref(), Ok("bob"));
    }
    let mut often = tokio::time::interval(std::time::Duration::from_millis(100));
    let over = async {
        while user(&short).await.is_ok() {
            often.tick().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(30), over).await.expect("its time is over soon");
    assert_eq!(user(&short).await, Err(TokenError::Expired));
    keys.verifier().reload().unwrap();
    assert_eq!(user(&long).await.as_deref(), Ok("ann"), "the file is as it was");
    set(json!([jwk("p256", "two")]));
    keys.verifier().reload().unwrap();
    assert_eq!(user(&long).await, Err(TokenError::Invalid));
}
