//! The update of a live-warm app: gates, saga, journal and the way back.

pub mod journal;
pub mod recovery;
pub mod saga;
