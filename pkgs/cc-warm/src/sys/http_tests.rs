use std::process::Command;
use std::time::Instant;

use super::*;
use crate::sys::test_server::{Reply, Server, TestIdentity, deaf_address};

/// Far above what any of these requests takes, far below what the servers would.
const SOON: Duration = Duration::from_secs(8);
const SHORT: Duration = Duration::from_millis(400);

fn timed(request: Request) -> (Result<Response, HttpError>, Duration) {
    let began = Instant::now();
    (request.send(), began.elapsed())
}

#[test]
fn gives_status_headers_and_body_and_asks_past_caches() {
    let server = Server::start(|_| Reply::Plain(503, vec![("X-Why", "tired".into())], b"not \xff now".to_vec()));
    let answer = Request::get(server.url("/health?full=1")).send().unwrap();
    assert_eq!((answer.status, answer.body.raw(), answer.truncated), (503, "not \u{fffd} now", false));
    assert_eq!(answer.header("x-why").map(Untrusted::raw).collect::<Vec<_>>(), ["tired"]);
    let got = &server.received()[0];
    assert_eq!(got.line, "GET /health?full=1");
    assert_eq!(got.header("cache-control"), Some("no-cache, no-store"));
    assert_eq!(got.header("pragma"), Some("no-cache"));
    assert_eq!(got.header("accept-encoding"), Some("identity"));
}

#[test]
fn one_deadline_bounds_silence_dripping_and_connecting() {
    let silent = Server::start(|_| Reply::Silence);
    let dripping = Server::start(|_| Reply::Drip);
    let (deaf, _listener, _queue) = deaf_address();
    for url in [silent.url("/"), dripping.url("/"), format!("http://{deaf}/")] {
        let (answer, took) = timed(Request::get(url).timeout(SHORT));
        let error = answer.unwrap_err().to_string();
        assert!(error.contains("no whole answer within 400ms"), "{error}");
        // The client counts in whole milliseconds, from a moment later than ours.
        assert!(took + Duration::from_millis(5) >= SHORT && took < SOON, "{took:?}");
    }
}

#[test]
fn the_deadline_bounds_a_tls_handshake() {
    let (address, _listener, _queue) = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        (listener.local_addr().unwrap(), listener, ())
    };
    let (answer, took) = timed(Request::get(format!("https://{address}/")).verify_tls(false).timeout(SHORT));
    answer.unwrap_err();
    assert!(took < SOON, "{took:?}");
}

#[test]
fn reads_no_more_than_the_cap() {
    let server = Server::start(|_| Reply::Flood);
    let answer = Request::get(server.url("/")).send().unwrap();
    assert_eq!((answer.body.raw().len(), answer.truncated), (BODY_CAP, true));
}

#[test]
fn follows_redirects_only_when_asked() {
    let server = Server::start(|got| match got.line.as_str() {
        "GET /old" => Reply::Plain(302, vec![("location", "/new".into())], Vec::new()),
        "GET /loop" => Reply::Plain(302, vec![("location", "/loop".into())], Vec::new()),
        _ => Reply::text(200, "arrived"),
    });
    assert_eq!(Request::get(server.url("/old")).send().unwrap().status, 302);
    let followed = Request::get(server.url("/old")).follow_redirects(true).send().unwrap();
    assert_eq!((followed.status, followed.body.raw()), (200, "arrived"));
    Request::get(server.url("/loop")).follow_redirects(true).send().unwrap_err();
}

#[test]
fn connects_to_the_given_address_and_keeps_the_name() {
    let server = Server::start(|_| Reply::text(200, "here"));
    let url = "http://app.example.invalid:8080/x";
    let answer = Request::get(url).connect_to(Some(server.address)).send().unwrap();
    assert_eq!(answer.body.raw(), "here");
    assert_eq!(server.received()[0].header("host"), Some("app.example.invalid:8080"));
    let error = Request::get(url).timeout(SOON).send().unwrap_err().to_string();
    assert!(!error.is_empty());
}

#[test]
fn a_redirect_to_another_host_leaves_the_given_address() {
    let other = Server::start(|_| Reply::text(200, "other"));
    let there = other.url("/");
    let server = Server::start(move |_| Reply::Plain(302, vec![("location", there.clone())], Vec::new()));
    let request = Request::get("http://app.example.invalid/").connect_to(Some(server.address));
    assert_eq!(request.follow_redirects(true).send().unwrap().body.raw(), "other");
}

#[test]
fn posts_the_body_and_does_not_follow_redirects() {
    let server = Server::start(|_| Reply::Plain(307, vec![("location", "/elsewhere".into())], Vec::new()));
    let request = Request::post(server.url("/hook"), "application/json", b"{}".to_vec());
    assert_eq!(request.header("authorization", "Bearer t").send().unwrap().status, 307);
    let got = server.received();
    assert_eq!(got.len(), 1);
    assert_eq!((got[0].line.as_str(), got[0].body.as_str()), ("POST /hook", "{}"));
    assert_eq!(got[0].header("authorization"), Some("Bearer t"));
}

