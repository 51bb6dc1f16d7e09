//! `cc-warm check-config`

use anyhow::Result;

use super::session::print_json;
use crate::cli::Global;
use crate::config::{Config, raw};
use crate::error::Exit;
use crate::sys::out::show;

/// Checks the configuration file: every key, every value, and what one app says of another.
///
/// The NixOS module runs it while it builds, so that a bad configuration fails the build and not the boot.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Print the JSON schema of the file instead.
    #[arg(long)]
    schema: bool,
}

/// Runs it.
pub fn run(global: &Global, args: &Args) -> Result<Exit> {
    if args.schema {
        print_json(&raw::schema())?;
        return Ok(Exit::Done);
    }
    let config = Config::load(&global.config)?;
    if global.json {
        print_json(&serde_json::json!({ "format": 1, "ok": true, "apps": config.apps.keys().collect::<Vec<_>>() }))?;
    } else {
        show!("{}: {} app(s), {} alert(s), all well", global.config.display(), config.apps.len(), config.alerts.len());
    }
    Ok(Exit::Done)
}
