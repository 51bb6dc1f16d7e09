//! What is meant where the configuration file says nothing.

use std::path::PathBuf;

use super::duration::Span;
use super::{Policy, Target, Warm};

pub(super) fn state_dir() -> PathBuf {
    "/var/lib/ci-warm".into()
}

pub(super) fn servers_dir() -> PathBuf {
    "/root/.abra/servers".into()
}

pub(super) fn max_tests() -> u32 {
    1
}

pub(super) fn reminder() -> Span {
    Span::days(7)
}

pub(super) fn reserve() -> u64 {
    1 << 30
}

pub(super) fn fetch_failures() -> u32 {
    3
}

pub(super) fn warm() -> Warm {
    Warm::Live
}

pub(super) fn server() -> String {
    "default".to_owned()
}

pub(super) fn full_every() -> u32 {
    30
}

pub(super) fn successes() -> u32 {
    3
}

pub(super) fn interval() -> Span {
    Span::seconds(2)
}

pub(super) fn soak() -> Span {
    Span::seconds(60)
}

pub(super) fn deadline() -> Span {
    Span::seconds(600)
}

pub(super) fn policy() -> Policy {
    Policy::Auto
}

pub(super) fn target() -> Target {
    Target::Latest
}

pub(super) fn keep() -> Span {
    Span::days(7)
}

pub(super) fn yes() -> bool {
    true
}
