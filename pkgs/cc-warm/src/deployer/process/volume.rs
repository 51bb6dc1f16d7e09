//! Volumes as folders, in docker's layout. Their folders belong to cc-warm, so that the app cannot put a link in the
//! place of `_data`; only what is below `_data` is the app's.

use std::fs::{self, DirBuilder};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::record::Account;
use crate::config::App;
use crate::snapshot::{Volume, flags};
use crate::sys::durable;

const DATA: &str = "_data";
const OWNER: &str = "owner";
/// Data that is not whole yet.
const NEW: &str = ".new";

/// The volumes of one app.
#[derive(Debug)]
pub(super) struct Volumes<'a> {
    root: PathBuf,
    app: &'a App,
}

impl<'a> Volumes<'a> {
    pub(super) fn of(root: PathBuf, app: &'a App) -> Self {
        Self { root, app }
    }

    /// The volume that the recipe calls `name`.
    pub(super) fn full_name(&self, name: &str) -> String {
        format!("{}_{name}", self.app.domain.stack_name())
    }

    /// Whether the operator has taken the volume, by this name or by the recipe's, out of our hands.
    pub(super) fn is_unmanaged(&self, full_name: &str) -> bool {
        let is_it = |name: &String| name == full_name || self.full_name(name) == full_name;
        self.app.update.unmanaged.iter().any(is_it)
    }

    /// Where the data of the volume `full_name` lies.
    pub(super) fn data(&self, full_name: &str) -> PathBuf {
        self.root.join(full_name).join(DATA)
    }

    /// Those that exist, sorted by name.
    pub(super) fn list(&self) -> Result<Vec<Volume>> {
        let mut found = Vec::new();
        self.each(|name, dir| {
            found.push(Volume { name, dir });
            true
        })?;
        found.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(found)
    }

    /// Whether there is any.
    pub(super) fn exist(&self) -> Result<bool> {
        let mut any = false;
        self.each(|_, _| {
            any = true;
            false
        })?;
        Ok(any)
    }

    /// One of the app that is called after another domain, where none is called after its own.
    pub(super) fn elsewhere(&self) -> Result<Option<String>> {
        let mut found = None;
        if !self.exist()? {
            self.each_of(
                |name| !name.starts_with(&self.full_name("")),
                |name, _| {
                    found = Some(name);
                    false
                },
            )?;
        }
        Ok(found)
    }

    /// Calls `visit` with name and folder of each, until it says false.
    fn each(&self, visit: impl FnMut(String, PathBuf) -> bool) -> Result<()> {
        let prefix = self.full_name("");
        self.each_of(|name| name.starts_with(&prefix), visit)
    }

    /// Those with a name that is `wanted`. The name alone decides nothing: `a_b` of one app may begin like `a` of another.
    fn each_of(&self, wanted: impl Fn(&str) -> bool, mut visit: impl FnMut(String, PathBuf) -> bool) -> Result<()> {
        let entries = match fs::read_dir(&self.root) {
            Ok(entries) => entries,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(e).with_context(|| format!("cannot list `{}`", self.root.display())),
        };
        for entry in entries {
            let Ok(name) = entry?.file_name().into_string() else { continue };
            let dir = self.root.join(&name);
            if wanted(&name) && is_folder(&dir.join(DATA)) && self.is_ours(&dir)? && !visit(name, dir) {
                break;
            }
        }
        Ok(())
    }

    fn is_ours(&self, dir: &Path) -> Result<bool> {
        Ok(durable::read(&dir.join(OWNER))?.is_some_and(|owner| owner == self.app.name.as_str().as_bytes()))
    }

    /// As [`Self::make`]; fails if there is data of somebody else than `account`.
    pub(super) fn create(&self, full_name: &str, account: Option<Account>) -> Result<Volume> {
        let volume = self.make(full_name, account)?;
        self.must_belong(full_name, account)?;
        Ok(volume)
    }

    /// To which user the data of `full_name` belongs; `None` if there is none.
    pub(super) fn owner(&self, full_name: &str) -> Option<u32> {
        fs::symlink_metadata(self.data(full_name)).ok().map(|found| found.uid())
    }

