//! `cc-warm doctor`

use anyhow::Result;

use super::session::{Session, print_json};
use crate::cli::Global;
use crate::doctor;
use crate::error::Exit;
use crate::sys::clock::Clock;
use crate::sys::out::show;

/// Checks whether the host is set up right, and names the command that mends what is not. Touches nothing.
///
/// Exit codes: 0 all is well, or only warnings; 1 something is bad; 14 docker or the swarm does not answer now.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs it.
pub fn run(global: &Global, _args: &Args) -> Result<Exit> {
    let facts = match Session::inspect(global) {
        Ok(session) => doctor::look(&session.host, &session.config, &global.config, &session.outbox)?,
        Err(error) => doctor::without_configuration(&global.config, &error, Clock::system().now()),
    };
    let checks = doctor::checks(&facts);
    let exit = doctor::exit(&checks);
    if global.json {
        print_json(&serde_json::json!({ "format": 1, "ok": exit == Exit::Done, "checks": checks }))?;
    } else {
        show!("{}", doctor::text(&checks).trim_end());
    }
    Ok(exit)
}
