//! The files that operators are given agree with the program: every setting exists, every path and port is the same
//! everywhere, every manifest can be parsed. `HEADCOUNT_WRITE_DOCS=1` writes the file of settings.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use clap::{Arg, CommandFactory};
use headcount::auth::Rights;
use headcount::cli::grammar::Cli;
use yaml_rust2::{Yaml, YamlLoader};

use crate::ops::restart::Supervisor;
use crate::support::deployment::{Client, start_with, token, tuning};

/// Variables of the tests, the benches and the embedded Postgres, which no operator of a service sets.
const NOT_SETTINGS: [&str; 2] = ["HEADCOUNT_POSTGRES_BIN", "HEADCOUNT_TEST_POSTGRES_URL"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Of a command: each variable and what it is.
fn settings(command: &str) -> BTreeMap<String, Arg> {
    let mut cli = Cli::command();
    cli.build();
    let command = cli.find_subcommand(command).expect(command);
    let named = command.get_arguments().filter_map(|arg| {
        let name = arg.get_env()?.to_str().unwrap().to_owned();
        Some((name, arg.clone()))
    });
    named.collect()
}

fn all_settings() -> BTreeSet<String> {
    let cli = Cli::command();
    let names: Vec<String> = cli.get_subcommands().map(|command| command.get_name().to_owned()).collect();
    names.iter().flat_map(|name| settings(name).into_keys()).collect()
}

const HEAD: &str = "\
# The settings of headcount, one a line, without quotes. After a change: systemctl restart headcount
#
# Needed are HEADCOUNT_DATABASE_URL, HEADCOUNT_SERVER_KEY and something that tokens are checked by, such as
# HEADCOUNT_JWT_SECRET; `openssl rand -hex 32` makes a key. Each of the others has here what it is when it is not set.
# The address that the service has is in headcount.socket (systemctl edit headcount.socket), so HEADCOUNT_LISTEN has no
# effect under systemd.
";

/// The file of settings of the package: each as a comment, in the order of `headcount serve --help`.
fn environment_file() -> String {
    let mut cli = Cli::command();
    cli.build();
    let serve = cli.find_subcommand("serve").expect("it serves");
    let mut text = HEAD.to_owned();
    for arg in serve.get_arguments() {
        let Some(name) = arg.get_env() else { continue };
        text +=
            &format!("\n# {}\n", arg.get_help().cloned().unwrap_or_default().to_string().replace('\n', " "));
        let values = arg.get_possible_values();
        if !values.is_empty() && !arg.get_action().takes_values() || values.len() > 1 {
            let values: Vec<&str> = values.iter().map(clap::builder::PossibleValue::get_name).collect();
            text += &format!("# One of: {}\n", values.join(", "));
        }
        let default: Vec<_> = arg.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
        text += &format!("#{}={}\n", name.to_string_lossy(), default.join(","));
    }
    text
}

#[test]
fn the_packages_file_of_settings_is_what_the_program_says() {
    let path = "ops/debian/headcount.env";
    let generated = environment_file();
    if std::env::var_os("HEADCOUNT_WRITE_DOCS").is_some() {
        std::fs::write(root().join(path), &generated).unwrap();
    }
    assert!(read(path) == generated, "{path} is out of date: make settings");
    let set = generated.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).count();
    assert_eq!(set, 0, "it sets nothing by itself");
}

/// Every file under a folder whose name ends so.
fn files(folder: &str, endings: &[&str]) -> Vec<PathBuf> {
    let mut folders = vec![root().join(folder)];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if endings.iter().any(|ending| path.to_string_lossy().ends_with(ending)) {
                found.push(path);
            }
        }
    }
    found
}

/// What a text names that begins so.
fn named<'a>(text: &'a str, beginning: &str) -> BTreeSet<&'a str> {
    let found = text.match_indices(beginning).map(|(at, _)| {
        let rest = &text[at..];
        let end = rest.find(|c: char| !c.is_ascii_uppercase() && !c.is_ascii_digit() && c != '_');
        &rest[..end.unwrap_or(rest.len())]
    });
    found.collect()
}

