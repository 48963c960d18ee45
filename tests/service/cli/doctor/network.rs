//! What stands between: `headcount doctor` tells a proxy that holds streams back or cuts them, a pooler through which nobody
//! can listen, and clocks that differ. With nginx, PgBouncer and libfaketime themselves; where one is not installed, its
//! tests say that they are skipped.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use sqlx::postgres::PgConnectOptions;

use super::{Report, examine, service_url, settings};
use crate::support::deployment::{PATIENCE, SERVER_KEY, start, start_with, tuning};
use crate::support::program::run;
use crate::wait::until_so;

/// A program that is killed with this value.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Found as `scripts/bootstrap` finds it.
#[expect(clippy::print_stderr, reason = "who reads the log should know what was not tried")]
fn installed(programs: &[&str]) -> Option<PathBuf> {
    let found = programs.iter().map(PathBuf::from).find(|program| program.exists());
    if found.is_none() {
        eprintln!("skipped: none of {programs:?} is installed (scripts/bootstrap nginx faults)");
    }
    found
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

async fn until_open(port: u16) {
    let look = async || tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok();
    until_so("it listens", PATIENCE, look).await;
}

/// nginx before a service, with these settings.
async fn nginx(service: &str, settings: &str) -> Option<(Killed, tempfile::TempDir, String)> {
    let program = installed(&["/usr/sbin/nginx", "/usr/bin/nginx"])?;
    let dir = tempfile::Builder::new().prefix("hcn-").tempdir().unwrap();
    std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap(); // its workers are another user
    let (port, at) = (free_port(), dir.path().display());
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|name| format!("{name}_temp_path {at}/{name};"));
    let configuration = format!(
        "daemon off; master_process off; pid {at}/pid; error_log stderr warn; events {{ worker_connections 64; }}\n\
         http {{ {} access_log off; server {{ listen 127.0.0.1:{port}; \
         location / {{ proxy_pass {service}; {settings} }} }} }}",
        temporary.concat()
    );
    std::fs::write(dir.path().join("nginx.conf"), configuration).unwrap();
    let mut command = Command::new(program);
    command.arg("-c").arg(dir.path().join("nginx.conf")).arg("-p").arg(dir.path());
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let child = Killed(child);
    until_open(port).await;
    Some((child, dir, format!("http://127.0.0.1:{port}")))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_holds_streams_back_is_told() {
    let deployment = start().await;
    let base = deployment.server().base;
    let buffering = "proxy_http_version 1.1; proxy_ignore_headers X-Accel-Buffering; gzip on; gzip_proxied any; \
        gzip_types text/event-stream; gzip_min_length 0;";
    let Some((_proxy, _dir, url)) = nginx(&base, buffering).await else { return };
    let variables = [("HEADCOUNT_URL", url.as_str()), ("HEADCOUNT_SERVER_KEY", SERVER_KEY)];
    examine(&variables, &[]).await.broken("line", "something holds streams back", "proxy_buffering off");
    let Some((_proxy, _dir, url)) = nginx(&base, "proxy_http_version 1.1;").await else { return };
    let variables = [("HEADCOUNT_URL", url.as_str()), ("HEADCOUNT_SERVER_KEY", SERVER_KEY)];
    examine(&variables, &[]).await.fine("line");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_cuts_silent_streams_is_told() {
    let deployment = start().await;
    let Some((_proxy, _dir, url)) = nginx(&deployment.server().base, "proxy_read_timeout 2s;").await else {
        return;
    };
    let variables = [("HEADCOUNT_URL", url.as_str()), ("HEADCOUNT_SERVER_KEY", SERVER_KEY)];
    let ran = run(&["doctor", "--json"], &variables).await;
    Report::of(&ran).broken("line", "something cuts streams that are silent", "proxy_read_timeout 75s");
    assert!(ran.err.contains("silent for 16 s"), "{}", ran.err);
}

/// PgBouncer before a server, in transaction mode. As the owner of the server's socket, which nobody else may enter.
async fn bouncer(server: &PgConnectOptions) -> Option<(Killed, tempfile::TempDir, String)> {
    let program = installed(&["/usr/sbin/pgbouncer", "/usr/bin/pgbouncer"])?;
    let dir = tempfile::Builder::new().prefix("hcb-").tempdir().unwrap();
    std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let socket = server.get_socket().cloned().unwrap_or_else(|| PathBuf::from(server.get_host()));
    let (port, database) = (free_port(), server.get_database().unwrap());
    let configuration = format!(
        "[databases]\n{database} = host={} port={} user=headcount_service\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
         listen_port = {port}\nunix_socket_dir =\nauth_type = any\npool_mode = transaction\n\
         ignore_startup_parameters = extra_float_digits\n",
        socket.display(),
        server.get_port()
    );
    let path = dir.path().join("pgbouncer.ini");
    std::fs::write(&path, configuration).unwrap();
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]);
    if rustix::process::geteuid().is_root() {
        let owner = std::fs::metadata(&socket).unwrap();
        command
            .arg(format!("--reuid={}", owner.uid()))
            .arg(format!("--regid={}", owner.gid()))
            .arg("--clear-groups");
    }
    command.arg("--").arg(program).arg(&path).current_dir("/");
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let child = Killed(child);
    until_open(port).await;
    Some((child, dir, format!("postgres://headcount_service@127.0.0.1:{port}/{database}?sslmode=disable")))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pooler_through_which_nobody_can_listen_is_told() {
    let deployment = start_with(0, tuning()).await;
    let direct = service_url(&deployment);
    let Some((_bouncer, _dir, pooled)) = bouncer(&deployment.database.service).await else { return };
    let report = examine(&settings(&pooled), &[]).await;
    report.fine("database");
    report.fine("schema");
    report.fine("rights");
    report.broken("listen", "a pooler in transaction mode", "Set HEADCOUNT_LISTEN_DATABASE_URL");
    let mut variables = settings(&pooled);
    variables.push(("HEADCOUNT_LISTEN_DATABASE_URL", &direct));
    examine(&variables, &[]).await.fine("listen");
    let mut variables = settings(&direct);
    variables.push(("HEADCOUNT_LISTEN_DATABASE_URL", &pooled));
    examine(&variables, &[]).await.broken("listen", "nobody can listen", "not of the pooler");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_off_is_told() {
    let folders =
        ["/usr/lib/x86_64-linux-gnu/faketime", "/usr/lib/aarch64-linux-gnu/faketime", "/usr/lib/faketime"];
    let libraries = folders.map(|folder| format!("{folder}/libfaketime.so.1"));
    let Some(library) = installed(&libraries.each_ref().map(String::as_str)) else { return };
    let deployment = start_with(0, tuning()).await;
    let url = service_url(&deployment);
    let at = async |offset: &str| {
        let mut variables = settings(&url);
        let library = library.to_str().unwrap();
        variables.extend([
            ("LD_PRELOAD", library),
            ("FAKETIME", offset),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ]);
        examine(&variables, &[]).await
    };
    let ahead = at("+60s").await;
    ahead.broken("clock", "this machine's clock is 60.", "Let both machines take their time from NTP");
    at("-1h").await.broken("clock", "behind the database's: tokens are taken for expired", "timedatectl");
    at("+0s").await.fine("clock");
}
