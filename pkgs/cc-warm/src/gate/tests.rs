//! The gate by tables and properties.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::config::duration::Span;

pub(super) const RUNS: &str = "1.2.0+5";

pub(super) fn commit(of: &str) -> CommitId {
    blake3::hash(of.as_bytes()).to_hex()[..40].parse().unwrap()
}

pub(super) fn identity(version: &str, env: &Env) -> Identity {
    Identity { version: version.parse().unwrap(), commit: commit(version), env: env.digest(), secrets: BTreeMap::new() }
}

/// A host on which [`RUNS`] runs, nothing is rejected, and every note is silent.
#[derive(Debug)]
pub(super) struct World {
    pub(super) current: Known,
    pub(super) env: Env,
    pub(super) published: BTreeMap<Version, PublishedVersion>,
    pub(super) seen: BTreeMap<Version, Seen>,
    pub(super) rejected: Vec<Identity>,
    pub(super) approved: Vec<Approved>,
    pub(super) update: Update,
    pub(super) notes: Vec<(&'static str, Result<&'static str, &'static str>)>,
    /// Versions that cannot be rendered.
    pub(super) broken: Vec<&'static str>,
    pub(super) from: Rendering,
    pub(super) to: Rendering,
    pub(super) now: Timestamp,
}

impl World {
    pub(super) fn publishing(versions: &[&str]) -> Self {
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
            broken: Vec::new(),
            from: Rendering::default(),
            to: Rendering::default(),
            now: "2026-01-10T00:00:00Z".parse().unwrap(),
        }
    }

