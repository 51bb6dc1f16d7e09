//! What is deleted, when, and what never is.

use std::fs;
use std::path::PathBuf;

use jiff::{SignedDuration, Timestamp};

use super::copies::Work;
use super::garbage;
use super::measure::{self, Totals};
use super::meter::Interrupted;
use super::report::Reporter;
use super::store_tests::{Place, at, rules, text, work};
use super::tidy::Rules;
use crate::sys::signals::Interrupt;

/// Asks for the end of the work that it is told of.
struct Impatient<'a>(&'a Interrupt);

impl Reporter for Impatient<'_> {
    fn done(&self, _: Totals) {
        self.0.set();
    }
}

#[test]
fn only_what_two_names_keep_survives_a_tidying() {
    let place = Place::new(&["a"]);
    for (day, id) in (0_i64..).zip(["one", "two", "three"]) {
        place.take_and_promote(id, at(day));
    }
    place.take("stray");
    fs::create_dir(place.store.dir.join(".new-half")).unwrap();
    fs::create_dir_all(place.store.dir.join(".staging-x/deep")).unwrap();
    fs::write(place.store.dir.join("README of the operator"), "mine").unwrap();
    place.tidy(at(3));
    assert_eq!(place.ids(), "three two");
    place.tidy(at(8));
    assert_eq!(place.ids(), "three two");
    place.tidy(at(9));
    assert_eq!(place.ids(), "three", "seven days after it was replaced");
    assert!(place.store.previous().unwrap().is_none());
    let mut left: Vec<_> = fs::read_dir(&place.store.dir).unwrap().map(|e| e.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["README of the operator", "generations.json", "three"]);
    assert_eq!(fs::read_dir(&place.store.trash).unwrap().count(), 0);
}

#[test]
fn without_names_nothing_whole_is_garbage() {
    let place = Place::new(&["a"]);
    place.take("one");
    place.tidy(at(100));
    assert_eq!(place.ids(), "one");
}

#[test]
fn failed_data_is_kept_for_its_time_and_what_is_not_ours_for_ever() {
    let place = Place::new(&["a"]);
    let dir = place.volumes[0].dir.clone();
    let kept = place.failed("op1");
    fs::create_dir(dir.join(".cc-warm-new-op0")).unwrap();
    fs::create_dir(dir.join(".cc-warm-trash-1")).unwrap();
    fs::write(dir.join("opts.json"), "docker's").unwrap();
    let now = Timestamp::now();
    place.tidy(now);
    assert!(kept.exists() && !dir.join(".cc-warm-new-op0").exists() && !dir.join(".cc-warm-trash-1").exists());
    place.tidy(now + SignedDuration::from_hours(24 * 7 - 1));
    assert!(kept.exists());
    // A disk that is short takes it earlier, but not within a day, and not that of the operation in hand.
    let short = |hours, operation| {
        let now = now + SignedDuration::from_hours(hours);
        let errors = place.store.tidy(&place.volumes, &Rules { reserve: u64::MAX, ..rules(now) }, operation);
        assert!(errors.is_empty(), "{errors:?}");
        kept.exists()
    };
    assert!(short(23, None) && short(25, Some("op1")) && !short(25, None));
    place.tidy(now);
    assert_eq!(fs::read_dir(&place.store.trash).unwrap().count(), 0);
    let again = place.failed("op2");
    place.tidy(now + SignedDuration::from_hours(24 * 7 + 1));
    assert!(!again.exists() && dir.join("opts.json").exists());
    assert_eq!(text(&place.volumes[0].data().join("file")), "a");
}

#[test]
fn failed_data_that_somebody_looks_into_stays() {
    let place = Place::new(&["a"]);
    let kept = place.failed("op");
    let mut reader = std::process::Command::new("sleep").arg("60").current_dir(&kept).spawn().unwrap();
    let late = Timestamp::now() + SignedDuration::from_hours(24 * 30);
    let errors = place.store.tidy(&place.volumes, &rules(late), None);
    reader.kill().unwrap();
    reader.wait().unwrap();
    let pid = reader.id().to_string();
    assert!(kept.exists() && errors.len() == 1 && errors[0].to_string().contains(&pid), "{errors:?}");
    assert!(errors[0].to_string().contains("sleep"), "{errors:?}");
    place.tidy(late);
    assert!(!kept.exists());
}

