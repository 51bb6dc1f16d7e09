//! What does not go back with the rest of an app's data, because its operator said so (`update.unmanaged`): whoever reads
//! that an app went back wants to know of it.

use super::operation::Operation;
use super::saga::Progress;
use crate::snapshot::Snapshot;

impl Progress {
    /// Whether a restore brings back what is `unmanaged` now, too, where the snapshot has it: a version that failed wrote to
    /// it, and the prior one is to run on it.
    #[must_use]
    pub fn brings_unmanaged_back(&self) -> bool {
        let begun = &self.begun;
        begun.was_stuck.is_some() && !begun.stuck_on.as_ref().is_some_and(|on| on.data.fits())
    }
}

impl Operation<'_> {
    /// What stays as the version that failed left it, in words, if anything does.
    pub fn does_not_go_back(&self) -> Option<String> {
        let progress = self.progress();
        let snapshot = progress.snapshot.as_ref().and_then(|id| self.store.get(id).ok()?);
        let volumes: Vec<&str> = snapshot.iter().flat_map(Snapshot::volume_names).collect();
        let left_out = snapshot.as_ref().and_then(|snapshot| snapshot.tag.left_out.as_deref()).unwrap_or_default();
        let brought_back = if progress.brings_unmanaged_back() { &volumes[..] } else { &[] };
        let names = left(&progress.begun.app.update.unmanaged, left_out, brought_back);
        (!names.is_empty()).then(|| format!("what is `unmanaged` stays as it is: {}", names.join(", ")))
    }
}

/// What of `unmanaged`, as the configuration has it, and of what was `left_out` of the snapshot does not go back.
fn left(unmanaged: &[String], left_out: &[String], brought_back: &[&str]) -> Vec<String> {
    // A volume is configured by its name in the recipe, or by the whole one.
    let is =
        |short: &str, full: &str| full == short || full.strip_suffix(short).is_some_and(|stack| stack.ends_with('_'));
    let stays = |name: &&String| !brought_back.iter().any(|full| is(name, full));
    let mut names: Vec<String> = unmanaged.iter().filter(stays).cloned().collect();
    for full in left_out {
        if !names.iter().any(|name| is(name, full)) {
            names.push(full.clone());
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_named_once_and_none_that_is_brought_back() {
        let owned = |names: &[&str]| -> Vec<String> { names.iter().map(|&name| name.to_owned()).collect() };
        for (unmanaged, left_out, brought_back, wanted) in [
            (&["media", "/srv/scans"][..], &["login_media"][..], &[][..], "media /srv/scans"),
            (&["login_media"], &["login_media"], &[], "login_media"),
            // It is managed since.
            (&[], &["login_media"], &[], "login_media"),
            (&["media", "/srv/scans"], &[], &["login_db", "login_media"], "/srv/scans"),
            (&["dia"], &[], &["login_media"], "dia"),
            (&[], &[], &[], ""),
        ] {
            assert_eq!(left(&owned(unmanaged), &owned(left_out), brought_back).join(" "), wanted);
        }
    }
}