    pub(super) fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    pub(super) fn input(&self) -> Input<'_> {
        Input {
            current: &self.current,
            env: &self.env,
            published: &self.published,
            seen: &self.seen,
            rejected: &self.rejected,
            approved: &self.approved,
            update: &self.update,
            now: self.now,
        }
    }

    pub(super) fn decide(&self) -> Decision {
        decide(&self.input(), &mut |candidate| {
            let on_the_way = |version: &&str| version.parse::<Version>().unwrap() <= candidate.version;
            let note = |(version, text): &(&str, Result<&str, &str>)| Note {
                version: (*version).to_owned(),
                commit: commit(version),
                path: format!("release/{version}"),
                text: text.map(Untrusted::new).map_err(ToOwned::to_owned),
            };
            let notes = self.notes.iter().filter(|(version, _)| on_the_way(version)).map(note).collect();
            let (from, to) = (self.from.clone(), self.to.clone());
            let broken = |version: &&&str| **version == candidate.version.to_string();
            let not_rendered = self.broken.iter().filter(broken).map(|_| Reason::NotRendered {
                version: candidate.version.clone(),
                why: "there is no file `compose.smtp.yml`".to_owned(),
            });
            Ok(Evidence { notes, from, to, not_rendered: not_rendered.collect(), unsuitable: Vec::new() })
        })
        .unwrap()
    }

    /// In words: `apply 1.3.0+5`, `hold 2.0.0+6: major-step`, `up to date`.
    pub(super) fn says(&self) -> String {
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

#[test]
fn a_changed_environment_does_not_wait_for_a_version_that_is_held() {
    let changed = |world: &mut World| drop(world.env.0.insert("A".to_owned(), "1".to_owned()));
    let world = World::publishing(&[RUNS, "2.0.0+7"]).with(changed);
    let Decision::Apply { target, held: Some(held), approved: false, .. } = world.decide() else { panic!() };
    assert_eq!(target.to_string(), RUNS);
    assert_eq!(held.candidate.unwrap().version.to_string(), "2.0.0+7");
    assert!(matches!(held.reasons[..], [Reason::MajorStep { .. }]));
    // Its own reasons hold it: what it would mount, here.
    let mounts = BTreeMap::from([("data".to_owned(), set(&["/a"]))]);
    let alone = World::publishing(&[RUNS]).with(changed).with(|world| world.to.volumes = mounts.clone());
    assert_eq!(alone.says(), "hold 1.2.0+5: volume-differs");
    let both = world.with(|world| world.to.volumes = mounts);
    assert_eq!(both.says(), "hold 2.0.0+7: environment-waits major-step volume-differs");
    // Neither its age nor a sibling concern code that runs already.
    let old = World::publishing(&["1.2.0+4", RUNS]).with(changed).with(|world| world.update.min_age = Span::days(9));
    let Decision::Apply { target, held: Some(held), .. } = old.decide() else { panic!() };
    assert_eq!(target.to_string(), RUNS);
    assert!(matches!(held.reasons[..], [Reason::OtherUpstream { .. }, Reason::TooYoung { .. }]));
}

#[test]
fn what_runs_may_be_withdrawn() {
    for (published, wanted) in [
        (&["1.1.0+4"][..], "hold -: only-lower"),
        (&["1.1.0+4", "1.3.0+6"], "apply 1.3.0+6"),
        (&["1.3.0-rc1+6"], "up to date"),
        (&["1.1.0+4", "1.3.0-rc1+6"], "hold -: only-lower"),
    ] {
        assert_eq!(World::publishing(published).says(), wanted, "{published:?}");
    }
}

#[test]
fn one_number_with_two_upstreams_is_no_target_until_one_is_named() {
    let publishing = || World::publishing(&[RUNS, "1.3.0+6", "1.3.0+7"]);
    assert_eq!(publishing().says(), "hold 1.3.0+7: two-upstreams");
    let ignored = publishing().with(|world| world.update.ignore.push("1.3.0+6".parse().unwrap()));
    assert_eq!(ignored.says(), "apply 1.3.0+7");
    let pinned = publishing().with(|world| world.update.pin = Some("1.3.0+6".parse().unwrap()));
    assert_eq!(pinned.says(), "apply 1.3.0+6");
}

#[test]
fn pre_releases_are_for_pins() {
    let world = World::publishing(&[RUNS, "1.3.0-rc.1+6"]);
    assert_eq!(world.says(), "up to date");
    let Decision::UpToDate { skipped } = world.decide() else { panic!() };
    assert_eq!(skipped, [Skipped { version: "1.3.0-rc.1+6".parse().unwrap(), why: WhySkipped::PreRelease }]);
    let pinned = world.with(|world| world.update.pin = Some("1.3.0-rc.1+6".parse().unwrap()));
    assert_eq!(pinned.says(), "apply 1.3.0-rc.1+6");
    // One that is no pre-release any more is above it.
    let runs = |world: &mut World| world.current = Known::Yes(identity("1.3.0-rc.1+6", &Env::default()));
    assert_eq!(World::publishing(&["1.3.0-rc.1+6", "1.3.0+6"]).with(runs).says(), "apply 1.3.0+6");
}

#[test]
fn a_rejected_target_gives_way_to_the_next_lower_one_only_where_that_is_asked_for() {
    let rejected = |world: &mut World| world.rejected.push(identity("1.4.0+6", &Env::default()));
    let world = World::publishing(&[RUNS, "1.3.0+6", "1.4.0+6"]).with(rejected);
    // It is not tried again; what lies between is the highest now, in either mode.
    assert_eq!(world.says(), "apply 1.3.0+6");
    assert_eq!(world.with(|world| world.update.to = Target::LatestCompatible).says(), "apply 1.3.0+6");
}

#[test]
fn an_approval_below_does_not_open_the_door_for_others() {
    let approved = |version: &'static str| {
        move |world: &mut World| {
            world.approved.push(Approved { version: version.parse().unwrap(), commit: commit(version), at: world.now });
        }
    };
    // 1.4.0 has nothing against it, but neither is it the latest, nor was it approved.
    let world = World::publishing(&[RUNS, "1.3.0+6", "1.4.0+6", "2.0.0+7"]).with(approved("1.3.0+6"));
    assert_eq!(world.says(), "apply 1.3.0+6");
    // Approved, but impossible: that is what the operator wants to hear of.
    let missing = world.with(|world| world.to.missing_secrets = set(&["pw"]));
    assert_eq!(missing.says(), "hold 1.3.0+6: missing-secret");
    // A moved tag under our feet may be approved, and is then an update to the same version.
    let moved = World::publishing(&[RUNS]).with(|world| {
        world.published.values_mut().for_each(|published| published.commit = commit("other"));
        world.approved.push(Approved { version: RUNS.parse().unwrap(), commit: commit("other"), at: world.now });
    });
    let Decision::Apply { commit: id, approved: true, .. } = moved.decide() else { panic!() };
    assert_eq!(id, commit("other"));
}

