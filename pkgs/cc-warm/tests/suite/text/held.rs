//! Updates that wait for the operator.

use cc_warm::demo::maker::Behaviour;
use insta::assert_snapshot;
use serde_json::json;

use crate::screen::{NOTES, Screen};

#[test]
fn a_held_update_and_its_approval() {
    let mut screen = Screen::running();
    screen.publish_with_note("1.1.0+2", 2, "Faster.\n\nManual migration: rebuild the index.\n");
    screen.publish_with_note("2.0.0+3", 3, "The storage is new.\n");
    assert_snapshot!(screen.shows(&["plan", "--no-diff"]), @r#"
    $ cc-warm plan --no-diff
    notes: would hold at 1.0.0+1: 2.0.0+3 (commit COMMIT)
      - a major step: 1.0.0+1 → 2.0.0+3
      - the note of 1.1.0+2 asks for an operator (release/1.1.0+2, line 3, "Manual migration"): Manual migration: rebuild the index.
      hint: cc-warm approve notes 2.0.0+3
    "#);
    assert_snapshot!(screen.document(&["plan", "--no-diff"]), @r#"
    $ cc-warm plan --no-diff --json
    {
      "apps": [
        {
          "action": "hold",
          "app": "notes",
          "current": "1.0.0+1",
          "reasons": [
            {
              "at": "2.0.0+3",
              "from": "1.0.0+1",
              "reason": "major-step"
            },
            {
              "commit": "COMMIT",
              "line": 3,
              "path": "release/1.1.0+2",
              "phrase": "Manual migration",
              "reason": "note",
              "text": "Manual migration: rebuild the index.",
              "version": "1.1.0+2"
            }
          ],
          "target": {
            "commit": "COMMIT",
            "version": "2.0.0+3"
          }
        }
      ],
      "format": 1
    }
    "#);
    assert_snapshot!(screen.shows(&["update"]), @r#"
    $ cc-warm update
    notes: held at 1.0.0+1: 2.0.0+3 waits for you
      - a major step: 1.0.0+1 → 2.0.0+3
      - the note of 1.1.0+2 asks for an operator (release/1.1.0+2, line 3, "Manual migration"): Manual migration: rebuild the index.
      hint: read `cc-warm plan notes`, then `cc-warm approve notes 2.0.0+3`
    [exit 10]
    "#);
    assert_snapshot!(screen.alerts(), @r#"
    notes: 2.0.0+3 waits for you (held, notice)
    runs: 1.0.0+1
    because: a major step: 1.0.0+1 → 2.0.0+3
    because: the note of 1.1.0+2 asks for an operator (release/1.1.0+2, line 3, "Manual migration"): Manual migration: rebuild the index.
    commit: COMMIT
    notes:
        release/1.1.0+2:
        Faster.
        
        Manual migration: rebuild the index.
        
        release/2.0.0+3:
        The storage is new.
    hint: cc-warm plan notes
    hint: cc-warm approve notes 2.0.0+3
    "#);
    assert_snapshot!(screen.shows(&["status"]), @r#"
    $ cc-warm status
      APP    STATE     VERSION  KNOWN-GOOD
    ! notes  running   1.0.0+1  -
        held: 2.0.0+3 waits for you
          a major step: 1.0.0+1 → 2.0.0+3
          the note of 1.1.0+2 asks for an operator (release/1.1.0+2, line 3, "Manual migration"): Manual migration: rebuild the index.
        hint: cc-warm plan notes
    "#);
    assert_snapshot!(screen.shows(&["approve", NOTES, "3.0.0+1"]), @"
    $ cc-warm approve notes 3.0.0+1
    | error: `notes` publishes no version 3.0.0+1; nothing was approved
    | hint: cc-warm plan notes
    [exit 2]
    ");
    assert_snapshot!(screen.shows(&["approve", NOTES, "newest"]), @"
    $ cc-warm approve notes newest
    | error: invalid value 'newest' for '<VERSION>': `newest` is not a recipe's version (like `2.1.0+26.0.4`)
    | 
    | For more information, try '--help'.
    [exit 2]
    ");
    assert_snapshot!(screen.document(&["update"]), @r#"
    $ cc-warm update --json
    {
      "apps": [
        {
          "app": "notes",
          "approvable": true,
          "candidate": "2.0.0+3",
          "current": "1.0.0+1",
          "exit": 10,
          "outcome": "held",
          "reasons": [
            "a major step: 1.0.0+1 → 2.0.0+3",
            "the note of 1.1.0+2 asks for an operator (release/1.1.0+2, line 3, \"Manual migration\"): Manual migration: rebuild the index."
          ]
        }
      ],
      "format": 1
    }
    "#);
    assert_snapshot!(screen.shows(&["approve", NOTES, "2.0.0+3"]), @"
    $ cc-warm approve notes 2.0.0+3
    notes: 2.0.0+3 (commit COMMIT) may pass, once
      hint: cc-warm update notes
    ");
    assert_snapshot!(screen.shows(&["plan", "--no-diff"]), @"
    $ cc-warm plan --no-diff
    notes: would update: 1.0.0+1 → 2.0.0+3 (commit COMMIT)
      it passes because it was approved
    ");
    assert_snapshot!(screen.document(&["update"]), @r#"
    $ cc-warm update --json
    {
      "apps": [
        {
          "app": "notes",
          "downtime": N,
          "downtimeParts": PARTS,
          "exit": 0,
          "from": {
            "commit": "COMMIT",
            "env": "DIGEST",
            "version": "1.0.0+1"
          },
          "outcome": "updated",
          "to": {
            "commit": "COMMIT",
            "env": "DIGEST",
            "version": "2.0.0+3"
          }
        }
      ],
      "format": 1
    }
    "#);
    assert_snapshot!(screen.alerts(), @"
    resolved: notes: 2.0.0+3 waits for you (held, notice)
    since: 2026-03-06T03:40:00Z
    ");
}

#[test]
fn what_no_approval_lets_pass_says_so() {
    let mut screen = Screen::running();
    screen.fixture.sandbox.maker.write(".env.sample", "PORT=\nCC_WARM_PROGRAM=\n").unwrap();
    screen.fixture.publish("1.1.0+2", 1, Behaviour::Healthy);
    screen.fixture.sandbox.configure(|config| config["apps"][NOTES]["update"] = json!({ "pin": "1.2.0+3" })).unwrap();
    assert_snapshot!(screen.shows(&["update"]), @"
    $ cc-warm update
    notes: held at 1.0.0+1
      - `update.pin` names 1.2.0+3, which is not published
      hint: cc-warm plan notes
    [exit 10]
    ");
    assert_snapshot!(screen.alerts(), @"
    notes is not updated until you act (held, notice)
    runs: 1.0.0+1
    because: `update.pin` names 1.2.0+3, which is not published
    ");
}
