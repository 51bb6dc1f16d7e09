//! cc-warm keeps Co-op Cloud apps warm: updates that can always go back. See docs/architecture.md.
//!
//! Dependencies point down this list: commands → update → gate, snapshot, deployer, health, alert → state, recipe → sys.

// They panic where whoever reads is gone; `sys::out` does not.
#![cfg_attr(not(test), warn(clippy::print_stdout, clippy::print_stderr))]

pub mod alert;
pub mod cli;
pub mod commands;
pub mod config;
pub mod demo;
pub mod deployer;
pub mod doctor;
pub mod downtime;
pub mod error;
pub mod gate;
pub mod health;
pub mod history;
pub mod home;
pub mod host;
pub mod identity;
pub mod lock;
pub mod logging;
pub mod nightly;
pub mod recipe;
pub mod snapshot;
pub mod state;
pub mod status;
pub mod sys;
pub mod update;
