//! What alerts are about. The operator's table of alerts is made from here.

use std::fmt::{self, Write};

use serde::{Deserialize, Serialize};

/// How long the matter of an alert lasts, and so how often it is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nature {
    /// It happened: told once.
    Event,
    /// It stands until it is over: told once, then at the reminder interval, then as resolved. An app has at most
    /// one of the kind; a new fingerprint takes the place of the old one.
    Fact,
    /// Likewise, but an app can have several at once.
    Facts,
}

/// How urgent an alert is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// To know.
    Notice,
    /// To look at within days.
    Warning,
    /// Something is down or data is in danger.
    Critical,
}

/// What an alert is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "each has its meaning in `doc`, which the operator's table is made of")]
pub enum Kind {
    Stuck,
    Unfinished,
    Down,
    CorruptState,
    SnapshotDamaged,
    RolledBack,
    FirstDeployFailed,
    UnhealthyBeforeUpdate,
    PrepareFailed,
    UpdateFailed,
    PredecessorUnhealthy,
    FetchFailing,
    WindowMissed,
    DiskShort,
    NotReady,
    Released,
    UnitFailed,
    Held,
    DownByHand,
    Recovered,
    AlertsDropped,
    Test,
}

/// What is known of a kind.
#[derive(Debug, Clone, Copy)]
pub struct Doc {
    /// As it is written in files and messages.
    pub name: &'static str,
    /// How often it is told.
    pub nature: Nature,
    /// How urgent it is.
    pub severity: Severity,
    /// What has happened, and what state the app is in.
    pub meaning: &'static str,
    /// What to do.
    pub action: &'static str,
}

impl Kind {
    /// Every kind, the most urgent first.
    pub const ALL: &[Self] = &[
        Self::Stuck,
        Self::Unfinished,
        Self::Down,
        Self::CorruptState,
        Self::SnapshotDamaged,
        Self::RolledBack,
        Self::FirstDeployFailed,
        Self::UnhealthyBeforeUpdate,
        Self::PrepareFailed,
        Self::UpdateFailed,
        Self::PredecessorUnhealthy,
        Self::FetchFailing,
        Self::WindowMissed,
        Self::DiskShort,
        Self::NotReady,
        Self::Released,
        Self::UnitFailed,
        Self::AlertsDropped,
        Self::Held,
        Self::DownByHand,
        Self::Recovered,
        Self::Test,
    ];

