//! `cc-warm restore`

use anyhow::Result;

use super::session::{Session, Voice};
use crate::cli::{Global, WaitFlag};
use crate::config::names::AppName;
use crate::error::{Exit, Problem};
use crate::snapshot::SnapshotId;
use crate::update::manual::{self, Which};

/// Brings a snapshot back: its data, and the version that it was taken of.
///
/// What is live now is kept beside it as failed data. Everything that users wrote since the snapshot is no longer seen by
/// the app: how much that is, is said before anything happens, and `--yes` is wanted. Also the way out for a stuck app.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The app.
    app: AppName,
    /// This snapshot, by its id (`status` and `verify` show them).
    #[arg(long, value_name = "ID")]
    snapshot: Option<String>,
    /// The snapshot before the known-good.
    #[arg(long, conflicts_with = "snapshot")]
    previous: bool,
    /// Do it.
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    wait: WaitFlag,
}

/// Runs it.
pub fn run(global: &Global, args: &Args) -> Result<Exit> {
    let session = Session::open(global)?;
    let app = session.config.app(&args.app)?;
    let voice = Voice::of(&args.app);
    let context = session.context(&voice);
    let which = match (&args.snapshot, args.previous) {
        (Some(id), _) => Which::Id(SnapshotId::parse(id)?),
        (None, true) => Which::Previous,
        (None, false) => Which::Current,
    };
    if !args.yes {
        let chosen = manual::choose(&context, app, &which)?;
        let age = super::age(session.host.clock.now().duration_since(chosen.tag.taken_at));
        return Err(Problem::new(format!(
            "app `{}` would go back to {} with its data of {} ({age} ago): what was written since is no longer seen, but kept aside (of a stuck app, if there is room); nothing was touched",
            args.app, chosen.tag.identity, chosen.tag.taken_at.strftime("%Y-%m-%d %H:%M:%S UTC")
        ))
        .exit(Exit::Refused)
        .hint(format!("cc-warm restore {} --snapshot {} --yes", args.app, chosen.id))
        .into());
    }
    session.for_each(std::slice::from_ref(&args.app), |name, context| {
        let lock = session.lock(name, args.wait.wait())?;
        manual::restore(context, app, &lock, &which)
    })
}
