//! Random names.

use std::io;

/// 12 random hexadecimal digits: the id of an operation, a snapshot, an alert.
pub fn id() -> io::Result<String> {
    let mut bytes = [0; 6];
    let mut filled = 0;
    while filled < bytes.len() {
        filled += rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty())?;
    }
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
