//! The Debian package, built from the program that is tested, and installed with the real dpkg and systemd on a machine that
//! is thrown away.

use std::path::{Path, PathBuf};
use std::process::Command;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, UnixStream};

use crate::database::{SERVICE_PASSWORD, SERVICE_ROLE};
use crate::ops::load::Load;
use crate::ops::machine::Machine;
use crate::support::deployment::{JWT_SECRET, SERVER_KEY, start_with, tuning};

#[path = "../../../examples/man.rs"]
mod man;

/// None where there is no cargo-deb.
fn build(version: &str, folder: &Path) -> Option<PathBuf> {
    let target = Path::new(env!("CARGO_BIN_EXE_headcount")).ancestors().nth(2).unwrap();
    std::fs::create_dir_all(target.join("man")).unwrap();
    std::fs::write(target.join("man/headcount.1"), man::page().unwrap()).unwrap();
    let path = folder.join(format!("headcount_{version}.deb"));
    let mut command = Command::new("cargo-deb");
    command.args(["deb", "--no-build", "--strip", "--fast", "--offline", "--locked", "--profile", "dev"]);
    command.args(["--deb-version", version, "--output"]).arg(&path);
    let Ok(output) = command.current_dir(env!("CARGO_MANIFEST_DIR")).output() else {
        eprintln!("skipped: there is no cargo-deb (scripts/bootstrap deb)");
        return None;
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(path)
}

fn dpkg_deb(arguments: &[&str], package: &Path) -> String {
    let output = Command::new("dpkg-deb").args(arguments).arg(package).output().expect("dpkg is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn the_package_holds_what_an_operator_needs() {
    let folder = tempfile::tempdir().unwrap();
    let Some(package) = build("0.1.0-1", folder.path()) else { return };
    let files = dpkg_deb(&["--contents"], &package);
    let has = |mode: &str, path: &str| {
        let found = files.lines().any(|line| line.starts_with(mode) && line.ends_with(&format!(" ./{path}")));
        assert!(found, "{mode} {path} is not in\n{files}");
    };
    has("-rwxr-xr-x 0/0", "usr/bin/headcount");
    has("-rw-r--r-- 0/0", "lib/systemd/system/headcount.service");
    has("-rw-r--r-- 0/0", "lib/systemd/system/headcount.socket");
    has("-rw------- 0/0", "etc/headcount/headcount.env");
    has("-rw-r--r-- 0/0", "usr/share/man/man1/headcount.1.gz");
    has("-rw-r--r-- 0/0", "usr/share/doc/headcount/copyright");
    has("-rw-r--r-- 0/0", "usr/share/headcount/ops/kubernetes/headcount.yaml");
    assert!(files.contains("usr/share/doc/headcount/docs/operate.md"), "{files}");
    assert_eq!(dpkg_deb(&["--info"], &package).matches("postinst").count(), 1);
    assert_eq!(dpkg_deb(&["--ctrl-tarfile"], &package).matches("/etc/headcount/headcount.env").count(), 1);
}

/// The tests' Postgres is in a directory that nobody else can enter: a way to it for any user of this machine.
async fn way_to(socket: PathBuf) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let socket = socket.clone();
            tokio::spawn(async move {
                let mut server = UnixStream::connect(socket).await.unwrap();
                let _ = copy_bidirectional(&mut client, &mut server).await; // either side may go
            });
        }
    });
    port
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// One installed service, as an operator sees it.
struct Installed {
    machine: Machine,
}

impl Installed {
    async fn install(&self, version: &str) -> String {
        let dpkg = "DEBIAN_FRONTEND=noninteractive dpkg -i";
        self.machine.run(&format!("{dpkg} /run/packages/headcount_{version}.deb </dev/null")).await
    }

    async fn property(&self, name: &str) -> String {
        let command = format!("systemctl show --value -p {name} headcount.service");
        self.machine.run(&command).await.trim().to_owned()
    }

