//! `cc-warm undeploy`

use std::time::Duration;

use anyhow::Result;

use super::results::{Done, Results};
use super::session::{Session, Voice};
use crate::cli::{Global, WaitFlag};
use crate::config::DeployerConfig;
use crate::config::names::AppName;
use crate::deployer;
use crate::error::{Exit, Problem};
use crate::state::AppState;
use crate::sys::clock::Deadline;
use crate::update::recover;

/// Takes an app of the process deployer down; its volumes stay.
///
/// On a swarm, `abra app undeploy` does that. It is then left alone until `cc-warm resume`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The app.
    app: AppName,
    #[command(flatten)]
    wait: WaitFlag,
}

/// Runs it.
pub fn run(global: &Global, args: &Args) -> Result<Exit> {
    let session = Session::open(global)?;
    let app = session.config.app(&args.app)?;
    if !matches!(app.deployer, DeployerConfig::Process { .. }) {
        return Err(Problem::new(format!("app `{}` is not run by cc-warm itself", args.app))
            .exit(Exit::Refused)
            .hint(format!("abra app undeploy {}", app.domain))
            .into());
    }
    let lock = session.lock(&args.app, args.wait.wait())?;
    let voice = Voice::of(&args.app);
    recover::settle(&session.context(&voice), &args.app, &lock)?;
    let mut state = AppState::load(&session.host.dirs, &args.app)?;
    let stopped = deployer::open(&session.host, app)?.stop(&lock, Deadline::after(Duration::from_mins(5)))?;
    // What `update` would find out: `resume` may come before it does.
    if state.last_good.is_some() && state.stuck.is_none() {
        state.down_by_hand.get_or_insert(session.host.clock.now());
        state.resumed = false;
        state.save(&session.host.dirs, &args.app)?;
    }
    let mut results = Results::new(session.json);
    let done = Done::new("undeployed", format!("undeployed ({stopped}); its volumes stay"));
    results.done(&args.app, done.hint(format!("cc-warm resume {}", args.app)));
    results.finish()
}
