//! The gate before: may this app be updated without its operator?

pub mod markers;
