use proptest::prelude::*;

use super::*;

const DAY: Duration = Duration::from_hours(24);

fn at(days: u64) -> Timestamp {
    Timestamp::from_second(1_788_300_000).unwrap().checked_add(DAY * u32::try_from(days).unwrap()).unwrap()
}

fn held() -> Alert {
    Alert::new(Kind::Held, "2.0.0+1", "login: 2.0.0+1 is held")
}

/// One record as the outbox keeps it, with sinks that take what they are owed when asked to.
#[derive(Default)]
struct Shelf {
    record: Option<(Record, bool)>,
    heard: BTreeMap<String, Vec<Says>>,
    /// A message on its way to `x`.
    flying: Option<(u32, Says)>,
}

impl Shelf {
    fn put(&mut self, fate: Fate) {
        match fate {
            Fate::Unchanged => {}
            Fate::Pending(record) => self.record = Some((*record, false)),
            Fate::Told(record) => self.record = Some((*record, true)),
            Fate::Gone => self.record = None,
        }
    }

    fn raise(&mut self, days: u64) {
        match self.record.clone() {
            None => self.record = Some((Record::new("a".to_owned(), "h", held(), at(days)), false)),
            Some((record, told)) => self.put(record.raised(held(), told, at(days), DAY * 7)),
        }
    }

    fn change(&mut self, fate: impl Fn(Record) -> Fate) {
        if let Some((record, _)) = self.record.clone() {
            self.put(fate(record));
        }
    }

    fn deliver(&mut self, sinks: &[&str]) {
        for &sink in sinks {
            if let Some((record, false)) = &mut self.record
                && record.is_owed(sink)
            {
                let (number, says) = (record.number, record.says);
                record.took(sink, number, says);
                self.heard.entry(sink.to_owned()).or_default().push(says);
            }
        }
        self.settle();
    }

    fn settle(&mut self) {
        if let Some((record, false)) = self.record.clone() {
            self.put(record.settled(&["x".to_owned(), "y".to_owned()]));
        }
    }

    fn send_off(&mut self) {
        if let Some((record, false)) = &mut self.record
            && self.flying.is_none()
            && record.is_owed("x")
        {
            record.trying("x");
            self.flying = Some((record.number, record.says));
        }
    }

    fn arrive(&mut self) {
        let Some((number, says)) = self.flying.take() else { return };
        self.heard.entry("x".to_owned()).or_default().push(says);
        if let Some((record, false)) = &mut self.record {
            record.took("x", number, says);
        }
        self.settle();
    }

    fn heard(&self, sink: &str) -> String {
        let says = |says: &Says| if *says == Says::Raised { '+' } else { '-' };
        self.heard.get(sink).into_iter().flatten().map(says).collect()
    }
}

#[test]
fn each_sink_hears_what_it_should() {
    // Steps: r<day> raise, s another takes its place, e<day> it ends, x/y that sink takes what it is owed, > a message
    // to x leaves, < it arrives.
    for (name, steps, x, y) in [
        ("once", "r0 x y r1 r2 r3 x y", "+", "+"),
        ("again at the reminder", "r0 x y r7 x y r13 x y r14 x y", "+++", "+++"),
        ("a reminder reaches who hears, though another does not", "r0 x r8 x r16 x y", "+++", "+"),
        ("resolved", "r0 x y e1 x y", "+-", "+-"),
        ("withdrawn before anybody heard", "r0 e1 x y", "", ""),
        ("resolved only where it was heard", "r0 x e1 x y", "+-", ""),
        ("back before the end was heard", "r0 x y e1 r2 x y", "+", "+"),
        ("back after one heard the end", "r0 x y e1 x r2 x y", "+-+", "+"),
        ("over, back, over", "r0 x y e1 x y r2 x y e3 x y", "+-+-", "+-+-"),
        ("over, back, over before x heard that it was back", "r0 x y e1 x r2 y e3 x y", "+-", "+-"),
        ("another takes its place and goes again", "r0 x y s r1 x y", "+", "+"),
        ("another takes its place, unheard", "r0 s r1 x y", "+", "+"),
        ("another takes its place, then it is over", "r0 x y s e1 x y", "+", "+"),
        ("over while it is sent", "r0 > e1 < x y", "+-", ""),
        ("back while its end is sent", "r0 x y e1 > r2 < x y", "+-+", "+"),
        ("its place is taken, and it comes back late", "r0 x y s r9 x y", "++", "++"),
    ] {
        let mut shelf = Shelf::default();
        for step in steps.split(' ') {
            let day = step[1..].parse().unwrap_or(0);
            match &step[..1] {
                "r" => shelf.raise(day),
                "e" => shelf.change(|record| record.resolved(at(day))),
                ">" => shelf.send_off(),
                "<" => shelf.arrive(),
                "s" => shelf.change(Record::superseded),
                sink => shelf.deliver(&[sink]),
            }
        }
        assert_eq!((shelf.heard("x").as_str(), shelf.heard("y").as_str()), (x, y), "{name}");
    }
}

