//! A Postgres on TCP that speaks TLS, with a certificate of an [`Authority`].

use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use headcount::store::embedded::{Durability, EmbeddedOptions, EmbeddedPostgres};
use rustix::process::{Pid, Signal, kill_process};
use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection, PgConnection};
use tempfile::TempDir;

use crate::support::certificates::Authority;
use crate::support::deployment::PATIENCE;

/// A Postgres on TCP that speaks TLS. Ends with this value.
pub struct Encrypted {
    child: Child,
    port: u16,
    _home: TempDir,
}

impl Encrypted {
    /// On a cluster that the launcher made; by hand, because the launcher never listens on a network.
    pub async fn start(authority: &Authority) -> Self {
        Self::admitting(authority, "hostssl all all 127.0.0.1/32 trust\n").await
    }

    /// With these lines in `pg_hba.conf`.
    pub async fn admitting(authority: &Authority, lines: &str) -> Self {
        let home = tempfile::Builder::new().prefix("hct-").tempdir().unwrap();
        let options = EmbeddedOptions {
            data_dir: home.path().to_owned(),
            durability: Durability::Off,
            max_connections: 40,
        };
        let made = EmbeddedPostgres::start(options).await.unwrap();
        made.ensure_database("headcount").await.unwrap();
        made.stop().await.unwrap();
        let cluster = home.path().join("cluster");
        for file in ["cert.pem", "key.pem"] {
            std::fs::copy(authority.file(file), cluster.join(file)).unwrap();
            hand_over(&cluster.join(file), &cluster);
        }
        std::fs::write(cluster.join("pg_hba.conf"), lines).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        Self { child: postgres(&cluster, port), port, _home: home }
    }

    pub fn url(&self, parameters: &str) -> String {
        format!("postgres://postgres@localhost:{}/headcount?{parameters}", self.port)
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Connects, when it has started.
    pub async fn connect(&self, parameters: &str) -> PgConnection {
        let options: PgConnectOptions = self.url(parameters).parse().unwrap();
        let connecting = async {
            loop {
                match PgConnection::connect_with(&options).await {
                    Ok(connection) => return connection,
                    Err(sqlx::Error::Io(_) | sqlx::Error::Database(_)) => tokio::task::yield_now().await,
                    Err(error) => panic!("{error}"),
                }
            }
        };
        tokio::time::timeout(PATIENCE, connecting).await.expect("Postgres starts")
    }
}

impl Drop for Encrypted {
    fn drop(&mut self) {
        let _ = kill_process(Pid::from_child(&self.child), Signal::QUIT);
        let _ = self.child.wait();
    }
}

fn postgres(cluster: &Path, port: u16) -> Child {
    let bin = std::env::var_os("HEADCOUNT_POSTGRES_BIN").expect("what runs the tests says where Postgres is");
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "QUIT"]);
    if rustix::process::geteuid().is_root() {
        let owner = std::fs::metadata(cluster).unwrap();
        command.arg(format!("--reuid={}", owner.uid())).arg(format!("--regid={}", owner.gid()));
        command.arg("--clear-groups");
    }
    command.arg("--").arg(Path::new(&bin).join("postgres")).arg("-D").arg(cluster).current_dir("/");
    for setting in [
        format!("port={port}"),
        "listen_addresses=127.0.0.1".into(),
        "unix_socket_directories=".into(),
        "ssl=on".into(),
        "ssl_cert_file=cert.pem".into(),
        "ssl_key_file=key.pem".into(),
    ] {
        command.arg("-c").arg(setting);
    }
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

fn hand_over(file: &Path, owner: &Path) {
    let owner = std::fs::metadata(owner).unwrap();
    chown(file, Some(owner.uid()), Some(owner.gid())).unwrap();
    std::fs::set_permissions(file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
}
