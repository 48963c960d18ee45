//! Things that run out: disk, connection slots.

use std::path::PathBuf;
use std::process::Command;

use headcount::store::embedded::Durability;
use sqlx::postgres::PgConnection;
use sqlx::{Connection, Executor};

use super::s;
use crate::proxy::How;
use crate::run::{Plan, Run, only_in_all, scenario};
use crate::wait::until_so;

/// Somebody else's application takes every connection while ours are cut.
#[tokio::test(flavor = "multi_thread")]
async fn connection_slots_exhausted() {
    if !only_in_all("slots_exhausted") {
        return;
    }
    let mut plan = Plan::new("slots_exhausted");
    plan.max_connections = 40;
    scenario(plan, async |run: &mut Run| {
        run.warm().await;
        let mut person = run.database.connect().await; // before there is no slot left
        run.begin("exhausted");
        let mut taken = Vec::new();
        let options = run.database.connect_options();
        for round in 0..3 {
            while let Ok(connection) = PgConnection::connect_with(&options).await {
                taken.push(connection);
            }
            if round < 2 {
                run.links.iter().chain(&run.ears).for_each(|link| link.cut(How::Rst));
            }
        }
        let from = run.recorder.now();
        run.load(s(4)).await;
        run.answers_were_quick(from, run.recorder.now() - s(1));
        drop(taken);
        // The server ends a session when it notices: wait for that.
        let others = "select from pg_stat_activity where pid <> pg_backend_pid()";
        let freed = async || person.execute(others).await.unwrap().rows_affected() <= 30;
        until_so("the server ends what was dropped", s(20), freed).await;
        run.heal("exhausted");
        run.recover().await;
    })
    .await;
}

/// A directory on a file system of its own that is full in no time. Unmounted when dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// None, with a sentence, for who may not mount.
    fn mount(megabytes: u32) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            eprintln!("disk_full: skipped; only root can mount a small file system");
            return None;
        }
        let dir = tempfile::Builder::new().prefix("hcf-").tempdir().unwrap().keep();
        let options = format!("size={megabytes}m,mode=755");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(&dir).status();
        if mounted.is_ok_and(|status| status.success()) {
            return Some(Self(dir));
        }
        eprintln!("disk_full: skipped; this system does not let root mount a tmpfs");
        None
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
        let _ = std::fs::remove_dir(&self.0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn disk_full() {
    if !only_in_all("disk_full") {
        return;
    }
    let Some(disk) = SmallDisk::mount(120) else { return };
    let mut plan = Plan::new("disk_full");
    plan.data_dir = Some(disk.0.join("data"));
    plan.durability = Durability::Full;
    plan.heal_within = s(8);
    scenario(plan, async |run: &mut Run| {
        run.warm().await;
        run.begin("full");
        let ballast = disk.0.join("ballast");
        let _ = std::fs::write(&ballast, vec![0; 200 << 20]); // as much as fits
        // Postgres needs new space as soon as its log has to grow.
        let mut connection = run.database.connect().await;
        let grow = "select pg_logical_emit_message(true, 'grow', repeat('x', 100000000))";
        let _ = connection.execute(grow).await;
        run.load(s(5)).await;
        std::fs::remove_file(&ballast).unwrap();
        run.database.revive().await;
        run.database.until_serving().await;
        run.heal("full");
        run.recover().await;
    })
    .await;
}
