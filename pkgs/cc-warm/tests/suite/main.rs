//! The integration tests: cc-warm as its users run it.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a failure is how a test speaks")]

mod after;
mod before_anything;
mod crash;
mod disk;
mod docs;
mod failing;
mod fixture;
mod in_use;
mod journey;
mod json;
mod meanwhile;
mod policy;
mod process;
mod progress;
mod receiver;
mod recipe;
mod repaired;
mod repository;
mod rules;
mod screen;
mod settled;
mod shutdown;
mod signals;
mod text;
mod told;
mod undeclared;
mod unsuitable;
mod wrong_data;
