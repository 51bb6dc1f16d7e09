//! The integration tests: cc-warm as its users run it.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a failure is how a test speaks")]

mod crash;
mod docs;
mod fixture;
mod policy;
mod process;
mod recipe;
mod repository;
mod screen;
mod shutdown;
mod text;
