//! The last step before a process of an app: this program, started once more by the supervisor, locks itself in and then
//! becomes the app's process. Everything it needs comes on stdin: with the app's environment in its own, the app could
//! tell it, while it still is root, what libraries to load.
//!
//! As root, or in a user namespace, the process gets mounts of its own, in which the state folder holds nothing but its
//! code (read-only), its volumes and its scratch folder, under their usual paths, and a `/proc` of its PID namespace.

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::fs;
use std::io::Read;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use rustix::fs::{Mode, OFlags, StatVfsMountFlags};
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_bind, mount_change, mount_remount};
use rustix::thread::UnshareFlags;
use serde::{Deserialize, Serialize};

use super::record::{Account, Containment};
use crate::sys::raw;

/// What a trial runs.
const NO_PROGRAM: &str = "/proc/self/cc-warm-trial";

/// What a process of an app is and may see.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Cell {
    pub(super) containment: Containment,
    /// As whom it runs, where cc-warm is root.
    pub(super) account: Option<Account>,
    /// User and group as which cc-warm runs, to which a user namespace maps the app.
    pub(super) outside: Account,
    /// The folder whose other content it does not see.
    pub(super) state: PathBuf,
    /// Its code, which is its working directory.
    pub(super) code: PathBuf,
    /// What it may write.
    pub(super) writable: Vec<PathBuf>,
    /// Program and arguments; empty: only try whether it can be locked in.
    pub(super) argv: Vec<String>,
    /// Its whole environment.
    pub(super) env: BTreeMap<String, String>,
}

/// Becomes the process that stdin describes. Returns only if it was a trial.
pub(super) fn enter() -> Result<()> {
    raw::close_on_exec_from(3)?;
    let mut text = Vec::new();
    std::io::stdin().lock().read_to_end(&mut text)?;
    let cell: Cell = serde_json::from_slice(&text)?;
    rustix::process::setsid().context("cannot begin a session")?;
    rustix::process::umask(Mode::from_raw_mode(0o022));
    match cell.containment {
        Containment::Namespace => cell.own_mounts()?,
        Containment::UserNamespace => {
            cell.own_mounts()?;
            // It was root of the outer user namespace to make the mounts; the app is an ordinary user of an inner one.
            map_user(cell.outside, Account { uid: 0, gid: 0 }).context("cannot give up the user namespace")?;
        }
        Containment::Session => {}
    }
    rustix::thread::set_no_new_privs(true).context("cannot give up new privileges")?;
    // A trial does all that a start does, up to finding that there is no such program.
    let trial = [NO_PROGRAM.to_owned()];
    let argv = if cell.argv.is_empty() { &trial[..] } else { &cell.argv };
    let mut command = Command::new(&argv[0]);
    command.args(&argv[1..]).env_clear().envs(&cell.env).current_dir(&cell.code).stdin(Stdio::null());
    if let Some(Account { uid, gid }) = cell.account {
        // With no supplementary groups: the standard library drops them where it is root.
        command.uid(uid).gid(gid);
    }
    let error = command.exec();
    if cell.argv.is_empty() && error.kind() == std::io::ErrorKind::NotFound {
        return Ok(());
    }
    let user = cell.account.unwrap_or(cell.outside).uid;
    Err(error).with_context(|| match cell.argv.first() {
        Some(program) => format!("cannot run `{program}` as user {user}"),
        None => format!("user {user} cannot enter `{}`", cell.code.display()),
    })
}

impl Cell {
    fn own_mounts(&self) -> Result<()> {
        raw::unshare(UnshareFlags::NEWNS).context("cannot make a mount namespace")?;
        mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
            .context("cannot keep mounts to itself")?;
        let opened: Vec<(&Path, bool, OwnedFd)> = std::iter::once((self.code.as_path(), false))
            .chain(self.writable.iter().map(|path| (path.as_path(), true)))
            .map(|(path, writable)| Ok((path, writable, open_folder(path)?)))
            .collect::<Result<_>>()?;
        let quiet = MountFlags::NOSUID | MountFlags::NODEV;
        mount("cc-warm", &self.state, "tmpfs", quiet | MountFlags::NOEXEC, c"mode=755,size=1m,nr_inodes=1k")
            .with_context(|| format!("cannot hide `{}`", self.state.display()))?;
        for (path, writable, folder) in &opened {
            fs::create_dir_all(path)?;
            let source = format!("/proc/self/fd/{}", folder.as_raw_fd());
            mount_bind(source, *path).with_context(|| format!("cannot show `{}`", path.display()))?;
            let kept = kept_flags(path)?;
            let access = if *writable { MountFlags::empty() } else { MountFlags::RDONLY };
            mount_remount(*path, MountFlags::BIND | quiet | kept | access, no_data())
                .with_context(|| format!("cannot restrict `{}`", path.display()))?;
        }
        mount_remount(&self.state, quiet | MountFlags::NOEXEC | MountFlags::RDONLY, no_data())
            .with_context(|| format!("cannot close `{}`", self.state.display()))?;
        let proc = mount("proc", "/proc", "proc", quiet | MountFlags::NOEXEC, no_data());
        if let (Err(error), Containment::Namespace) = (proc, self.containment) {
            return Err(error).context("cannot mount a /proc of its own");
        }
        // A container that masks parts of its /proc allows no other in a user namespace: the app then sees, but cannot
        // touch, what else runs.
        Ok(())
    }
}

fn no_data() -> &'static CStr {
    c""
}

fn open_folder(path: &Path) -> Result<OwnedFd> {
    rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
        .with_context(|| format!("cannot open `{}`", path.display()))
}

/// In a user namespace, a remount must repeat the flags that the mount has.
fn kept_flags(path: &Path) -> Result<MountFlags> {
    let has = rustix::fs::statvfs(path)?.f_flag;
    let pairs = [
        (StatVfsMountFlags::RDONLY, MountFlags::RDONLY),
        (StatVfsMountFlags::NOEXEC, MountFlags::NOEXEC),
        (StatVfsMountFlags::NOATIME, MountFlags::NOATIME),
        (StatVfsMountFlags::NODIRATIME, MountFlags::NODIRATIME),
        (StatVfsMountFlags::RELATIME, MountFlags::RELATIME),
    ];
    Ok(pairs.into_iter().filter(|(flag, _)| has.contains(*flag)).map(|(_, flag)| flag).collect())
}

/// Enters a new user namespace in which `outside`, as the namespace around sees it, is `inside`.
pub(super) fn map_user(inside: Account, outside: Account) -> Result<()> {
    raw::unshare(UnshareFlags::NEWUSER)?;
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("{} {} 1", inside.uid, outside.uid))?;
    fs::write("/proc/self/gid_map", format!("{} {} 1", inside.gid, outside.gid))?;
    Ok(())
}