    /// A new process serves.
    async fn serves(&self) -> String {
        assert_eq!(self.property("ActiveState").await, "active");
        self.property("MainPID").await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_package_is_installed_upgraded_and_rolled_back_under_load_and_nobody_notices() {
    let folder = tempfile::tempdir().unwrap();
    let versions = ["0.1.0-1", "0.1.0-2"];
    if versions.iter().any(|version| build(version, folder.path()).is_none()) {
        return;
    }
    let shared = format!("{}:/run/packages", folder.path().display());
    let Some(machine) = Machine::boot(&[shared]).await else { return };
    let there = Installed { machine };
    let deployment = start_with(0, tuning()).await;
    let database = &deployment.database.service;
    let socket = database.get_socket().expect("the tests' Postgres listens on a socket only");
    let postgres = way_to(socket.join(format!(".s.PGSQL.{}", database.get_port()))).await;
    let (name, port) = (database.get_database().unwrap(), free_port());
    let url =
        format!("postgres://{SERVICE_ROLE}:{SERVICE_PASSWORD}@localhost:{postgres}/{name}?sslmode=disable");

    there.install("0.1.0-1").await;
    assert_eq!(there.property("ActiveState").await, "inactive", "what has no settings is not started");
    there
        .machine
        .run(&format!(
            "printf '%s\\n' 'HEADCOUNT_DATABASE_URL={url}' 'HEADCOUNT_JWT_SECRET={JWT_SECRET}' \
             'HEADCOUNT_SERVER_KEY={SERVER_KEY}' >>/etc/headcount/headcount.env; \
             mkdir -p /etc/systemd/system/headcount.socket.d; \
             printf '[Socket]\\nListenStream=\\nListenStream=127.0.0.1:{port}\\n' \
             >/etc/systemd/system/headcount.socket.d/address.conf; systemctl daemon-reload; \
             systemctl enable --now headcount.service || systemctl status headcount.service"
        ))
        .await;
    let first = there.serves().await;
    let confined = there.machine.run(&format!("cat /proc/{first}/status")).await;
    for line in ["CapBnd:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"] {
        assert!(confined.contains(line), "{line} is not in {confined}");
    }
    assert!(!confined.contains("Uid:\t0"), "it is not root");
    assert_eq!(there.machine.run("systemctl is-enabled headcount.socket").await.trim(), "enabled");

    let load = Load::start(&format!("http://127.0.0.1:{port}"), "calm").await;
    let mut processes = vec![first];
    for version in ["0.1.0-2", "0.1.0-1"] {
        load.answered(120).await;
        there.install(version).await;
        let told = there.machine.run("dpkg-query -W -f '${Version}' headcount").await;
        assert_eq!(told, version);
        processes.push(there.serves().await);
    }
    load.answered(120).await;
    there.machine.run("systemctl reload headcount.service").await;
    load.answered(120).await;
    there.machine.run("systemctl restart headcount.service").await;
    processes.push(there.serves().await);
    load.answered(120).await;
    let outcome = load.end(&mut deployment.database.connect().await).await;
    eprintln!("upgrade, roll back, reload, restart: {outcome}");
    assert_eq!((outcome.refused, outcome.cut), (0, 0), "{outcome}");
    let distinct: std::collections::BTreeSet<_> = processes.iter().collect();
    assert_eq!(distinct.len(), 4, "each was another process: {processes:?}");

    let load = Load::start(&format!("http://127.0.0.1:{port}"), "killed").await;
    load.answered(120).await;
    there.machine.run("systemctl kill -s KILL headcount.service").await;
    load.answered(120).await;
    there.serves().await;
    let outcome = load.end(&mut deployment.database.connect().await).await;
    eprintln!("killed: {outcome}");
    assert_eq!(outcome.refused, 0, "{outcome}");

    there.machine.run("dpkg -P headcount").await;
    let left = "! systemctl is-active headcount.socket && ! ls /etc/headcount /usr/bin/headcount";
    there.machine.run(left).await;
}
