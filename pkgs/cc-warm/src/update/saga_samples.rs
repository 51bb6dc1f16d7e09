//! What tests begin with.

use super::{Begun, Kind};
use crate::config::raw;
use crate::identity::{Env, Identity};

pub(crate) fn identity(version: &str) -> Identity {
    Identity {
        version: version.parse().unwrap(),
        commit: "0123456789012345678901234567890123456789".parse().unwrap(),
        env: Env::default().digest(),
        secrets: std::collections::BTreeMap::new(),
    }
}

pub(crate) fn begun() -> Begun {
    let text = r#"{"format": 1, "apps": {"login": {
        "recipe": "/recipes/login", "domain": "login.example.org", "deployer": {"process": {}},
        "health": {"probes": [{"http": {"url": "http://localhost"}}]}}}}"#;
    let config = raw::parse(text).unwrap().validate().unwrap();
    Begun {
        operation: "op".to_owned(),
        kind: Kind::Update,
        app: config.apps.into_values().next().unwrap(),
        from: Some(identity("1.0.0+1")),
        to: identity("1.1.0+1"),
        generation: Some("g".to_owned()),
        stateful: true,
        continuity: None,
        helper: "/run/cc-warm".to_owned(),
        at: jiff::Timestamp::UNIX_EPOCH,
        was_stuck: None,
        stuck_on: None,
        restoring: None,
    }
}
