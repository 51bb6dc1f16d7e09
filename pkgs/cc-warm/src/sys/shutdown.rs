//! Whether the machine is going down: then what is under way is left to the recovery after the next boot.

use std::time::Duration;

use super::command::Program;

/// Whether the service manager is stopping everything. Where there is none, it is not.
#[must_use]
pub fn is_under_way() -> bool {
    // Its exit code only says that the state is not `running`.
    let asked = Program::new("systemctl").arg("is-system-running").deadline(Duration::from_secs(5)).run();
    asked.is_ok_and(|said| said.stdout.trim_ascii() == b"stopping")
}
