//! PgBouncer in session mode and in transaction mode, where LISTEN needs a connection of its own. Needs Debian's
//! pgbouncer, which is old enough to mix up prepared statements.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use headcount::store::embedded::Durability;
use tempfile::TempDir;

use super::s;
use crate::postgres::Database;
use crate::proxy::{How, Upstream};
use crate::replica::{JWT_SECRET, SERVER_KEY, free_port};
use crate::run::{Plan, Run, only_in_all, scenario};

struct Bouncer {
    child: Child,
    port: u16,
    _dir: TempDir,
}

impl Bouncer {
    async fn start(database: &Database, mode: &str) -> Option<Self> {
        let program =
            ["/usr/sbin/pgbouncer", "/usr/bin/pgbouncer"].map(PathBuf::from).into_iter().find(|p| p.exists());
        let Some(program) = program else {
            eprintln!("pooler: skipped; there is no pgbouncer (Debian's package pgbouncer)");
            return None;
        };
        let dir = tempfile::Builder::new().prefix("hcf-").tempdir().unwrap();
        let sockets = database.socket().parent().unwrap().to_owned();
        // Only their owner may enter the directory of the socket and the one that it is in.
        for closed in [dir.path(), &sockets, sockets.parent().unwrap()] {
            std::fs::set_permissions(closed, PermissionsExt::from_mode(0o755)).unwrap();
        }
        let port = free_port();
        let configuration = format!(
            "[databases]\nheadcount = host={} port=5432 user=postgres\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
             listen_port = {port}\nunix_socket_dir =\nauth_type = any\npool_mode = {mode}\ndefault_pool_size = 40\n\
             ignore_startup_parameters = extra_float_digits\n",
            sockets.display()
        );
        let path = dir.path().join("pgbouncer.ini");
        std::fs::write(&path, configuration).unwrap();
        let log = std::fs::File::create(dir.path().join("pgbouncer.log")).unwrap();
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]);
        if rustix::process::geteuid().is_root() {
            command.args(["--reuid=nobody", "--regid=nogroup", "--clear-groups"]);
        }
        command.arg("--").arg(program).arg(&path).stdin(Stdio::null());
        let child = command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            tokio::task::yield_now().await;
        }
        Some(Self { child, port, _dir: dir })
    }

    fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/headcount?sslmode=disable", self.port)
    }
}

impl Drop for Bouncer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Who could not hear anything is refused at the start, in a sentence that says what to do.
#[tokio::test(flavor = "multi_thread")]
async fn a_pooler_in_transaction_mode_alone_is_refused() {
    if !only_in_all("pooler_transaction_alone") {
        return;
    }
    let database = Database::start(Durability::Off, 50).await;
    let Some(bouncer) = Bouncer::start(&database, "transaction").await else { return };
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_headcount"));
    command.args(["serve", "--listen", "127.0.0.1:0", "--database-url", &bouncer.url()]);
    command.env("HEADCOUNT_JWT_SECRET", JWT_SECRET).env("HEADCOUNT_SERVER_KEY", SERVER_KEY);
    let output =
        tokio::time::timeout(s(20), command.kill_on_drop(true).output()).await.expect("it ends").unwrap();
    assert!(!output.status.success());
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("pooler in transaction mode"), "{said}");
}

/// Every call is then a transaction of its own, and nothing stays prepared.
#[tokio::test(flavor = "multi_thread")]
async fn a_pooler_in_transaction_mode_is_fine_beside_a_direct_listener() {
    if !only_in_all("pooler_transaction") {
        return;
    }
    scenario(Plan::new("pooler_transaction"), async |run: &mut Run| {
        let Some(bouncer) = Bouncer::start(&run.database, "transaction").await else { return };
        run.begin("pooler");
        for replica in &mut run.replicas {
            replica.terminate().await;
        }
        for way in &run.links {
            way.retarget(Upstream::Tcp(([127, 0, 0, 1], bouncer.port).into()));
            way.cut(How::Rst);
        }
        for replica in &mut run.replicas {
            replica.start().await;
        }
        run.heal("pooler");
        run.recover().await;
        run.begin("cut");
        run.links.iter().for_each(|way| way.cut(How::Rst));
        run.heal("cut");
        run.recover().await;
        run.kept.push(Box::new(bouncer));
    })
    .await;
}

/// In session mode everything works, LISTEN too.
#[tokio::test(flavor = "multi_thread")]
async fn a_pooler_in_session_mode_is_fine() {
    if !only_in_all("pooler_session") {
        return;
    }
    scenario(Plan::new("pooler_session"), async |run: &mut Run| {
        let Some(bouncer) = Bouncer::start(&run.database, "session").await else { return };
        run.begin("pooler");
        for way in run.links.iter().chain(&run.ears) {
            way.retarget(Upstream::Tcp(([127, 0, 0, 1], bouncer.port).into()));
            way.cut(How::Rst);
        }
        run.heal("pooler");
        run.recover().await;
        run.begin("restart");
        run.replicas[0].terminate().await;
        run.replicas[0].start().await; // through the pooler from the beginning
        run.heal("restart");
        run.recover().await;
        run.kept.push(Box::new(bouncer));
    })
    .await;
}
