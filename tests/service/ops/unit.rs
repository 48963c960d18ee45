//! The units of systemd, by what systemd itself says of them, where it is installed.

use std::path::Path;
use std::process::Command;

/// systemd's own scale: 0 is locked up, 10 is wide open. It was 1.1 when this was written.
const EXPOSURE_MAX: f64 = 2.0;

/// A copy whose program exists.
fn units() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in ["headcount.service", "headcount.socket"] {
        let text = std::fs::read_to_string(Path::new("ops/debian").join(name)).unwrap();
        let text = text.replace("/usr/bin/headcount", env!("CARGO_BIN_EXE_headcount"));
        let text = text.replace("man:headcount(1) ", "").replace("Documentation=man:headcount(1)\n", "");
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

fn analyze(arguments: &[&str]) -> Option<String> {
    let output = Command::new("systemd-analyze").args(arguments).env("SYSTEMD_COLORS", "0").output();
    let Ok(output) = output else {
        eprintln!("skipped: there is no systemd-analyze");
        return None;
    };
    let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert!(output.status.success(), "systemd-analyze {arguments:?}: {text}");
    Some(text)
}

#[test]
fn systemd_finds_nothing_wrong_with_the_units() {
    let folder = units();
    let paths = ["headcount.service", "headcount.socket"].map(|name| folder.path().join(name));
    let told = analyze(&["verify", paths[0].to_str().unwrap(), paths[1].to_str().unwrap()]);
    let ours = |told: String| told.lines().filter(|line| line.contains("headcount")).count();
    assert_eq!(told.map_or(0, ours), 0, "it says nothing of them");
}

#[test]
fn a_service_that_is_taken_over_can_do_little() {
    let folder = units();
    let path = folder.path().join("headcount.service");
    let told = analyze(&["security", "--offline=true", "--no-pager", path.to_str().unwrap()]);
    let Some(told) = told else { return };
    let exposure = told.split_once("Overall exposure level").expect("a verdict").1;
    let exposure: f64 = exposure.split(": ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
    assert!(exposure <= EXPOSURE_MAX, "{told}");
}