proptest! {
    /// Within a reminder's time: nobody hears the same twice in a row, an end comes only after a beginning, and in the
    /// end everybody who was told knows how it stands.
    #[test]
    fn nothing_is_repeated_and_nothing_stays_untold(steps in prop::collection::vec(0..7u8, 0..60)) {
        let mut shelf = Shelf::default();
        let mut stands = false;
        for step in steps {
            match step {
                0 => { shelf.raise(0); stands = true; }
                1 => { shelf.change(|record| record.resolved(at(1))); stands = false; }
                2 => shelf.send_off(),
                3 => shelf.arrive(),
                // One process delivers at a time.
                4 if shelf.flying.is_none() => shelf.deliver(&["x"]),
                5 if shelf.flying.is_none() => shelf.deliver(&["y"]),
                _ if shelf.flying.is_none() => shelf.deliver(&["x", "y"]),
                _ => {}
            }
        }
        shelf.arrive();
        shelf.deliver(&["x", "y"]);
        for sink in ["x", "y"] {
            let heard = shelf.heard(sink);
            prop_assert!(!heard.contains("++") && !heard.contains("--") && !heard.starts_with('-'), "{heard}");
            prop_assert_eq!(heard.ends_with('+'), stands, "{}", heard);
        }
        prop_assert_eq!(shelf.record.is_some(), stands);
    }
}

#[test]
fn an_event_is_told_once_whatever_comes_and_forgotten_after_months() {
    let event = || Alert::new(Kind::RolledBack, "op-1", "login was rolled back");
    let record = Record::new("a".to_owned(), "h", event(), at(0));
    assert_eq!(record.clone().raised(event(), true, at(60), DAY), Fate::Unchanged);
    assert_eq!(record.clone().resolved(at(1)), Fate::Unchanged);
    assert!(!record.is_stale(at(89)) && record.is_stale(at(91)));
}

#[test]
fn failures_wait_longer_and_longer_and_a_clock_that_was_set_back_does_not_matter() {
    let mut record = Record::new("a".to_owned(), "h", held(), at(0));
    let mut waits = Vec::new();
    for _ in 0..8 {
        record.failed("x", "no", false, at(0));
        waits.push(record.sinks["x"].next_at.unwrap().duration_since(at(0)).as_secs() / 60);
        assert!(!record.is_due("x", at(0)) && record.is_owed("x") && record.is_due("x", at(1)));
    }
    assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
    let month_ago = at(0).checked_sub(DAY * 30).unwrap();
    assert!(record.is_due("x", month_ago));
    // A record from a future that was an error is told again, too, rather than never.
    record.took("x", 1, Says::Raised);
    assert!(matches!(record.raised(held(), true, month_ago, DAY * 7), Fate::Pending(again) if again.repeats == 1));
}

#[test]
fn keeps_what_a_newer_program_wrote() {
    let mut json = serde_json::to_value(Record::new("a".to_owned(), "h", held(), at(0))).unwrap();
    json["later"] = "x".into();
    json["sinks"] = serde_json::json!({ "w": { "heard": 1, "later": "y" } });
    let record: Record = serde_json::from_value(json.clone()).unwrap();
    let back = serde_json::to_value(record).unwrap();
    assert_eq!((&back["later"], &back["sinks"]["w"]["later"]), (&json["later"], &json["sinks"]["w"]["later"]));
}

#[test]
fn what_is_told_is_capped_and_says_so() {
    let mut alert =
        held().fact("reason", "x".repeat(10_000)).notes(crate::sys::untrusted::Untrusted::new("n".repeat(99_999)));
    for n in 0..100 {
        alert = alert.fact("more", n.to_string());
    }
    let record = Record::new("a".to_owned(), "h", alert, at(0));
    let json = serde_json::to_string(&record).unwrap();
    assert!(json.len() < 64 << 10, "{}", json.len());
    assert!(json.contains("(9400 more characters)") && json.contains("77 more facts"), "{json}");
}
