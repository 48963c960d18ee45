//! Two processes on one database.

use serde_json::json;
use sqlx::ConnectOptions;

use crate::support::deployment::{Client, start_with, tuning};
use crate::support::process::serve;

#[tokio::test(flavor = "multi_thread")]
async fn two_serve_processes_on_one_database_show_each_others_joins() {
    let deployment = start_with(0, tuning()).await;
    let url = deployment.database.service.to_url_lossy().to_string();
    let (here, there) = (serve(&url), serve(&url));
    let mut watcher = there.user("bob").watch("lobby").await;
    watcher.until_event("snapshot").await;
    let ann = here.user("ann");
    ann.join("lobby").await;
    watcher.until_members("lobby", &["ann"]).await;
    drop(here); // killed: that is no leave
    let again = Client { base: there.address.clone(), ..ann };
    assert_eq!(again.beat(json!({})).await, "alive");
    assert_eq!(deployment.log("lobby").await, ["joined ann"]);
}
