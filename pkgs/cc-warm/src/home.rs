//! The state folder's own id, made once. A state folder without one while apps run from it is another folder: its file
//! system is not mounted, and all that is known of the apps lies there. Nothing is done then.

use anyhow::Result;

use crate::deployer::{abra, process};
use crate::error::{Exit, Problem};
use crate::sys::dirs::Dirs;
use crate::sys::{durable, random};

/// Refuses a state folder that is not the one from which apps run.
pub fn check(dirs: &Dirs) -> Result<()> {
    if dirs.id().exists() {
        return Ok(());
    }
    let mut running = process::running_from(dirs);
    let on_swarm = abra::running_from(dirs);
    if running.is_empty() && on_swarm.is_empty() {
        return Ok(());
    }
    let lost = (!on_swarm.is_empty()).then(|| {
        let names = abra::pins(dirs);
        format!("if it is lost for good: docker image rm $(docker image ls --format '{{{{.Repository}}}}:{{{{.Tag}}}}' '{names}*')")
    });
    running.extend(on_swarm);
    let (root, apps) = (dirs.root().display(), running.join("`, `"));
    let problem = Problem::new(format!(
        "the state folder `{root}` is empty, but `{apps}` runs from it: its file system is not mounted; nothing was done"
    ))
    .exit(Exit::Refused)
    .hint(format!("findmnt --target {root}"))
    .hint("mount it, and run the same command again");
    Err(match lost {
        Some(lost) => problem.hint(lost),
        None => problem,
    }
    .into())
}

/// Likewise, and makes the folder and its id if they are not there yet.
pub fn open(dirs: &Dirs) -> Result<()> {
    check(dirs)?;
    durable::make_dir(dirs.root())?;
    if !dirs.id().exists() {
        durable::replace(&dirs.id(), format!("{}\n", random::id()?).as_bytes())?;
    }
    Ok(())
}
