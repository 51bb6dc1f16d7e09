# What the module makes of each configuration of tests/nixos/lib/configurations.nix: its units and its JSON.
{ nixpkgs, nixosSystem }:
let
  inherit (nixpkgs) lib;
  configurations = import ../nixos/lib/configurations.nix;

  render =
    _: configuration:
    let
      inherit
        (nixosSystem {
          system = "x86_64-linux";
          modules = [
            ../../modules
            configurations.base
            configuration
            {
              networking.hostName = "machine";
              virtualisation.docker = {
                enable = true;
                liveRestore = false;
              };
            }
          ];
        })
        config
        ;
      ours = lib.filterAttrs (name: _: lib.hasPrefix "cc-warm" name) config.systemd.units;
    in
    {
      config = config.services.ccWarm.build.config;
      units = lib.mapAttrs (_: unit: unit.text) ours;
      wantedBy = lib.mapAttrs (_: unit: unit.wantedBy) ours;
    };
in
lib.mapAttrs render (configurations // { base = { }; })
