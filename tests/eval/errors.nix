# The configurations of cases.nix that do not evaluate, and what evaluation must say.
{ nixosSystem, ... }:
let
  cases = (import ./cases.nix).errors;
  everything = hosts.ofCase {
    config = import ./everything.nix;
    alerts = { };
  };
  hosts = import ./host.nix { inherit nixosSystem; };
in
{
  cases = builtins.length (builtins.attrNames (import ./cases.nix).messages);
  expected = builtins.mapAttrs (_: case: case.says) cases;
  # Configurations that cc-warm itself must understand.
  understood = builtins.mapAttrs (_: host: host.config.services.ccWarm.build.config) {
    "docs/examples/host.nix" = hosts.evaluate [ ../../docs/examples/host.nix ];
    "docs/examples/minimal.nix" = hosts.evaluate [
      ../../modules
      ../../docs/examples/minimal.nix
    ];
    "tests/eval/everything.nix" = everything;
  };
  complaints = hosts.messages everything;
  evaluated = builtins.mapAttrs (
    _: case: (hosts.ofCase case).config.services.ccWarm.build.config
  ) cases;
}
