# The evaluation tests as checks of the flake, one for each name.
{ pkgs, nixosSystem }:
let
  inherit (pkgs) lib;
  failures = import ./. {
    nixpkgs = {
      inherit lib;
      legacyPackages.x86_64-linux = pkgs;
    };
    inherit nixosSystem;
  };
in
lib.mapAttrs' (
  name: failed:
  lib.nameValuePair "eval-${name}" (
    if failed == [ ] then
      pkgs.runCommand "cc-warm-eval-${name}" { } "touch $out"
    else
      throw (lib.concatStringsSep "\n" failed)
  )
) failures
