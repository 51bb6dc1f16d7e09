//! Snapshots of volumes: where they lie, how they change places with live data, and how they go.

mod audit;
pub mod beneath;
#[cfg(test)]
mod beneath_tests;
pub mod catalog;
mod changed;
mod content;
mod copies;
mod crew;
mod data;
pub mod descent;
pub mod entry;
mod exchange;
#[cfg(test)]
mod file_system_tests;
pub mod flags;
pub mod flush;
mod garbage;
mod generations;
#[cfg(test)]
mod image_tests;
#[cfg(test)]
mod kinds_tests;
mod known;
mod links;
mod make;
mod measure;
pub mod meter;
pub mod moment;
pub mod names;
#[cfg(test)]
mod overlay_tests;
mod pairs;
pub mod predecessor;
mod preflight;
#[cfg(test)]
mod preflight_tests;
mod record;
mod report;
pub mod restore;
mod room;
pub mod scrub;
mod space;
pub mod stat;
mod store;
#[cfg(test)]
mod store_tests;
pub mod synced;
pub mod take;
mod take_entry;
pub mod takeover;
#[cfg(test)]
mod takeover_tests;
#[cfg(test)]
mod test_tree;
mod tidy;
#[cfg(test)]
mod tidy_tests;
mod transfer;
mod trash;
pub mod tree;
#[cfg(test)]
mod tree_tests;
mod trial;
pub mod verify;
mod verify_walk;
#[cfg(test)]
mod way_back_tests;
mod xattrs;

pub use self::audit::{Audit, Depth, Finding};
pub use self::changed::is_passing;
pub use self::copies::{Order, Spent, Staged, Work};
pub use self::exchange::{Exchange, ExchangeError, failed_folder};
pub use self::measure::{Totals, Unsuitable};
pub use self::preflight::{Preflight, VolumeNeed};
pub use self::record::{Snapshot, SnapshotId, Tag, Volume, VolumeCopy};
pub use self::report::Reporter;
pub use self::room::{FileSystem, are_on_one_file_system, bytes};
pub use self::space::{free as free_space, is_no_space};
pub use self::store::{Listing, Role, Store, Unreadable};
pub use self::tidy::{Kept, Rules};
pub use self::trash::delete as delete_tree;
pub use self::verify::differs;