#[test]
fn an_error_quotes_neither_header_nor_credentials() {
    let bad_header = Request::get("http://127.0.0.1:1/").header("authorization", "Bearer hunter2\r\nx: y");
    let nobody = Request::get("http://me:hunter2@127.0.0.1:1/p?key=hunter2");
    let bad_url = Request::get("http://me:hunter2@ex ample/");
    for request in [bad_header, nobody, bad_url] {
        let error = request.send().unwrap_err().to_string();
        assert!(!error.contains("hunter2"), "{error}");
    }
}

#[test]
fn shows_urls_without_what_may_be_secret() {
    assert_eq!(shown("https://me:pw@a.org:8443/x/y?key=1#z"), "https://a.org:8443/x/y?…");
    assert_eq!(shown("http://a.org"), "http://a.org");
    assert_eq!(shown("https://a.org?key=a@b/c"), "https://a.org?…");
    assert_eq!(origin("https://me:pw@a.org/services/SECRET"), "https://a.org");
    assert_eq!(origin("https://a.org?x"), "https://a.org");
}

#[test]
fn verifies_certificates_unless_told_not_to() {
    let identity = TestIdentity::new();
    let server = Server::start_tls(&identity, |_| Reply::text(200, "sealed"));
    let error = Request::get(server.url("/")).send().unwrap_err().to_string();
    assert!(error.contains("certificate"), "{error}");
    let answer = Request::get(server.url("/")).verify_tls(false).send().unwrap();
    assert_eq!(answer.body.raw(), "sealed");
}

/// The environment of this process cannot be changed safely, so the test runs itself once more with another one.
#[test]
fn trusts_the_authority_that_ssl_cert_file_names_for_the_urls_host() {
    const URL: &str = "CC_WARM_TEST_TLS_ADDRESS";
    if let Ok(address) = std::env::var(URL) {
        let at = Some(address.parse().unwrap());
        assert_eq!(Request::get("https://app.example.org/").connect_to(at).send().unwrap().body.raw(), "sealed");
        let error = Request::get("https://other.example.org/").connect_to(at).send().unwrap_err().to_string();
        assert!(error.contains("certificate"), "{error}");
        return;
    }
    let identity = TestIdentity::new();
    let server = Server::start_tls(&identity, |_| Reply::text(200, "sealed"));
    let this = "sys::http::tests::trusts_the_authority_that_ssl_cert_file_names_for_the_urls_host";
    let again = |authority: &std::path::Path| {
        Command::new(std::env::current_exe().unwrap())
            .args([this, "--exact"])
            .env(URL, server.address.to_string())
            .env("SSL_CERT_FILE", authority)
            .env_remove("SSL_CERT_DIR")
            .output()
            .unwrap()
    };
    let trusted = again(&identity.authority);
    let said = String::from_utf8_lossy(&trusted.stdout);
    assert!(trusted.status.success() && said.contains("1 passed"), "{said}");
    let missing = again(&identity.authority.with_extension("none"));
    let said = String::from_utf8_lossy(&missing.stdout).into_owned() + &String::from_utf8_lossy(&missing.stderr);
    assert!(!missing.status.success() && said.contains("SSL_CERT_FILE"), "{said}");
}

#[test]
fn a_proxy_is_used_only_when_asked_for() {
    const URL: &str = "CC_WARM_TEST_PROXIED_URL";
    if let Ok(url) = std::env::var(URL) {
        assert_eq!(Request::get(&url).send().unwrap().body.raw(), "direct");
        assert_eq!(Request::get(&url).by_proxy().send().unwrap().body.raw(), "proxied");
        return;
    }
    let server = Server::start(|_| Reply::text(200, "direct"));
    // ureq tunnels everything by CONNECT; what answers in the tunnel here is the proxy itself.
    let proxy = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy_url = format!("http://{}", proxy.local_addr().unwrap());
    std::thread::spawn(move || {
        use std::io::{BufRead, BufReader, Write};
        for stream in proxy.incoming().map_while(Result::ok) {
            let mut stream = BufReader::new(stream);
            for reply in ["HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\nproxied"] {
                let mut line = String::new();
                while stream.read_line(&mut line).is_ok_and(|n| n > 2) {
                    line.clear();
                }
                stream.get_mut().write_all(reply.as_bytes()).unwrap();
            }
        }
    });
    let again = Command::new(std::env::current_exe().unwrap())
        .args(["sys::http::tests::a_proxy_is_used_only_when_asked_for", "--exact"])
        .env(URL, server.url("/"))
        .env("http_proxy", &proxy_url)
        .env("all_proxy", &proxy_url)
        .env_remove("no_proxy")
        .env_remove("NO_PROXY")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&again.stdout).into_owned() + &String::from_utf8_lossy(&again.stderr);
    assert!(again.status.success() && said.contains("1 passed"), "{said}");
}
