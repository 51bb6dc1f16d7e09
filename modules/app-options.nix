# The options of one app: services.ccWarm.apps.<name>.
{
  lib,
  own,
  probes,
  topLevel,
  ...
}:
let
  inherit (lib) mkOption types literalExpression;
in
{
  options = {
    recipe = mkOption {
      type = types.strMatching "[A-Za-z0-9][A-Za-z0-9._-]*|(/|https://|ssh://|file:///)[^[:space:]]+" // {
        description = "name of a Co-op Cloud recipe, or a git remote (https://, ssh://, file:/// or an absolute path)";
      };
      example = "keycloak";
      description = ''
        The recipe: its name in Co-op Cloud's catalogue (`keycloak` stands for
        `https://git.coopcloud.tech/coop-cloud/keycloak.git`), or the git remote that publishes it.
      '';
    };

    domain = mkOption {
      type = types.nullOr own.domain;
      default = null;
      defaultText = literalExpression ''if warm == "data" then "<recipe>-warm.<zone>" else <none: it must be set>'';
      example = "login.example.org";
      description = "Where the app is served. No two apps have the same.";
    };

    warm = mkOption {
      type = types.enum [
        "live"
        "data"
      ];
      default = "live";
      description = ''
        `live`: deployed and running, rolled to its latest version at switches and at night. `data`: a recipe under
        test; undeployed but while it is tested, its volumes retained. This version has no test runs yet: it does
        nothing about a data-warm app.
      '';
    };

    stateful = mkOption {
      type = types.bool;
      default = true;
      description = ''
        Whether the app has data in volumes. Then an update stops it, takes a snapshot, and a rollback restores that.
        What users wrote between the stop and a rollback is not in the data that comes back (it is kept aside, see
        `update.keepFailed`). An app that has none is updated without a stop; one with a volume that `update.unmanaged` does
        not name is then held, for its data would not go back.
      '';
    };

    ensure = mkOption {
      type = types.bool;
      default = true;
      description = ''
        Whether an app that was never seen on this host is deployed, its secrets made. If not, only one that runs
        already is adopted.
      '';
    };

    after = mkOption {
      type = types.listOf types.str;
      default = [ ];
      example = [ "traefik" ];
      description = ''
        Names of the apps that this one needs. It is updated after them, and skipped while one of them is not healthy.
      '';
    };

    deployer = mkOption {
      default = {
        abra = { };
      };
      example = literalExpression ''{ abra.server = "default"; }'';
      description = "What runs the app.";
      type = types.attrTag {
        abra = mkOption {
          description = "abra, on Docker Swarm.";
          type = types.submodule {
            options.server = mkOption {
              type = types.strMatching "[A-Za-z0-9][A-Za-z0-9._-]*";
              default = "default";
              description = "The server's name in abra; `default` is this host (`abra server add --local`).";
            };
            options.stack = mkOption {
              type = types.nullOr (types.strMatching "[A-Za-z0-9][A-Za-z0-9._-]*");
              default = null;
              example = "login_example_org";
              description = "The stack's name, if it is not what abra makes of the domain.";
            };
          };
        };
        process = mkOption {
          description = "The recipe's `Procfile`, run by systemd without containers.";
          type = types.submodule {
            options.user = mkOption {
              type = types.nullOr types.str;
              default = null;
              description = "The user that the app runs as. `null`: one of its own.";
            };
          };
        };
      };
    };

    env = mkOption {
      type = types.attrsOf types.str;
      default = { };
      example = {
        LETS_ENCRYPT_ENV = "production";
      };
      description = ''
        Variables of the app's `.env` file. Only these keys are set, in place; all other lines belong to the operator.
        A change is an update, with the same way back. Not for secrets: the Nix store is readable by every user.
      '';
    };

    environmentFiles = mkOption {
      type = types.listOf own.secretFile;
      default = [ ];
      example = [ "/run/secrets/keycloak.env" ];
      description = "Files with more `KEY=value` lines; later ones win. They stay out of the Nix store.";
    };

    health = {
      probes = mkOption {
        type = types.listOf probes.probe;
        default = [ ];
        example = literalExpression ''
          [
            {
              http.url = "https://login.example.org/realms/master";
              http.body = '''"realm":"master"''';
            }
          ]
        '';
        description = ''
          What the app is asked to find out whether it is healthy; all must pass. Ask for something that needs the
          database: a page that is served without it says nothing about the data.
        '';
      };
      successes = mkOption {
        type = types.ints.positive;
        default = 3;
        description = "How many times in a row all probes must pass.";
      };
      interval = mkOption {
        type = own.duration;
        default = "2s";
        description = "The pause between two rounds of probes.";
      };
      soak = mkOption {
        type = own.duration;
        default = "1min";
        description = "For how long nothing may fail after that, before the update is committed.";
      };
      deadline = mkOption {
        type = own.duration;
        default = "10min";
        description = "After how long without all of that the update is rolled back.";
      };
      continuity = mkOption {
        type = types.nullOr probes.command;
        default = null;
        example = literalExpression ''{ argv = [ "''${pkgs.my-checks}/bin/realms" "--count" ]; }'';
        description = ''
          A command whose output must be the same before the stop and after the update, say, the number of realms. A
          difference is a rollback. It finds the app that serves well and has lost its data.
        '';
      };
    };

    update = {
      policy = mkOption {
        type = types.enum [
          "auto"
          "hold"
        ];
        default = "auto";
        description = "`auto`: an update is applied if nothing speaks against it. `hold`: it is always reported first.";
      };
      to = mkOption {
        type = types.enum [
          "latest"
          "latest-compatible"
        ];
        default = "latest";
        description = ''
          `latest`: the highest published version, or none while something on the way to it holds.
          `latest-compatible`: the highest that nothing holds.
        '';
      };
      pin = mkOption {
        type = types.nullOr types.str;
        default = null;
        example = "10.7.1+26.4.0";
        description = "Only this version.";
      };
      ignore = mkOption {
        type = types.listOf types.str;
        default = [ ];
        example = [ "10.7.0+26.3.0" ];
        description = "Never these versions.";
      };
      minAge = mkOption {
        type = own.duration;
        default = 0;
        example = "2d";
        description = "For how long this host must have seen a version before it is applied.";
      };
      markers = mkOption {
        type = types.nullOr (types.listOf types.str);
        default = null;
        example = [
          "manual migration"
          "run .* by hand"
        ];
        description = ''
          Regular expressions, case-insensitive: a release note on the way that matches one holds the update. `null`: a
          list of usual phrases (manual migration, breaking change, action required, …).
        '';
      };
      windows = mkOption {
        type = types.listOf (
          types.submodule {
            options = {
              days = mkOption {
                type = types.nonEmptyListOf (
                  types.enum [
                    "mon"
                    "tue"
                    "wed"
                    "thu"
                    "fri"
                    "sat"
                    "sun"
                  ]
                );
                default = [
                  "mon"
                  "tue"
                  "wed"
                  "thu"
                  "fri"
                  "sat"
                  "sun"
                ];
                description = "The days on which the window opens.";
              };
              from = mkOption {
                type = types.strMatching "([01][0-9]|2[0-3]):[0-5][0-9]";
                example = "02:00";
                description = "When it opens, in the host's time.";
              };
              to = mkOption {
                type = types.strMatching "([01][0-9]|2[0-3]):[0-5][0-9]";
                example = "05:00";
                description = "When it closes; on the next day, if that is earlier than `from`.";
              };
            };
          }
        );
        default = [ ];
        example = literalExpression ''[ { from = "02:00"; to = "05:00"; } ]'';
        description = ''
          When a stateful app may be stopped for an update; outside of these times its update is only planned. Empty:
          always. They must hold the hour of a run: the night's comes after the rebuild and after the apps before. What no
          run has applied for a week is an alert.
        '';
      };
      keepFailed = mkOption {
        type = own.duration;
        default = "7d";
        description = "For how long the data of an update that was rolled back is kept.";
      };
      keepPrevious = mkOption {
        type = own.duration;
        default = "7d";
        description = ''
          For how long the snapshot before the current one is kept: data that is healthy but wrong must not be all
          there is to go back to. Further snapshots take the current one's place meanwhile, and not its.
        '';
      };
      unmanaged = mkOption {
        type = types.listOf types.str;
        default = [ ];
        example = [ "/etc/localtime" ];
        description = ''
          Writable mounts, volumes by name and bind mounts by path, that are not snapshotted and do not go back with a
          rollback or a restore: bind mounts, volumes that lie elsewhere, or that docker holds to a size (`size`). A stateful
          app with one that is not named here is held; of an app with `stateful = false`, all its volumes have to be.
        '';
      };
    };

    snapshot.fullEvery = mkOption {
      type = types.ints.positive;
      default = 30;
      description = ''
        What did not change is not copied again but shared with the snapshot before. Every so many snapshots, all is
        copied. 1: always.
      '';
    };

    alerts = mkOption {
      type = types.nullOr (types.listOf types.str);
      default = null;
      example = [ "ops" ];
      description = "Which of `services.ccWarm.alerts`, by name, are told about this app. `null`: all.";
    };

    activation = mkOption {
      type = types.enum [
        "background"
        "wait"
        "never"
      ];
      default = topLevel.activation;
      defaultText = literalExpression "config.services.ccWarm.activation";
      description = "What a switch does about this app; see `services.ccWarm.activation`.";
    };
  };
}
