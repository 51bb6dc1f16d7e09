//! What goes wrong before anything is touched.

use cc_warm::demo::maker::Behaviour;
use insta::assert_snapshot;
use serde_json::json;

use crate::screen::{NOTES, Screen};

#[test]
fn a_recipe_that_cannot_be_fetched() {
    let mut screen = Screen::running();
    let recipe = screen.fixture.sandbox.maker.remote().to_owned();
    let away = recipe.with_extension("away");
    std::fs::rename(&recipe, &away).unwrap();
    assert_snapshot!(screen.shows(&["update"]), @"
    $ cc-warm update
    notes: nothing was touched: the recipe could not be fetched
      - the recipe's remote `$SANDBOX/recipes/notes` is not there: fatal: '$SANDBOX/recipes/notes' does not appear to be a git repository / fatal: Could not read from remote repository.
      hint: cc-warm plan notes
    [exit 1]
    ");
    assert_snapshot!(screen.shows(&["plan"]), @"
    $ cc-warm plan
    notes: cannot be planned
      the recipe's remote `$SANDBOX/recipes/notes` is not there: fatal: '$SANDBOX/recipes/notes' does not appear to be a git repository / fatal: Could not read from remote repository.
    [exit 1]
    ");
    screen.shows(&["update"]);
    assert_eq!(screen.alerts(), "", "two failures are nothing to wake somebody for");
    screen.shows(&["update"]);
    assert_snapshot!(screen.alerts(), @"
    notes: its recipe could not be fetched, 3 times in a row (fetch-failing, warning)
    remote: $SANDBOX/recipes/notes
    because: the recipe's remote `$SANDBOX/recipes/notes` is not there: fatal: '$SANDBOX/recipes/notes' does not appear to be a git repository / fatal: Could not read from remote repository.
    hint: cc-warm plan notes
    ");
    assert_snapshot!(screen.shows(&["status"]), @"
    $ cc-warm status
      APP    STATE     VERSION  KNOWN-GOOD
      notes  running   1.0.0+1  -
        its recipe could not be fetched, 3 time(s) in a row
    ");
    std::fs::rename(&away, &recipe).unwrap();
    assert_snapshot!(screen.shows(&["update"]), @"
    $ cc-warm update
    notes: up to date at 1.0.0+1
    ");
    assert_snapshot!(screen.alerts(), @"
    resolved: notes: its recipe could not be fetched, 3 times in a row (fetch-failing, warning)
    since: 2026-03-06T03:40:00Z
    ");
}

#[test]
fn an_app_that_is_unhealthy_before_an_update() {
    let mut screen = Screen::running();
    screen.fixture.publish("1.1.0+2", 2, Behaviour::Healthy);
    screen
        .fixture
        .sandbox
        .configure(|config| config["apps"][NOTES]["health"]["probes"][0]["http"]["body"] = "^fine ".into())
        .unwrap();
    assert_snapshot!(screen.shows(&["update"]), @"
    $ cc-warm update
    notes: left alone: it is unhealthy, before any update
      - http http://127.0.0.1:PORT/health answered 200, but its body does not match `^fine ` (body begins: ok 1.0.0+1)
      hint: cc-warm doctor
    [exit 1]
    ");
    assert_snapshot!(screen.alerts(), @"
    notes is unhealthy, before any update; it was not touched (unhealthy-before-update, warning)
    because: http http://127.0.0.1:PORT/health answered 200, but its body does not match `^fine ` (body begins: ok 1.0.0+1)
    hint: cc-warm doctor
    ");
    screen.fixture.sandbox.configure(|_| {}).unwrap();
    screen.shows(&["update"]);
    assert_snapshot!(screen.alerts(), @"
    resolved: notes is unhealthy, before any update; it was not touched (unhealthy-before-update, warning)
    since: 2026-03-06T03:40:00Z
    ");
}

#[test]
fn errors_name_what_to_do() {
    let mut screen = Screen::running();
    assert_snapshot!(screen.shows(&["update", "login"]), @"
    $ cc-warm update login
    | error: no app `login` is declared
    | hint: declared are: notes
    [exit 2]
    ");
    assert_snapshot!(screen.shows(&["history", "login"]), @"
    $ cc-warm history login
    | error: no app `login` is declared
    | hint: declared are: notes
    [exit 2]
    ");
    assert_snapshot!(screen.shows(&["status", "login"]), @"
    $ cc-warm status login
    | error: no app `login` is declared
    | hint: declared are: notes
    [exit 2]
    ");
    assert_snapshot!(screen.shows(&["recover", "login"]), @"
    $ cc-warm recover login
    | error: no app `login` is declared
    | hint: declared are: notes
    [exit 2]
    ");
    assert_snapshot!(screen.shows(&["update", "No App!"]), @"
    $ cc-warm update No App!
    | error: invalid value 'No App!' for '[APP]...': `No App!` is not an app's name (1 to 32 of a-z, 0-9 and -, not at the ends)
    | 
    | For more information, try '--help'.
    [exit 2]
    ");
    let state = screen.fixture.app_dir().join("state.json");
    std::fs::write(&state, "{").unwrap();
    assert_snapshot!(screen.shows(&["update"]), @"
    $ cc-warm update
    | notes: error: the state of app `notes` cannot be used; the app and the file were not touched
    |   1. `$SANDBOX/state/apps/notes/state.json` does not parse: EOF while parsing an object at line 1 column 1
    | hint: look at `$SANDBOX/state/apps/notes/state.json`; if it is lost, move it away and run `cc-warm adopt notes`
    [exit 1]
    ");
    assert_snapshot!(screen.alerts(), @"
    notes: its state cannot be used; nothing is done to the app (corrupt-state, critical)
    because: `$SANDBOX/state/apps/notes/state.json` does not parse: EOF while parsing an object at line 1 column 1
    hint: cc-warm status notes
    ");
    assert_snapshot!(screen.shows(&["status"]), @"
    $ cc-warm status
      APP    STATE     VERSION  KNOWN-GOOD
    ! notes  running   1.0.0+1  -
        the state of app `notes` cannot be used; the app and the file were not touched: `$SANDBOX/state/apps/notes/state.json` does not parse: EOF while parsing an object at line 1 column 1
        hint: look at `$SANDBOX/state/apps/notes/state.json`; if it is lost, move it away and run `cc-warm adopt notes`
    ");
    assert_snapshot!(screen.document(&["update"]), @r#"
    $ cc-warm update --json
    {
      "apps": [
        {
          "app": "notes",
          "causes": [
            "`$SANDBOX/state/apps/notes/state.json` does not parse: EOF while parsing an object at line 1 column 1"
          ],
          "error": "the state of app `notes` cannot be used; the app and the file were not touched",
          "exit": 1,
          "hints": [
            "look at `$SANDBOX/state/apps/notes/state.json`; if it is lost, move it away and run `cc-warm adopt notes`"
          ]
        }
      ],
      "format": 1
    }
    "#);
    assert_eq!(std::fs::read(&state).unwrap(), b"{", "it was overwritten");
}

#[test]
fn configurations() {
    let mut screen = Screen::empty();
    assert_snapshot!(screen.shows(&["check-config"]), @"
    $ cc-warm check-config
    $SANDBOX/config.json: 1 app(s), 1 alert(s), all well
    ");
    assert_snapshot!(screen.document(&["check-config"]), @r#"
    $ cc-warm check-config --json
    {
      "apps": [
        "notes"
      ],
      "format": 1,
      "ok": true
    }
    "#);
    let config = screen.fixture.sandbox.config();
    screen.fixture.sandbox.configure(|config| config["apps"][NOTES]["helth"] = json!({})).unwrap();
    assert_snapshot!(screen.shows(&["check-config"]), @"
    $ cc-warm check-config
    | error: the configuration `$SANDBOX/config.json` cannot be used; nothing was done
    |   1. `apps.notes.helth`
    |   2. unknown field `helth`, expected one of `recipe`, `domain`, `warm`, `stateful`, `ensure`, `deployer`, `env`, `environmentFiles`, `after`, `alerts`, `health`, `update`, `snapshot` at line 37 column 13
    | hint: `cc-warm check-config --schema` prints what may stand in it; `--config FILE` names another
    [exit 2]
    ");
    std::fs::write(&config, "{").unwrap();
    assert_snapshot!(screen.shows(&["check-config"]), @"
    $ cc-warm check-config
    | error: the configuration `$SANDBOX/config.json` cannot be used; nothing was done
    |   1. it is not the JSON of a configuration
    |   2. EOF while parsing an object at line 1 column 1
    | hint: `cc-warm check-config --schema` prints what may stand in it; `--config FILE` names another
    [exit 2]
    ");
    assert_snapshot!(screen.shows(&["update"]), @"
    $ cc-warm update
    | error: the configuration `$SANDBOX/config.json` cannot be used; nothing was done
    |   1. it is not the JSON of a configuration
    |   2. EOF while parsing an object at line 1 column 1
    | hint: `cc-warm check-config --schema` prints what may stand in it; `--config FILE` names another
    [exit 2]
    ");
    std::fs::write(&config, "{\"format\": 9}").unwrap();
    assert_snapshot!(screen.shows(&["check-config"]), @"
    $ cc-warm check-config
    | error: the configuration `$SANDBOX/config.json` cannot be used; nothing was done
    |   1. it has format 9; this cc-warm reads format 1
    | hint: `cc-warm check-config --schema` prints what may stand in it; `--config FILE` names another
    [exit 2]
    ");
    std::fs::remove_file(&config).unwrap();
    assert_snapshot!(screen.shows(&["status"]), @"
    $ cc-warm status
    | error: the configuration `$SANDBOX/config.json` cannot be used; nothing was done
    |   1. No such file or directory (os error 2)
    | hint: `cc-warm check-config --schema` prints what may stand in it; `--config FILE` names another
    [exit 2]
    ");
}

#[test]
fn every_shell_gets_completions_that_name_the_commands() {
    let mut screen = Screen::empty();
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = screen.shows(&["completions", shell]);
        for command in ["plan", "approve", "check-config"] {
            assert!(script.contains(command), "{shell}: {command}");
        }
    }
    assert!(screen.shows(&["completions", "dos"]).ends_with("[exit 2]\n"));
}
