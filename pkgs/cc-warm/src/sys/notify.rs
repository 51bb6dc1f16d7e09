//! Tells the service manager, if one started us, how far we are: what `systemctl status` shows.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Most bytes of a status.
const CAP: usize = 300;

/// Says `text` as the unit's status. Where nobody listens, nothing happens; a status is no reason to fail.
pub fn status(text: &str) {
    let Some(socket) = std::env::var_os("NOTIFY_SOCKET") else { return };
    if let Err(error) = send(&socket, text) {
        tracing::debug!(%error, "cannot tell the service manager");
    }
}

fn send(socket: &OsStr, text: &str) -> io::Result<()> {
    // "@": a name that is in no file system.
    let address = match socket.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(socket)?,
    };
    UnixDatagram::unbound()?.send_to_addr(message(text).as_bytes(), &address).map(drop)
}

/// A line of its own is another variable, and the text is not ours to set variables with. The points of a list become
/// parts of one sentence.
fn message(text: &str) -> String {
    let mut line = String::new();
    for part in text.split(|c: char| c.is_control()) {
        let part = part.trim().trim_start_matches("- ");
        if part.is_empty() {
            continue;
        }
        line.push_str(if line.is_empty() {
            ""
        } else if line.ends_with([':', ';', '.']) {
            " "
        } else {
            "; "
        });
        line.push_str(part);
    }
    if line.len() > CAP {
        let end = (0..=CAP - '…'.len_utf8()).rev().find(|&end| line.is_char_boundary(end)).unwrap_or(0);
        line.truncate(end);
        line.push('…');
    }
    format!("STATUS={line}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_one_variable_whatever_is_in_it() {
        assert_eq!(message("held at 1.0.0:\n  - a major step"), "STATUS=held at 1.0.0: a major step\n");
        assert_eq!(message("held\n  - a major step\n  - a note"), "STATUS=held; a major step; a note\n");
        assert_eq!(message("x\nMAINPID=1\r\nREADY=1"), "STATUS=x; MAINPID=1; READY=1\n");
        let long = message(&"ä".repeat(400));
        assert!(long.len() <= CAP + "STATUS=\n".len() && long.ends_with("ä…\n"), "{long}");
    }

    #[test]
    fn reaches_a_socket_with_a_path_and_one_without() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let in_a_folder = UnixDatagram::bind(&path).unwrap();
        let name = format!("cc-warm-test-{}", std::process::id());
        let abstract_address = SocketAddr::from_abstract_name(&name).unwrap();
        let abstract_one = UnixDatagram::bind_addr(&abstract_address).unwrap();
        for (socket, address) in [(in_a_folder, path.into_os_string()), (abstract_one, format!("@{name}").into())] {
            send(&address, "updating").unwrap();
            let mut buffer = [0; 64];
            let length = socket.recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..length], b"STATUS=updating\n");
        }
    }

    #[test]
    fn a_socket_that_is_gone_is_an_error_and_no_panic() {
        send(OsStr::new("/nowhere/notify"), "updating").unwrap_err();
    }
}
