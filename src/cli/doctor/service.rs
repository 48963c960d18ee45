//! Checks a running service from here: is it there, is it ready, is it of this version, does it accept these
//! keys, do clocks agree, is it on this database, and does the network harm streams.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hyper::StatusCode;
use secrecy::SecretString;
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::{Rfc2822, Rfc3339};

use super::arguments::DoctorArgs;
use super::database::judge_clock;
use super::finding::{Finding, Findings};
use super::network;
use crate::auth::{Claims, TokenKey};
use crate::cli::client::Client;
use crate::cli::failure::Failure;
use crate::cli::metrics::Metrics;
use crate::cli::refusal::CallError;
use crate::domain::id::UserId;

/// Lifetime of the token that is made for these checks.
const TOKEN_TTL: Duration = Duration::from_secs(120);

/// The share of open descriptors that is worth a warning: beyond it, new connections will soon be refused.
const DESCRIPTORS_FULL: f64 = 0.8;

/// Runs the checks. `replicas` are those connected to the database that was checked.
pub async fn look(
    wanted: &DoctorArgs,
    url: &str,
    replicas: &[String],
    findings: &mut Findings<'_>,
) -> Result<(), Failure> {
    let nobody = Client::at(url, None)?;
    match nobody.answer("/livez").await {
        Ok((StatusCode::OK, said)) if said.trim() == "ok" => {}
        Ok(_) => {
            return findings.add(Finding::of_call("service", &CallError::Foreign(nobody.base().to_owned())));
        }
        Err(error) => return findings.add(Finding::of_call("service", &error)),
    }
    findings.add(ready(&nobody).await)?;
    findings.extend(version(&nobody).await)?;
    findings.extend(descriptors(&nobody).await)?;
    if wanted.credential.token.is_none() && wanted.credential.server_keys().is_some() {
        let server = nobody.with_credential(wanted.credential.given());
        findings.add(server_key(&server).await)?;
        findings.extend(overview(&server, replicas).await)?;
    }
    let token = own_token(wanted);
    if let Some(token) = &token {
        findings.add(token_secret(&nobody.with_credential(Some(token.clone()))).await)?;
    }
    match wanted.credential.given().or(token) {
        Some(credential) => {
            let lines = network::look(&nobody.with_credential(Some(credential)), wanted.quick).await;
            findings.extend(lines)
        }
        None => {
            let told = "not looked at: nobody may ask (HEADCOUNT_SERVER_KEY, HEADCOUNT_TOKEN or HEADCOUNT_JWT_SECRET)";
            findings.add(Finding::skip("line", told))
        }
    }
}

