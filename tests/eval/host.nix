# A host with services.ccWarm and nothing else; `case` is one of cases.nix. Evaluated with the real NixOS modules.
{
  nixosSystem,
  system ? "x86_64-linux",
}:
let
  evaluate =
    modules:
    nixosSystem {
      inherit system;
      inherit modules;
    };
in
rec {
  inherit evaluate;

  ofCase =
    case:
    evaluate [
      ../../modules
      (
        { lib, ... }:
        {
          services.ccWarm = {
            enable = true;
            alerts = case.alerts or { ops.webhook.url = "https://hooks.example.org"; };
          };
          virtualisation.docker = {
            enable = lib.mkDefault true;
            liveRestore = lib.mkDefault false;
          };
        }
      )
      case.config
    ];

  # What the module says to it.
  messages =
    host:
    map (assertion: assertion.message) (
      builtins.filter (assertion: !assertion.assertion) host.config.assertions
    )
    # All of NixOS' warnings would be those of other modules too.
    ++ host.config.services.ccWarm.build.warnings or [ ];
}
