//! `cc-warm completions`

use anyhow::Result;
use clap::CommandFactory;

use crate::cli::Cli;
use crate::error::Exit;

/// Prints a completion script for a shell on stdout.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Which shell.
    shell: clap_complete::Shell,
}

/// Runs it.
pub fn run(args: &Args) -> Result<Exit> {
    clap_complete::generate(args.shell, &mut Cli::command(), "cc-warm", &mut std::io::stdout());
    Ok(Exit::Done)
}
