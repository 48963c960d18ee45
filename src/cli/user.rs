//! `headcount user`

use clap::Args;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::arguments::{ServiceArgs, user};
use super::client::Client;
use super::failure::Failure;
use super::format::{readable, word};
use super::out::Out;
use super::table::Table;
use crate::domain::id::UserId;
use crate::domain::member::Status;

/// `headcount user`
#[derive(Args, Debug)]
pub struct UserArgs {
    /// User ids
    #[arg(required = true, value_parser = user, value_name = "USER")]
    pub users: Vec<UserId>,
    /// Print a JSON object a line
    #[arg(long)]
    pub json: bool,
    /// Which service
    #[command(flatten)]
    pub target: ServiceArgs,
}

/// Users in one request, at most.
const IDS_MAX: usize = 1000;

/// Where a user is.
#[derive(Deserialize, Serialize)]
struct UserRow {
    id: String,
    online: bool,
    status: Option<Status>,
    rooms: Vec<String>,
    last_seen: Option<String>,
}

/// The answer.
#[derive(Deserialize)]
struct UsersAnswer {
    users: Vec<UserRow>,
}

/// Prints where the users are, in the order given.
pub async fn run(wanted: UserArgs, out: &mut Out) -> Result<(), Failure> {
    let client = Client::new(&wanted.target)?;
    let mut found = Vec::with_capacity(wanted.users.len());
    for ids in wanted.users.chunks(IDS_MAX) {
        found.append(&mut ask(&client, ids).await?);
    }
    if wanted.json {
        return found.iter().try_for_each(|user| out.json(user));
    }
    let mut table = Table::new(&["USER", "STATUS", "LAST SEEN", "ROOMS"]);
    for UserRow { id, status, rooms, last_seen, .. } in found {
        let status = status.map_or("offline", word).to_owned();
        let last_seen = last_seen.map_or_else(|| "never, or not told".to_owned(), |at| readable(&at));
        table.row([id, status, last_seen, rooms.join(" ")]);
    }
    table.lines().iter().try_for_each(|line| out.line(line))
}

async fn ask(client: &Client, ids: &[UserId]) -> Result<Vec<UserRow>, Failure> {
    let body: Value = json!({ "ids": ids });
    Ok(client.post::<UsersAnswer>("/v1/users/presence", &body).await?.users)
}
