# The VM tests, by the behaviour that each proves. The flake's checks are derived from this set, and so is what
# tests/vm/run runs. A test is three things: `<behaviour>.nix` here (what it proves, which configurations it switches
# to, how long it may take), scripts/<behaviour>.py (the test itself, which knows only `machine`, `subtest`, `switch`
# and what is in scripts/set-up.py and scripts/helpers.py), and the machine that all share (lib/).
{ pkgs }:
let
  inherit (pkgs) lib;

  behaviours = {
    healthy-update = ./healthy-update.nix;
    rollback = ./rollback.nix;
    stateless-rollback = ./stateless-rollback.nix;
    major-held = ./major-held.nix;
    manual-migration-held = ./manual-migration-held.nix;
    power-cut = ./power-cut.nix;
    boot = ./boot.nix;
    removal = ./removal.nix;
    stuck = ./stuck.nix;
    nothing-to-do = ./nothing-to-do.nix;
    disk-full = ./disk-full.nix;
    fidelity = ./fidelity.nix;
    abra-real = ./abra-real.nix;
  };

  configurations = import ./lib/configurations.nix;

  test =
    name: file:
    let
      behaviour = {
        configurations = [ ];
        node = { };
        globalTimeout = 20 * 60;
      }
      // import file;
    in
    pkgs.testers.runNixOSTest {
      inherit name;
      inherit (behaviour) globalTimeout;
      # They are checked with the driver that they are written for, in tests/vm.
      skipLint = true;
      skipTypeCheck = true;

      nodes.machine = {
        imports = [
          ../../modules
          ./lib/node.nix
          configurations.base
          behaviour.node
        ];
        specialisation = lib.genAttrs behaviour.configurations (configuration: {
          inheritParentConfig = true;
          configuration = configurations.${configuration};
        });
      };

      testScript = lib.concatStringsSep "\n" [
        (builtins.readFile ./lib/nixos.py)
        (builtins.readFile ./scripts/set-up.py)
        (builtins.readFile ./scripts/helpers.py)
        (builtins.readFile (./scripts + "/${name}.py"))
      ];
    };
in
lib.mapAttrs test behaviours
