//! The gate by tables and properties.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::config::duration::Span;

const RUNS: &str = "1.2.0+5";

fn commit(of: &str) -> CommitId {
    blake3::hash(of.as_bytes()).to_hex()[..40].parse().unwrap()
}

fn identity(version: &str, env: &Env) -> Identity {
    Identity { version: version.parse().unwrap(), commit: commit(version), env: env.digest(), secrets: BTreeMap::new() }
}

/// A host on which [`RUNS`] runs, nothing is rejected, and every note is silent.
struct World {
    current: Known,
    env: Env,
    published: BTreeMap<Version, PublishedVersion>,
    seen: BTreeMap<Version, Seen>,
    rejected: Vec<Identity>,
    approved: Vec<Approved>,
    update: Update,
    notes: Vec<(&'static str, Result<&'static str, &'static str>)>,
    from: Rendering,
    to: Rendering,
    now: Timestamp,
}

impl World {
    fn publishing(versions: &[&str]) -> Self {
        let published = |version: &str| PublishedVersion { commit: commit(version), annotated: true };
        Self {
            current: Known::Yes(identity(RUNS, &Env::default())),
            env: Env::default(),
            published: versions.iter().map(|v| (v.parse().unwrap(), published(v))).collect(),
            seen: BTreeMap::new(),
            rejected: Vec::new(),
            approved: Vec::new(),
            update: Update {
                policy: Policy::Auto,
                to: Target::Latest,
                pin: None,
                ignore: Vec::new(),
                min_age: Span::default(),
                markers: markers::DEFAULT.iter().map(|&marker| marker.to_owned()).collect(),
                windows: Vec::new(),
                unmanaged: Vec::new(),
                keep_failed: Span::default(),
                keep_previous: Span::default(),
            },
            notes: Vec::new(),
            from: Rendering::default(),
            to: Rendering::default(),
            now: "2026-01-10T00:00:00Z".parse().unwrap(),
        }
    }

    fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    fn decide(&self) -> Decision {
        let input = Input {
            current: &self.current,
            env: &self.env,
            published: &self.published,
            seen: &self.seen,
            rejected: &self.rejected,
            approved: &self.approved,
            update: &self.update,
            now: self.now,
        };
        decide(&input, &mut |candidate| {
            let on_the_way = |version: &&str| version.parse::<Version>().unwrap() <= candidate.version;
            let note = |(version, text): &(&str, Result<&str, &str>)| Note {
                version: (*version).to_owned(),
                commit: commit(version),
                path: format!("release/{version}"),
                text: text.map(Untrusted::new).map_err(ToOwned::to_owned),
            };
            let notes = self.notes.iter().filter(|(version, _)| on_the_way(version)).map(note).collect();
            Ok(Evidence { notes, from: self.from.clone(), to: self.to.clone(), unsuitable: Vec::new() })
        })
        .unwrap()
    }