    /// Fails if `full_name` has data of somebody else than `account`.
    pub(super) fn must_belong(&self, full_name: &str, account: Option<Account>) -> Result<()> {
        let data = self.data(full_name);
        match fs::symlink_metadata(&data) {
            Ok(found) => must_belong(&data, &found, account),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
            Err(e) => Err(e).with_context(|| format!("cannot look at `{}`", data.display())),
        }
    }

    /// Makes the volume `full_name`, empty, if it does not exist; new data belongs to `account`.
    pub(super) fn make(&self, full_name: &str, account: Option<Account>) -> Result<Volume> {
        let ours = full_name.strip_prefix(&self.full_name("")).is_some_and(|rest| !rest.is_empty());
        let plain = full_name.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_'));
        ensure!(ours && plain, "`{full_name}` is no name of a volume of app `{}`", self.app.name);
        let dir = self.root.join(full_name);
        durable::make_dir(&dir)?;
        let owner = dir.join(OWNER);
        // The owner's name is written before there is data: a folder with data and no owner is somebody else's.
        if !owner.exists() && !dir.join(DATA).exists() {
            durable::replace(&owner, self.app.name.as_str().as_bytes())?;
        }
        ensure!(self.is_ours(&dir)?, "the volume `{full_name}` belongs to somebody else");
        let data = dir.join(DATA);
        match fs::symlink_metadata(&data) {
            Ok(found) => ensure!(found.is_dir(), "`{}` is not a folder", data.display()),
            Err(e) if e.kind() == ErrorKind::NotFound => {
                let new = dir.join(NEW);
                match DirBuilder::new().mode(0o700).create(&new) {
                    Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
                    other => other.with_context(|| format!("cannot make `{}`", new.display()))?,
                }
                if let Some(Account { uid, gid }) = account {
                    std::os::unix::fs::lchown(&new, Some(uid), Some(gid))
                        .with_context(|| format!("cannot give `{}` to user {uid}", new.display()))?;
                }
                durable::rename(&new, &data)?;
            }
            Err(e) => return Err(e).with_context(|| format!("cannot look at `{}`", data.display())),
        }
        Ok(Volume { name: full_name.to_owned(), dir })
    }

    /// Removes what is left of a volume whose data has been moved away. Data of a failed update that is kept in its
    /// folder stays, but the volume is none any more.
    pub(super) fn remove(&self, full_name: &str) -> Result<()> {
        let dir = self.root.join(full_name);
        if !dir.exists() {
            return Ok(());
        }
        ensure!(self.is_ours(&dir)?, "the volume `{full_name}` belongs to somebody else");
        for name in [DATA, NEW] {
            match fs::remove_dir(dir.join(name)) {
                Err(e) if e.kind() != ErrorKind::NotFound => {
                    return Err(e).with_context(|| format!("volume `{full_name}` still holds data"));
                }
                _ => {}
            }
        }
        durable::sync_dir(&dir)?;
        for entry in fs::read_dir(&dir)? {
            if entry?.file_name() != OWNER {
                return Ok(());
            }
        }
        durable::remove(&dir.join(OWNER))?;
        fs::remove_dir(&dir)?;
        durable::sync_dir(&self.root)
    }

    /// Why the volume `full_name` cannot be snapshotted, if it exists.
    pub(super) fn unsuitable(&self, full_name: &str) -> Result<Option<String>> {
        let data = self.data(full_name);
        let Ok(found) = fs::symlink_metadata(&data) else { return Ok(None) };
        if !found.is_dir() {
            return Ok(Some(format!("`{}` is not a folder", data.display())));
        }
        let dir = fs::symlink_metadata(self.root.join(full_name))?;
        if dir.is_symlink() {
            return Ok(Some(format!("`{}` is a symbolic link", self.root.join(full_name).display())));
        }
        if mount_id(&data)? != mount_id(&self.root.join(full_name))? || dir.dev() != found.dev() {
            return Ok(Some(format!("`{}` is a mount or a file system of its own", data.display())));
        }
        Ok(flags::pins(&data))
    }
}

fn is_folder(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| found.is_dir())
}

