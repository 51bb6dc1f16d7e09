# The units of the live-warm apps: one update unit an app, and what starts them at a switch; recovery at boot; alerts.
{
  lib,
  pkgs,
  config,
  ...
}:
let
  cfg = config.services.ccWarm;
  own = import ./types.nix { inherit lib; };
  facts = import ./facts.nix { inherit lib cfg; };
  make = import ./make-unit.nix { inherit lib pkgs config; };
  outcomes = import ./outcomes.nix;

  systemctl = "${config.systemd.package}/bin/systemctl";

  update =
    name: app:
    lib.nameValuePair (facts.updateUnit name) (
      make.service {
        description = "Update of the app ${name}";
        command = [
          "update"
          name
        ];
        docker = facts.usesDocker app;
        credentials =
          lib.imap0 (n: file: "${facts.environmentCredential name n}:${file}") app.environmentFiles
          ++ make.registryCredential;
        serviceConfig = {
          # A unit that failed fails the switch that started it, and deploy tools answer that by activating the old
          # generation, which runs every update again: so its verdict is not the exit code's.
          SuccessExitStatus = toString (
            lib.sort lib.lessThan (lib.attrValues (removeAttrs outcomes cfg.failSwitchOn))
          );
          TimeoutStopSec = facts.worstRollback app;
          Restart = "on-abnormal";
          RestartSec = 30;
        };
      }
    );

  # Names of the update units of the apps with this activation.
  started =
    activation:
    map (name: "${facts.updateUnit name}.service") (
      lib.attrNames (lib.filterAttrs (_: app: app.activation == activation) facts.liveApps)
    );

  activates = started "background" ++ started "wait" != [ ];

  services =
    lib.mapAttrs' update facts.liveApps
    // lib.optionalAttrs activates { cc-warm-activation = activation; }
    // fixed;

  activation =
    # Pulled in at boot and at every switch, since switch-to-configuration starts active targets again. At boot the
    # target is not active yet: booting is no activation. It must end soon, for the switch waits for it; so it only
    # starts the updates, and never stays active.
    make.service {
      description = "Start of the updates of live-warm apps at a switch";
      docker = false;
      network = false;
      serviceConfig = {
        ExecCondition = [
          "${systemctl} is-active --quiet multi-user.target"
          "${pkgs.bash}/bin/sh ${./older-generation.sh} ${cfg.stateDir} ${lib.getExe cfg.package}"
        ];
        ExecStart =
          lib.optional (
            started "background" != [ ]
          ) "${systemctl} start --no-block ${toString (started "background")}"
          # The verdict on an update is that of its own unit, and a timeout is none.
          ++
            lib.optional (started "wait" != [ ])
              "-${pkgs.coreutils}/bin/timeout ${toString (own.seconds cfg.activationTimeout)} ${systemctl} start ${toString (started "wait")}";
        TimeoutStartSec = own.seconds cfg.activationTimeout + 60;
      };
    }
    // {
      wantedBy = [ "multi-user.target" ];
    };

  fixed = {
    # It reads no credentials: a secret's file that is missing must not keep it from starting. It finds their source
    # paths in the configuration. Nor does it wait for a network: what it needs is on the host.
    # It waits for the swarm, perhaps for long: nothing may be ordered after it.
    cc-warm-recover = make.service {
      description = "Recovery of apps whose update was cut off";
      command = [
        "recover"
        "--until-ready"
      ];
      docker = facts.usesAbra;
      network = false;
      serviceConfig = {
        # What became of an app is in its alerts; a boot does not fail for it.
        SuccessExitStatus = toString (lib.sort lib.lessThan (lib.attrValues outcomes));
        TimeoutStopSec = facts.worstRollbackOfAll;
        Restart = "on-abnormal";
        RestartSec = 30;
      };
    };

    # What did not change may be taken over from a snapshot of the boot before only if all was synced after the last app.
    # What is before docker at boot stops after it at shutdown. Nothing else stops it; stopped in mid-boot it only
    # deletes its note.
    cc-warm-synced =
      make.service {
        description = "Note that all was synced at shutdown";
        command = [
          "synced"
          "boot"
        ];
        docker = false;
        volumes = facts.usesAbra;
        network = false;
        serviceConfig = {
          RemainAfterExit = true;
          ExecStop = "${lib.getExe cfg.package} synced shutdown";
          TimeoutStartSec = "1min";
          TimeoutStopSec = "5min";
        };
      }
      // {
        wantedBy = [ "multi-user.target" ];
        # Recovery starts apps of the process deployer.
        before = [ "cc-warm-recover.service" ] ++ lib.optional facts.usesAbra "docker.service";
      };

    cc-warm-alerts = make.service {
      description = "Delivery of cc-warm's alerts";
      command = [
        "alert"
        "deliver"
      ];
      docker = false;
      # No credentials: one sink's missing file would keep all alerts from being delivered. It reads each by itself.
      serviceConfig = {
        TimeoutStartSec = "10min";
        # A receiver that is down fails no switch: the alert stays, and the timer tries again.
        SuccessExitStatus = outcomes.failed;
      };
    };

    # Started for whatever unit of ours failed: it puts the alert on disk, and needs no secret for that. It has no
    # OnFailure= of its own.
    "cc-warm-unit-failed@" = make.service {
      description = "Alert that the unit %i failed";
      command = [
        "alert"
        "unit-failed"
        "%i"
      ];
      docker = false;
      alertOnFailure = false;
      network = false;
      serviceConfig = {
        TimeoutStartSec = "10min";
        # As with the delivery itself: a receiver that is down fails no switch.
        SuccessExitStatus = outcomes.failed;
      };
    };
  };
in
{
  config = lib.mkIf cfg.enable {
    systemd.services = services;
    services.ccWarm.build = { inherit (make) tmpfilesRules; };
    systemd.tmpfiles.rules = make.tmpfilesRules;

    systemd.timers = {
      # Once after boot, and not again at switches; no target waits for it.
      cc-warm-recover = {
        description = "Recovery of apps whose update was cut off, once after boot";
        wantedBy = [ "timers.target" ];
        timerConfig.OnBootSec = 0;
      };
      cc-warm-alerts = {
        description = "Delivery of cc-warm's alerts";
        wantedBy = [ "timers.target" ];
        timerConfig = {
          OnBootSec = "1min";
          OnUnitInactiveSec = "5min";
        };
      };
    };

    # A unit that nothing names is forgotten by systemd once it has ended, and with it its status text, exit code and
    # times. This target names them. It wants none: nothing is started by it.
    systemd.targets.cc-warm = {
      description = "cc-warm";
      wantedBy = [ "multi-user.target" ];
      before = map (name: "${name}.service") (
        lib.filter (name: !lib.hasSuffix "@" name) (lib.attrNames services)
      );
    };
  };
}
