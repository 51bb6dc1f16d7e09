//! Ways back, and those that failed.

use cc_warm::demo::maker::Behaviour;
use insta::assert_snapshot;

use crate::fixture::NEVER_WELL;
use crate::screen::{NOTES, Screen};

#[test]
fn a_rollback_and_a_retry() {
    let mut screen = Screen::running();
    screen.fixture.publish("1.1.0+2", 2, Behaviour::Broken);
    assert_snapshot!(screen.shows(&["update"]), @"
    $ cc-warm update
    | notes: preparing 1.0.0+1 → 1.1.0+2
    | notes: copying its data while it runs
    | notes: stopping
    | notes: taking a snapshot of 1 volume(s)
    | notes: deploying 1.1.0+2
    | notes: waiting until it is healthy, for 2s at most
    | notes: going back: http http://127.0.0.1:PORT/health answered 500, wanted 200 (body begins: the new storage engine is not there)
    | notes: stopping
    | notes: restoring the data of 1.0.0+1 (commit COMMIT)
    | notes: deploying 1.0.0+1
    | notes: waiting until it is healthy, for 2s at most
    | notes: kept: the failed version's data, as `.cc-warm-failed-ID` beside the `_data` of each volume
    notes: rolled back: 1.1.0+2 failed, 1.0.0+1 runs again, down for N s
      - http http://127.0.0.1:PORT/health answered 500, wanted 200 (body begins: the new storage engine is not there)
      hint: it is not tried again until a newer version, or `cc-warm retry notes`
    [exit 11]
    ");
    assert_snapshot!(screen.alerts(), @"
    notes: 1.1.0+2 failed and went back to 1.0.0+1 (rolled-back, warning)
    tried: 1.1.0+2 (commit COMMIT)
    because: http http://127.0.0.1:PORT/health answered 500, wanted 200 (body begins: the new storage engine is not there)
    runs again: 1.0.0+1 (commit COMMIT)
    no longer seen: what users wrote after the stop, soon after 2026-03-06 03:40:00 UTC
    kept: the failed version's data, as `.cc-warm-failed-ID` beside the `_data` of each volume
    hint: cc-warm retry notes
    hint: cc-warm history notes
    ");
    assert_snapshot!(screen.shows(&["status"]), @"
    $ cc-warm status
      APP    STATE     VERSION  KNOWN-GOOD
      notes  running   1.0.0+1  1.0.0+1 of 2026-03-06 03:40 UTC
        rolled back before, not tried again: 1.1.0+2
    ");
    assert_snapshot!(screen.shows(&["update"]), @"
    $ cc-warm update
    notes: up to date at 1.0.0+1
      - 1.1.0+2 is not tried: with the environment that is configured now, it was rolled back before
    ");
    assert_snapshot!(screen.shows(&["history", NOTES]), @"
    $ cc-warm history notes
    2026-03-06 03:40:00 UTC  first-deploy updated      nothing → 1.0.0+1
    2026-03-06 03:40:00 UTC  update       rolled-back  1.0.0+1 → 1.1.0+2  (down N s)
        http http://127.0.0.1:PORT/health answered 500, wanted 200 (body begins: the new storage engine is not there)
    ");
    assert_snapshot!(screen.document(&["history", NOTES, "-n", "1"]), @r#"
    $ cc-warm history notes -n 1 --json
    {
      "app": "notes",
      "format": 1,
      "operations": [
        {
          "at": "2026-03-06T03:40:00Z",
          "downtime": N,
          "downtimeParts": PARTS,
          "format": 1,
          "from": {
            "commit": "COMMIT",
            "env": "DIGEST",
            "version": "1.0.0+1"
          },
          "kind": "update",
          "operation": "ID",
          "outcome": "rolled-back",
          "reason": "http http://127.0.0.1:PORT/health answered 500, wanted 200 (body begins: the new storage engine is not there)",
          "snapshot": "ID",
          "to": {
            "commit": "COMMIT",
            "env": "DIGEST",
            "version": "1.1.0+2"
          }
        }
      ]
    }
    "#);
    assert_snapshot!(screen.shows(&["retry", NOTES]), @"
    $ cc-warm retry notes
    notes: may be tried again: 1.1.0+2
      hint: cc-warm update notes
    ");
    assert_snapshot!(screen.shows(&["retry", NOTES]), @"
    $ cc-warm retry notes
    notes: nothing was rejected
    ");
    assert_snapshot!(screen.document(&["retry", NOTES]), @r#"
    $ cc-warm retry notes --json
    {
      "apps": [
        {
          "app": "notes",
          "exit": 0,
          "outcome": "nothing-rejected"
        }
      ],
      "format": 1
    }
    "#);
    assert_snapshot!(screen.document(&["update"]), @r#"
    $ cc-warm update --json
    {
      "apps": [
        {
          "app": "notes",
          "cause": "failed",
          "downtime": N,
          "downtimeParts": PARTS,
          "exit": 11,
          "outcome": "rolled-back",
          "reason": "http http://127.0.0.1:PORT/health answered 500, wanted 200 (body begins: the new storage engine is not there)",
          "to": {
            "commit": "COMMIT",
            "env": "DIGEST",
            "version": "1.0.0+1"
          },
          "tried": {
            "commit": "COMMIT",
            "env": "DIGEST",
            "version": "1.1.0+2"
          }
        }
      ],
      "format": 1
    }
    "#);
}

#[test]
fn a_stuck_app() {
    let mut screen = Screen::running();
    screen.fixture.publish("1.1.0+2", 2, Behaviour::Broken);
    assert_snapshot!(screen.shows_with(&["update"], |program| program.env("CC_WARM_FAULT", NEVER_WELL)), @"
    $ cc-warm update
    | notes: preparing 1.0.0+1 → 1.1.0+2
    | notes: copying its data while it runs
    | notes: stopping
    | notes: taking a snapshot of 1 volume(s)
    | notes: deploying 1.1.0+2
    | notes: waiting until it is healthy, for 2s at most
    | notes: going back: http http://127.0.0.1:PORT/health answered 500, wanted 200 (body begins: the new storage engine is not there)
    | notes: stopping
    | notes: restoring the data of 1.0.0+1 (commit COMMIT)
    | notes: the prior version is not healthy; starting it once more
    | notes: stuck: 1.0.0+1 (commit COMMIT) does not become healthy any more: fault point `act.redeploy`
    notes: STUCK: the app is down and stays down (its data is the restored snapshot)
      - 1.0.0+1 (commit COMMIT) does not become healthy any more: fault point `act.redeploy`
      hint: cc-warm retry notes
    [exit 12]
    ");
    assert_snapshot!(screen.alerts(), @"
    notes is stuck: it is down and stays down (stuck, critical)
    tried: 1.1.0+2 (commit COMMIT)
    because: 1.0.0+1 (commit COMMIT) does not become healthy any more: fault point `act.redeploy`
    it went back because: http http://127.0.0.1:PORT/health answered 500, wanted 200 (body begins: the new storage engine is not there)
    data: its data is the restored snapshot
    known-good: snapshot ID, verified when it was taken
    hint: cc-warm status notes
    hint: cc-warm retry notes
    ");
    assert_snapshot!(screen.shows(&["status"]), @"
    $ cc-warm status
      APP    STATE     VERSION  KNOWN-GOOD
    ! notes  absent    -        1.0.0+1 of 2026-03-06 03:40 UTC
        STUCK, nothing is done to it: 1.0.0+1 (commit COMMIT) does not become healthy any more: fault point `act.redeploy`
        rolled back before, not tried again: 1.1.0+2
        hint: cc-warm retry notes
    ");
    assert_snapshot!(screen.document(&["status"]), @r#"
    $ cc-warm status --json
    {
      "alertsWaiting": 0,
      "apps": [
        {
          "app": "notes",
          "declared": true,
          "hints": [
            "cc-warm retry notes"
          ],
          "knownGood": {
            "id": "ID",
            "takenAt": "2026-03-06T03:40:00Z",
            "version": "1.0.0+1"
          },
          "lastGood": "1.0.0+1",
          "notes": [
            "STUCK, nothing is done to it: 1.0.0+1 (commit COMMIT) does not become healthy any more: fault point `act.redeploy`",
            "rolled back before, not tried again: 1.1.0+2"
          ],
          "ok": false,
          "state": "absent"
        }
      ],
      "format": 1
    }
    "#);
    assert_snapshot!(screen.shows(&["plan"]), @"
    $ cc-warm plan
    notes: stuck: `update` would do nothing
      1.0.0+1 (commit COMMIT) does not become healthy any more: fault point `act.redeploy`
      hint: cc-warm retry notes
    ");
    assert_snapshot!(screen.shows(&["update"]), @"
    $ cc-warm update
    notes: still stuck since an earlier run: nothing is done to it
      - 1.0.0+1 (commit COMMIT) does not become healthy any more: fault point `act.redeploy`
      hint: cc-warm status notes
    [exit 13]
    ");
    assert_snapshot!(screen.document(&["recover"]), @r#"
    $ cc-warm recover --json
    {
      "apps": [
        {
          "app": "notes",
          "exit": 13,
          "outcome": "stuck-already",
          "reason": "1.0.0+1 (commit COMMIT) does not become healthy any more: fault point `act.redeploy`"
        }
      ],
      "format": 1
    }
    "#);
    assert_snapshot!(screen.shows(&["retry", NOTES]), @"
    $ cc-warm retry notes
    | notes: deploying 1.0.0+1
    | notes: waiting until it is healthy, for 2s at most
    notes: started again: 1.0.0+1 (commit COMMIT)
    ");
    assert_snapshot!(screen.alerts(), @"
    resolved: notes is stuck: it is down and stays down (stuck, critical)
    since: 2026-03-06T03:40:00Z
    ");
    assert_snapshot!(screen.shows(&["history", NOTES]), @"
    $ cc-warm history notes
    2026-03-06 03:40:00 UTC  first-deploy updated      nothing → 1.0.0+1
    2026-03-06 03:40:00 UTC  update       stuck        1.0.0+1 → 1.1.0+2
        1.0.0+1 (commit COMMIT) does not become healthy any more: fault point `act.redeploy`
    2026-03-06 03:40:00 UTC  restart      restarted    nothing → 1.0.0+1
    ");
}
