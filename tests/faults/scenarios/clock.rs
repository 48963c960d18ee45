//! The database's clock jumps: an hour forward, ten minutes back. Needs libfaketime.

use std::path::PathBuf;

use super::s;
use crate::bare_postgres::BarePostgres;
use crate::proxy::{How, Upstream};
use crate::run::{Plan, Run, only_in_all, scenario};

fn libfaketime() -> Option<PathBuf> {
    let folders =
        ["/usr/lib/x86_64-linux-gnu/faketime", "/usr/lib/aarch64-linux-gnu/faketime", "/usr/lib/faketime"];
    folders.iter().map(|folder| PathBuf::from(folder).join("libfaketime.so.1")).find(|path| path.exists())
}

#[tokio::test(flavor = "multi_thread")]
async fn clock_of_the_database_jumps() {
    if !only_in_all("clock_jumps") {
        return;
    }
    let Some(library) = libfaketime() else {
        eprintln!("clock_jumps: skipped; there is no libfaketime (Debian's package faketime)");
        return;
    };
    let mut plan = Plan::new("clock_jumps");
    plan.same_clock = false;
    scenario(plan, async |run: &mut Run| {
        let dir = tempfile::Builder::new().prefix("hcf-").tempdir().unwrap();
        std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let offset = dir.path().join("offset");
        std::fs::write(&offset, "+0\n").unwrap();
        run.begin("another postmaster");
        let cluster = run.database.cluster();
        run.database.stop().await;
        let environment = [
            ("LD_PRELOAD", library.display().to_string()),
            ("FAKETIME_TIMESTAMP_FILE", offset.display().to_string()),
            ("FAKETIME_CACHE_DURATION", "1".to_owned()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
            ("FAKETIME_DISABLE_SHM", "1".to_owned()),
        ];
        run.database.replace(BarePostgres::start(&cluster, &dir.path().join("postgres.log"), &environment));
        run.database.until_serving().await;
        for link in run.links.iter().chain(&run.ears) {
            link.retarget(Upstream::Unix(run.database.socket()));
            link.cut(How::Rst);
        }
        run.heal("another postmaster");
        run.load(s(4)).await;
        let now = "select extract(epoch from now())::bigint";
        for (fault, text, jump) in [("+1 h", "+3600\n", 3600), ("-10 min", "+3000\n", -600)] {
            let before = run.database.number(now).await;
            run.begin(fault);
            std::fs::write(&offset, text).unwrap();
            run.load(s(3)).await;
            let jumped = run.database.number(now).await - before;
            assert!((jumped - jump).abs() < 30, "the clock of the database jumped by {jumped} s");
            run.heal(fault);
            run.load(s(6)).await;
        }
        run.kept.push(Box::new(dir));
        let expired = "select count(*) from headcount.events where reason = 'expired' and user_id like 's%'";
        assert_eq!(run.database.number(expired).await, 0, "P7: nobody who beats expires");
    })
    .await;
}
