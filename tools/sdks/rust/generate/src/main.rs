//! `generate-rust-sdk DOCUMENT DIRECTORY`: a crate `headcount-client` from an OpenAPI 3.0 document.

use std::error::Error;
use std::path::PathBuf;
use std::{env, fs};

use progenitor_impl::{GenerationSettings, Generator, InterfaceStyle};

const MANIFEST: &str = r#"[package]
name = "headcount-client"
version = "0.1.0"
edition = "2024"
description = "A client of the headcount presence service, generated from its OpenAPI document."
license = "MIT OR Apache-2.0"

[workspace]

[dependencies]
"#;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args_os().skip(1).map(PathBuf::from);
    let (Some(document), Some(directory)) = (arguments.next(), arguments.next()) else {
        return Err("usage: generate-rust-sdk DOCUMENT DIRECTORY".into());
    };
    let document = serde_json::from_str(&fs::read_to_string(document)?)?;
    let mut generator = Generator::new(GenerationSettings::default().with_interface(InterfaceStyle::Builder));
    let code = prettyplease::unparse(&syn::parse2(generator.generate_tokens(&document)?)?);
    fs::create_dir_all(directory.join("src"))?;
    fs::write(directory.join("src/lib.rs"), code)?;
    let dependencies = DEPENDENCIES.join("\n");
    fs::write(directory.join("Cargo.toml"), format!("{MANIFEST}{dependencies}\n"))?;
    Ok(())
}

/// What generated code names.
const DEPENDENCIES: &[&str] = &[
    "chrono = { version = \"0.4\", default-features = false, features = [\"serde\"] }",
    "progenitor-client = \"0.15\"",
    "regress = \"0.12\"",
    "reqwest = { version = \"0.13\", default-features = false, features = [\"json\", \"query\", \"stream\"] }",
    "serde = { version = \"1\", features = [\"derive\"] }",
    "serde_json = \"1\"",
    "uuid = { version = \"1\", features = [\"serde\"] }",
];
