# The options of services.ccWarm. Without any configuration, so that the reference can be made from this file alone.
{
  lib,
  pkgs,
  config,
  ...
}:
let
  inherit (lib) mkOption types literalExpression;
  own = import ./types.nix { inherit lib; };
  probes = import ./probe-options.nix { inherit lib; };
  topLevel = config.services.ccWarm;

  # A file whose content is a credential.
  tokenFile =
    what:
    mkOption {
      type = types.nullOr own.secretFile;
      default = null;
      example = "/run/secrets/alerts-token";
      description = "A file with ${what}. It is read when an alert is sent and never enters the Nix store.";
    };

  sink = types.attrTag {
    webhook = mkOption {
      description = "Sends each alert as JSON by an HTTP POST.";
      type = types.submodule {
        options.url = mkOption {
          type = own.url;
          example = "https://hooks.example.org/cc-warm";
          description = "Where the alert is sent.";
        };
        options.tokenFile = tokenFile "a bearer token";
      };
    };
    ntfy = mkOption {
      description = "Publishes each alert to an ntfy topic.";
      type = types.submodule {
        options.url = mkOption {
          type = own.url;
          example = "https://ntfy.example.org/ops";
          description = "Server and topic.";
        };
        options.tokenFile = tokenFile "an access token";
      };
    };
    command = mkOption {
      description = ''
        Runs a command with the alert as JSON on its standard input. In cc-warm's units it runs as they do: nothing is
        setuid or setgid there (postfix's `sendmail` is), and most of the file system is read-only. `cc-warm alert test`
        has the unit deliver, and says what became of it.
      '';
      type = types.submodule {
        options.argv = mkOption {
          type = own.argv;
          example = literalExpression ''[ "''${pkgs.python3}/bin/python3" ./send-by-smtp.py "ops@example.org" ]'';
          description = "Program and arguments.";
        };
        options.tokenFile = tokenFile "a secret, which the command finds in its environment as `CC_WARM_TOKEN`";
      };
    };
  };
in
{
  options.services.ccWarm = {
    enable = lib.mkEnableOption ''
      cc-warm, which updates Co-op Cloud apps such that they can always go back, and keeps the data of the recipes
      under test warm'';

    package =
      lib.mkPackageOption { cc-warm = pkgs.callPackage ../pkgs/cc-warm/package.nix { }; } "cc-warm"
        {
          pkgsText = "cc-warm.packages.\${system}";
        };

    abraPackage = lib.mkPackageOption pkgs "abra" { };

    stateDir = mkOption {
      type = own.absolutePath;
      default = "/var/lib/ci-warm";
      description = ''
        Where cc-warm keeps its state: snapshots, journals, alerts that are not yet delivered. Snapshots are fastest
        when it lies on one file system with Docker's volumes, and that file system can reflink (btrfs, xfs).
      '';
    };

    serversDir = mkOption {
      type = own.absolutePath;
      default = "/root/.abra/servers";
      example = "/var/lib/abra/servers";
      description = ''
        abra's `servers` folder: one folder a server, in it one `.env` file an app. Whoever works on the apps with abra
        by hand sees the same folder.
      '';
    };

    zone = mkOption {
      type = types.nullOr own.domain;
      default = null;
      example = "ci.example.org";
      description = ''
        The DNS zone under which test runs get their domains: `<recipe>-warm.<zone>` for the canonical of a data-warm
        app, `<recipe>-<6 hex digits>.<zone>` for a cold run. `*.<zone>` must point to this host.
      '';
    };

    tls.mode = mkOption {
      type = types.enum [
        "wildcard"
        "internal"
        "acme"
      ];
      default = "wildcard";
      description = ''
        Where the domains of test runs get their certificates from. `wildcard`: the proxy has one for `*.<zone>`.
        `internal`: the proxy makes one by itself, and probes do not verify it. `acme`: one certificate for each run,
        counted against Let's Encrypt's limits.
      '';
    };

    maxTests = mkOption {
      type = types.ints.between 1 64;
      default = 1;
      example = 2;
      description = "How many test runs may be under way at once. Each is a whole app in memory.";
    };

    apps = mkOption {
      type = types.attrsOf (
        types.submoduleWith {
          modules = [ ./app-options.nix ];
          specialArgs = { inherit own probes topLevel; };
          shorthandOnlyDefinesConfig = true;
        }
      );
      default = { };
      example = literalExpression ''
        {
          traefik = {
            recipe = "traefik";
            domain = "traefik.example.org";
            # Its certificates can be had anew, so it is updated without a stop.
            stateful = false;
            update.unmanaged = [ "letsencrypt" "file-providers" ];
            health.probes = [ { http.url = "https://traefik.example.org/ping"; } ];
          };
        }
      '';
      description = ''
        The apps that are kept warm, by name. A name has 1 to 32 of `a-z`, `0-9` and `-`, the latter not at its ends.
        An app that is no longer declared keeps running and keeps its data; `cc-warm forget` ends cc-warm's interest. One of
        the process deployer runs until the next boot: only what is declared is started then.
      '';
    };

    alerts = mkOption {
      type = types.attrsOf sink;
      default = { };
      example = literalExpression ''
        {
          ops.ntfy = {
            url = "https://ntfy.example.org/ops";
            tokenFile = "/run/secrets/ntfy";
          };
        }
      '';
      description = ''
        Where alerts go, by a name of your choice: a held update with its release notes, a rollback, an app that is
        stuck. An alert is on disk before it is sent and stays there until it is delivered. `cc-warm alert test` sends
        one to each.
      '';
    };

    disk = {
      reserve = mkOption {
        type = own.size;
        default = "1GiB";
        example = "20GiB";
        description = ''
          Space that stays free on each file system: it is what bounds cc-warm's snapshots. An update that would need it is
          refused before its app is stopped, and failed data older than a day goes before its time.
        '';
      };
    };

    registry.authFile = mkOption {
      type = types.nullOr own.secretFile;
      default = null;
      example = "/run/secrets/docker-config.json";
      description = ''
        A file like docker's `config.json` with the logins for private image registries. `null`: what
        `docker login` left for root.
      '';
    };

    activation = mkOption {
      type = types.enum [
        "background"
        "wait"
        "never"
      ];
      default = "background";
      description = ''
        What a `nixos-rebuild switch` does about the live-warm apps. `background`: it starts their updates and does not
        wait. `wait`: it waits for at most `activationTimeout`, after which the updates go on by themselves. `never`:
        they are left to the night. Booting starts no update, whatever is set here.
      '';
    };

    activationTimeout = mkOption {
      type = own.duration;
      default = "2min";
      description = "How long a switch waits for the updates of apps with `activation = \"wait\"`.";
    };

    failSwitchOn = mkOption {
      type = types.listOf (types.enum (builtins.attrNames (import ./outcomes.nix)));
      default = [ "stuck" ];
      example = [
        "stuck"
        "rolled-back"
      ];
      description = ''
        The outcomes of an update that make its unit fail, and with it the switch that started it. Deploy tools answer
        a failed switch by activating the old generation, which runs every update again: so everything but `stuck` only
        raises an alert by default. A configuration that cannot be used always fails. `failed`: a recipe could not be
        fetched, the app was unhealthy before, or there was an error. An app that such an error may have left down is a
        critical alert of its own (`unfinished`, `down`).
      '';
    };

    preSwitchWait = mkOption {
      type = own.duration;
      default = "10min";
      description = ''
        How long a switch that would restart Docker waits for an update that is under way, before it is refused.
      '';
    };

    nightly = import ./nightly-options.nix { inherit lib own; };

    settings = mkOption {
      type = (pkgs.formats.json { }).type // {
        description = "JSON value";
      };
      default = { };
      example = {
        reminder = "3d";
        fetchFailures = 5;
      };
      description = ''
        More keys of cc-warm's configuration file, for what has no option; they win over the options. The
        file's JSON schema is in `docs/reference/config.schema.json`. It is checked while the system is built.
      '';
    };

    build = mkOption {
      type = types.attrsOf types.raw;
      default = { };
      internal = true;
      description = ''
        What the module makes: `config` (the configuration as a value), `configFile` (the checked file), `tmpfilesRules`, `warnings`.
      '';
    };
  };
}
