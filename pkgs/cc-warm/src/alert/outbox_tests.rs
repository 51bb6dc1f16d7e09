use super::*;
use crate::sys::untrusted::Untrusted;

struct Fixture {
    outbox: Outbox,
    _dir: tempfile::TempDir,
}

fn fixture() -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let outbox = Outbox::new(&Dirs::new(dir.path()), "warm1", Duration::from_hours(7 * 24));
    Fixture { outbox, _dir: dir }
}

fn now() -> Timestamp {
    Timestamp::from_second(1_788_300_000).unwrap()
}

fn later(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_788_300_000 + seconds).unwrap()
}

fn app(name: &str) -> AppName {
    name.parse().unwrap()
}

fn held(name: &str, version: &str) -> Alert {
    Alert::new(Kind::Held, version, format!("{name}: {version} is held")).app(&app(name))
}

fn rolled_back(operation: &str) -> Alert {
    Alert::new(Kind::RolledBack, operation, "login was rolled back").app(&app("login"))
}

fn titles(outbox: &Outbox) -> Vec<String> {
    outbox.list().unwrap().alerts.into_iter().map(|shown| shown.record.alert.title.raw().to_owned()).collect()
}

#[test]
fn what_is_raised_again_is_one_alert() {
    let Fixture { outbox, _dir } = fixture();
    assert_eq!(outbox.raise(held("login", "2.0.0+1"), now()).unwrap(), Raised::ToTell);
    for alert in [held("login", "2.0.0+1"), held("login", "2.0.0+1")] {
        assert_eq!(outbox.raise(alert, later(60)).unwrap(), Raised::Known);
    }
    for operation in ["op-1", "op-1", "op-2"] {
        outbox.raise(rolled_back(operation), now()).unwrap();
    }
    outbox.raise(held("other", "2.0.0+1"), now()).unwrap();
    assert_eq!(titles(&outbox).len(), 4, "{:?}", titles(&outbox));
}

#[test]
fn a_new_version_held_takes_the_place_of_the_old_but_files_do_not_of_each_other() {
    let Fixture { outbox, _dir } = fixture();
    outbox.raise(held("login", "2.0.0+1"), now()).unwrap();
    outbox.raise(held("login", "3.0.0+1"), now()).unwrap();
    assert_eq!(titles(&outbox), ["login: 3.0.0+1 is held"]);
    for (second, file) in [(1, "state.json"), (0, "journal.jsonl")] {
        outbox.raise(Alert::new(Kind::CorruptState, file, file).app(&app("login")), later(second)).unwrap();
    }
    assert_eq!(titles(&outbox), ["journal.jsonl", "state.json", "login: 3.0.0+1 is held"].map(str::to_owned));
}

#[test]
fn what_is_over_before_it_was_told_is_withdrawn_and_only_that() {
    let Fixture { outbox, _dir } = fixture();
    for alert in [held("login", "2"), held("login-b", "2"), rolled_back("op-1")] {
        outbox.raise(alert, now()).unwrap();
    }
    let ended = outbox.resolve(Some(&app("login")), &[Kind::Held, Kind::Stuck, Kind::RolledBack], now()).unwrap();
    assert_eq!(ended, 1);
    assert_eq!(titles(&outbox), ["login was rolled back", "login-b: 2 is held"]);
    assert_eq!(outbox.forget(&app("login")).unwrap(), 1);
    assert_eq!(titles(&outbox), ["login-b: 2 is held"]);
}

#[test]
fn a_file_that_cannot_be_used_is_left_and_reported_and_its_alert_still_gets_out() {
    let Fixture { outbox, _dir } = fixture();
    outbox.raise(held("login", "2"), now()).unwrap();
    let (id, _) = outbox.ids("").unwrap().pop_first().unwrap();
    let path = outbox.path(&id, Slot::Pending);
    let good = fs::read_to_string(&path).unwrap();
    for (bad, why) in [
        ("{\"format\": 1, \"id".to_owned(), "does not parse"),
        (good.replace("\"format\": 1", "\"format\": 2"), "has format 2"),
        (good.replace(&id, "../login"), "says that its name is"),
    ] {
        fs::write(&path, &bad).unwrap();
        assert_eq!(outbox.raise(held("login", "2"), now()).unwrap(), Raised::ToTell);
        assert_eq!(outbox.raise(held("login", "2"), now()).unwrap(), Raised::Known);
        let listing = outbox.list().unwrap();
        assert_eq!(listing.alerts.len(), 1);
        assert!(matches!(&listing.unreadable[..], [one] if one.contains(why) && one.contains(&id)), "{listing:?}");
        assert_eq!(outbox.resolve(Some(&app("login")), &[Kind::Held], now()).unwrap(), 1);
        assert_eq!(fs::read_to_string(&path).unwrap(), bad);
    }
}

#[test]
fn too_many_alerts_drop_the_least_urgent_and_oldest_and_say_how_many() {
    let Fixture { outbox, _dir } = fixture();
    let outbox = outbox.with_cap(10);
    outbox.raise(Alert::new(Kind::Stuck, "s", "stuck").app(&app("login")), now()).unwrap();
    outbox.raise(held("login", "2"), now()).unwrap();
    for n in 0..30 {
        let test = Alert::new(Kind::Test, n.to_string(), format!("test {n}"));
        outbox.raise(test, later(n)).unwrap();
    }
    let listing = outbox.list().unwrap();
    let titles = titles(&outbox);
    assert!(titles.len() <= 11, "{titles:?}");
    assert_eq!(titles[0], "stuck");
    assert!(titles.contains(&"login: 2 is held".to_owned()) && titles.contains(&"test 29".to_owned()), "{titles:?}");
    assert!(!titles.contains(&"test 0".to_owned()));
    let dropped: u64 = listing.alerts.iter().map(|shown| shown.record.dropped).sum();
    let tests = titles.iter().filter(|title| title.starts_with("test ")).count() as u64;
    assert_eq!(dropped + tests, 30, "{titles:?}");
}

#[test]
fn names_of_files_are_safe_whatever_a_fingerprint_is() {
    let Fixture { outbox, _dir } = fixture();
    for text in crate::sys::untrusted::nasty::CORPUS {
        let alert = Alert::new(Kind::Test, *text, *text).fact(*text, *text).notes(Untrusted::new(*text)).hint(*text);
        assert_eq!(outbox.raise(alert.clone(), now()).unwrap(), Raised::ToTell, "{text:?}");
        assert_eq!(outbox.raise(alert, now()).unwrap(), Raised::Known, "{text:?}");
    }
    let listing = outbox.list().unwrap();
    assert_eq!((listing.alerts.len(), listing.unreadable.len()), (crate::sys::untrusted::nasty::CORPUS.len(), 0));
    for (id, _) in outbox.ids("").unwrap() {
        assert!(id.bytes().all(|c| c.is_ascii_alphanumeric() || b"._-".contains(&c)), "{id}");
    }
}

#[test]
fn raising_and_resolving_from_many_threads_loses_nothing() {
    let Fixture { outbox, _dir } = fixture();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let outbox = &outbox;
            scope.spawn(move || {
                for n in 0..10 {
                    outbox.raise(rolled_back(&format!("{thread}-{n}")), now()).unwrap();
                    outbox.raise(rolled_back(&format!("all-{n}")), now()).unwrap();
                }
            });
        }
    });
    assert_eq!(titles(&outbox).len(), 50);
}
