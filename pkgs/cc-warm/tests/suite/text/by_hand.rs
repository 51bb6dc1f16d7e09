//! What an operator does by hand.

use insta::assert_snapshot;
use serde_json::json;

use crate::screen::{NOTES, Screen};

#[test]
fn a_pause() {
    let mut screen = Screen::running();
    assert_snapshot!(screen.shows(&["pause", NOTES, "--until", "3d", "--reason", "moving the disk"]), @"
    $ cc-warm pause notes --until 3d --reason moving the disk
    notes: paused until 2026-03-09T03:40:00Z
    ");
    assert_snapshot!(screen.shows(&["update"]), @"
    $ cc-warm update
    notes: paused: moving the disk
      hint: cc-warm resume notes
    ");
    assert_snapshot!(screen.shows(&["plan"]), @"
    $ cc-warm plan
    notes: up to date at 1.0.0+1
      paused: `update` would do nothing
    ");
    assert_snapshot!(screen.shows(&["status"]), @"
    $ cc-warm status
      APP    STATE     VERSION  KNOWN-GOOD
      notes  running   1.0.0+1  -
        paused until 2026-03-09T03:40:00Z: moving the disk
    ");
    screen.at("2026-03-09T03:40:00Z");
    assert_snapshot!(screen.shows(&["update"]), @"
    $ cc-warm update
    notes: up to date at 1.0.0+1
    ");
    assert_snapshot!(screen.document(&["pause", "--all"]), @r#"
    $ cc-warm pause --all --json
    {
      "apps": [
        {
          "app": "notes",
          "exit": 0,
          "outcome": "paused"
        }
      ],
      "format": 1
    }
    "#);
    assert_snapshot!(screen.shows(&["resume", NOTES]), @"
    $ cc-warm resume notes
    notes: updates go on
    ");
    assert_snapshot!(screen.shows(&["resume", NOTES]), @"
    $ cc-warm resume notes
    notes: was neither paused nor down by hand
    ");
    assert_snapshot!(screen.shows(&["pause", NOTES, "--until", "soon"]), @r#"
    $ cc-warm pause notes --until soon
    | error: `--until soon` is neither a time nor a duration
    |   1. `soon` is no duration: failed to parse input in the "friendly" duration format: expected duration to start with a unit value (a decimal integer) after an optional sign, but no integer was found
    | hint: write `--until 2026-12-24T18:00Z` or `--until 3d`
    [exit 2]
    "#);
    assert_snapshot!(screen.shows(&["pause"]), @"
    $ cc-warm pause
    | error: the following required arguments were not provided:
    |   <APP>...
    | 
    | Usage: cc-warm pause <APP>...
    | 
    | For more information, try '--help'.
    [exit 2]
    ");
}

#[test]
fn an_app_that_was_taken_down_by_hand() {
    let mut screen = Screen::running();
    assert_snapshot!(screen.shows(&["undeploy", NOTES]), @"
    $ cc-warm undeploy notes
    notes: undeployed (stopped cleanly); its volumes stay
      hint: cc-warm resume notes
    ");
    assert_snapshot!(screen.shows(&["update"]), @"
    $ cc-warm update
    notes: left alone: somebody undeployed it
      hint: cc-warm resume notes
    ");
    assert_snapshot!(screen.alerts(), @"
    notes was undeployed by somebody; it is left alone (down-by-hand, notice)
    hint: cc-warm resume notes
    ");
    assert_snapshot!(screen.shows(&["status"]), @"
    $ cc-warm status
      APP    STATE     VERSION  KNOWN-GOOD
    ! notes  absent    -        -
        undeployed by somebody; left alone
        hint: cc-warm resume notes
    ");
    assert_snapshot!(screen.shows(&["adopt", NOTES]), @"
    $ cc-warm adopt notes
    | notes: error: `notes` is not deployed; nothing was touched
    | hint: cc-warm status notes
    [exit 24]
    ");
    assert_snapshot!(screen.shows(&["resume", NOTES]), @"
    $ cc-warm resume notes
    notes: taken over again
      hint: cc-warm update notes
    ");
    assert_snapshot!(screen.shows(&["plan"]), @"
    $ cc-warm plan
    notes: would start it again
      1.0.0+1 (commit COMMIT) would be started again
    ");
    assert_snapshot!(screen.shows(&["update"]), @"
    $ cc-warm update
    | notes: deploying 1.0.0+1
    | notes: waiting until it is healthy, for 2s at most
    notes: started again: 1.0.0+1 (commit COMMIT)
    ");
    assert_snapshot!(screen.alerts(), @"
    resolved: notes was undeployed by somebody; it is left alone (down-by-hand, notice)
    since: 2026-03-06T03:40:00Z
    ");
    assert_snapshot!(screen.shows(&["adopt", NOTES]), @"
    $ cc-warm adopt notes
    notes: adopted: 1.0.0+1 (commit COMMIT) runs and is healthy; nothing was changed
    ");
    assert_snapshot!(screen.document(&["adopt", NOTES]), @r#"
    $ cc-warm adopt notes --json
    {
      "apps": [
        {
          "app": "notes",
          "exit": 0,
          "identity": {
            "commit": "COMMIT",
            "env": "DIGEST",
            "version": "1.0.0+1"
          },
          "outcome": "adopted"
        }
      ],
      "format": 1
    }
    "#);
}

#[test]
fn an_app_that_is_forgotten() {
    let mut screen = Screen::running();
    assert_snapshot!(screen.shows(&["forget", NOTES]), @"
    $ cc-warm forget notes
    | error: app `notes` is declared; nothing was forgotten
    | hint: to stop its updates: cc-warm pause notes; to forget it, remove it from the configuration first
    [exit 24]
    ");
    assert_snapshot!(screen.shows(&["forget", "login"]), @"
    $ cc-warm forget login
    | error: nothing is known of an app `login`
    | hint: cc-warm status
    [exit 24]
    ");
    let app = |config: &mut serde_json::Value| config["apps"][NOTES].take();
    let config = screen.fixture.sandbox.config();
    let declared = std::fs::read(&config).unwrap();
    screen.fixture.sandbox.configure(|config| drop((app(config), config["apps"] = json!({})))).unwrap();
    assert_snapshot!(screen.shows(&["status"]), @"
    $ cc-warm status
      APP    STATE     VERSION  KNOWN-GOOD
      notes  unknown   -        -
        not declared any more; nothing of it is touched
        hint: cc-warm forget notes
    ");
    assert_snapshot!(screen.shows(&["forget", NOTES]), @"
    $ cc-warm forget notes
    | warning: something is left of it: `$SANDBOX/state/process/apps/notes` stays while the app runs from there; once it does not: cc-warm forget notes
    notes: forgotten; its volumes and whatever runs were not touched
    ");
    assert_snapshot!(screen.shows(&["status"]), @"
    $ cc-warm status
    no app is declared
    ");
    std::fs::write(&config, declared).unwrap();
}
