//! Blocking HTTP requests, each bounded in every way: one deadline over name resolution, connecting, TLS, sending and
//! the whole answer; at most [`BODY_CAP`] bytes of body; no redirects unless asked for; caches bypassed.
//!
//! - **Proxies.** A request goes straight to its host unless [`Request::by_proxy`] is called: a probe asks the app on
//!   this host, and a proxy's answer would say nothing of it. With it, `https_proxy`, `http_proxy`, `all_proxy` and
//!   `no_proxy` count as everywhere.
//! - **Trust.** The authorities are the system's: the files that `SSL_CERT_FILE` and `SSL_CERT_DIR` name, else the
//!   distribution's bundle (NixOS: `security.pki`), so that private authorities work. Only a system without any such
//!   bundle gets Mozilla's list as compiled in; where one is named and gives no certificate, that is an error and no fall-back.
//! - **Errors** never quote a URL's user, password or query, nor a header, nor a body.

use std::io::Read;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ureq::config::Config;
use ureq::http::{self, Uri};
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{DefaultConnector, NextTimeout};
use ureq::{Agent, Proxy};

use super::untrusted::Untrusted;

/// Most bytes of a body that are read.
pub const BODY_CAP: usize = 64 << 10;
const USER_AGENT: &str = concat!("cc-warm/", env!("CARGO_PKG_VERSION"));

/// A request, about to be sent.
#[derive(Debug, Clone)]
#[must_use]
pub struct Request {
    method: http::Method,
    url: String,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
    timeout: Duration,
    connect_to: Option<SocketAddr>,
    verify_tls: bool,
    follow_redirects: bool,
    by_proxy: bool,
}

/// An answer, whatever its status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// The status.
    pub status: u16,
    /// The header lines: names in lower case, in no particular order.
    pub headers: Vec<(String, Untrusted)>,
    /// The beginning of the body.
    pub body: Untrusted,
    /// Whether there was more of it.
    pub truncated: bool,
}

/// Why there was no answer, in words that are safe to show.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct HttpError(String);

impl Request {
    /// A GET of `url`, with 10 s for all of it.
    pub fn get(url: impl Into<String>) -> Self {
        Self::new(http::Method::GET, url.into(), Vec::new())
    }

    /// A POST of `body` to `url`, with 10 s for all of it.
    pub fn post(url: impl Into<String>, content_type: &'static str, body: Vec<u8>) -> Self {
        Self::new(http::Method::POST, url.into(), body).header("content-type", content_type)
    }

    fn new(method: http::Method, url: String, body: Vec<u8>) -> Self {
        Self {
            method,
            url,
            // Both, since some caches know only the old one.
            headers: vec![("cache-control", "no-cache, no-store".to_owned()), ("pragma", "no-cache".to_owned())],
            body,
            timeout: Duration::from_secs(10),
            connect_to: None,
            verify_tls: true,
            follow_redirects: false,
            by_proxy: false,
        }
    }

    /// Adds a header line. A value that no header may have is an error of [`Request::send`], which does not quote it.
    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// Sets how long all of it may take, redirects and body included.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Connects to this address, whatever the URL's host resolves to. A redirect to another port of that host uses
    /// the same IP address; one to another host is resolved as usual.
    pub fn connect_to(mut self, address: Option<SocketAddr>) -> Self {
        self.connect_to = address;
        self
    }

    /// Whether the certificate must be valid; it must unless this says otherwise.
    pub fn verify_tls(mut self, verify: bool) -> Self {
        self.verify_tls = verify;
        self
    }

    /// Whether redirects (at most 10) are followed; else they are answers like any other.
    pub fn follow_redirects(mut self, follow: bool) -> Self {
        self.follow_redirects = follow;
        self
    }

    /// Uses the proxy that the environment names, if any.
    pub fn by_proxy(mut self) -> Self {
        self.by_proxy = true;
        self
    }

    /// Sends it, and reads the answer.
    pub fn send(self) -> Result<Response, HttpError> {
        let uri: Uri = self.url.parse().map_err(|_| HttpError("the URL does not parse".to_owned()))?;
        let agent = self.agent(&uri)?;
        let mut request = http::Request::builder().method(self.method).uri(uri);
        for (name, value) in self.headers {
            let value = http::HeaderValue::from_str(&value).map_err(|_| {
                HttpError(format!("the value of the header `{name}` has characters that none may have"))
            })?;
            request = request.header(name, value);
        }
        let build = |e: http::Error| HttpError(format!("the request cannot be made: {e}"));
        let limit = self.timeout;
        let answer = if self.body.is_empty() {
            agent.run(request.body(()).map_err(build)?)
        } else {
            agent.run(request.body(self.body).map_err(build)?)
        };
        let mut answer = answer.map_err(|e| HttpError(explain(&e, limit)))?;
        let status = answer.status().as_u16();
        let headers = answer
            .headers()
            .iter()
            .map(|(name, value)| (name.as_str().to_owned(), Untrusted::from_bytes(value.as_bytes(), BODY_CAP)))
            .collect();
        let mut bytes = Vec::new();
        answer.body_mut().as_reader().take(BODY_CAP as u64 + 1).read_to_end(&mut bytes).map_err(|e| {
            HttpError(format!(
                "it answered {status}, but the body broke off: {}",
                explain(&ureq::Error::from(e), limit)
            ))
        })?;
        let truncated = bytes.len() > BODY_CAP;
        Ok(Response { status, headers, body: Untrusted::from_bytes(&bytes, BODY_CAP), truncated })
    }

