# services.ccWarm.nightly.
{ lib, own }:
let
  inherit (lib) mkOption types literalExpression;
in
{
  enable = mkOption {
    type = types.bool;
    default = true;
    description = "Whether the live-warm apps are updated every night.";
  };

  timerConfig = mkOption {
    type = types.attrsOf types.raw;
    default = {
      OnCalendar = "03:40";
      RandomizedDelaySec = "20min";
      Persistent = false;
    };
    example = {
      OnCalendar = "Sun 02:00";
    };
    description = ''
      When: the `[Timer]` section of {manpage}`systemd.timer(5)`. It replaces the default as a whole. A night that was
      missed is not made up for, since that would update the apps in the morning.
    '';
  };

  maxWait = mkOption {
    type = own.duration;
    default = "2h";
    description = "How long the night waits for test runs that are under way. New ones wait for the night meanwhile.";
  };

  rebuild = mkOption {
    default = null;
    example = literalExpression ''{ flake = "git+https://git.example.org/infra"; flags = [ "--refresh" ]; }'';
    description = ''
      How the host itself is rebuilt before the apps are updated: by `flake`, by `channel` and `upgrade`, or by a
      `command`. The updates run after it whether it succeeded or not. `null`: only the apps are updated. Not together
      with `system.autoUpgrade`.
    '';
    type = types.nullOr (
      types.submodule {
        options = {
          flake = mkOption {
            type = types.nullOr types.str;
            default = null;
            example = "git+https://git.example.org/infra";
            description = "The flake that `nixos-rebuild switch --flake` gets.";
          };
          flags = mkOption {
            type = types.listOf types.str;
            default = [ ];
            example = [ "--refresh" ];
            description = "More arguments for `nixos-rebuild`.";
          };
          channel = mkOption {
            type = types.nullOr own.url;
            default = null;
            example = "https://nixos.org/channels/nixos-26.05";
            description = "A channel to build from, whatever root's channels are.";
          };
          upgrade = mkOption {
            type = types.bool;
            default = false;
            description = "Whether root's channels are updated first (`nixos-rebuild --upgrade`).";
          };
          command = mkOption {
            type = types.nullOr own.argv;
            default = null;
            example = literalExpression ''[ "''${pkgs.colmena}/bin/colmena" "apply-local" ]'';
            description = "A command that rebuilds and switches.";
          };
        };
      }
    );
  };
}