async fn ready(client: &Client) -> Finding {
    let (status, said) = match client.answer("/readyz").await {
        Ok(answer) => answer,
        Err(error) => return Finding::of_call("service", &error),
    };
    let answer: Value = serde_json::from_str(&said).unwrap_or_default();
    if status == StatusCode::OK && answer["ready"] == true {
        return Finding::ok("service", format!("{} is ready", client.base()));
    }
    let missing: Vec<&str> =
        answer["missing"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let missing =
        if missing.is_empty() { "something that it does not tell here".into() } else { missing.join(", ") };
    Finding::fail(
        "service",
        format!("{} is not ready; it misses {missing}", client.base()),
        "Look at its log; if it misses its database, start Postgres or correct HEADCOUNT_DATABASE_URL where it runs.",
    )
}

/// Whether the service has the version and the calls of this program.
async fn version(client: &Client) -> Option<Finding> {
    let theirs: Value = match client.get("/openapi.json").await {
        Ok(document) => document,
        Err(error) => return Some(Finding::of_call("version", &error)),
    };
    let ours = serde_json::to_value(crate::http::routes::document()).unwrap_or_default();
    let (here, there) = (ours["info"]["version"].as_str()?, theirs["info"]["version"].as_str()?);
    let same = "Use the same headcount here and there; where they serve together, upgrade the older one.";
    if here != there {
        let says = format!("the service is headcount {there}, and this is {here}");
        return Some(Finding::warn("version", says, same));
    }
    let calls = |document: &Value| -> BTreeSet<String> {
        document["paths"].as_object().into_iter().flatten().map(|(path, _)| path.clone()).collect()
    };
    let (ours, theirs) = (calls(&ours), calls(&theirs));
    Some(match (ours.difference(&theirs).next(), theirs.difference(&ours).next()) {
        (None, None) => Finding::ok("version", format!("headcount {here}, here and there")),
        (Some(missing), _) => {
            Finding::warn("version", format!("the service is an older {here}: it has no {missing}"), same)
        }
        (None, Some(new)) => {
            Finding::warn("version", format!("the service is a newer {here}: it has {new}"), same)
        }
    })
}

/// Whether the service runs out of descriptors. None if metrics are not served here.
async fn descriptors(client: &Client) -> Option<Finding> {
    let metrics = Metrics::read(client).await;
    let open = metrics.total("headcount_process_open_descriptors")?;
    let most = metrics.total("headcount_process_max_descriptors").filter(|most| *most > 0.0)?;
    let says = format!("{open:.0} of {most:.0} descriptors of the service are open");
    Some(if open > most * DESCRIPTORS_FULL {
        let mend = "Raise LimitNOFILE of its unit (or ulimit -n) and restart it, or add a replica.";
        Finding::warn("service", says, mend)
    } else {
        Finding::ok("service", says)
    })
}

async fn server_key(client: &Client) -> Finding {
    match client.get::<Value>("/v1/rooms?limit=1").await {
        Ok(_) => Finding::ok("server key", "the service takes HEADCOUNT_SERVER_KEY"),
        Err(error) if error.code() == "invalid_token" => Finding::fail(
            "server key",
            "the service does not take HEADCOUNT_SERVER_KEY",
            "Set HEADCOUNT_SERVER_KEY to the same here and where the service runs, and restart it.",
        ),
        Err(error) => Finding::of_call("server key", &error),
    }
}

/// Checks that need the server key: the clock, and the database. None where operators have an address of
/// their own.
async fn overview(client: &Client, replicas: &[String]) -> Vec<Finding> {
    let Ok((text, date)) = client.text("/v1/admin/overview?seconds=1&rooms=1").await else {
        return Vec::new();
    };
    let overview: Value = serde_json::from_str(&text).unwrap_or_default();
    let database = overview["now"].as_str().and_then(|now| OffsetDateTime::parse(now, &Rfc3339).ok());
    // The header has whole seconds, rounded down: add the average of what is missing.
    let service = date.and_then(|date| OffsetDateTime::parse(&date.replace("GMT", "+0000"), &Rfc2822).ok());
    let service = service.map(|service| service + time::Duration::milliseconds(500));
    let clocks = service.zip(database).map(|(service, database)| {
        judge_clock("clock", "the clock of the service, or of a proxy before it,", service - database)
    });
    let name = overview["here"]["name"].as_str().unwrap_or_default();
    let elsewhere =
        !replicas.is_empty() && !name.is_empty() && !replicas.iter().any(|replica| replica == name);
    let elsewhere = elsewhere.then(|| {
        Finding::warn(
            "service",
            format!("{name} answers, and is not connected to the database that was looked at"),
            "Set HEADCOUNT_DATABASE_URL to the same here and where the service runs.",
        )
    });
    clocks.into_iter().chain(elsewhere).collect()
}

/// A token of our own. None if tokens must have an issuer or an audience: ours would be refused without.
fn own_token(wanted: &DoctorArgs) -> Option<SecretString> {
    let keys = &wanted.token_keys;
    if keys.jwt_issuer.is_some() || keys.jwt_audience.is_some() || keys.jwt_user_claim != "sub" {
        return None;
    }
    let exp = (SystemTime::now() + TOKEN_TTL).duration_since(UNIX_EPOCH).ok()?.as_secs();
    let sub = UserId::parse("headcount-doctor").ok()?;
    let claims = Claims::new(sub, exp);
    Some(TokenKey::new(keys.secret()?.clone()).mint(&claims).into())
}

async fn token_secret(client: &Client) -> Finding {
    match client.get::<Value>("/v1/users/headcount-doctor/presence").await {
        Ok(_) => Finding::ok("tokens", "the service takes what HEADCOUNT_JWT_SECRET signs"),
        Err(error) if error.code() == "invalid_token" => Finding::fail(
            "tokens",
            "the service does not take what HEADCOUNT_JWT_SECRET signs",
            "Set HEADCOUNT_JWT_SECRET to the same where tokens are signed and where the service runs, and restart it.",
        ),
        Err(error) if error.code() == "expired_token" => Finding::fail(
            "clock",
            format!(
                "to the service, a token that is good for {} s from now has expired",
                TOKEN_TTL.as_secs()
            ),
            "Let the service's machine and this one take their time from NTP (timedatectl set-ntp true).",
        ),
        Err(error) => Finding::of_call("tokens", &error),
    }
}
