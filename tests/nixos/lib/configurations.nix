# The configurations that the VM tests switch between, by name. The machine boots with `base`. tests/vm/generated holds
# what the module makes of each, for the machine that is no NixOS.
#
# Two apps: `notes`, whose data format migrates forward only, and `plain`, which has no data. Their recipes are git
# repositories that a test makes in /srv/recipes. Alerts go to an HTTP server on the machine.
let
  health = port: {
    probes = [
      {
        http = {
          url = "http://127.0.0.1:${toString port}/health";
          body = "^ok";
        };
      }
    ];
    successes = 2;
    interval = "1s";
    # Short, for these apps start in a second; the deadline is for a machine that is emulated, and no test waits for it.
    soak = "5s";
    deadline = "5min";
  };
  plain = {
    recipe = "/srv/recipes/plain";
    domain = "plain.test";
    stateful = false;
    health = health 8082;
  };
in
{
  base =
    { lib, ... }:
    {
      services.ccWarm = {
        enable = true;
        serversDir = "/srv/abra/servers";
        apps = {
          inherit plain;
          notes = {
            recipe = "/srv/recipes/notes";
            domain = "notes.test";
            health = health 8081;
          };
        };
        alerts.receiver.webhook = {
          url = "http://127.0.0.1:9000/alerts";
          tokenFile = "/etc/cc-warm-test/alert-token";
        };
        disk.reserve = "64MiB";
        # A test that wants a night starts it.
        nightly.timerConfig.OnCalendar = lib.mkForce "2099-01-01";
      };
    };

  # `notes` is not declared any more.
  without-notes =
    { lib, ... }:
    {
      services.ccWarm.apps = lib.mkForce { inherit plain; };
    };

  # `notes` gets another environment: an update from a version to itself.
  changed-env.services.ccWarm.apps.notes.env.GREETING = "hello";

  # A switch waits for the updates, for a while.
  waiting.services.ccWarm.activation = "wait";
}
