//! What people and programs read. Whoever reads may leave, a terminal may be closed in the middle of an update: that is no
//! reason to end with the app down, as `println!` would.

use std::fmt::Arguments;
use std::io::{self, Write};

/// A line on stderr: what happens, and what goes wrong.
pub fn to_stderr(line: Arguments<'_>) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// A line on stdout: results.
pub fn to_stdout(line: Arguments<'_>) {
    let _ = writeln!(io::stdout().lock(), "{line}");
}

/// [`to_stderr`], as `eprintln!` is called.
macro_rules! say {
    ($($words:tt)*) => { $crate::sys::out::to_stderr(format_args!($($words)*)) };
}

/// [`to_stdout`], as `println!` is called.
macro_rules! show {
    ($($words:tt)*) => { $crate::sys::out::to_stdout(format_args!($($words)*)) };
}

pub(crate) use {say, show};
