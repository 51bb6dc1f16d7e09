# A switch that would restart docker in the middle of an update waits for it, and then refuses.
{
  lib,
  pkgs,
  config,
  options,
  ...
}:
let
  cfg = config.services.ccWarm;
  own = import ./types.nix { inherit lib; };
  facts = import ./facts.nix { inherit lib cfg; };
in
{
  # system.preSwitchChecks came with NixOS 25.05.
  config = lib.optionalAttrs (options.system ? preSwitchChecks) {
    system.preSwitchChecks = lib.mkIf (cfg.enable && facts.usesAbra) {
      cc-warm = ''
        ${pkgs.bash}/bin/sh ${./pre-switch.sh} "$1" "''${2-}" ${lib.escapeShellArg cfg.stateDir} \
          ${toString (own.seconds cfg.preSwitchWait)} ${pkgs.util-linux}/bin/flock
      '';
    };
  };
}
