# The night: the host is rebuilt if it is to be, then the live-warm apps are updated.
# No ordering between these and the update units, and no target wants them: a switch has nothing to wait for.
{
  lib,
  pkgs,
  config,
  utils,
  ...
}:
let
  cfg = config.services.ccWarm;
  own = import ./types.nix { inherit lib; };
  facts = import ./facts.nix { inherit lib cfg; };
  make = import ./make-unit.nix { inherit lib pkgs config; };
  inherit (cfg.nightly) rebuild;

  nixosRebuild = config.system.build.nixos-rebuild or pkgs.nixos-rebuild;

  rebuildCommand =
    if rebuild.command != null then
      rebuild.command
    else
      [
        "${nixosRebuild}/bin/nixos-rebuild"
        "switch"
      ]
      ++ lib.optionals (rebuild.flake != null) [
        "--flake"
        rebuild.flake
      ]
      ++ lib.optionals (rebuild.channel != null) [
        "-I"
        "nixpkgs=${rebuild.channel}/nixexprs.tar.xz"
      ]
      ++ lib.optional rebuild.upgrade "--upgrade"
      ++ rebuild.flags;

  # What a shell has, and a unit does not: channels are found by it, and the builder's proxies and certificates.
  withNix =
    unit:
    unit
    // lib.optionalAttrs (rebuild != null) {
      environment =
        unit.environment
        // config.nix.envVars
        // lib.optionalAttrs (config.environment.sessionVariables ? NIX_PATH) {
          inherit (config.environment.sessionVariables) NIX_PATH;
        };
    };
in
{
  config = lib.mkIf (cfg.enable && cfg.nightly.enable) {
    systemd.services.cc-warm-nightly = withNix (make.service {
      description = "Nightly updates";
      docker = facts.usesAbra;
      # A rebuild of the host can be confined by nothing that the host itself is not.
      hardened = rebuild == null;
      path = lib.optionals (rebuild != null) [
        config.nix.package
        nixosRebuild
        pkgs.gnutar
        pkgs.gzip
        pkgs.xz.bin
      ];
      serviceConfig = {
        TimeoutStopSec = facts.worstRollbackOfAll;
        ExecStart = utils.escapeSystemdExecArgs (
          [
            (lib.getExe cfg.package)
            "nightly"
            "--max-wait"
            (own.seconds cfg.nightly.maxWait)
          ]
          # cc-warm runs it with the turnstile held, and then starts the update units that have not run since.
          ++ lib.optionals (rebuild != null) ([ "--" ] ++ rebuildCommand)
        );
      };
    });

    systemd.timers.cc-warm-nightly = {
      description = "Nightly updates";
      wantedBy = [ "timers.target" ];
      inherit (cfg.nightly) timerConfig;
    };

    systemd.targets.cc-warm.before = [ "cc-warm-nightly.service" ];
  };
}
