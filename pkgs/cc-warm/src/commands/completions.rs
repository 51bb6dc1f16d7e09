//! `cc-warm completions`

use anyhow::Result;
use clap::CommandFactory;

use crate::cli::Cli;
use crate::error::Exit;
use crate::sys::out::show;

/// Prints a completion script for a shell on stdout.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Which shell.
    shell: clap_complete::Shell,
}

/// Runs it.
pub fn run(args: &Args) -> Result<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "cc-warm", &mut script);
    show!("{}", String::from_utf8_lossy(&script).trim_end());
    Ok(Exit::Done)
}
