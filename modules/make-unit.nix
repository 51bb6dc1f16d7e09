# What all of cc-warm's services have in common.
{
  lib,
  pkgs,
  config,
}:
let
  cfg = config.services.ccWarm;
  facts = import ./facts.nix { inherit lib cfg; };

  dataRoot = config.virtualisation.docker.daemon.settings.data-root or "/var/lib/docker";
  inStateHome = lib.hasPrefix "/var/lib/" cfg.stateDir;

  hardening = import ./hardening.nix {
    # "-": a folder that is not there yet does not keep a unit from starting.
    readWritePaths = [
      cfg.stateDir
      "-${cfg.serversDir}"
    ]
    ++ lib.optional facts.usesAbra "-${dataRoot}/volumes";
  };

  commonEnv = {
    HOME = "/root";
    # Each run has an ABRA_DIR of its own below this one.
    ABRA_DIR = "/run/cc-warm/abra";
    # Nobody is there to answer.
    GIT_TERMINAL_PROMPT = "0";
    GIT_SSH_COMMAND = "ssh -o BatchMode=yes";
  }
  // config.networking.proxy.envVars;

  commonPath = [
    pkgs.git
    pkgs.openssh
  ]
  ++ lib.optionals facts.usesAbra [
    cfg.abraPackage
    config.virtualisation.docker.package
  ];

  registryCredential = lib.optional (
    cfg.registry.authFile != null
  ) "${facts.registryCredential}:${cfg.registry.authFile}";
in
{
  inherit registryCredential;

  # A oneshot service that runs `cc-warm` with `command`.
  service =
    {
      description,
      command ? null,
      docker,
      # Whether it needs the volumes.
      volumes ? docker,
      network ? true,
      credentials ? [ ],
      alertOnFailure ? true,
      hardened ? true,
      path ? [ ],
      serviceConfig,
    }:
    let
      # A docker update or restart must not stop an update in the middle: so never `requires`, `bindsTo`, `partOf`.
      needed = lib.optional network "network-online.target" ++ lib.optional docker "docker.service";
      hasRegistry = registryCredential != [ ] && lib.any (c: lib.elem c registryCredential) credentials;
    in
    {
      inherit description;
      wants = needed;
      after =
        needed
        ++ lib.optionals (!inStateHome) [
          "systemd-tmpfiles-setup.service"
          "systemd-tmpfiles-resetup.service"
        ];
      environment = commonEnv // {
        DOCKER_CONFIG = if hasRegistry then "%d" else "/root/.docker";
      };
      path = commonPath ++ path;
      # An app that is changed, renamed or removed in mid-update is not cut.
      restartIfChanged = false;
      unitConfig = {
        X-StopOnRemoval = false;
        RequiresMountsFor = [ cfg.stateDir ] ++ lib.optional volumes dataRoot;
      }
      // lib.optionalAttrs alertOnFailure { OnFailure = [ "cc-warm-unit-failed@%n.service" ]; };
      serviceConfig =
        lib.optionalAttrs hardened hardening.serviceConfig
        // {
          # Never RemainAfterExit: a switch would not start it again.
          Type = "oneshot";
          # How an update goes is said in `systemctl status`.
          NotifyAccess = "main";
          # Only cc-warm is told to end; it settles what it has begun, with the programs that it needs for that.
          KillMode = "mixed";
          # An update is bounded by its own deadlines.
          TimeoutStartSec = "infinity";
          RuntimeDirectory = "cc-warm";
          RuntimeDirectoryMode = "0700";
          RuntimeDirectoryPreserve = true;
        }
        // lib.optionalAttrs inStateHome {
          StateDirectory = lib.removePrefix "/var/lib/" cfg.stateDir;
          StateDirectoryMode = "0700";
        }
        // lib.optionalAttrs (credentials != [ ]) { LoadCredential = credentials; }
        // lib.optionalAttrs (command != null) {
          ExecStart = "${lib.getExe cfg.package} ${toString command}";
        }
        // serviceConfig;
    };

  # A state folder elsewhere than in /var/lib is not made by StateDirectory=.
  tmpfilesRules =
    lib.optional (!inStateHome) "d ${cfg.stateDir} 0700 root root -"
    # While an app has a journal, that link names the cc-warm that wrote it; an older one may not be able to read it.
    ++ map (
      name: "L+ ${builtins.dirOf builtins.storeDir}/var/nix/gcroots/cc-warm-${name} - - - - ${cfg.stateDir}/apps/${name}/helper"
    ) (lib.attrNames cfg.apps);
}
