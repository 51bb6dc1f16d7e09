//! What `/proc` says of processes. They come and go while it is read: what has vanished is left out.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::untrusted::Untrusted;

/// A process that cannot be mistaken for a later one with the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ProcessId {
    /// Its number, in the namespace that `/proc` shows.
    pub pid: i32,
    /// When it began, in clock ticks since the boot.
    pub start: u64,
}

/// The fields of `/proc/<pid>/stat` that are of use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stat {
    /// The process.
    pub id: ProcessId,
    /// Its parent's number.
    pub parent: i32,
    /// Whether it has ended, and is only waited for.
    pub ended: bool,
    /// Whether it is a thread of the kernel's own.
    pub kernel: bool,
    /// The program's name.
    pub name: Untrusted,
}

/// The flag of the kernel's own threads (`include/linux/sched.h`).
const PF_KTHREAD: u32 = 0x0020_0000;

/// This boot's id.
pub fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// This process, as `/proc` numbers it: in a PID namespace that is not what `getpid` says.
pub fn this_process() -> io::Result<ProcessId> {
    let number = fs::read_link("/proc/self")?;
    let pid = number.to_str().and_then(|text| text.parse().ok()).ok_or(io::ErrorKind::InvalidData)?;
    stat(pid).map(|stat| stat.id).ok_or_else(|| io::ErrorKind::NotFound.into())
}

/// What is known of the process `pid`; `None` if there is none.
#[must_use]
pub fn stat(pid: i32) -> Option<Stat> {
    parse_stat(&fs::read(format!("/proc/{pid}/stat")).ok()?)
}

/// The name may hold spaces and parentheses: the last `)` ends it.
fn parse_stat(bytes: &[u8]) -> Option<Stat> {
    let open = bytes.iter().position(|&byte| byte == b'(')?;
    let close = bytes.iter().rposition(|&byte| byte == b')')?;
    let pid = std::str::from_utf8(&bytes[..open]).ok()?.trim().parse().ok()?;
    let rest: Vec<&str> = std::str::from_utf8(&bytes[close + 1..]).ok()?.split_ascii_whitespace().collect();
    Some(Stat {
        id: ProcessId { pid, start: rest.get(19)?.parse().ok()? },
        parent: rest.get(1)?.parse().ok()?,
        // That is the state of its first thread. As long as there are others, it runs.
        ended: matches!(*rest.first()?, "Z" | "X") && rest.get(17)?.parse::<u64>().ok()? < 2,
        kernel: rest.get(6)?.parse::<u32>().ok()? & PF_KTHREAD != 0,
        name: Untrusted::from_bytes(bytes.get(open + 1..close)?, 64),
    })
}

impl ProcessId {
    /// Whether it still runs. One that has ended but was not waited for does not.
    #[must_use]
    pub fn runs(self) -> bool {
        stat(self.pid).is_some_and(|stat| stat.id == self && !stat.ended)
    }
}

/// Every process that has not ended; the kernel's own threads, which are often the most of them, are of nobody.
#[must_use]
pub fn all() -> Vec<Stat> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter_map(stat).filter(|stat| !stat.ended && !stat.kernel).collect()
}

/// Where `/proc` has what `pid` uses: with its first thread, or, if that one has ended, with another.
fn place(pid: i32) -> PathBuf {
    let first = PathBuf::from(format!("/proc/{pid}"));
    let is_there = |place: &PathBuf| fs::read_link(place.join("root")).is_ok();
    if is_there(&first) {
        return first;
    }
    let threads = fs::read_dir(first.join("task")).into_iter().flatten().flatten();
    threads.map(|thread| thread.path()).find(is_there).unwrap_or(first)
}

/// The environment with which `pid` was started; empty where we may not know.
#[must_use]
pub fn environment(pid: i32) -> Vec<Vec<u8>> {
    let bytes = fs::read(place(pid).join("environ")).unwrap_or_default();
    bytes.split(|&byte| byte == 0).map(<[u8]>::to_vec).collect()
}

/// The words with which `pid` was started; empty where we may not know.
#[must_use]
pub fn words(pid: i32) -> Vec<Vec<u8>> {
    let bytes = fs::read(place(pid).join("cmdline")).unwrap_or_default();
    bytes.split(|&byte| byte == 0).map(<[u8]>::to_vec).collect()
}

/// The user that `pid` runs as.
#[must_use]
pub fn user(pid: i32) -> Option<u32> {
    use std::os::unix::fs::MetadataExt;
    fs::metadata(format!("/proc/{pid}")).ok().map(|meta| meta.uid())
}

/// The cgroups of `pid`, a line each; empty where we may not know.
#[must_use]
pub fn cgroup(pid: i32) -> String {
    fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default()
}

/// The PID namespace of `pid`; `None` where we may not know.
#[must_use]
pub fn pid_namespace(pid: i32) -> Option<PathBuf> {
    fs::read_link(place(pid).join("ns/pid")).ok()
}

