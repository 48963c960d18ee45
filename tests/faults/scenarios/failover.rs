//! The primary is lost, and an asynchronous standby takes over. What was acked a moment before may be lost with it:
//! the epoch changes, every watcher gets a snapshot that says so, and clients whose session is gone join again.

use sqlx::Connection;
use sqlx::postgres::PgConnection;

use super::s;
use crate::bare_postgres::{BarePostgres, base_backup};
use crate::postgres::{DATABASE, until_serving};
use crate::proxy::{How, Upstream};
use crate::recording::What;
use crate::run::{Plan, Run, only_in_all, scenario};

#[tokio::test(flavor = "multi_thread")]
async fn primary_lost_and_standby_promoted() {
    if !only_in_all("failover") {
        return;
    }
    let mut plan = Plan::new("failover");
    plan.heal_within = s(6);
    scenario(plan, async |run: &mut Run| {
        let dir = tempfile::Builder::new().prefix("hcf-").tempdir().unwrap();
        std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let (cluster, log) = (dir.path().join("standby"), dir.path().join("standby.log"));
        let sockets = run.database.socket().parent().unwrap().to_owned();
        base_backup(&sockets, &run.database.cluster(), &cluster);
        let standby = BarePostgres::start(&cluster, &log, &[]);
        let options = standby.connect_options(DATABASE);
        until_serving(&options).await;
        run.load(s(2)).await;
        run.begin("failover");
        run.database.kill().await;
        let mut connection = PgConnection::connect_with(&options).await.unwrap();
        let promoted: bool =
            sqlx::query_scalar("select pg_promote()").fetch_one(&mut connection).await.unwrap();
        assert!(promoted);
        let socket = options.get_socket().unwrap().join(".s.PGSQL.5432");
        for link in run.links.iter().chain(&run.ears) {
            link.retarget(Upstream::Unix(socket.clone()));
            link.cut(How::Rst);
        }
        run.database.replace(standby);
        run.kept.push(Box::new(dir));
        run.heal("failover");
        run.recover().await;
        let told = run.recorder.records().into_iter().filter(|record| match &record.what {
            What::Frame(frame) => frame.reason.as_deref() == Some("epoch"),
            _ => false,
        });
        let told = told.count();
        run.measure("snapshots_for_the_new_epoch", u64::try_from(told).unwrap());
        let diffs = run.plan.size.watchers * 5 / 6; // every sixth asks for lists, which replace everything anyway
        assert!(told >= diffs, "every watcher is told: {told}");
    })
    .await;
}
