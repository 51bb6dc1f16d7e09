//! The `cc-warm` program: parse, log, run, exit code.

use std::process::ExitCode;

use cc_warm::cli::Cli;
use cc_warm::sys::out;
use cc_warm::{commands, error, logging};
use clap::Parser;

fn main() -> ExitCode {
    let cli = Cli::parse();
    logging::start(cli.global.verbose);
    match commands::run(cli) {
        Ok(exit) => exit.into(),
        Err(error) => {
            out::to_stderr(format_args!("{}", error::report(&error).trim_end()));
            error::exit_of(&error).into()
        }
    }
}
