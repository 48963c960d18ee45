//! Settings of webhooks.

use std::time::Duration;

use clap::Args;

use super::Switch;
use crate::webhooks::endpoint::Plain;

/// What webhooks may do.
#[derive(Args, Debug, Clone)]
pub struct WebhookSettings {
    /// Whether webhooks may lead to http: addresses of other machines: their messages can be read and changed on the way
    #[arg(long, env = "HEADCOUNT_WEBHOOKS_INSECURE", default_value = "off")]
    pub webhooks_insecure: Switch,
    /// How long the event log is kept for a webhook whose receiver is away [10m to 400d; never less than the
    /// retention]
    #[arg(long, env = "HEADCOUNT_WEBHOOKS_KEEP", default_value = "7d", value_parser = super::duration)]
    pub webhooks_keep: Duration,
}

impl WebhookSettings {
    /// Whether plain HTTP may leave this machine.
    pub fn plain(&self) -> Plain {
        if self.webhooks_insecure == Switch::On { Plain::Anywhere } else { Plain::Loopback }
    }
}
