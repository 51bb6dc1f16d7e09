//! Against a daemon that answers each question once, with what a real one said.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixListener;
use std::thread::JoinHandle;

use super::*;

/// An API whose daemon gives these answers, one a question; joined, it gives the questions.
fn daemon(answers: &'static [(u16, &'static str)]) -> (Api, tempfile::TempDir, JoinHandle<Vec<String>>) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("docker.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let asked = std::thread::spawn(move || {
        let mut asked = Vec::new();
        for (status, body) in answers {
            let (mut stream, _) = listener.accept().unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map(Result::unwrap);
            let question = lines.next().unwrap();
            let _ = lines.take_while(|line| !line.is_empty()).count();
            let length = body.len();
            write!(stream, "HTTP/1.1 {status} x\r\nContent-Length: {length}\r\n\r\n{body}").unwrap();
            let question = question.trim_start_matches("GET ").trim_end_matches(" HTTP/1.1");
            asked.push(percent_encoding::percent_decode_str(question).decode_utf8().unwrap().into_owned());
        }
        asked
    });
    (Api { host: Some(format!("unix://{}", path.display())), patience: PATIENCE }, dir, asked)
}

#[test]
fn asks_these_questions() {
    let (api, _dir, asked) = daemon(&[
        (200, r#"{"ServerVersion":"28.0","Swarm":{"NodeID":"n1","LocalNodeState":"active","ControlAvailable":true}}"#),
        (200, r#"[{"ID":"n1","Status":{"State":"ready"}}]"#),
        (200, r#"[{"ID":"s1","Spec":{"Name":"a_app"}}]"#),
        (200, r#"[{"ID":"t1","ServiceID":"s1"}]"#),
        (200, r#"[{"Id":"c1","Names":["/a_app.1"],"State":"running","Labels":{"k":"v"}}]"#),
        (200, "[]"),
        (200, r#"[{"Name":"a_default"}]"#),
        (200, r#"{"Volumes":[{"Name":"a_data","Driver":"local","Mountpoint":"/m/_data"}],"Warnings":null}"#),
        (200, r#"{"Volumes":null}"#),
        (200, r#"[{"ID":"x1","Spec":{"Name":"a_key_v1"}}]"#),
        (200, "[]"),
        (200, r#"{"Id":"sha256:1"}"#),
    ]);
    assert_eq!(api.info().unwrap().swarm.node_id, "n1");
    assert_eq!(api.node("n1").unwrap().unwrap().status.state, "ready");
    let services = api.services("a").unwrap();
    assert_eq!(services[0].name(), "a_app");
    assert_eq!(api.tasks(&services).unwrap()[0].id, "t1");
    let containers = api.containers("a").unwrap();
    assert_eq!((containers[0].name(), containers[0].state.as_str()), ("a_app.1", "running"));
    assert_eq!(api.containers_with("a_data").unwrap().len(), 0);
    assert_eq!(api.networks("a").unwrap(), ["a_default"]);
    assert_eq!(api.volumes("a").unwrap()[0].mountpoint, "/m/_data");
    assert_eq!(api.volumes("a").unwrap().len(), 0);
    assert_eq!(api.objects(Objects::Secrets).unwrap()["a_key_v1"], "x1");
    assert!(api.objects(Objects::Configs).unwrap().is_empty());
    assert_eq!(api.image("example.org/a b:1?x").unwrap().unwrap().id, "sha256:1");
    // Not asked at all.
    assert!(api.tasks(&[]).unwrap().is_empty());
    assert!(api.image("../info").unwrap().is_none());
    assert_eq!(
        asked.join().unwrap(),
        [
            "/info",
            r#"/nodes?filters={"id":["n1"]}"#,
            r#"/services?filters={"label":["com.docker.stack.namespace=a"]}"#,
            r#"/tasks?filters={"service":["s1"]}"#,
            r#"/containers/json?all=true&filters={"label":["com.docker.stack.namespace=a"]}"#,
            r#"/containers/json?all=true&filters={"volume":["a_data"]}"#,
            r#"/networks?filters={"label":["com.docker.stack.namespace=a"]}"#,
            r#"/volumes?filters={"label":["com.docker.stack.namespace=a"]}"#,
            r#"/volumes?filters={"label":["com.docker.stack.namespace=a"]}"#,
            "/secrets",
            "/configs",
            "/images/example.org/a b:1?x/json",
        ]
    );
}

#[test]
fn an_image_that_is_not_here_is_none_and_any_other_fault_an_error() {
    let (api, _dir, asked) = daemon(&[
        (404, r#"{"message":"No such image: a:1"}"#),
        (500, r#"{"message":"database is locked"}"#),
        (503, r#"{"message":"This node is not a swarm manager."}"#),
        (200, "not JSON"),
    ]);
    assert!(api.image("a:1").unwrap().is_none());
    assert!(format!("{:#}", api.image("a:1").unwrap_err()).contains("database is locked"));
    let error = format!("{:#}", api.services("a").unwrap_err());
    assert_eq!(error, "docker answers /services with 503: This node is not a swarm manager.");
    api.info().unwrap_err();
    asked.join().unwrap();
}

#[test]
fn asks_on_this_host_only() {
    for host in ["tcp://10.0.0.1:2376", "ssh://root@host", "unix://relative", "nonsense"] {
        let api = Api { host: Some(host.to_owned()), patience: PATIENCE };
        let error = format!("{:#}", api.info().unwrap_err());
        assert!(error.contains(host) && error.contains("this host only"), "{error}");
    }
}
