//! When a file may be taken over from a predecessor instead of being read again.
//!
//! A file's record is its inode, size, mtime and ctime. That it is as it was says that the content is as it was, but
//! for the cases below; in each of them a file is copied. The decision is pure.

use std::time::Duration;

use super::catalog::Header;
use super::entry::Entry;
use super::moment::Moment;
use super::stat::Time;

/// How much older than the predecessor's beginning a file's ctime must be if the app ran then: a page that was dirty
/// already takes further stores without a new ctime, until it is written back (30 s by default).
const WHILE_RUNNING: Duration = Duration::from_mins(2);

/// [`WHILE_RUNNING`].
#[cfg(not(feature = "fault-points"))]
#[must_use]
pub fn while_running() -> Duration {
    WHILE_RUNNING
}

/// [`WHILE_RUNNING`], or as much less as tests want, whose files are seconds old.
#[cfg(feature = "fault-points")]
pub fn while_running() -> Duration {
    let wanted = std::env::var("CC_WARM_WHILE_RUNNING_MS").ok().and_then(|ms| ms.parse().ok());
    wanted.map_or(WHILE_RUNNING, Duration::from_millis)
}

/// The coarsest step in which the times of a file system that is relied on move.
const WHOLE_SECOND: i128 = 1_000_000_000;

/// A smaller step of the wall clock is not told from the time that reading two clocks takes.
const STEP: i64 = 5_000_000;

/// What is known of this host now.
#[derive(Debug, Clone)]
pub struct Now {
    /// The moment.
    pub moment: Moment,
    /// When the boot before this one had synced all that it had, if its shutdown came that far and said so.
    pub shutdown: Option<Moment>,
    /// The kind of file system that the tree is on.
    pub file_system: String,
    /// The steps in which file systems' times move.
    pub granularity: Duration,
    /// How much older than a predecessor that was taken while the app ran a file must be.
    pub while_running: Duration,
}

/// Why nothing may be taken over from a predecessor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A power cut keeps fdatasynced data under its old times.
    #[error("the machine was booted since, and its shutdown did not say that all was synced")]
    OtherBoot,
    /// A store into a mapped page does not move ctime on every file system.
    #[error("the file system's times are not to be relied on")]
    FileSystem,
    /// The same times can then come twice.
    #[error("the clock was set back since")]
    ClockWentBack,
}

/// What of a predecessor may be taken over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// Nanoseconds since 1970: what changed later is copied.
    before: i128,
}

impl Rule {
    /// From a predecessor with `header`; an error if nothing.
    pub fn of(header: &Header, now: &Now) -> Result<Self, Refusal> {
        let reliable = |name: &str| matches!(name, "ext4" | "xfs" | "btrfs");
        if !reliable(&header.file_system) || header.file_system != now.file_system {
            return Err(Refusal::FileSystem);
        }
        let began = &header.began;
        if began.boot == now.moment.boot {
            if went_back(began, &now.moment) {
                return Err(Refusal::ClockWentBack);
            }
        } else {
            let Some(shutdown) = now.shutdown.as_ref().filter(|shutdown| shutdown.boot == began.boot) else {
                return Err(Refusal::OtherBoot);
            };
            // The clock as it is now, at this boot: that was after the shutdown.
            let booted = now.moment.wall.saturating_sub(now.moment.since_boot);
            if went_back(began, shutdown) || booted < shutdown.wall {
                return Err(Refusal::ClockWentBack);
            }
        }
        // Two steps: one for the time that a change may be early, one for a change within the step that was read in.
        let margin = if header.running { now.while_running } else { 2 * now.granularity };
        let margin = i128::try_from(margin.as_nanos()).unwrap_or(i128::MAX / 2);
        Ok(Self { before: i128::from(began.wall) - margin })
    }

    /// Whether a file that was `recorded`, and is `found` to be this now, has the content that it had.
    #[must_use]
    pub fn is_unchanged(&self, recorded: &Entry, found: &Entry) -> bool {
        recorded.kind == found.kind && recorded.record() == found.record() && self.is_old(found.ctime)
    }

    fn is_old(&self, ctime: Time) -> bool {
        // Some file systems have whole seconds (ext2, ext3, and ext4 with inodes of 128 bytes), where a file that is changed
        // again within the second keeps its time.
        let step = if ctime.nanos == 0 { WHOLE_SECOND } else { 0 };
        ctime.nanos() + step < self.before
    }
}

/// Whether the wall clock was set back between two moments of one boot. Both clocks are slewed alike, so that only steps
/// show in their difference.
fn went_back(from: &Moment, to: &Moment) -> bool {
    let offset = |moment: &Moment| moment.wall.saturating_sub(moment.since_boot);
    to.since_boot < from.since_boot || to.wall < from.wall || offset(to) < offset(from).saturating_sub(STEP)
}

#[cfg(test)]
mod tests {
    use rustix::fs::FileType;

    use super::*;
    use crate::snapshot::moment::BootId;

    const SECOND: i64 = 1_000_000_000;

    fn moment(boot: &str, wall: i64, since_boot: i64) -> Moment {
        Moment { boot: BootId(boot.to_owned()), wall: wall * SECOND, since_boot: since_boot * SECOND }
    }

    fn header(running: bool) -> Header {
        Header {
            format: 1,
            began: moment("a", 10_000, 1000),
            running,
            file_system: "ext4".to_owned(),
            entries: 1,
            sum: String::new(),
        }
    }

