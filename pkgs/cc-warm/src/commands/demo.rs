//! `cc-warm demo`

use anyhow::{Context, Result};

use crate::cli::Global;
use crate::demo;
use crate::error::Exit;

/// Shows all of it at work in a sandbox, in under a minute; needs git, and nothing else.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Leave the sandbox to play with, and print the commands to try.
    #[arg(long)]
    keep: bool,
}

/// Runs it.
pub fn run(_: &Global, args: &Args) -> Result<Exit> {
    let program = std::env::current_exe().context("cannot find this program's own path")?;
    demo::run(&program, args.keep)?;
    Ok(Exit::Done)
}