#[test]
fn every_setting_that_an_operators_file_names_exists() {
    let known = all_settings();
    let mut paths = files("ops", &[""]);
    paths
        .extend(["Dockerfile", "compose.yaml", "docs/operate.md", "README.md"].map(|path| root().join(path)));
    for path in paths {
        let text = std::fs::read_to_string(&path).unwrap();
        for name in named(&text, "HEADCOUNT_") {
            let prefix = name.ends_with('_'); // `HEADCOUNT_LIMIT_...`
            let exists = known.contains(name) || NOT_SETTINGS.contains(&name);
            assert!(prefix || exists, "{}: there is no setting {name}", path.display());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_variable_that_is_set_to_nothing_is_as_if_it_were_not_set() {
    let deployment = start_with(0, tuning()).await;
    let mut systemd = Supervisor::of(&deployment);
    for name in settings("serve").into_keys() {
        if !["HEADCOUNT_DATABASE_URL", "HEADCOUNT_JWT_SECRET", "HEADCOUNT_SERVER_KEY"].contains(&&*name) {
            systemd.variables.push((name.leak(), String::new()));
        }
    }
    systemd.start().await;
    let ann = user_at(&systemd.base());
    ann.join("lobby").await;
    systemd.stop().await;
}

fn user_at(base: &str) -> Client {
    Client {
        http: reqwest::Client::new(),
        base: base.to_owned(),
        credential: token("ann", Rights::everywhere()),
        session: uuid::Uuid::new_v4(),
    }
}

fn yaml(path: &str) -> Vec<Yaml> {
    let parsed = YamlLoader::load_from_str(&read(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
    assert!(!parsed.is_empty(), "{path} holds something");
    parsed
}

#[test]
fn every_manifest_can_be_parsed() {
    for path in files("ops", &[".yaml", ".yml"]) {
        yaml(path.strip_prefix(root()).unwrap().to_str().unwrap());
    }
    yaml("compose.yaml");
}

/// The one of this kind and name.
fn object<'a>(objects: &'a [Yaml], kind: &str, name: &str) -> &'a Yaml {
    let found = objects.iter().find(|object| {
        object["kind"].as_str() == Some(kind) && object["metadata"]["name"].as_str() == Some(name)
    });
    found.unwrap_or_else(|| panic!("no {kind} {name}"))
}

#[test]
fn the_kubernetes_manifest_fits_together() {
    let objects = yaml("ops/kubernetes/headcount.yaml");
    let pod = &object(&objects, "Deployment", "headcount")["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    let port = |named: &str| {
        let ports = container["ports"].as_vec().unwrap();
        let found = ports.iter().find(|port| port["name"].as_str() == Some(named));
        found.and_then(|port| port["containerPort"].as_i64()).unwrap_or_else(|| panic!("no port {named}"))
    };
    let data = &object(&objects, "ConfigMap", "headcount")["data"];
    for (setting, name) in [("HEADCOUNT_LISTEN", "http"), ("HEADCOUNT_OPERATOR_LISTEN", "operators")] {
        assert!(data[setting].as_str().unwrap().ends_with(&format!(":{}", port(name))), "{setting}");
    }
    for (probe, path) in
        [("livenessProbe", "/livez"), ("readinessProbe", "/readyz"), ("startupProbe", "/livez")]
    {
        assert_eq!(container[probe]["httpGet"]["path"].as_str(), Some(path));
        port(container[probe]["httpGet"]["port"].as_str().unwrap());
    }
    for service in ["headcount", "headcount-operators"] {
        let ports = &object(&objects, "Service", service)["spec"]["ports"];
        port(ports[0]["targetPort"].as_str().unwrap());
    }
    let grace = pod["terminationGracePeriodSeconds"].as_i64().unwrap();
    let before = container["lifecycle"]["preStop"]["sleep"]["seconds"].as_i64().unwrap();
    assert!(grace >= before + 2 * 5, "a drain takes up to 5 s, after {before} s of waiting");
    assert_eq!(container["image"], pod["initContainers"][0]["image"]);
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(container["image"].as_str(), Some(format!("headcount:{version}").as_str()));
    let commands: Vec<String> = Cli::command().get_subcommands().map(|c| c.get_name().to_owned()).collect();
    for of in [container, &pod["initContainers"][0]] {
        assert!(commands.iter().any(|command| of["args"][0].as_str() == Some(command)));
    }
    let serve = settings("serve");
    for (kind, field) in [("ConfigMap", "data"), ("Secret", "stringData")] {
        for (name, _) in object(&objects, kind, "headcount")[field].as_hash().unwrap() {
            assert!(serve.contains_key(name.as_str().unwrap()), "serve has no {name:?}");
        }
    }
    let scaled = &object(&objects, "HorizontalPodAutoscaler", "headcount")["spec"];
    assert_eq!(scaled["metrics"][0]["pods"]["metric"]["name"].as_str(), Some("headcount_watchers"));
    assert!(read("docs/metrics.md").contains("`headcount_watchers`"), "that metric is served");
}

/// What an instruction of the Dockerfile says, wherever it does.
fn instructions<'a>(dockerfile: &'a str, which: &str) -> Vec<&'a str> {
    dockerfile.lines().filter_map(|line| line.strip_prefix(which)?.strip_prefix(' ')).collect()
}

#[test]
fn the_image_copies_what_exists_and_serves_where_compose_looks() {
    let dockerfile = read("Dockerfile");
    let ignored = read(".dockerignore");
    for copy in instructions(&dockerfile, "COPY").into_iter().filter(|copy| !copy.starts_with("--from")) {
        let sources: Vec<&str> = copy.split_whitespace().collect();
        for source in &sources[..sources.len() - 1] {
            assert!(root().join(source).exists(), "{source} is there");
            assert!(ignored.lines().any(|line| line == format!("!{source}")), "{source} is let through");
        }
    }
    let port = instructions(&dockerfile, "EXPOSE")[0];
    assert!(dockerfile.contains(&format!("HEADCOUNT_LISTEN=0.0.0.0:{port}")));
    let user: u32 = instructions(&dockerfile, "USER")[0].split(':').next().unwrap().parse().unwrap();
    assert_ne!(user, 0);
    let rust = instructions(&dockerfile, "FROM")[0];
    let needed = env!("CARGO_PKG_RUST_VERSION");
    let has = rust.strip_prefix("rust:").unwrap().split('-').next().unwrap();
    let number = |text: &str| text.split('.').map(|part| part.parse().unwrap()).collect::<Vec<u32>>();
    assert!(number(has) >= number(needed), "{rust} builds it");
    let compose = &yaml("compose.yaml")[0];
    let service = &compose["services"]["headcount"];
    assert!(service["ports"][0].as_str().unwrap().ends_with(&format!(":{port}")));
    let serve = settings("serve");
    for (name, _) in service["environment"].as_hash().unwrap() {
        assert!(serve.contains_key(name.as_str().unwrap()), "serve has no {name:?}");
    }
}

#[test]
fn the_units_and_the_package_agree_on_where_things_are() {
    let (unit, manifest) = (read("ops/debian/headcount.service"), read("Cargo.toml"));
    for (line, asset) in [
        ("ExecStart=/usr/bin/headcount serve", "\"usr/bin/\""),
        ("EnvironmentFile=/etc/headcount/headcount.env", "\"etc/headcount/\""),
    ] {
        assert!(unit.lines().any(|found| found == line), "{line}");
        assert!(manifest.contains(asset), "{asset}");
    }
    let default = settings("serve")["HEADCOUNT_LISTEN"].get_default_values()[0].to_str().unwrap().to_owned();
    let socket = read("ops/debian/headcount.socket");
    assert!(
        socket.contains(&format!("ListenStream={default}\n")),
        "the same address with and without systemd"
    );
}
