//! Snapshots of volumes: where they lie, how they change places with live data, and how they go.

pub mod beneath;
pub mod descent;
mod exchange;
mod garbage;
mod generations;
mod measure;
pub mod names;
mod placeholder;
mod preflight;
mod record;
mod store;
#[cfg(test)]
mod store_tests;
mod take;
mod tidy;
mod trash;

pub use self::exchange::{Exchange, ExchangeError, failed_folder};
pub use self::preflight::Preflight;
pub use self::record::{Copied, Snapshot, SnapshotId, Tag, Volume};
pub use self::store::{Listing, Role, Store, Unreadable};
pub use self::take::Spent;
pub use self::tidy::{Kept, Rules};

/// Told how far a copy is.
pub trait Progress {}
impl Progress for () {}
