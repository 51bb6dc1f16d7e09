//! The update of a live-warm app: gates, saga, journal and the way back.

pub mod assess;
pub mod back;
mod ballast;
mod before;
pub mod begin;
pub mod context;
pub mod cramped;
pub mod effects;
pub mod failed;
pub mod forecast;
pub mod forward;
pub mod gone;
pub mod helper;
pub mod journal;
pub mod leftovers;
pub mod live_data;
pub mod manual;
pub mod notice;
pub mod operation;
pub mod outcome;
pub mod parted;
pub mod recover;
pub mod recovery;
pub mod run;
pub mod saga;
pub mod staging;
pub mod turn;
