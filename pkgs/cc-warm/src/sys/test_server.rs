//! A little HTTP server for tests: answers as a function says, misbehaves when asked to, and keeps what it got.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// What a client sent.
#[derive(Debug, Clone)]
pub(crate) struct Received {
    /// Method and path.
    pub(crate) line: String,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    /// The body.
    pub(crate) body: String,
}

impl Received {
    /// The value of the header `name`, in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The body as JSON.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

/// How to answer.
#[derive(Debug, Clone)]
pub(crate) enum Reply {
    /// Status, header lines, body.
    Plain(u16, Vec<(&'static str, String)>, Vec<u8>),
    /// Status 200, then a byte of body every 20 ms, for ever.
    Drip,
    /// Status 200, then bytes as fast as they are taken, for ever.
    Flood,
    /// Nothing, for ever.
    Silence,
    /// The connection is closed at once.
    Close,
}

impl Reply {
    /// An answer with no header lines of its own.
    pub(crate) fn text(status: u16, body: &str) -> Self {
        Self::Plain(status, Vec::new(), body.as_bytes().to_vec())
    }
}

type Handler = dyn Fn(&Received) -> Reply + Send + Sync;

/// A server on a port of its own, for as long as the test's process lives.
pub(crate) struct Server {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    received: Arc<Mutex<Vec<Received>>>,
    scheme: &'static str,
}

impl Server {
    /// Speaks plain HTTP.
    pub(crate) fn start(handler: impl Fn(&Received) -> Reply + Send + Sync + 'static) -> Self {
        Self::run(None, Arc::new(handler))
    }

    /// Speaks TLS with `identity`.
    pub(crate) fn start_tls(
        identity: &TestIdentity,
        handler: impl Fn(&Received) -> Reply + Send + Sync + 'static,
    ) -> Self {
        Self::run(Some(Arc::clone(&identity.server)), Arc::new(handler))
    }

    fn run(tls: Option<Arc<ServerConfig>>, handler: Arc<Handler>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let received = Arc::new(Mutex::new(Vec::new()));
        let scheme = if tls.is_some() { "https" } else { "http" };
        let log = Arc::clone(&received);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (tls, handler, log) = (tls.clone(), Arc::clone(&handler), Arc::clone(&log));
                std::thread::spawn(move || match tls {
                    None => converse(stream, &*handler, &log),
                    Some(config) => {
                        let connection = ServerConnection::new(config).unwrap();
                        converse(StreamOwned::new(connection, stream), &*handler, &log)
                    }
                });
            }
        });
        Self { address, received, scheme }
    }

    /// The URL of `path` on it.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}://{}{path}", self.scheme, self.address)
    }

    /// Everything it got so far.
    pub(crate) fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn converse<S: Read + Write>(stream: S, handler: &Handler, log: &Mutex<Vec<Received>>) -> Option<()> {
    let mut stream = BufReader::new(stream);
    let request = read_request(&mut stream)?;
    let reply = handler(&request);
    log.lock().unwrap_or_else(PoisonError::into_inner).push(request);
    let stream = stream.get_mut();
    match reply {
        Reply::Plain(status, headers, body) => {
            write!(stream, "HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n", body.len()).ok()?;
            for (name, value) in headers {
                write!(stream, "{name}: {value}\r\n").ok()?;
            }
            stream.write_all(b"\r\n").ok()?;
            stream.write_all(&body).ok()?;
        }
        Reply::Drip => {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n").ok()?;
            loop {
                stream.write_all(b".").and_then(|()| stream.flush()).ok()?;
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        Reply::Flood => {
            stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n").ok()?;
            loop {
                stream.write_all(&[b'x'; 4096]).ok()?;
            }
        }
        Reply::Silence => loop {
            std::thread::park();
        },
        Reply::Close => {}
    }
    stream.flush().ok()
}

fn read_request<S: Read>(stream: &mut BufReader<S>) -> Option<Received> {
    let mut line = String::new();
    stream.read_line(&mut line).ok()?;
    let line = line.trim_end().strip_suffix(" HTTP/1.1")?.to_owned();
    let mut headers = Vec::new();
    loop {
        let mut text = String::new();
        stream.read_line(&mut text).ok()?;
        let Some((name, value)) = text.trim_end().split_once(':') else { break };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let mut request = Received { line, headers, body: String::new() };
    let length = request.header("content-length").and_then(|n| n.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    request.body = String::from_utf8(body).ok()?;
    Some(request)
}

/// An address that never accepts: its queue is full, so that connecting hangs. Keep the value alive.
pub(crate) fn deaf_address() -> (SocketAddr, TcpListener, Vec<TcpStream>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    rustix::net::listen(&listener, 0).unwrap();
    let address = listener.local_addr().unwrap();
    let mut queue = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(200)) {
        queue.push(stream);
    }
    (address, listener, queue)
}

/// A certificate for `localhost`, `127.0.0.1` and `app.example.org`, signed by an authority of its own.
pub(crate) struct TestIdentity {
    server: Arc<ServerConfig>,
    /// The authority's certificate, PEM.
    pub(crate) authority: PathBuf,
    _dir: tempfile::TempDir,
}

impl TestIdentity {
    /// A new one.
    pub(crate) fn new() -> Self {
        let ca_key = rcgen::KeyPair::generate().unwrap();
        let mut ca = rcgen::CertificateParams::new(Vec::new()).unwrap();
        ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        ca.distinguished_name.push(rcgen::DnType::CommonName, "cc-warm's authority for tests");
        ca.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign];
        let ca_cert = ca.self_signed(&ca_key).unwrap();
        let issuer = rcgen::Issuer::new(ca, ca_key);
        let key = rcgen::KeyPair::generate().unwrap();
        let names = ["localhost", "127.0.0.1", "app.example.org"].map(str::to_owned);
        let cert = rcgen::CertificateParams::new(names).unwrap().signed_by(&key, &issuer).unwrap();
        let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let server = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], private)
            .unwrap();
        let dir = tempfile::tempdir().unwrap();
        let authority = dir.path().join("authority.pem");
        std::fs::write(&authority, ca_cert.pem()).unwrap();
        Self { server: Arc::new(server), authority, _dir: dir }
    }
}
