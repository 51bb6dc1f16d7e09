# The configurations of cases.nix that do not evaluate, and what evaluation must say.
{ nixosSystem, ... }:
let
  cases = (import ./cases.nix).errors;
  hosts = import ./host.nix { inherit nixosSystem; };
in
{
  expected = builtins.mapAttrs (_: case: case.says) cases;
  evaluated = builtins.mapAttrs (
    _: case: (hosts.ofCase case).config.services.ccWarm.build.config
  ) cases;
}
