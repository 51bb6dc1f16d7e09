//! Who uses an app's volumes, by what the kernel says: mounts, open files, working directories, maps.

use std::path::PathBuf;

use crate::sys::procfs::{self, Folders};

/// Whoever has something below one of `volumes`, in words; this process, which copies them, is left out.
pub(super) fn users(volumes: &[PathBuf]) -> Vec<String> {
    let folders = Folders::new(volumes);
    if folders.is_empty() {
        return Vec::new();
    }
    let me = procfs::this_process().map(|me| me.pid).ok();
    let others = procfs::all().into_iter().filter(|process| Some(process.id.pid) != me);
    others
        .filter_map(|process| {
            let how = procfs::use_of(process.id.pid, &folders)?;
            Some(format!("process {} (`{}`) has a volume of it {how}", process.id.pid, process.name.terminal()))
        })
        .collect()
}