#[test]
fn forgetting_an_app_leaves_its_volumes() {
    let place = Place::new(&["a"]);
    place.take_and_promote("one", at(0));
    let kept = place.failed("op");
    assert!(place.store.forget(&[], &[], work()).unwrap().is_empty());
    assert!(!kept.exists() && !place.dir.path().join("state/apps/login").exists());
    assert_eq!(text(&place.volumes[0].data().join("file")), "a");
    assert_eq!(fs::read_dir(&place.volumes[0].dir).unwrap().count(), 1);
    assert_eq!(fs::read_dir(&place.store.trash).unwrap().count(), 0);
    assert_eq!(garbage::beside("_data"), garbage::Beside::Foreign);
}

#[test]
fn forgetting_may_be_cut_short_and_goes_on_with_the_next() {
    let place = Place::new(&["a"]);
    place.take_and_promote("one", at(0));
    let other = place.dir.path().join("state/abra/login");
    fs::create_dir_all(&other).unwrap();
    let kept = place.failed("op");
    for number in 0..1000 {
        fs::write(kept.join(format!("file{number}")), "").unwrap();
        fs::write(other.join(format!("file{number}")), "").unwrap();
    }
    let app = place.dir.path().join("state/apps/login");
    let cut_short = |others: &[PathBuf]| {
        let interrupt = Interrupt::never();
        let error = place.store.forget(others, &[], Work { reporter: &Impatient(&interrupt), interrupt: &interrupt });
        let error = error.unwrap_err();
        assert!(error.chain().any(<dyn std::error::Error>::is::<Interrupted>), "{error:?}");
    };
    cut_short(std::slice::from_ref(&other));
    // Without its snapshots nobody would know any more where its volumes are.
    assert!(app.exists() && other.exists() && place.store.has_trash());
    assert!(place.store.empty_trash(&place.volumes, work()).is_empty());
    cut_short(std::slice::from_ref(&other));
    assert!(!app.exists() && !other.exists() && place.store.has_trash());
    // As the lock leaves it.
    fs::create_dir(&app).unwrap();
    assert!(place.store.forget(&[], &[], work()).unwrap().is_empty());
    assert!(!app.exists() && !place.store.has_trash());
    assert_eq!(fs::read_dir(&place.volumes[0].dir).unwrap().count(), 1);
}

#[test]
fn emptying_the_trash_is_told_may_be_cut_short_and_goes_on_with_the_next() {
    let place = Place::new(&["a"]);
    let old = place.failed("old");
    for number in 0..1000 {
        fs::write(old.join(format!("file{number}")), "").unwrap();
    }
    place.store.discard(&old).unwrap();
    let left = || measure::tree(&place.store.trash, 1).unwrap().totals.entries;
    let all = left();
    let interrupt = Interrupt::never();
    let work_until_told = Work { reporter: &Impatient(&interrupt), interrupt: &interrupt };
    let errors = place.store.empty_trash(&place.volumes, work_until_told);
    assert!(errors.len() == 1 && errors[0].chain().any(<dyn std::error::Error>::is::<Interrupted>), "{errors:?}");
    let rest = left();
    assert!(rest > 1 && rest < all, "{rest} of {all}");
    assert!(place.store.empty_trash(&place.volumes, work()).is_empty());
    assert_eq!(fs::read_dir(&place.store.trash).unwrap().count(), 0);
}

#[test]
fn a_staging_copy_that_is_deleted_in_part_is_deleted_whole_by_the_next() {
    let place = Place::new(&["a"]);
    let staging = place.store.dir.join(".staging-x");
    fs::create_dir_all(&staging).unwrap();
    for number in 0..1000 {
        fs::write(staging.join(format!("file{number}")), "").unwrap();
    }
    let interrupt = Interrupt::never();
    let work_until_told = Work { reporter: &Impatient(&interrupt), interrupt: &interrupt };
    assert_eq!(place.store.discard_staging(work_until_told).len(), 1);
    assert!(!staging.exists() && fs::read_dir(&place.store.trash).unwrap().count() == 1);
    assert!(place.store.discard_staging(work()).is_empty());
    assert_eq!(fs::read_dir(&place.store.trash).unwrap().count(), 0);
}

#[test]
fn forgetting_an_app_leaves_what_is_kept_beside_the_volumes_of_another_one() {
    let place = Place::new(&["a"]);
    place.take_and_promote("one", at(0));
    let kept = place.failed("op");
    let spared = [place.volumes[0].dir.clone()];
    assert!(place.store.forget(&[], &spared, work()).unwrap().is_empty());
    assert!(kept.exists() && !place.dir.path().join("state/apps/login").exists());
}
