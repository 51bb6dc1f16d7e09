//! The state folder's own id, made once. A state folder without one while apps run from it is another folder: its file
//! system is not mounted, and all that is known of the apps lies there. Nothing is done then.

use anyhow::Result;

use crate::deployer::{abra, process};
use crate::error::{Exit, Problem};
use crate::sys::dirs::Dirs;
use crate::sys::{durable, random};

/// Refuses a state folder that is not the one from which apps run, as far as that is known.
pub fn check(dirs: &Dirs) -> Result<()> {
    if dirs.id().exists() { Ok(()) } else { must_be_unused(dirs, abra::running_from(dirs).unwrap_or_default()) }
}

fn must_be_unused(dirs: &Dirs, on_swarm: Vec<String>) -> Result<()> {
    let mut running = process::running_from(dirs);
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
    .exit(Exit::Usage)
    .hint(format!("findmnt --target {root}"))
    .hint("mount it, and run the same command again");
    Err(match lost {
        Some(lost) => problem.hint(lost),
        None => problem,
    }
    .into())
}

/// Likewise, and makes the folder and its id if they are not there yet: where docker has to be asked (`is_on_swarm`: an
/// app is deployed there), not before it answers.
pub fn open(dirs: &Dirs, is_on_swarm: bool) -> Result<()> {
    if !dirs.id().exists() {
        let on_swarm = match abra::running_from(dirs) {
            Err(error) if is_on_swarm => {
                let root = dirs.root().display();
                let what = format!(
                    "the state folder `{root}` is new or not mounted, which docker knows, and docker does not answer; nothing was done"
                );
                let problem = Problem::new(what).exit(Exit::NotReady).hint("systemctl status docker");
                return Err(problem.hint(format!("findmnt --target {root}")).because(error).into());
            }
            known => known.unwrap_or_default(),
        };
        must_be_unused(dirs, on_swarm)?;
    }
    durable::make_dir(dirs.root())?;
    if !dirs.id().exists() {
        durable::replace(&dirs.id(), format!("{}\n", random::id()?).as_bytes())?;
    }
    Ok(())
}