    /// In words: `apply 1.3.0+5`, `hold 2.0.0+6: major-step`, `up to date`.
    fn says(&self) -> String {
        let name = |reason: &Reason| serde_json::to_value(reason).unwrap()["reason"].as_str().unwrap().to_owned();
        match self.decide() {
            Decision::UpToDate { .. } => "up to date".to_owned(),
            Decision::Apply { target, .. } => format!("apply {target}"),
            Decision::Hold { candidate, reasons, .. } => {
                let candidate = candidate.map_or("-".to_owned(), |candidate| candidate.version.to_string());
                let reasons: BTreeSet<String> = reasons.iter().map(name).collect();
                format!("hold {candidate}: {}", reasons.into_iter().collect::<Vec<_>>().join(" "))
            }
        }
    }
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

#[test]
fn decides_by_what_is_published() {
    for (published, wanted) in [
        (&[RUNS][..], "up to date"),
        (&["1.0.0+4", RUNS], "up to date"),
        (&[RUNS, "1.2.1+5"], "apply 1.2.1+5"),
        (&["1.10.0+7", RUNS, "1.9.0+6"], "apply 1.10.0+7"),
        (&[RUNS, "1.3.0+6", "2.0.0+7"], "hold 2.0.0+7: major-step"),
        (&[RUNS, "2.0.0+7", "2.1.0+7"], "hold 2.1.0+7: major-step"),
        (&[RUNS, "1.2.0+6"], "hold 1.2.0+6: other-upstream"),
        (&[RUNS, "1.2.0+4", "1.3.0+6"], "apply 1.3.0+6"),
        (&[RUNS, "1.3.0-rc1+6"], "up to date"),
        (&[], "hold -: nothing-published"),
        (&["1.1.0+4"], "hold -: only-lower"),
    ] {
        assert_eq!(World::publishing(published).says(), wanted, "{published:?}");
    }
}

#[test]
fn a_minor_step_below_1_is_a_major_one() {
    let world = World::publishing(&["0.3.0+1", "0.3.1+1", "0.4.0+1"])
        .with(|world| world.current = Known::Yes(identity("0.3.0+1", &Env::default())));
    assert_eq!(world.says(), "hold 0.4.0+1: major-step");
    let world = world.with(|world| drop(world.published.remove(&"0.4.0+1".parse().unwrap())));
    assert_eq!(world.says(), "apply 0.3.1+1");
}

#[test]
fn a_note_of_any_version_on_the_way_holds_and_others_do_not() {
    let publishing = || World::publishing(&["1.1.0+4", RUNS, "1.3.0+6", "1.4.0+6"]);
    let note = |version, text| publishing().with(|world| world.notes.push((version, text)));
    assert_eq!(note("1.3.0+6", Ok("Manual migration required")).says(), "hold 1.4.0+6: note");
    assert_eq!(note("1.4.0+6", Ok("a breaking change")).says(), "hold 1.4.0+6: note");
    assert_eq!(note("1.3.0+6", Ok("no manual migration needed")).says(), "apply 1.4.0+6");
    assert_eq!(note("1.3.0+6", Err("it is a symbolic link")).says(), "hold 1.4.0+6: unreadable-note");
    assert_eq!(note("1.3.0+6", Ok("fixes")).says(), "apply 1.4.0+6");
    let Decision::Hold { reasons, .. } = note("1.3.0+6", Ok("fixes\n\nManual migration required")).decide() else {
        panic!()
    };
    insta::assert_snapshot!(
        reasons[0].sentence(),
        @r#"the note of 1.3.0+6 asks for an operator (release/1.3.0+6, line 3, "Manual migration"): Manual migration required"#
    );
}

#[test]
fn the_compatible_target_is_the_highest_that_nothing_stands_before() {
    let world = World::publishing(&[RUNS, "1.3.0+6", "1.4.0+6", "2.0.0+7"])
        .with(|world| world.update.to = Target::LatestCompatible)
        .with(|world| world.notes.push(("1.4.0+6", Ok("manual steps"))));
    assert_eq!(world.says(), "apply 1.3.0+6");
    assert_eq!(
        World::publishing(&[RUNS, "2.0.0+7"]).with(|w| w.update.to = Target::LatestCompatible).says(),
        "hold 2.0.0+7: major-step"
    );
}

#[test]
fn what_was_rolled_back_is_skipped_until_a_newer_one_or_another_environment() {
    let rejected = |world: &mut World| world.rejected.push(identity("1.3.0+6", &Env::default()));
    assert_eq!(World::publishing(&[RUNS, "1.3.0+6"]).with(rejected).says(), "up to date");
    assert_eq!(World::publishing(&[RUNS, "1.3.0+6", "1.3.1+6"]).with(rejected).says(), "apply 1.3.1+6");
    let other = |world: &mut World| drop(world.env.0.insert("A".to_owned(), "1".to_owned()));
    assert_eq!(World::publishing(&[RUNS, "1.3.0+6"]).with(rejected).with(other).says(), "apply 1.3.0+6");
}

#[test]
fn a_changed_environment_is_an_update_from_a_version_to_itself() {
    let changed = |world: &mut World| drop(world.env.0.insert("A".to_owned(), "1".to_owned()));
    let world = World::publishing(&[RUNS]).with(changed);
    assert_eq!(world.says(), "apply 1.2.0+5");
    let env = world.env.clone();
    assert_eq!(world.with(|world| world.rejected.push(identity(RUNS, &env))).says(), "up to date");
    let held = World::publishing(&[RUNS]).with(changed).with(|world| world.update.policy = Policy::Hold);
    assert_eq!(held.says(), "hold 1.2.0+5: policy");
}

#[test]
fn pins_ignores_ages_and_moved_tags() {
    let publishing = || World::publishing(&["1.1.0+4", RUNS, "1.3.0+6", "1.4.0+6"]);
    let pin = |version: &str| publishing().with(|world| world.update.pin = Some(version.parse().unwrap()));
    assert_eq!(pin("1.3.0+6").says(), "apply 1.3.0+6");
    assert_eq!(pin(RUNS).says(), "up to date");
    assert_eq!(pin("1.1.0+4").says(), "hold -: only-lower");
    assert_eq!(pin("9.9.9+9").says(), "hold -: pin-not-published");
    let ignore = publishing().with(|world| world.update.ignore.push("1.4.0+6".parse().unwrap()));
    assert_eq!(ignore.says(), "apply 1.3.0+6");
    let young = publishing().with(|world| world.update.min_age = Span::days(3));
    assert_eq!(young.says(), "hold 1.4.0+6: too-young");
    let first = "2026-01-07T00:00:00Z".parse().unwrap();
    let old = young
        .with(|world| drop(world.seen.insert("1.4.0+6".parse().unwrap(), Seen { commit: commit("1.4.0+6"), first })));
    assert_eq!(old.says(), "apply 1.4.0+6");
    let moved =
        old.with(|world| drop(world.seen.insert("1.4.0+6".parse().unwrap(), Seen { commit: commit("other"), first })));
    assert_eq!(moved.says(), "hold 1.4.0+6: moved-tag");
    let under_us = World::publishing(&[RUNS])
        .with(|world| world.published.values_mut().for_each(|published| published.commit = commit("other")));
    assert_eq!(under_us.says(), "hold 1.2.0+5: moved-tag");
}

#[test]
fn an_approval_lets_one_version_and_commit_pass() {
    let approve = |version: &'static str, of: &'static str| {
        move |world: &mut World| {
            world.approved.push(Approved { version: version.parse().unwrap(), commit: commit(of), at: world.now });
        }
    };
    let publishing = || World::publishing(&[RUNS, "1.3.0+6", "2.0.0+7"]);
    assert_eq!(publishing().with(approve("2.0.0+7", "2.0.0+7")).says(), "apply 2.0.0+7");
    assert_eq!(publishing().with(approve("2.0.0+7", "other")).says(), "hold 2.0.0+7: major-step");
    assert_eq!(publishing().with(approve("1.3.0+6", "1.3.0+6")).says(), "apply 1.3.0+6");
    let missing = publishing().with(approve("2.0.0+7", "2.0.0+7")).with(|world| world.to.required_env = set(&["NEW"]));
    assert_eq!(missing.says(), "hold 2.0.0+7: major-step required-env");
}

type Change<'a> = &'a dyn Fn(&mut World);

#[test]
fn differences_of_what_would_run_hold() {
    let publishing = || World::publishing(&[RUNS, "1.3.0+6"]);
    let volumes = |at: &str| BTreeMap::from([("data".to_owned(), set(&[at]))]);
    let cases: [(&str, Change); 9] = [
        ("apply 1.3.0+6", &|w| (w.from.volumes, w.to.volumes) = (volumes("/a"), volumes("/a"))),
        ("hold 1.3.0+6: volume-differs", &|w| (w.from.volumes, w.to.volumes) = (volumes("/a"), volumes("/b"))),
        ("hold 1.3.0+6: volume-differs", &|w| w.to.volumes = volumes("/a")),
        ("hold 1.3.0+6: volume-differs", &|w| w.from.volumes = volumes("/a")),
        ("hold 1.3.0+6: becomes-external", &|w| w.to.external = set(&["net"])),
        ("hold 1.3.0+6: gains", &|w| {
            (w.to.privileges, w.to.binds, w.to.ports) = (set(&["x"]), set(&["/"]), set(&["80"]));
        }),
        ("apply 1.3.0+6", &|w| w.from.ports = set(&["80"])),
        ("hold 1.3.0+6: missing-secret", &|w| w.to.missing_secrets = set(&["pw"])),
        ("apply 1.3.0+6", &|w| {
            w.to.required_env = set(&["A"]);
            w.env.0.insert("A".to_owned(), "1".to_owned());
        }),
    ];
    for (wanted, change) in cases {
        assert_eq!(publishing().with(change).says(), wanted);
    }
}

#[test]
fn an_unknown_version_never_moves() {
    let unknown = |world: &mut World| {
        world.current = Known::No { label: Untrusted::new("1.2.0+5+U"), why: "changed by hand".to_owned() };
        let version: Version = "1.3.0+6".parse().unwrap();
        world.approved.push(Approved { commit: commit("1.3.0+6"), version, at: world.now });
    };
    assert_eq!(World::publishing(&[RUNS, "1.3.0+6"]).with(unknown).says(), "hold 1.3.0+6: unknown-current");
}

fn any_version() -> impl Strategy<Value = String> {
    (0u64..3, 0u64..4, 0u64..3, 0u64..3).prop_map(|(major, minor, patch, up)| format!("{major}.{minor}.{patch}+{up}"))
}

proptest! {
    #[test]
    fn no_candidates_ever_yield_an_apply_across_a_major(
        runs in any_version(),
        others in proptest::collection::vec(any_version(), 0..12),
        compatible in any::<bool>(),
        manual in proptest::collection::vec(0usize..12, 0..3),
        rejected in proptest::collection::vec(0usize..12, 0..3),
    ) {
        let all: Vec<&str> = others.iter().map(String::as_str).chain([runs.as_str()]).collect();
        let mut world = World::publishing(&all);
        world.current = Known::Yes(identity(&runs, &Env::default()));
        if compatible {
            world.update.to = Target::LatestCompatible;
        }
        for index in rejected {
            world.rejected.extend(others.get(index).map(|version| identity(version, &Env::default())));
        }
        let noted: BTreeSet<Version> = manual.iter().filter_map(|&i| others.get(i)).map(|v| v.parse().unwrap()).collect();
        for version in &noted {
            world.notes.push((Box::leak(version.to_string().into_boxed_str()), Ok("manual migration")));
        }
        let from: Version = runs.parse().unwrap();
        if let Decision::Apply { target, commit: id, approved, .. } = world.decide() {
            prop_assert!(!from.is_major_step_to(&target), "{from} → {target}");
            prop_assert!(target.recipe() > from.recipe());
            prop_assert!(!approved);
            prop_assert_eq!(id, commit(&target.to_string()));
            prop_assert!(!noted.iter().any(|v| v.recipe() > from.recipe() && *v <= target), "over a note");
            prop_assert!(!world.rejected.iter().any(|r| r.version == target), "again");
        }
    }
}
