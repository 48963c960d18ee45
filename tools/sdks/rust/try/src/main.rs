//! Be there, and see it: with the generated Rust client, against the service that `HEADCOUNT_URL` names.

use std::env;
use std::error::Error;

use eventsource_stream::Eventsource;
use futures_util::{Stream, StreamExt};
use headcount_client::{Client, types};
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use uuid::Uuid;

const ROOM: &str = "rust";

fn client(credential: &str) -> Result<Client, Box<dyn Error>> {
    let bearer = HeaderValue::from_str(&format!("Bearer {}", env::var(credential)?))?;
    let headers = HeaderMap::from_iter([(AUTHORIZATION, bearer)]);
    // Without a time limit: a stream is one long answer.
    let http = reqwest::Client::builder().default_headers(headers).build()?;
    Ok(Client::new_with_client(&env::var("HEADCOUNT_URL")?, http))
}

/// The next frame with this name.
async fn next<S, E>(events: &mut S, name: &str) -> Result<String, Box<dyn Error>>
where
    S: Stream<Item = Result<eventsource_stream::Event, E>> + Unpin,
    E: Error + 'static,
{
    while let Some(event) = events.next().await {
        let event = event?;
        if event.event == name {
            return Ok(event.data);
        }
    }
    Err(format!("the stream ended before {name}").into())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let (server, user) = (client("HEADCOUNT_SERVER_KEY")?, client("HEADCOUNT_TOKEN")?);
    let session = Uuid::new_v4();

    let profile = types::ProfileBody::builder().name("Ann Berg");
    let stored = server.put_user().id("ann").body(profile).send().await?;
    assert_eq!(stored.name.as_str(), "Ann Berg");

    let stream = user.room_events().room(ROOM).send().await?.into_inner().into_inner();
    let mut events = stream.eventsource();
    let snapshot: types::SnapshotFrame = serde_json::from_str(&next(&mut events, "snapshot").await?)?;
    assert_eq!(snapshot.count, 0);

    let joined = user.join().room(ROOM).body(types::JoinBody::builder().session(session)).send().await?;
    assert!(joined.created);
    let diff: types::DiffFrame = serde_json::from_str(&next(&mut events, "diff").await?)?;
    assert_eq!(diff.joined[0].name, "Ann Berg");

    let beat = types::Beat::builder().session(session).try_into()?;
    let beats = user.heartbeats().body(types::Beats::Beat(beat)).send().await?;
    assert_eq!(beats.sessions[0].state, types::Life::Alive);

    let roster = user.get_roster().room(ROOM).send().await?;
    assert_eq!((roster.count, roster.members[0].id.as_str()), (1, "ann"));

    user.leave().room(ROOM).body(types::LeaveBody::builder().session(session)).send().await?;
    let diff: types::DiffFrame = serde_json::from_str(&next(&mut events, "diff").await?)?;
    assert_eq!((diff.left[0].id.as_str(), diff.left[0].reason), ("ann", types::Reason::Left));
    println!("Rust: fine");
    Ok(())
}