#[test]
fn asks_for_no_more_evidence_than_it_needs() {
    let asked = |world: &World| {
        let mut asked = Vec::new();
        let input = world.input();
        decide(&input, &mut |candidate| {
            asked.push(candidate.version.to_string());
            Ok(Evidence::default())
        })
        .unwrap();
        asked
    };
    let world = World::publishing(&["1.1.0+4", RUNS, "1.3.0+6", "1.4.0+6", "2.0.0+7", "2.1.0+7"]);
    assert_eq!(asked(&world), ["2.1.0+7"]);
    let world = world.with(|world| world.update.to = Target::LatestCompatible);
    assert_eq!(asked(&world), ["2.1.0+7", "2.0.0+7", "1.4.0+6"]);
    assert_eq!(asked(&World::publishing(&[RUNS])), Vec::<String>::new());
    let error = decide(&world.input(), &mut |_| anyhow::bail!("docker is down")).unwrap_err();
    assert_eq!(error.to_string(), "docker is down");
}

#[test]
fn a_reason_cannot_reach_the_terminal_raw() {
    let nasty = "\u{1b}[2J\u{202e}x\n\u{7}";
    let world = World::publishing(&[RUNS, "1.3.0+6"]).with(|world| {
        world.to.ports = set(&[nasty]);
        world.to.external = set(&[nasty]);
        world.to.required_env = set(&[nasty]);
        world.to.missing_secrets = set(&[nasty]);
        world.to.volumes = BTreeMap::from([(nasty.to_owned(), set(&[nasty]))]);
        world.notes.push(("1.3.0+6", Ok("\u{1b}[2J manual \u{7} step \u{202e}")));
        world.notes.push(("1.3.0+6", Ok("manual step \u{1b}[2J")));
    });
    let Decision::Hold { reasons, .. } = world.decide() else { panic!() };
    assert!(reasons.len() >= 6, "{reasons:?}");
    for sentence in reasons.iter().map(Reason::sentence) {
        assert!(!sentence.chars().any(|c| c.is_control() || c == '\u{202e}'), "{sentence:?}");
    }
}

#[test]
fn a_version_that_cannot_be_rendered_holds_and_hides_neither_lower_ones_nor_the_environment() {
    let broken = World::publishing(&[RUNS, "1.3.0+5", "1.4.0+5"]).with(|world| world.broken = vec!["1.4.0+5"]);
    assert_eq!(broken.says(), "hold 1.4.0+5: not-rendered");
    let (version, at) = ("1.4.0+5".parse().unwrap(), broken.now);
    let mut approved = World { approved: vec![Approved { version, commit: commit("1.4.0+5"), at }], ..broken };
    assert_eq!(approved.says(), "hold 1.4.0+5: not-rendered");
    approved.update.to = Target::LatestCompatible;
    assert_eq!(approved.says(), "apply 1.3.0+5");
    approved.update.to = Target::Latest;
    approved.env.0.insert("A".to_owned(), "1".to_owned());
    assert_eq!(approved.says(), format!("apply {RUNS}"));
}

#[test]
fn a_reason_is_known_again_whoever_was_found_this_time() {
    let backup = |task: &str| Reason::Unsuitable { why: format!("volume `login_db` is mounted by `backup.1.{task}`") };
    assert_eq!(backup("x8s").known_by(), backup("q2z").known_by());
    let waits = |task: &str| Reason::EnvironmentWaits { reasons: vec![Reason::Policy, backup(task)] };
    assert_eq!(waits("x8s").known_by(), waits("q2z").known_by());
    let missing = |name: &str| Reason::MissingSecret { name: Untrusted::new(name) };
    assert_ne!(missing("one").known_by(), missing("other").known_by());
    assert_ne!(waits("x8s").known_by(), backup("x8s").known_by());
}
