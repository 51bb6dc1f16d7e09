//! Everything that touches the machine. Nothing in here knows an app.

pub mod clock;
pub mod command;
pub mod dirs;
pub mod durable;
pub mod fault;
pub mod flock;
pub mod git;
pub mod http;
pub mod notify;
pub mod out;
pub mod procfs;
pub mod random;
pub mod raw;
pub mod shutdown;
pub mod signals;
#[cfg(test)]
pub(crate) mod test_server;
pub mod unix_http;
pub mod untrusted;
