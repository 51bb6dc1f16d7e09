//! Updates that end well, and first deployments.

use cc_warm::demo::maker::Behaviour;
use insta::assert_snapshot;

use crate::screen::{NOTES, Screen};

#[test]
fn a_first_deployment() {
    let mut screen = Screen::empty();
    assert_snapshot!(screen.shows(&["status"]), @"
    $ cc-warm status
      APP    STATE     VERSION  KNOWN-GOOD
      notes  absent    -        -
    ");
    assert_snapshot!(screen.shows(&["update"]), @"
    $ cc-warm update
    notes: held
      - the recipe publishes no version
      hint: cc-warm plan notes
    [exit 10]
    ");
    screen.fixture.publish("1.0.0+1", 1, Behaviour::Healthy);
    assert_snapshot!(screen.shows(&["plan"]), @"
    $ cc-warm plan
    notes: would deploy 1.0.0+1 (commit COMMIT), for the first time
    ");
    assert_snapshot!(screen.shows(&["update"]), @"
    $ cc-warm update
    | notes: deploying 1.0.0+1
    | notes: waiting until it is healthy, for 2s at most
    | notes: healthy: http http://127.0.0.1:PORT/health answered 200
    notes: deployed 1.0.0+1 (commit COMMIT) for the first time
    ");
    assert_snapshot!(screen.shows(&["plan"]), @"
    $ cc-warm plan
    notes: up to date at 1.0.0+1
    ");
    assert_snapshot!(screen.shows(&["update"]), @"
    $ cc-warm update
    notes: up to date at 1.0.0+1
    ");
    assert_snapshot!(screen.shows(&["status"]), @"
    $ cc-warm status
      APP    STATE     VERSION  KNOWN-GOOD
      notes  running   1.0.0+1  -
    ");
    assert_snapshot!(screen.shows(&["history", NOTES]), @"
    $ cc-warm history notes
    2026-03-06 03:40:00 UTC  first-deploy updated      nothing → 1.0.0+1
    ");
}

#[test]
fn a_first_deployment_that_fails() {
    let mut screen = Screen::empty();
    screen.fixture.publish("1.0.0+1", 1, Behaviour::Dies);
    assert_snapshot!(screen.shows(&["update"]), @"
    $ cc-warm update
    | notes: deploying 1.0.0+1
    | notes: waiting until it is healthy, for 2s at most
    | notes: going back: it died: web exited with 1: error: 1.0.0+1 cannot go on …
    | notes: stopping
    notes: rolled back: 1.0.0+1 failed, nothing is deployed
      - it died: web exited with 1: error: 1.0.0+1 cannot go on
        its last words:
        TIME web: 1.0.0+1 runs on data of format 1
        TIME web: error: 1.0.0+1 cannot go on
        TIME cc-warm: web exited with 1
      hint: it is not tried again until a newer version, or `cc-warm retry notes`
    [exit 11]
    ");
    assert_snapshot!(screen.alerts(), @"
    notes: the first deployment of 1.0.0+1 failed (first-deploy-failed, warning)
    tried: 1.0.0+1 (commit COMMIT)
    because: it died: web exited with 1: error: 1.0.0+1 cannot go on
        its last words:
        TIME web: 1.0.0+1 runs on data of format 1
        TIME web: error: 1.0.0+1 cannot go on
        TIME cc-warm: web exited with 1
    hint: cc-warm retry notes
    hint: cc-warm history notes
    ");
    assert_snapshot!(screen.shows(&["status"]), @"
    $ cc-warm status
      APP    STATE     VERSION  KNOWN-GOOD
    ! notes  absent    -        -
        its first deployment failed: 1.0.0+1
        hint: cc-warm retry notes
    ");
    assert_snapshot!(screen.shows(&["update"]), @"
    $ cc-warm update
    notes: held
      - nothing that is published may be tried: 1.0.0+1: with the environment that is configured now, it was rolled back before
      hint: cc-warm plan notes
    [exit 10]
    ");
}

#[test]
fn a_healthy_update() {
    let mut screen = Screen::running();
    screen.publish_with_note("1.1.0+2", 2, "Faster.\n");
    assert_snapshot!(screen.shows(&["plan"]), @"
    $ cc-warm plan
    notes: would update: 1.0.0+1 → 1.1.0+2 (commit COMMIT)
        diff --git a/Procfile b/Procfile
        index 92aef13..6decb64 100644
        --- a/Procfile
        +++ b/Procfile
        @@ -1 +1 @@
        -web: ${CC_WARM_PROGRAM} demo-app --release 1.0.0+1 --format 1 --behaviour healthy
        +web: ${CC_WARM_PROGRAM} demo-app --release 1.1.0+2 --format 2 --behaviour healthy
        diff --git a/release/1.1.0+2 b/release/1.1.0+2
        new file mode 100644
        index 0000000..fc940ba
        --- /dev/null
        +++ b/release/1.1.0+2
        @@ -0,0 +1 @@
        +Faster.
    ");
    assert_snapshot!(screen.shows(&["update", NOTES]), @"
    $ cc-warm update notes
    | notes: preparing 1.0.0+1 → 1.1.0+2
    | notes: copying its data while it runs
    | notes: stopping
    | notes: taking a snapshot of 1 volume(s)
    | notes: deploying 1.1.0+2
    | notes: waiting until it is healthy, for 2s at most
    | notes: healthy: http http://127.0.0.1:PORT/health answered 200
    notes: updated: 1.0.0+1 → 1.1.0+2, down for N s
    ");
    assert_snapshot!(screen.shows(&["status"]), @"
    $ cc-warm status
      APP    STATE     VERSION  KNOWN-GOOD
      notes  running   1.1.0+2  1.0.0+1 of 2026-03-06 03:40 UTC
    ");
    assert_snapshot!(screen.shows(&["history", NOTES]), @"
    $ cc-warm history notes
    2026-03-06 03:40:00 UTC  first-deploy updated      nothing → 1.0.0+1
    2026-03-06 03:40:00 UTC  update       updated      1.0.0+1 → 1.1.0+2  (down N s)
    ");
    assert_snapshot!(screen.shows(&["status", "--json"]), @r#"
    $ cc-warm status --json
    {
      "alertsWaiting": 0,
      "apps": [
        {
          "app": "notes",
          "declared": true,
          "hints": [],
          "knownGood": {
            "id": "ID",
            "takenAt": "2026-03-06T03:40:00Z",
            "version": "1.0.0+1"
          },
          "lastGood": "1.1.0+2",
          "notes": [],
          "ok": true,
          "state": "running",
          "version": "1.1.0+2"
        }
      ],
      "format": 1
    }
    "#);
}

#[test]
fn a_new_version_that_dies() {
    let mut screen = Screen::running();
    screen.fixture.publish("1.1.0+2", 2, Behaviour::Dies);
    assert_snapshot!(screen.shows(&["update"]), @"
    $ cc-warm update
    | notes: preparing 1.0.0+1 → 1.1.0+2
    | notes: copying its data while it runs
    | notes: stopping
    | notes: taking a snapshot of 1 volume(s)
    | notes: deploying 1.1.0+2
    | notes: waiting until it is healthy, for 2s at most
    | notes: going back: it died: web exited with 1: error: 1.1.0+2 cannot go on …
    | notes: stopping
    | notes: restoring the data of 1.0.0+1 (commit COMMIT)
    | notes: deploying 1.0.0+1
    | notes: waiting until it is healthy, for 2s at most
    | notes: kept: the failed version's data, as `.cc-warm-failed-ID` beside the `_data` of each volume
    notes: rolled back: 1.1.0+2 failed, 1.0.0+1 runs again, down for N s
      - it died: web exited with 1: error: 1.1.0+2 cannot go on
        its last words:
        TIME web: migrated the data from format 1 to 2
        TIME web: 1.1.0+2 runs on data of format 2
        TIME web: error: 1.1.0+2 cannot go on
        TIME cc-warm: web exited with 1
      hint: it is not tried again until a newer version, or `cc-warm retry notes`
    [exit 11]
    ");
}

#[test]
fn a_recovery() {
    let mut screen = Screen::running();
    assert_snapshot!(screen.shows(&["recover"]), @"
    $ cc-warm recover
    nothing to recover
    ");
    screen.fixture.publish("1.1.0+2", 2, Behaviour::Healthy);
    screen.program(&["update"]).env("CC_WARM_FAULT", "journal.deployed.after=kill").run().unwrap();
    assert_snapshot!(screen.shows(&["status"]), @"
    $ cc-warm status
      APP    STATE     VERSION  KNOWN-GOOD
    ! notes  running   1.1.0+2  1.0.0+1 of 2026-03-06 03:40 UTC
        an operation was cut short at `deployed`
        hint: cc-warm recover notes
    ");
    assert_snapshot!(screen.shows(&["plan", "--no-diff"]), @"
    $ cc-warm plan --no-diff
    notes: unfinished
      an operation was cut short at `deployed`; `update` would settle it first
    ");
    assert_snapshot!(screen.shows(&["recover"]), @"
    $ cc-warm recover
    | notes: recovering: operation ID was cut short at `deployed`
    | notes: going back: it was cut short (a crash, a power cut or a kill)
    | notes: stopping
    | notes: restoring the data of 1.0.0+1 (commit COMMIT)
    | notes: deploying 1.0.0+1
    | notes: waiting until it is healthy, for 2s at most
    | notes: kept: the failed version's data, as `.cc-warm-failed-ID` beside the `_data` of each volume
    notes: rolled back: 1.1.0+2 was cut short, 1.0.0+1 runs again
      - it was cut short (a crash, a power cut or a kill)
    ");
    assert_snapshot!(screen.alerts(), @"
    notes: an operation was cut short; 1.0.0+1 runs again (recovered, notice)
    tried: 1.1.0+2 (commit COMMIT)
    because: it was cut short (a crash, a power cut or a kill)
    runs again: 1.0.0+1 (commit COMMIT)
    no longer seen: what users wrote after the stop, soon after 2026-03-06 03:40:00 UTC
    kept: the failed version's data, as `.cc-warm-failed-ID` beside the `_data` of each volume
    hint: cc-warm history notes
    ");
    screen.program(&["update"]).env("CC_WARM_FAULT", "journal.healthy.after=kill").run().unwrap();
    assert_snapshot!(screen.document(&["recover"]), @r#"
    $ cc-warm recover --json
    {
      "apps": [
        {
          "app": "notes",
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
            "version": "1.1.0+2"
          }
        }
      ],
      "format": 1
    }
    "#);
    assert_snapshot!(screen.alerts(), @"
    notes: an operation of 2026-03-06T03:40:00Z was cut short, and has been settled (recovered, notice)
    now: updated: 1.0.0+1 → 1.1.0+2
    hint: cc-warm history notes
    ");
}