fn mount_id(path: &Path) -> Result<u64> {
    use rustix::fs::{AtFlags, CWD, StatxFlags, statx};
    let stat = statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::MNT_ID)?;
    Ok(stat.stx_mnt_id)
}

fn must_belong(data: &Path, found: &fs::Metadata, account: Option<Account>) -> Result<()> {
    ensure!(found.is_dir(), "`{}` is not a folder", data.display());
    if let Some(account) = account {
        ensure!(
            found.uid() == account.uid,
            "`{}` belongs to user {}, but the app runs as {}: hand it over with `chown -R {}:{}`, or set `deployer.process.user`",
            data.display(),
            found.uid(),
            account.uid,
            account.uid,
            account.gid
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn app(name: &str, domain: &str) -> App {
        super::super::tests::app(name, domain)
    }

    #[test]
    fn a_volume_is_made_once_and_found_again() {
        let dir = tempfile::tempdir().unwrap();
        let app = app("login", "a.b");
        let volumes = Volumes::of(dir.path().join("volumes"), &app);
        assert!(!volumes.exist().unwrap());
        let made = volumes.create("a_b_data", None).unwrap();
        fs::write(volumes.data("a_b_data").join("file"), "kept").unwrap();
        assert_eq!(volumes.create("a_b_data", None).unwrap(), made);
        assert_eq!(volumes.list().unwrap(), [made]);
        assert!(volumes.exist().unwrap());
        assert_eq!(fs::read(volumes.data("a_b_data").join("file")).unwrap(), b"kept");
        volumes.remove("a_b_data").unwrap_err();
        fs::remove_file(volumes.data("a_b_data").join("file")).unwrap();
        volumes.remove("a_b_data").unwrap();
        volumes.remove("a_b_data").unwrap();
        assert!(!volumes.exist().unwrap());
    }

    #[test]
    fn a_volume_of_another_app_is_neither_taken_nor_listed() {
        let dir = tempfile::tempdir().unwrap();
        let (short, long) = (app("short", "a"), app("long", "a.b"));
        let of = |app| Volumes::of(dir.path().join("volumes"), app);
        of(&long).create("a_b_data", None).unwrap();
        assert_eq!(of(&short).list().unwrap(), []);
        let error = of(&short).create("a_b_data", None).unwrap_err().to_string();
        assert!(error.contains("somebody else"), "{error}");
        of(&short).remove("a_b_data").unwrap_err();
        assert_eq!(of(&long).list().unwrap().len(), 1);
        for bad in ["a_b_", "a_b_../x", "other_data", "a_b_x/y"] {
            of(&long).create(bad, None).unwrap_err();
        }
    }

    #[test]
    fn kept_failed_data_stays_when_its_volume_goes() {
        let dir = tempfile::tempdir().unwrap();
        let app = app("login", "a.b");
        let volumes = Volumes::of(dir.path().join("volumes"), &app);
        let volume = volumes.create("a_b_data", None).unwrap();
        fs::rename(volumes.data("a_b_data"), volume.dir.join(".cc-warm-failed-1")).unwrap();
        volumes.remove("a_b_data").unwrap();
        assert!(volume.dir.join(".cc-warm-failed-1").is_dir());
        assert_eq!(volumes.list().unwrap(), []);
        volumes.create("a_b_data", None).unwrap();
        assert_eq!(volumes.list().unwrap().len(), 1);
    }

    #[test]
    fn a_link_in_the_place_of_the_data_is_no_volume() {
        let dir = tempfile::tempdir().unwrap();
        let app = app("login", "a.b");
        let volumes = Volumes::of(dir.path().join("volumes"), &app);
        let volume = volumes.create("a_b_data", None).unwrap();
        assert_eq!(volumes.unsuitable("a_b_data").unwrap(), None);
        fs::remove_dir(volumes.data("a_b_data")).unwrap();
        std::os::unix::fs::symlink("/etc", volume.dir.join(DATA)).unwrap();
        assert!(volumes.unsuitable("a_b_data").unwrap().unwrap().contains("not a folder"));
        volumes.create("a_b_data", None).unwrap_err();
    }
}
