//! Arguments of `doctor`: those of `serve`, and the address of a running service.

use clap::Args;

use crate::cli::arguments::Credential;
use crate::settings::{Database, Listening, TlsFiles, TokenKeys, Tuning};

/// `headcount doctor`
#[derive(Args, Debug)]
pub struct DoctorArgs {
    /// A running service to look at, from here
    #[arg(long, env = "HEADCOUNT_URL", value_name = "URL")]
    pub url: Option<String>,
    /// The credential to ask it with; else a token is signed with HEADCOUNT_JWT_SECRET
    #[command(flatten)]
    pub credential: Credential,
    /// Do not wait 16 s to see whether something cuts silent streams
    #[arg(long)]
    pub quick: bool,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
    /// Which database
    #[command(flatten)]
    pub database: Database,
    /// How to listen to it
    #[command(flatten)]
    pub listening: Listening,
    /// The keys that check tokens
    #[command(flatten)]
    pub token_keys: TokenKeys,
    /// The certificate
    #[command(flatten)]
    pub tls: TlsFiles,
    /// Everything else
    #[command(flatten)]
    pub tuning: Tuning,
}
