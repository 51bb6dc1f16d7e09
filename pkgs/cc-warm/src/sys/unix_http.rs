//! HTTP over a unix socket, as a daemon of this host speaks it: GET only, one deadline over all of it, one connection a
//! question.

use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, Transport};
use ureq::{Agent, Error, Timeout};

use super::untrusted::Untrusted;

/// More than any answer about one host comes to.
const BODY_CAP: u64 = 64 << 20;

/// An answer, whatever its status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The body.
    pub body: Vec<u8>,
}

/// Why there was no answer, in words that are safe to show.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SocketError(String);

/// What the daemon that listens on `socket` answers to a GET of `path`, with `query` as its parameters.
pub fn get(socket: &Path, path: &str, query: &[(&str, &str)], limit: Duration) -> Result<Answer, SocketError> {
    let config = Agent::config_builder()
        .timeout_global(Some(limit.max(Duration::from_millis(1))))
        .max_redirects(0)
        .max_redirects_will_error(false)
        .http_status_as_error(false)
        .max_idle_connections(0)
        .accept_encoding("identity")
        .proxy(None)
        .build();
    let agent = Agent::with_parts(config, Socket(socket.to_owned()), Nowhere);
    let request = query
        .iter()
        .fold(agent.get(format!("http://socket{path}")), |request, (key, value)| request.query(*key, *value));
    let explain = |error: Error| {
        let said = match error {
            Error::Timeout(_) => format!("no whole answer within {limit:?}"),
            Error::Io(error) if error.kind() == ErrorKind::TimedOut => format!("no whole answer within {limit:?}"),
            Error::Io(error) => error.to_string(),
            other => other.to_string(),
        };
        SocketError(format!("`{}`: {}", socket.display(), Untrusted::new(said).terminal()))
    };
    let mut answer = request.call().map_err(explain)?;
    let status = answer.status().as_u16();
    let mut body = Vec::new();
    answer.body_mut().as_reader().take(BODY_CAP).read_to_end(&mut body).map_err(|error| explain(error.into()))?;
    Ok(Answer { status, body })
}

/// Connects to a socket, whatever the URL's host.
#[derive(Debug)]
struct Socket(PathBuf);

impl Connector for Socket {
    type Out = Connection;

    fn connect(&self, details: &ConnectionDetails, _chained: Option<()>) -> Result<Option<Connection>, Error> {
        let stream = UnixStream::connect(&self.0)?;
        let config = &details.config;
        let buffers = LazyBuffers::new(config.input_buffer_size(), config.output_buffer_size());
        Ok(Some(Connection { stream, buffers }))
    }
}

#[derive(Debug)]
struct Connection {
    stream: UnixStream,
    buffers: LazyBuffers,
}

impl Transport for Connection {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        self.stream.set_write_timeout(left(timeout)?)?;
        self.stream.write_all(&self.buffers.output()[..amount]).map_err(late)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        self.stream.set_read_timeout(left(timeout)?)?;
        let amount = loop {
            match self.stream.read(self.buffers.input_append_buf()) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                other => break other.map_err(late)?,
            }
        };
        self.buffers.input_appended(amount);
        Ok(amount > 0)
    }

    /// No connection is used twice.
    fn is_open(&mut self) -> bool {
        false
    }
}

/// What is left of the deadline; none at all is an error.
fn left(timeout: NextTimeout) -> Result<Option<Duration>, Error> {
    match timeout.not_zero() {
        Some(left) if left.is_zero() => Err(Error::Timeout(Timeout::Global)),
        left => Ok(left.map(|left| *left)),
    }
}

fn late(error: io::Error) -> Error {
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => Error::Timeout(Timeout::Global),
        _ => Error::Io(error),
    }
}

/// A socket's URL names no host.
#[derive(Debug)]
struct Nowhere;

impl Resolver for Nowhere {
    fn resolve(&self, _: &Uri, _: &Config, _: NextTimeout) -> Result<ResolvedSocketAddrs, Error> {
        let mut none = self.empty();
        none.push(([127, 0, 0, 1], 0).into());
        Ok(none)
    }
}

#[cfg(test)]
mod tests {
    use std::io::BufRead;
    use std::os::unix::net::UnixListener;
    use std::thread;

    use super::*;

    /// A socket on which `answer` is said once. Joined, it gives the first line of the question.
    fn daemon(answer: &'static str) -> (tempfile::TempDir, PathBuf, thread::JoinHandle<String>) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("daemon.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let asked = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut lines = io::BufReader::new(stream.try_clone().unwrap()).lines().map(Result::unwrap);
            let first = lines.next().unwrap();
            let _ = lines.take_while(|line| !line.is_empty()).count();
            stream.write_all(answer.as_bytes()).unwrap();
            first
        });
        (dir, path, asked)
    }

    const LIMIT: Duration = Duration::from_secs(20);

    #[test]
    fn asks_with_encoded_parameters_and_reads_bodies_of_either_kind() {
        for answer in [
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n[\r\n1\r\n]\r\n0\r\n\r\n",
        ] {
            let (_dir, path, asked) = daemon(answer);
            let got = get(&path, "/services", &[("filters", r#"{"label":["a=b&c d"]}"#)], LIMIT).unwrap();
            assert_eq!(got, Answer { status: 200, body: b"[]".to_vec() });
            let line = asked.join().unwrap();
            assert!(
                line.starts_with("GET /services?filters=%7B%22label%22%3A%5B%22a%3Db%26c%20d%22%5D%7D HTTP/1.1"),
                "{line}"
            );
        }
    }

    #[test]
    fn an_error_status_is_an_answer() {
        let (_dir, path, asked) = daemon("HTTP/1.1 503 Down\r\nContent-Length: 14\r\n\r\n{\"message\":\"\"}");
        assert_eq!(get(&path, "/info", &[], LIMIT).unwrap().status, 503);
        asked.join().unwrap();
    }

    #[test]
    fn says_which_socket_does_not_answer() {
        let error = get(Path::new("/nowhere/at.sock"), "/info", &[], LIMIT).unwrap_err();
        assert!(error.to_string().starts_with("`/nowhere/at.sock`: "), "{error}");
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("silent.sock");
        let _listener = UnixListener::bind(&path).unwrap();
        let error = get(&path, "/info", &[], Duration::from_millis(50)).unwrap_err();
        assert!(error.to_string().contains("no whole answer within 50ms"), "{error}");
    }

    #[test]
    fn a_body_that_breaks_off_is_no_answer() {
        let (_dir, path, asked) = daemon("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n[");
        get(&path, "/info", &[], LIMIT).unwrap_err();
        asked.join().unwrap();
    }
}
