//! What is measured and what it is measured against: a private Postgres, a real `headcount serve`, and a trivial
//! actix server that does nothing but answer.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use actix_web::{App, HttpResponse, HttpServer, web};
use headcount::auth::{Claims, Rights, TokenKey};
use headcount::domain::id::UserId;
use headcount::store::embedded::{Durability, EmbeddedOptions, EmbeddedPostgres};

const SECRET: &str = "a secret of the benches, which is long enough";

/// Postgres and one replica on it.
pub struct Stage {
    pub postgres: EmbeddedPostgres,
    pub address: SocketAddr,
    process: Child,
    _data: tempfile::TempDir,
}

impl Stage {
    /// A fresh cluster with fsync on, as in production.
    pub async fn set() -> Self {
        let data = tempfile::Builder::new().prefix("headcount-bench").tempdir().expect("a temporary folder");
        let data_dir = data.path().join("data");
        let options = EmbeddedOptions { data_dir, durability: Durability::Full, max_connections: 100 };
        let postgres = EmbeddedPostgres::start(options).await.expect("Postgres starts");
        postgres.ensure_database("bench").await.expect("a database can be made");
        let mut process = Command::new(env!("CARGO_BIN_EXE_headcount"))
            .args(["serve", "--listen", "127.0.0.1:0", "--workers", "1", "--log", "error"])
            .args(["--limit-writes-per-user", "0", "--limit-heartbeats-per-user", "0"])
            .env("DATABASE_URL", postgres.database_url("bench"))
            .env("HEADCOUNT_JWT_SECRET", SECRET)
            .env("HEADCOUNT_SERVER_KEY", SECRET)
            .stdout(Stdio::piped())
            .spawn()
            .expect("headcount starts");
        let lines = BufReader::new(process.stdout.take().expect("it is piped")).lines().map_while(Result::ok);
        let ready =
            lines.filter_map(|l| l.strip_prefix("headcount ready on http://").map(str::to_owned)).next();
        let address = ready.and_then(|a| a.parse().ok()).expect("it says where it listens");
        Self { postgres, address, process, _data: data }
    }

    /// Bytes of memory that the replica's process holds.
    pub fn resident(&self) -> u64 {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap_or_default();
        let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).unwrap_or("0");
        line.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) * 1024
    }

    /// Ends everything that was started.
    pub async fn clear(mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = self.postgres.stop().await;
    }
}

/// A token of a user.
pub fn token(user: &str) -> String {
    let sub = UserId::parse(user).expect("a bench's user");
    let claims =
        Claims { sub, exp: 4_000_000_000, name: None, avatar_url: None, rooms: Rights::everywhere() };
    TokenKey::new(SECRET.to_owned().into()).mint(&claims)
}

/// An actix server with one worker that reads a body and answers, on a thread of its own for as long as this runs.
pub fn trivial_server() -> SocketAddr {
    let (started, address) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        actix_web::rt::System::new().block_on(async move {
            let answer = |_: web::Bytes| async { HttpResponse::Ok().body("{\"ok\":true}") };
            let server = HttpServer::new(move || App::new().route("/v1/heartbeats", web::post().to(answer)));
            let server = server.workers(1).disable_signals().bind("127.0.0.1:0").expect("a free port");
            started.send(server.addrs()[0]).expect("somebody waits");
            server.run().await.expect("it serves");
        });
    });
    address.recv_timeout(Duration::from_secs(10)).expect("it starts")
}