/// How `pid` uses something at or below one of `folders` (absolute, without links): open files, working directory,
/// root, mapped files, or a mount of it in a mount namespace of its own. `None`: not at all, or we may not know.
#[must_use]
pub fn use_of(pid: i32, folders: &Folders) -> Option<String> {
    let place = place(pid);
    let has_own = folders.own_mounts.is_none() || fs::read_link(place.join("ns/mnt")).ok() != folders.own_mounts;
    let mounts = if has_own { mounts_of(&place) } else { Vec::new() };
    // Where a folder above them is mounted: there they have paths of that namespace.
    let elsewhere: Vec<PathBuf> = mounts.iter().flat_map(|mount| folders.seen_through(mount)).collect();
    let below = |path: &Path| folders.paths.iter().chain(&elsewhere).any(|folder| path.starts_with(folder));
    let links = ["cwd", "root", "exe"].map(|name| place.join(name));
    for link in &links {
        if fs::read_link(link).is_ok_and(|target| below(&target)) {
            let name = link.file_name().unwrap_or_default().to_string_lossy();
            return Some(format!("as its {name}"));
        }
    }
    for entry in fs::read_dir(place.join("fd")).into_iter().flatten().flatten() {
        if fs::read_link(entry.path()).is_ok_and(|target| below(&target)) {
            return Some("as an open file".to_owned());
        }
    }
    let maps = fs::read(place.join("maps")).unwrap_or_default();
    let mapped = maps.split(|&byte| byte == b'\n').filter_map(|line| {
        let at = line.iter().position(|&byte| byte == b'/')?;
        Some(Path::new(std::ffi::OsStr::from_bytes(&line[at..])))
    });
    if mapped.into_iter().any(below) {
        return Some("as a mapped file".to_owned());
    }
    let bound = |mount: &Mount| {
        folders.origins.iter().any(|(device, root)| mount.device == *device && mount.root.starts_with(root))
    };
    mounts.iter().any(bound).then(|| "as a mount".to_owned())
}

/// Who uses something at or below one of `folders`, in words; this process is left out.
#[must_use]
pub fn users_of(folders: &[PathBuf]) -> Vec<String> {
    users_except(folders, &|_| false)
}

/// [`users_of`], without those of whom `known` is true.
#[must_use]
pub fn users_except(folders: &[PathBuf], known: &dyn Fn(i32) -> bool) -> Vec<String> {
    let folders = Folders::new(folders);
    if folders.is_empty() {
        return Vec::new();
    }
    let me = this_process().map(|me| me.pid).ok();
    let others = all().into_iter().filter(|process| Some(process.id.pid) != me);
    let processes = others.filter_map(|process| {
        let how = use_of(process.id.pid, &folders).filter(|_| !known(process.id.pid))?;
        Some(format!("process {} (`{}`) has a volume of it {how}", process.id.pid, process.name.terminal()))
    });
    processes.chain(loop_devices(Path::new("/sys/block"), &folders)).collect()
}

/// The loop devices, as `sys` lists them, over a file in one of `folders`: the kernel has it open, and no process.
fn loop_devices(sys: &Path, folders: &Folders) -> Vec<String> {
    let devices = fs::read_dir(sys).into_iter().flatten().filter_map(Result::ok);
    let mut over: Vec<String> = devices
        .filter_map(|device| {
            let mut file = fs::read(device.path().join("loop/backing_file")).ok()?;
            file.pop_if(|last| *last == b'\n');
            let path = Path::new(std::ffi::OsStr::from_bytes(&file));
            let name = device.file_name();
            let is_in = folders.paths.iter().any(|folder| path.starts_with(folder));
            is_in.then(|| format!("the loop device `/dev/{}` is over a file of a volume of it", name.display()))
        })
        .collect();
    over.sort();
    over
}

/// Folders whose users are looked for.
#[derive(Debug)]
pub struct Folders {
    paths: Vec<PathBuf>,
    /// Device, and path inside that file system: what a bind mount of the folder has as its root.
    origins: Vec<(String, PathBuf)>,
    own_mounts: Option<PathBuf>,
}

impl Folders {
    /// Of those of `folders` that exist.
    #[must_use]
    pub fn new(folders: &[PathBuf]) -> Self {
        let paths: Vec<PathBuf> = folders.iter().filter_map(|folder| fs::canonicalize(folder).ok()).collect();
        let mounts = mounts_of(Path::new("/proc/self"));
        let origin = |path: &PathBuf| {
            let mount = mounts
                .iter()
                .rev()
                .filter(|mount| path.starts_with(&mount.at))
                .max_by_key(|mount| mount.at.as_os_str().len())?;
            let inside = path.strip_prefix(&mount.at).ok()?;
            Some((
                mount.device.clone(),
                if inside.as_os_str().is_empty() { mount.root.clone() } else { mount.root.join(inside) },
            ))
        };
        Self {
            origins: paths.iter().filter_map(origin).collect(),
            paths,
            own_mounts: fs::read_link("/proc/self/ns/mnt").ok(),
        }
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.paths.is_empty()
    }

    /// The paths that they have below `mount`, if that is of a folder above them.
    fn seen_through(&self, mount: &Mount) -> impl Iterator<Item = PathBuf> {
        self.origins.iter().filter(|(device, _)| *device == mount.device).filter_map(|(_, root)| {
            let inside = root.strip_prefix(&mount.root).ok().filter(|inside| !inside.as_os_str().is_empty())?;
            Some(mount.at.join(inside))
        })
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Mount {
    device: String,
    root: PathBuf,
    at: PathBuf,
}

fn mounts_of(place: &Path) -> Vec<Mount> {
    let table = fs::read(place.join("mountinfo")).unwrap_or_default();
    table.split(|&byte| byte == b'\n').filter_map(parse_mount).collect()
}

fn parse_mount(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|&byte| byte == b' ').skip(2);
    let device = String::from_utf8(fields.next()?.to_vec()).ok()?;
    let (root, at) = (unescape(fields.next()?), unescape(fields.next()?));
    Some(Mount { device, root, at })
}

/// mountinfo writes space, tab, newline and backslash as `\ooo`.
fn unescape(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, after)) = rest.split_first() {
        let octal = after.get(..3).filter(|_| first == b'\\');
        let value = octal.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        bytes.push(value.unwrap_or(first));
        rest = if value.is_some() { &after[3..] } else { after };
    }
    PathBuf::from(std::ffi::OsStr::from_bytes(&bytes))
}

#[cfg(test)]
#[path = "procfs_tests.rs"]
mod tests;