    /// What is known of it.
    #[must_use]
    #[expect(clippy::too_many_lines, reason = "a table")]
    pub fn doc(self) -> Doc {
        use Nature::{Event, Fact, Facts};
        use Severity::{Critical, Notice, Warning};
        let doc = |name, nature, severity, meaning, action| Doc { name, nature, severity, meaning, action };
        match self {
            Self::Stuck => doc(
                "stuck",
                Fact,
                Critical,
                "An update failed and its rollback failed too. The app is down. Its known-good snapshot was not touched, and nothing is done to the app until you act.",
                "Read the reason (`cc-warm status <app>`), mend it, then run the command that the alert names (`cc-warm retry <app>` where its data is whole, else `cc-warm restore <app>`) or, once it runs again by your hand, `cc-warm adopt <app>`.",
            ),
            Self::Unfinished => doc(
                "unfinished",
                Fact,
                Critical,
                "An operation on the app failed, and so did what was to bring the app back: it was left where it was, and the app may be down. The alert says how far it came. Every run, and the boot, tries to settle it, and then it is over.",
                "Mend what the reason names, then run `cc-warm recover <app>`.",
            ),
            Self::Down => doc(
                "down",
                Fact,
                Critical,
                "The app is deployed, but nothing of it runs (the machine was booted, or somebody ended it), or it was undeployed and is wanted back (`cc-warm resume`), and it could not be started. Its data is as it was.",
                "Mend what the reason names, then run the command that the alert names (`cc-warm recover <app>`; of an app that was undeployed and is wanted back, `cc-warm update <app>`).",
            ),
            Self::CorruptState => doc(
                "corrupt-state",
                Facts,
                Critical,
                "A state file or journal does not parse, or was written by a newer cc-warm. It was left as it is, and nothing is done to the app.",
                "If it is newer, run the cc-warm that wrote it. Otherwise restore the named file from a backup, or move it away when you know that no update was under way, then run `cc-warm recover`.",
            ),
            Self::SnapshotDamaged => doc(
                "snapshot-damaged",
                Facts,
                Critical,
                "A snapshot no longer has the content that was recorded when it was taken: the disk, or somebody, changed it. A rollback to it would be refused.",
                "Check the disk. While the app is healthy, take a new one: `cc-warm snapshot <app>`. The damaged one is kept for a while as the one before; `cc-warm verify <app>` ends this once all are whole.",
            ),
            Self::RolledBack => doc(
                "rolled-back",
                Event,
                Warning,
                "A new version was not healthy. The prior version runs again with the data it had when it was stopped; what users wrote since then is in the failed data, which is kept for a while. What is `unmanaged` does not go back: the alert names it. The version is not tried again.",
                "Read the reason and the notes. Report it to the recipe's maintainers. `cc-warm retry <app>` tries it again; a newer version is tried by itself.",
            ),
            Self::FirstDeployFailed => doc(
                "first-deploy-failed",
                Event,
                Warning,
                "An app that was declared for the first time did not become healthy. It was undeployed; its volumes are kept.",
                "Read the reason, mend what it names, and run `cc-warm retry <app>`, then `cc-warm update <app>`. Without `retry`, that version is tried again only with another `env`.",
            ),
            Self::UnhealthyBeforeUpdate => doc(
                "unhealthy-before-update",
                Fact,
                Warning,
                "An update is there, but the app is not healthy as it runs now, so it was not touched, and no snapshot was taken of its data.",
                "Mend the app, or the probe, whose answer the alert has; `cc-warm doctor` asks it again. The next run goes on by itself.",
            ),
            Self::PrepareFailed => doc(
                "prepare-failed",
                Fact,
                Warning,
                "An update could not be prepared: an image cannot be pulled, the disk is too small, a volume cannot be snapshotted. The app runs on, without any downtime.",
                "Mend what the reason names. The next run goes on by itself.",
            ),
            Self::UpdateFailed => doc(
                "update-failed",
                Fact,
                Warning,
                "A run ended in an error before it began anything, so it is not known whether there is an update. The app runs on as it is. It will be so in every run until the cause is mended.",
                "Mend what the reason names, then run `cc-warm update <app>`.",
            ),
            Self::PredecessorUnhealthy => doc(
                "predecessor-unhealthy",
                Fact,
                Warning,
                "An app that this one comes `after` is rolled back, stuck or not healthy, so this one was not updated.",
                "See the alerts of the other app first.",
            ),
            Self::FetchFailing => doc(
                "fetch-failing",
                Fact,
                Warning,
                "The recipe's remote could not be read for several runs. Updates of the app are not seen; the app runs on.",
                "Try `git ls-remote <remote>` on the host; correct the remote if the recipe has moved.",
            ),
            Self::WindowMissed => doc(
                "window-missed",
                Fact,
                Warning,
                "An update has waited for a week: at none of the app's runs was it a time at which `update.windows` lets it be stopped. So it will go on, for security releases too. The app runs on as it is.",
                "Choose windows that contain the hour of the night's run (`systemctl list-timers`), with the time that the rebuild and the apps before it take; or run `cc-warm update --now <app>`.",
            ),
            Self::DiskShort => doc(
                "disk-short",
                Fact,
                Warning,
                "There is not enough free disk space for a snapshot, so updates of stateful apps wait.",
                "Free some space, or lower `disk.reserve`. `cc-warm snapshot --dry-run <app>` says how much the next one takes.",
            ),
            Self::NotReady => doc(
                "not-ready",
                Fact,
                Warning,
                "Docker, the swarm or the server did not answer, so nothing is known of the app, and nothing was done to it that was not under way.",
                "Check `systemctl status docker` and `docker node ls`; then `cc-warm recover` settles what was under way.",
            ),
            Self::Released => doc(
                "released",
                Event,
                Warning,
                "Somebody changed the app while cc-warm updated it. cc-warm let go of it: nothing more is done to it in this update. The snapshot taken before is kept.",
                "When you are done with it: `cc-warm adopt <app>` takes what runs as good.",
            ),
            Self::UnitFailed => {
                doc("unit-failed", Event, Warning, "A systemd unit of cc-warm failed.", "Read `journalctl -u <unit>`.")
            }
            Self::AlertsDropped => doc(
                "alerts-dropped",
                Event,
                Warning,
                "More alerts waited for delivery than are kept. The least urgent, oldest ones were dropped.",
                "See `cc-warm history <app>` for what happened, and mend the alert's way out.",
            ),
            Self::Held => doc(
                "held",
                Fact,
                Notice,
                "An update is there that needs you: it crosses a major version, its notes speak of manual work, or another reason that the alert names. The app runs on as it is.",
                "Read the notes, do what they ask, then `cc-warm approve <app> <version>`.",
            ),
            Self::DownByHand => doc(
                "down-by-hand",
                Fact,
                Notice,
                "The app was undeployed by somebody else than cc-warm. It is left alone.",
                "`cc-warm resume <app>` when it shall be kept warm again. If somebody may have deployed another version before, it is not started on that data: the alert then names what brings it back.",
            ),
            Self::Recovered => doc(
                "recovered",
                Event,
                Notice,
                "An update was interrupted (a power cut, a kill) and has been settled.",
                "Nothing, unless it happens again.",
            ),
            Self::Test => doc("test", Event, Notice, "Somebody asked whether alerts arrive.", "Nothing."),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.doc().name)
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Notice => "notice",
            Self::Warning => "warning",
            Self::Critical => "critical",
        })
    }
}

/// The operator's reference: a Markdown section for each kind.
#[must_use]
pub fn reference() -> String {
    let mut text = String::new();
    for kind in Kind::ALL {
        let Doc { name, nature, severity, meaning, action } = kind.doc();
        let told = match nature {
            Nature::Event => "told once",
            Nature::Fact | Nature::Facts => "told once, again at the reminder interval, and when it is over",
        };
        let _ = writeln!(
            text,
            "### `{name}`\n\n{severity}; {told}\n\n**What it means.** {meaning}\n\n**What to do.** {action}\n"
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_in_the_reference_under_the_name_it_is_written_with() {
        let reference = reference();
        for kind in Kind::ALL {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.doc().name);
            assert!(reference.contains(&format!("### `{kind}`\n")), "{kind}");
        }
        let mut names: Vec<_> = Kind::ALL.iter().map(|kind| kind.doc().name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Kind::ALL.len());
        assert!(Kind::ALL.is_sorted_by_key(|kind| std::cmp::Reverse(kind.doc().severity)));
    }

    /// A kind that is missing in [`Kind::ALL`] is one that does not parse back from the list of names serde knows.
    #[test]
    fn no_kind_is_missing_in_the_list() {
        let error = serde_json::from_str::<Kind>("\"no such kind\"").unwrap_err().to_string();
        for name in error.split('`').skip(3).step_by(2) {
            assert!(Kind::ALL.iter().any(|kind| kind.doc().name == name), "{name}");
        }
        assert_eq!(error.split('`').skip(3).step_by(2).count(), Kind::ALL.len(), "{error}");
    }
}