    fn now() -> Now {
        Now {
            moment: moment("a", 20_000, 11_000),
            shutdown: None,
            file_system: "ext4".to_owned(),
            granularity: Duration::from_millis(4),
            while_running: WHILE_RUNNING,
        }
    }

    fn file(ctime_nanos: i64) -> Entry {
        let time = Time { seconds: ctime_nanos / SECOND, nanos: u32::try_from(ctime_nanos % SECOND).unwrap() };
        Entry {
            kind: FileType::RegularFile,
            mode: 0o644,
            uid: 0,
            gid: 0,
            size: 10,
            mtime: time,
            ctime: time,
            inode: 7,
            links: 1,
            device: (0, 0),
            flags: 0,
            project: 0,
            xattrs: None,
            target: Vec::new(),
            name: b"f".to_vec(),
        }
    }

    #[test]
    fn takes_over_what_has_its_old_record_within_a_boot() {
        let rule = Rule::of(&header(false), &now()).unwrap();
        assert!(rule.is_unchanged(&file(9000 * SECOND), &file(9000 * SECOND)));
    }

    #[test]
    fn copies_what_has_another_record() {
        let rule = Rule::of(&header(false), &now()).unwrap();
        let old = file(9000 * SECOND);
        let changes: [fn(&mut Entry); 5] = [
            |e| e.inode += 1,
            |e| e.size += 1,
            |e| e.mtime.nanos += 1,
            |e| e.ctime.nanos += 1,
            |e| e.kind = FileType::Symlink,
        ];
        for change in changes {
            let mut found = old.clone();
            change(&mut found);
            assert!(!rule.is_unchanged(&old, &found));
        }
    }

    #[test]
    fn copies_what_changed_in_the_step_in_which_it_was_read_or_later() {
        let rule = Rule::of(&header(false), &now()).unwrap();
        let begin = 10_000 * SECOND;
        for (ctime, unchanged) in [(begin - 8_000_001, true), (begin - 8_000_000, false), (begin, false)] {
            assert_eq!(rule.is_unchanged(&file(ctime), &file(ctime)), unchanged, "{ctime}");
        }
    }

    #[test]
    fn copies_what_has_whole_seconds_and_was_written_in_the_second_before() {
        let begin = 10_000 * SECOND;
        for (running, ctime, unchanged) in [
            (false, begin - SECOND, false),
            (false, begin - SECOND - 1, true),
            (false, begin - 2 * SECOND, true),
            (true, begin - 121 * SECOND, false),
            (true, begin - 122 * SECOND, true),
        ] {
            let rule = Rule::of(&header(running), &now()).unwrap();
            assert_eq!(rule.is_unchanged(&file(ctime), &file(ctime)), unchanged, "{running} {ctime}");
        }
    }

    #[test]
    fn copies_what_was_young_when_the_app_ran() {
        let rule = Rule::of(&header(true), &now()).unwrap();
        let begin = 10_000 * SECOND;
        for (ctime, unchanged) in [(begin - 120 * SECOND - 1, true), (begin - 120 * SECOND, false)] {
            assert_eq!(rule.is_unchanged(&file(ctime), &file(ctime)), unchanged, "{ctime}");
        }
    }

    #[test]
    fn refuses_all_after_a_boot_unless_the_shutdown_synced() {
        let rebooted = Now { moment: moment("b", 20_000, 100), ..now() };
        let cases = [
            (None, Err(Refusal::OtherBoot)),
            // Of the boot before the last: what was synced then says nothing of the boot in between.
            (Some(moment("z", 15_000, 6000)), Err(Refusal::OtherBoot)),
            (Some(moment("b", 15_000, 6000)), Err(Refusal::OtherBoot)),
            (Some(moment("a", 15_000, 6000)), Ok(())),
            // Set back before the shutdown.
            (Some(moment("a", 14_999, 6000)), Err(Refusal::ClockWentBack)),
            // Booted with an older clock than it was shut down with.
            (Some(moment("a", 19_901, 10_901)), Err(Refusal::ClockWentBack)),
        ];
        for (shutdown, expected) in cases {
            let now = Now { shutdown: shutdown.clone(), ..rebooted.clone() };
            assert_eq!(Rule::of(&header(false), &now).map(|_| ()), expected, "{shutdown:?}");
        }
    }

    #[test]
    fn refuses_all_when_the_clock_went_back() {
        for (wall, since_boot, refused) in
            [(20_000, 11_000, false), (20_001, 11_000, false), (19_999, 11_000, true), (9999, 999, true)]
        {
            let now = Now { moment: moment("a", wall, since_boot), ..now() };
            assert_eq!(Rule::of(&header(false), &now).is_err(), refused, "{wall} {since_boot}");
        }
    }

    #[test]
    fn refuses_file_systems_whose_ctime_lies() {
        for (then, today, refused) in
            [("xfs", "xfs", false), ("btrfs", "btrfs", false), ("tmpfs", "tmpfs", true), ("ext4", "xfs", true)]
        {
            let header = Header { file_system: then.to_owned(), ..header(false) };
            let now = Now { file_system: today.to_owned(), ..now() };
            assert_eq!(Rule::of(&header, &now) == Err(Refusal::FileSystem), refused, "{then} {today}");
        }
    }
}
