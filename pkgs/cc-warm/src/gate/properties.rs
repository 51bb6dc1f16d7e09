//! What holds for every gate, whatever is published, seen, rejected, noted and asked for.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::sample::{Index, subsequence};

use super::tests::{World, commit, identity};
use super::*;
use crate::config::duration::Span;

fn any_version() -> impl Strategy<Value = String> {
    let pre = prop_oneof![4 => Just(""), 1 => Just("-rc.1"), 1 => Just("-beta")];
    (0u64..3, 0u64..4, 0u64..3, pre, 0u64..3)
        .prop_map(|(major, minor, patch, pre, upstream)| format!("{major}.{minor}.{patch}{pre}+{upstream}"))
}

const NOTES: [Result<&str, &str>; 5] = [
    Ok("fixes"),
    Ok("no manual migration needed"),
    Ok("manual migration needed"),
    Ok("a breaking change"),
    Err("it is a symbolic link"),
];

/// A world with every kind of thing in it, nothing approved.
fn any_world() -> impl Strategy<Value = World> {
    let published = proptest::collection::btree_set(any_version(), 1..10);
    let marks = proptest::collection::vec((any::<Index>(), 0usize..NOTES.len()), 0..4);
    let rejected = proptest::collection::vec(any::<Index>(), 0..3);
    let choice = (any::<bool>(), any::<bool>(), any::<bool>(), 0u64..3, proptest::option::of(any::<Index>()));
    let others = (any::<Index>(), any::<bool>(), 0u8..6, proptest::collection::vec(any::<Index>(), 0..2));
    (published, marks, rejected, choice, others).prop_map(|(published, marks, rejected, choice, others)| {
        let published: Vec<String> = published.into_iter().collect();
        let (compatible, changed_env, hold, age, pin) = choice;
        let (runs, is_published, difference, moved) = others;
        let mut world = World::publishing(&published.iter().map(String::as_str).collect::<Vec<_>>());
        let runs = runs.get(&published).clone();
        world.current = Known::Yes(identity(&runs, &Env::default()));
        if !is_published {
            world.published.remove(&runs.parse().unwrap());
        }
        for (index, text) in marks {
            let version: &'static str = Box::leak(index.get(&published).clone().into_boxed_str());
            world.notes.push((version, NOTES[text]));
        }
        if compatible {
            world.update.to = Target::LatestCompatible;
        }
        if changed_env {
            world.env.0.insert("A".to_owned(), "1".to_owned());
        }
        if hold && age == 2 {
            world.update.policy = Policy::Hold;
        }
        world.update.min_age = Span::days(age / 2);
        world.update.pin = pin.filter(|_| hold).map(|pin| pin.get(&published[..]).parse().unwrap());
        for index in rejected {
            world.rejected.push(identity(index.get(&published[..]).as_str(), &world.env));
        }
        for index in moved {
            let seen = Seen { commit: commit("before"), first: Timestamp::UNIX_EPOCH };
            world.seen.insert(index.get(&published[..]).parse().unwrap(), seen);
        }
        let name = || std::iter::once("x".to_owned()).collect();
        match difference {
            0 => world.to.ports = name(),
            1 => world.to.volumes = BTreeMap::from([("data".to_owned(), name())]),
            2 => world.from.ports = name(),
            _ => {}
        }
        world
    })
}

fn current(world: &World) -> Identity {
    let Known::Yes(identity) = &world.current else { panic!() };
    identity.clone()
}

