//! Who is attacked: a real `headcount serve` with one worker, on a private Postgres.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use headcount::auth::{Claims, Rights, TokenKey};
use headcount::domain::id::UserId;
use headcount::store::embedded::{Durability, EmbeddedOptions, EmbeddedPostgres};

/// Signs tokens, and is the server key.
pub const SECRET: &str = "a secret of this bench that is long enough";

/// The server key. One key for two purposes is refused.
pub const SERVER_KEY: &str = "a server key of the benches that is long enough";

/// Postgres and one replica on it.
pub struct Stage {
    postgres: EmbeddedPostgres,
    pub address: SocketAddr,
    process: Child,
    _data: tempfile::TempDir,
}

impl Stage {
    /// A fresh cluster with fsync on, as in production. The replica gets these flags besides.
    pub async fn set(flags: &[&str]) -> Self {
        let data = tempfile::Builder::new().prefix("headcount-attack").tempdir().expect("a temporary folder");
        let data_dir = data.path().join("data");
        let options = EmbeddedOptions { data_dir, durability: Durability::Full, max_connections: 100 };
        let postgres = EmbeddedPostgres::start(options).await.expect("Postgres starts");
        postgres.ensure_database("bench").await.expect("a database can be made");
        let mut process = Command::new(env!("CARGO_BIN_EXE_headcount"))
            .args(["serve", "--listen", "127.0.0.1:0", "--workers", "1", "--log", "error"])
            .args([
                "--writes-per-user",
                "0",
                "--heartbeats-per-user",
                "0",
                "--writes-per-session",
                "0",
                "--heartbeats-per-session",
                "0",
            ])
            .args(flags)
            .env("DATABASE_URL", postgres.database_url("bench"))
            .env("HEADCOUNT_JWT_SECRET", SECRET)
            .env("HEADCOUNT_SERVER_KEY", SERVER_KEY)
            .stdout(Stdio::piped())
            .spawn()
            .expect("headcount starts");
        let lines = BufReader::new(process.stdout.take().expect("it is piped")).lines().map_while(Result::ok);
        let ready =
            lines.filter_map(|l| l.strip_prefix("headcount ready on http://").map(str::to_owned)).next();
        let address = ready.and_then(|a| a.parse().ok()).expect("it says where it listens");
        Self { postgres, address, process, _data: data }
    }

    /// A million events of others in the log of today.
    pub async fn fill_log(&self) {
        use sqlx::Connection;
        let url = self.postgres.database_url("bench");
        let mut connection = sqlx::PgConnection::connect(&url).await.expect("Postgres answers");
        let fill = "insert into headcount.events (room_id, version, kind, user_id, member) \
             select 'old', n, 'updated', 'user-' || n % 100000, jsonb_build_object('name', 'Somebody', 'n', n) \
             from generate_series(1, 1000000) n";
        sqlx::query(fill).execute(&mut connection).await.expect("the log takes events");
        sqlx::query("checkpoint").execute(&mut connection).await.expect("so that it is not due meanwhile");
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
    let claims = Claims { rooms: Rights::everywhere(), ..Claims::new(sub, 4_000_000_000) };
    TokenKey::new(SECRET.to_owned().into()).mint(&claims)
}
