# What the module says to configurations that cannot work. In `messages`, the failing assertions and warnings of each,
# whole; in `errors`, a part of what evaluation itself ends with, which is the module system's own text about our types.
let
  probes = [ { http.url = "https://a.example.org/"; } ];
  app =
    attrs:
    {
      recipe = "wordpress";
      domain = "a.example.org";
      health = { inherit probes; };
    }
    // attrs;
  with' = attrs: { services.ccWarm = attrs; };
  only = a: with' { apps.a = app a; };
  data =
    attrs:
    {
      recipe = "wordpress";
      warm = "data";
    }
    // attrs;
in
{
  messages = {
    "nothing is wrong" = {
      config = only { };
      messages = [ ];
    };
    "an app's name that is none" = {
      config = with' { apps."Bad_Name" = app { }; };
      messages = [
        "services.ccWarm.apps: `Bad_Name` is not an app's name: use 1 to 32 of a-z, 0-9 and `-`, the latter not at its ends."
      ];
    };
    "a missing domain" = {
      config = with' {
        apps.login = {
          recipe = "keycloak";
          stateful = false;
        };
      };
      messages = [
        "services.ccWarm.apps.login: no domain: set services.ccWarm.apps.login.domain to where the app is served, like \"login.example.org\"."
      ];
    };
    "a canonical without a zone" = {
      config = with' { apps.wp = data { }; };
      messages = [
        "services.ccWarm.apps.wp: no domain: set services.ccWarm.zone, for `wordpress-warm.<zone>`, or services.ccWarm.apps.wp.domain."
      ];
    };
    "two apps with one domain" = {
      config = with' {
        apps.a = app { };
        apps.b = app { };
      };
      messages = [
        "services.ccWarm: the apps `a`, `b` have one domain, `a.example.org`: give each its own (services.ccWarm.apps.b.domain)."
      ];
    };
    "two apps with one stack" = {
      config = with' {
        apps.a = app { deployer.abra.stack = "wiki"; };
        apps.b = app {
          domain = "b.example.org";
          deployer.abra.stack = "wiki";
        };
      };
      messages = [
        "services.ccWarm: the apps `a`, `b` have one stack, `wiki`, so each would stop and restore the other: give each its own (services.ccWarm.apps.b.deployer.abra.stack, or another domain)."
      ];
    };
    "a stack named as another app's domain gives it" = {
      config = with' {
        apps.a = app { };
        apps.b = app {
          domain = "b.example.org";
          deployer.abra.stack = "a_example_org";
        };
      };
      messages = [
        "services.ccWarm: the apps `a`, `b` have one stack, `a_example_org`, so each would stop and restore the other: give each its own (services.ccWarm.apps.b.deployer.abra.stack, or another domain)."
      ];
    };
    "a canonical at a live app's domain" = {
      config = with' {
        zone = "ci.example.org";
        apps.live = app { domain = "wordpress-warm.ci.example.org"; };
        apps.wp = data { };
      };
      messages = [
        "services.ccWarm: the canonical of `wp` would be served at `wordpress-warm.ci.example.org`, where the live app `live` is: set another services.ccWarm.apps.wp.domain, or another services.ccWarm.zone."
      ];
    };
    "a stateful app with no probe" = {
      config = only { health.probes = [ ]; };
      messages = [
        "services.ccWarm.apps.a: a stateful app needs a probe, since nothing else tells a good update from a bad one: set services.ccWarm.apps.a.health.probes, like [ { http.url = \"https://a.example.org/\"; } ], or stateful = false if it has no data."
      ];
    };
    "a soak longer than the deadline" = {
      config = only {
        health = {
          inherit probes;
          soak = "1h 30min";
          deadline = 5400;
        };
      };
      messages = [
        "services.ccWarm.apps.a: health.soak (1h 30min) must be shorter than health.deadline (5400), or no update could ever be healthy: raise the deadline or lower the soak."
      ];
    };
    "a cycle in after" = {
      config = with' {
        apps.a = app { after = [ "b" ]; };
        apps.b = app {
          domain = "b.example.org";
          after = [ "a" ];
        };
        apps.c = app { domain = "c.example.org"; };
      };
      messages = [
        "services.ccWarm: `after` of the apps `a`, `b` makes a cycle, or waits for one: none of them would ever be updated. Remove one of these names from `after`."
      ];
    };
    "an app that is not declared in after" = {
      config = only { after = [ "traefik" ]; };
      messages = [
        "services.ccWarm.apps.a: `after` names `traefik`, which is not declared: declare it in services.ccWarm.apps, or remove it from services.ccWarm.apps.a.after."
      ];
    };
    "a domain too long for docker" = {
      config = only { domain = "a-very-long-name-of-an-app.department.example.org"; };
      messages = [
        "services.ccWarm.apps.a: the domain `a-very-long-name-of-an-app.department.example.org` has 49 characters, and docker's names, which begin with it, have 64 at most: use one of at most 45, or say how the stack is called (services.ccWarm.apps.a.deployer.abra.stack)."
      ];
    };
    "a stack named in env" = {
      config = only { env.STACK_NAME = "wiki"; };
      messages = [
        "services.ccWarm.apps.a.env.STACK_NAME: with another stack's name the app would be on empty volumes: set services.ccWarm.apps.a.deployer.abra.stack."
      ];
    };
    "a zone too long for docker" = {
      config = with' {
        zone = "continuous-integration.example.org";
        apps.wp = data { domain = "wp.example.org"; };
      };
      messages = [
        "services.ccWarm.apps.wp: its test runs would be served at domains like `wordpress-ffffff.continuous-integration.example.org`, and docker's names, which begin with them, have 64 characters at most: use a services.ccWarm.zone that is 6 shorter."
      ];
    };
    "alerts that go to nobody" = {
      config = only { alerts = [ ]; };
      messages = [
        "services.ccWarm.apps.a: `alerts` names none, so nobody would be told about it: leave it out for all, or name some."
      ];
    };
    "an unknown alert name" = {
      config = only { alerts = [ "pager" ]; };
      messages = [
        "services.ccWarm.apps.a: `alerts` names `pager`, which is not declared: declare it in services.ccWarm.alerts (there is `ops`)."
      ];
    };
    "a version that is pinned and ignored" = {
      config = only {
        update = {
          pin = "1.0.0+1";
          ignore = [ "1.0.0+1" ];
        };
      };
      messages = [
        "services.ccWarm.apps.a: update.pin and update.ignore both name 1.0.0+1: remove it from one of them."
      ];
    };
    "a window that is never open" = {
      config = only {
        update.windows = [
          {
            from = "02:00";
            to = "02:00";
          }
        ];
      };
      messages = [
        "services.ccWarm.apps.a: a window of update.windows that opens and closes at the same time is never open: leave update.windows empty for \"always\"."
      ];
    };
    "docker that is off" = {
      config = {
        virtualisation.docker.enable = false;
      }
      // only { };
      # Then there is no daemon whose settings could be wrong.
      messages = [
        "services.ccWarm: apps are deployed by abra on Docker Swarm, and docker is off: set virtualisation.docker.enable = true."
      ];
    };
    "docker that is rootless" = {
      config = {
        virtualisation.docker.rootless.enable = true;
      }
      // only { };
      messages = [
        "services.ccWarm: rootless docker has no swarm, and `docker` could mean it: set virtualisation.docker.rootless.enable = false."
      ];
    };
    "docker that is podman" = {
      config = {
        virtualisation.podman.dockerSocket.enable = true;
      }
      // only { };
      messages = [
        "services.ccWarm: `docker` would be podman, which has no swarm: set virtualisation.podman.dockerCompat and virtualisation.podman.dockerSocket.enable to false."
      ];
    };
    "docker's live-restore" = {
      config = {
        virtualisation.docker.daemon.settings.live-restore = true;
      }
      // only { };
      messages = [
        "services.ccWarm: docker's live-restore and its swarm exclude each other: set virtualisation.docker.liveRestore = false."
      ];
    };
    "docker that prunes volumes" = {
      config = {
        virtualisation.docker.autoPrune = {
          enable = true;
          flags = [ "--volumes" ];
        };
      }
      // only { };
      messages = [
        "services.ccWarm: `docker system prune --volumes` deletes the data of every app that is undeployed, data-warm ones among them: remove \"--volumes\" from virtualisation.docker.autoPrune.flags."
      ];
    };
    "docker is nobody's business without abra" = {
      config = {
        virtualisation.docker.enable = false;
      }
      // only { deployer.process = { }; };
      messages = [ ];
    };
    "two ways to rebuild" = {
      config = with' {
        nightly.rebuild = {
          flake = "/etc/nixos";
          upgrade = true;
        };
      };
      messages = [
        "services.ccWarm.nightly.rebuild: set exactly one of `flake`, `channel` (with or without `upgrade`) and `command`."
      ];
    };
    "a rebuild beside autoUpgrade" = {
      config = {
        system.autoUpgrade.enable = true;
      }
      // with' { nightly.rebuild.flake = "/etc/nixos"; };
      messages = [
        "services.ccWarm: system.autoUpgrade and nightly.rebuild would both rebuild the host at night: set system.autoUpgrade.enable = false, or nightly.rebuild = null."
      ];
    };
    "an alert whose name is none" = {
      config = with' { alerts."a b".webhook.url = "https://example.org"; };
      messages = [
        "services.ccWarm.alerts: `a b` is not a name: use 1 to 32 of a-z, 0-9 and `-`, the latter not at its ends."
      ];
    };
    "a secret in env" = {
      config = only {
        env = {
          ADMIN_PASSWORD = "hunter2";
          SECRET_DB_PASSWORD_VERSION = "v1";
        };
      };
      messages = [
        "services.ccWarm.apps.a.env.ADMIN_PASSWORD looks like a secret, and the Nix store is readable by every user: put it into a file named in services.ccWarm.apps.a.environmentFiles, or let abra make it."
      ];
    };
    "nobody is told" = {
      config = only { };
      alerts = { };
      messages = [
        "services.ccWarm: no alerts are declared, so nobody is told of a held update, a rollback or an app that is stuck: set services.ccWarm.alerts."
      ];
    };
    "a certificate for every run" = {
      config = with' {
        zone = "ci.example.org";
        tls.mode = "acme";
        apps.wp = data { };
      };
      messages = [
        "services.ccWarm: with tls.mode = \"acme\" every test run takes a certificate, and Let's Encrypt allows 50 a week for a domain: prefer \"wildcard\"."
      ];
    };
  };

  errors = {
    "a wrong type" = {
      config = only { stateful = "yes"; };
      says = [
        "services.ccWarm.apps.a.stateful"
        "is not of type `boolean'"
      ];
    };
    "a missing recipe" = {
      config = with' { apps.a.domain = "a.example.org"; };
      says = [
        "services.ccWarm.apps.a.recipe' was accessed but has no value defined. Try setting the option."
      ];
    };
    "a mistyped option" = {
      config = only { domian = "a.example.org"; };
      says = [ "The option `services.ccWarm.apps.a.domian' does not exist." ];
    };
    "a mistyped word" = {
      config = only { update.to = "newest"; };
      says = [
        "services.ccWarm.apps.a.update.to"
        "is not of type `one of \"latest\", \"latest-compatible\"'"
      ];
    };
    "a duration that is none" = {
      config = only { health.soak = "5m"; };
      says = [
        "services.ccWarm.apps.a.health.soak"
        "is not of type `duration (whole seconds, or a text like \"90s\", \"5min\", \"1h 30min\", \"7d\")'"
      ];
    };
    "a secret in the store" = {
      config = only { environmentFiles = [ "/nix/store/00000000000000000000000000000000-env" ]; };
      says = [
        "services.ccWarm.apps.a.environmentFiles"
        "absolute path outside of the Nix store"
      ];
    };
    "a recipe that is no remote" = {
      config = only { recipe = "git@example.org:recipe.git"; };
      says = [
        "services.ccWarm.apps.a.recipe"
        "name of a Co-op Cloud recipe, or a git remote (https://, ssh://, file:/// or an absolute path)"
      ];
    };
    "two deployers" = {
      config = only {
        deployer = {
          abra = { };
          process = { };
        };
      };
      says = [ "services.ccWarm.apps.a.deployer" ];
    };
  };
}