    fn agent(&self, uri: &Uri) -> Result<Agent, HttpError> {
        let mut tls = TlsConfig::builder().disable_verification(!self.verify_tls);
        if self.verify_tls && uri.scheme() == Some(&http::uri::Scheme::HTTPS) {
            tls = tls.root_certs(system_roots()?);
        }
        let config: Config = Agent::config_builder()
            .timeout_global(Some(self.timeout.max(Duration::from_millis(1))))
            .max_redirects(if self.follow_redirects { 10 } else { 0 })
            .max_redirects_will_error(self.follow_redirects)
            .http_status_as_error(false)
            .user_agent(USER_AGENT)
            // What is matched and shown is the text itself.
            .accept_encoding("identity")
            .proxy(if self.by_proxy { Proxy::try_from_env() } else { None })
            .tls_config(tls.build())
            .build();
        let connect_to =
            self.connect_to.map(|address| Pin { host: uri.host().unwrap_or_default().to_owned(), address });
        let port = uri.port_u16().or_else(|| default_port(uri));
        Ok(Agent::with_parts(config, DefaultConnector::default(), Addresses { pin: connect_to, port }))
    }
}

impl Response {
    /// The values of the header `name`, whatever its case.
    pub fn header<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Untrusted> {
        self.headers.iter().filter(move |(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

/// `url` for people: without user, password, query and fragment, which may be secrets.
#[must_use]
pub fn shown(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return "a URL that does not parse".to_owned() };
    let end = rest.find(['?', '#']).unwrap_or(rest.len());
    let (rest, more) = (&rest[..end], &rest[end..]);
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let query = if more.starts_with('?') { "?…" } else { "" };
    Untrusted::new(format!("{scheme}://{host}{path}{query}")).terminal()
}

/// Scheme, host and port of `url`: of a webhook, the path may be a secret too.
#[must_use]
pub fn origin(url: &str) -> String {
    let shown = shown(url);
    let host = shown.find("://").map_or(0, |at| at + 3);
    let end = shown[host..].find(['/', '?']).map_or(shown.len(), |at| host + at);
    shown[..end].to_owned()
}

/// The authorities that this system trusts.
fn system_roots() -> Result<RootCerts, HttpError> {
    let named = std::env::var_os("SSL_CERT_FILE").or_else(|| std::env::var_os("SSL_CERT_DIR"));
    let found = rustls_native_certs::load_native_certs();
    if found.certs.is_empty() {
        return match (named, found.errors.first()) {
            (Some(path), _) => Err(HttpError(format!(
                "no certificate of an authority can be read from `{}`, which SSL_CERT_FILE or SSL_CERT_DIR names",
                path.display()
            ))),
            (None, Some(error)) => Err(HttpError(format!("the system's authorities cannot be read: {error}"))),
            (None, None) => Ok(RootCerts::WebPki),
        };
    }
    let certs = found.certs.iter().map(|cert| Certificate::from_der(cert.as_ref()).to_owned()).collect();
    Ok(RootCerts::Specific(Arc::new(certs)))
}

/// An error of ureq in words; nothing that the other side said is in it unescaped.
fn explain(error: &ureq::Error, limit: Duration) -> String {
    match error {
        ureq::Error::Timeout(_) => format!("no whole answer within {limit:?}"),
        ureq::Error::HostNotFound => "its host's name does not resolve".to_owned(),
        ureq::Error::Io(e) if e.kind() == std::io::ErrorKind::TimedOut => format!("no whole answer within {limit:?}"),
        ureq::Error::Io(e) => Untrusted::new(e.to_string()).terminal(),
        // These two quote the URL.
        ureq::Error::BadUri(_) | ureq::Error::RequireHttpsOnly(_) => "the URL cannot be used".to_owned(),
        other => Untrusted::new(other.to_string()).terminal(),
    }
}

fn default_port(uri: &Uri) -> Option<u16> {
    match uri.scheme_str() {
        Some("http") => Some(80),
        Some("https") => Some(443),
        _ => None,
    }
}

#[derive(Debug)]
struct Pin {
    host: String,
    address: SocketAddr,
}

/// The usual resolver, but for one host whose address is given.
#[derive(Debug)]
struct Addresses {
    pin: Option<Pin>,
    /// The port of the first request's URL.
    port: Option<u16>,
}

impl Resolver for Addresses {
    fn resolve(&self, uri: &Uri, config: &Config, timeout: NextTimeout) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let Some(pin) = self.pin.as_ref().filter(|pin| uri.host().is_some_and(|h| h.eq_ignore_ascii_case(&pin.host)))
        else {
            return DefaultResolver::default().resolve(uri, config, timeout);
        };
        let port = uri.port_u16().or_else(|| default_port(uri));
        let mut address = pin.address;
        if let Some(other) = port.filter(|_| port != self.port) {
            address.set_port(other);
        }
        let mut all = self.empty();
        all.push(address);
        Ok(all)
    }
}

#[cfg(test)]
#[path = "http_tests.rs"]
mod tests;
