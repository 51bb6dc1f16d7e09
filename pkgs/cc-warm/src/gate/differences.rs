//! What differs between what runs and what would run, as far as that needs an operator.

use std::collections::{BTreeMap, BTreeSet};

use super::Reason;
use crate::deployer::Rendering;
use crate::sys::untrusted::Untrusted;

/// Every difference that holds. `env` is the configured environment.
#[must_use]
pub fn between(from: &Rendering, to: &Rendering, env: &BTreeMap<String, String>) -> Vec<Reason> {
    let foreign = |name: &String| Untrusted::new(name.as_str());
    let mut all = Vec::new();
    let nowhere = BTreeSet::new();
    let volumes: BTreeSet<&String> = from.volumes.keys().chain(to.volumes.keys()).collect();
    for volume in volumes {
        let was = from.volumes.get(volume).unwrap_or(&nowhere);
        let would = to.volumes.get(volume).unwrap_or(&nowhere);
        if was != would {
            all.push(Reason::VolumeDiffers {
                volume: foreign(volume),
                from: was.iter().map(foreign).collect(),
                to: would.iter().map(foreign).collect(),
            });
        }
    }
    all.extend(to.external.difference(&from.external).map(|name| Reason::BecomesExternal { name: foreign(name) }));
    let newly_required = to.required_env.difference(&from.required_env);
    // Set to nothing on purpose is set.
    let unset = newly_required.filter(|key| !env.contains_key(*key));
    all.extend(unset.map(|key| Reason::RequiredEnv { key: foreign(key) }));
    let gains = [
        ("privilege", &from.privileges, &to.privileges),
        ("bind mount", &from.binds, &to.binds),
        ("port", &from.ports, &to.ports),
    ];
    for (what, was, would) in gains {
        all.extend(would.difference(was).map(|name| Reason::Gains { what, name: foreign(name) }));
    }
    all.extend(to.missing_secrets.iter().map(|name| Reason::MissingSecret { name: foreign(name) }));
    all
}
