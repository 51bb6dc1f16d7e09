# The evaluation tests as one of the flake's checks.
{ pkgs, nixosSystem }:
let
  failures = import ./. {
    nixpkgs = pkgs;
    inherit nixosSystem;
  };
in
if failures == [ ] then
  pkgs.runCommand "cc-warm-eval" { } "touch $out"
else
  throw (pkgs.lib.concatStringsSep "\n" failures)
