//! Every field of every document is in docs/reference/json.md, under its command.

use std::collections::BTreeSet;

use cc_warm::demo::maker::{Behaviour, Release};
use cc_warm::demo::sandbox::APP;
use serde_json::Value;

use crate::fixture::Fixture;

/// What the page says, by command.
fn section(command: &str) -> String {
    let page = include_str!("../../../../docs/reference/json.md");
    let mut sections = page.split("\n## ").skip(1);
    let found = sections.find(|section| section.lines().next().unwrap().contains(&format!("`{command}`")));
    found.unwrap_or_else(|| panic!("docs/reference/json.md has no section about `{command}`")).to_owned()
}

/// The paths of all that is in `value`; what is inside an identity or the evidence of a reason is documented as such.
fn paths(value: &Value, at: &str, all: &mut BTreeSet<String>) {
    let is_known = |fields: &serde_json::Map<String, Value>| {
        let identity = fields.contains_key("env") && fields.contains_key("commit");
        identity || (fields.contains_key("reason") && at.ends_with("reasons[]"))
    };
    match value {
        Value::Object(fields) if is_known(fields) => {
            all.insert(at.to_owned());
        }
        Value::Object(fields) => {
            for (key, value) in fields {
                paths(value, &if at.is_empty() { key.clone() } else { format!("{at}.{key}") }, all);
            }
        }
        Value::Array(values) if values.is_empty() => {}
        Value::Array(values) => values.iter().for_each(|value| paths(value, &format!("{at}[]"), all)),
        _ => {
            all.insert(at.to_owned());
        }
    }
}

#[track_caller]
fn documented(fixture: &Fixture, words: &[&str]) -> Value {
    let document = fixture.json(words);
    assert_eq!(document["format"], 1, "{words:?}");
    let mut all = BTreeSet::new();
    paths(&document, "", &mut all);
    let command = match words {
        ["alert", ..] => words.join(" "),
        ["snapshot", "--dry-run", ..] => words[..2].join(" "),
        _ => words[0].to_owned(),
    };
    let section = section(&command);
    for path in all.iter().filter(|path| *path != "format") {
        assert!(section.contains(&format!("`{path}`")), "`{path}` of {words:?} is in no table:\n{document:#}");
    }
    let outcome = document["apps"][0]["outcome"].as_str().map(|outcome| format!("`{outcome}`"));
    assert!(outcome.is_none_or(|outcome| section.contains(&outcome)), "{document:#}");
    document
}

#[test]
fn every_field_of_every_document_is_documented() {
    let fixture = Fixture::empty();
    documented(&fixture, &["check-config"]);
    documented(&fixture, &["status"]);
    fixture.publish("1.0.0+1", 1, Behaviour::Healthy);
    documented(&fixture, &["plan"]);
    documented(&fixture, &["update"]);
    fixture.publish("1.1.0+2", 2, Behaviour::Healthy);
    documented(&fixture, &["plan"]);
    documented(&fixture, &["update"]);
    documented(&fixture, &["update"]);
    documented(&fixture, &["status"]);
    documented(&fixture, &["snapshot", "--dry-run", APP]);
    documented(&fixture, &["snapshot", APP]);
    documented(&fixture, &["verify", APP]);
    documented(&fixture, &["restore", APP, "--yes"]);
    documented(&fixture, &["adopt", APP]);
    let note = Some("Manual migration: rebuild the index.\n");
    fixture
        .sandbox
        .maker
        .publish(&Release { version: "2.0.0+3", format: 3, behaviour: Behaviour::Broken, note })
        .unwrap();
    let held = documented(&fixture, &["plan"]);
    let page = section("plan");
    for reason in held["apps"][0]["reasons"].as_array().unwrap() {
        for (field, _) in reason.as_object().unwrap().iter().filter(|(field, _)| *field != "reason") {
            assert!(page.contains(&format!("`{field}`")), "{reason}");
        }
        assert!(page.contains(reason["reason"].as_str().unwrap()), "{reason}");
    }
    documented(&fixture, &["update"]);
    documented(&fixture, &["status"]);
    documented(&fixture, &["approve", APP, "2.0.0+3"]);
    documented(&fixture, &["update"]);
    documented(&fixture, &["history", APP]);
    documented(&fixture, &["retry", APP]);
    documented(&fixture, &["retry", APP]);
    documented(&fixture, &["pause", APP, "--until", "3d", "--reason", "x"]);
    documented(&fixture, &["update"]);
    documented(&fixture, &["resume", APP]);
    documented(&fixture, &["recover", APP]);
    documented(&fixture, &["alert", "deliver"]);
    documented(&fixture, &["alert", "test"]);
    documented(&fixture, &["undeploy", APP]);
    documented(&fixture, &["update"]);
    documented(&fixture, &["status"]);
    documented(&fixture, &["resume", APP]);
    std::fs::write(fixture.app_dir().join("state.json"), "{").unwrap();
    documented(&fixture, &["update"]);
}
