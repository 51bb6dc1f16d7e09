//! `cc-warm verify`

use anyhow::Result;

use super::session::{Session, print_json};
use crate::cli::Global;
use crate::config::names::AppName;
use crate::error::{Exit, Problem};

/// Checks the snapshots of apps against their manifests: structure always, content where digests exist.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The apps; all declared ones if none is named.
    #[arg(value_name = "APP")]
    apps: Vec<AppName>,
    /// Read at most so many bytes a second.
    #[arg(long, value_name = "BYTES")]
    rate: Option<u64>,
}