fn approve_all(world: &mut World) {
    let all = world.published.iter();
    world.approved = all
        .map(|(version, p)| Approved { version: version.clone(), commit: p.commit.clone(), at: Timestamp::UNIX_EPOCH })
        .collect();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn nothing_is_applied_across_a_major_or_over_a_note_or_downward_or_again(world in any_world()) {
        let from = current(&world);
        if let Decision::Apply { target, commit: id, approved, .. } = world.decide() {
            prop_assert!(!approved);
            prop_assert!(!from.version.is_major_step_to(&target), "{} → {target}", from.version);
            let again = target == from.version && id == from.commit;
            if again {
                prop_assert!(world.env.digest() != from.env, "nothing to do was done");
            } else {
                prop_assert!(target.recipe() > from.version.recipe(), "{} → {target}", from.version);
                prop_assert_eq!(&world.published[&target].commit, &id);
                prop_assert!(world.seen.get(&target).is_none_or(|seen| seen.commit == id), "a moved tag");
                let silent = |text: &Result<&str, &str>| NOTES[..2].contains(text);
                let noted = world.notes.iter().filter(|(_, text)| !silent(text));
                for (version, text) in noted {
                    let version: Version = version.parse().unwrap();
                    prop_assert!(!version.is_on_the_way(&from.version, &target), "over {version}: {text:?}");
                }
                prop_assert!(world.update.pin.as_ref().is_none_or(|pin| *pin == target));
                prop_assert!(target.recipe().pre.is_empty() || world.update.pin.is_some());
            }
            let tried = Identity { version: target, commit: id, env: world.env.digest(), secrets: BTreeMap::new() };
            prop_assert!(!world.rejected.contains(&tried), "again");
            prop_assert!(world.update.policy == Policy::Auto);
            prop_assert!(world.to.ports.is_empty() && world.to.volumes.is_empty());
        }
    }

    #[test]
    fn another_marker_never_turns_a_hold_into_an_apply(world in any_world(), index in any::<Index>()) {
        let before = world.decide();
        let versions: Vec<String> = world.published.keys().map(ToString::to_string).collect();
        prop_assume!(!versions.is_empty());
        let version: &'static str = Box::leak(index.get(&versions).clone().into_boxed_str());
        let after = world.with(|world| world.notes.push((version, Ok("manual migration")))).decide();
        match (before, after) {
            (Decision::Apply { target, .. }, Decision::Apply { target: now, .. }) => prop_assert!(now <= target),
            (before, Decision::Apply { .. }) => prop_assert!(false, "{before:?}"),
            _ => {}
        }
    }

    #[test]
    fn the_order_of_what_is_remembered_does_not_matter(world in any_world(), approve in any::<bool>()) {
        let mut world = world;
        if approve {
            approve_all(&mut world);
        }
        let before = world.decide();
        world.rejected.reverse();
        world.approved.reverse();
        prop_assert_eq!(before, world.decide());
    }

    #[test]
    fn only_what_was_approved_passes_a_reason(
        world in any_world(),
        keep in subsequence((0..10usize).collect::<Vec<_>>(), 0..10),
    ) {
        let mut world = world;
        approve_all(&mut world);
        let all = std::mem::take(&mut world.approved);
        world.approved = all.into_iter().enumerate().filter(|(number, _)| keep.contains(number)).map(|(_, a)| a).collect();
        if let Decision::Apply { target, commit, approved: true, .. } = world.decide() {
            prop_assert!(world.approved.iter().any(|a| a.version == target && a.commit == commit));
        }
        // And an approval takes nothing away.
        let with = matches!(world.decide(), Decision::Apply { .. });
        world.approved.clear();
        let without = matches!(world.decide(), Decision::Apply { .. });
        prop_assert!(with || !without);
    }

    #[test]
    fn a_hold_names_a_reason_and_a_compatible_target_is_never_below_what_latest_gives(world in any_world()) {
        let mut world = world;
        world.update.to = Target::Latest;
        let latest = world.decide();
        if let Decision::Hold { reasons, .. } = &latest {
            prop_assert!(!reasons.is_empty());
        }
        world.update.to = Target::LatestCompatible;
        match (latest, world.decide()) {
            (Decision::Apply { target, .. }, Decision::Apply { target: compatible, .. }) => {
                prop_assert!(compatible >= target);
            }
            (Decision::Apply { .. }, other) => prop_assert!(false, "{other:?}"),
            _ => {}
        }
    }
}
