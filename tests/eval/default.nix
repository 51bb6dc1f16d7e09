# The evaluation tests that need no error to be caught, by what they are about: a list of what went wrong in each, empty
# if nothing did. The flake's checks are derived from this set.
{ nixpkgs, nixosSystem }:
let
  inherit (nixpkgs) lib;
  cases = import ./cases.nix;
  hosts = import ./host.nix { inherit nixosSystem; };
  show = builtins.toJSON;

  expect =
    name: want: got:
    if want == got then [ ] else [ "${name}: expected ${show want}, got ${show got}" ];

  lints = builtins.concatLists (
    builtins.attrValues (
      builtins.mapAttrs (
        name: case: expect name case.messages (hosts.messages (hosts.ofCase case))
      ) cases.messages
    )
  );

  example = hosts.evaluate [ ../../docs/examples/host.nix ];

  # Its options have no value, so whatever looks at one of them fails.
  disabled = hosts.evaluate [ ../../modules ];
  poisoned = hosts.evaluate [
    ../../modules
    (
      { lib, ... }:
      {
        services.ccWarm =
          lib.genAttrs [
            "package"
            "abraPackage"
            "stateDir"
            "apps"
            "alerts"
            "failSwitchOn"
            "settings"
          ] (name: throw "services.ccWarm.${name} was evaluated")
          // {
            nightly.rebuild = throw "services.ccWarm.nightly.rebuild was evaluated";
          };
      }
    )
  ];
  # NixOS has the option since 25.05; where it has not, as in older ones, it is declared here.
  checked = hosts.evaluate [
    ../../docs/examples/minimal.nix
    ../../modules
    (
      { lib, ... }:
      {
        options = lib.optionalAttrs (!(disabled.options.system ? preSwitchChecks)) {
          system.preSwitchChecks = lib.mkOption { type = lib.types.attrsOf lib.types.str; };
        };
      }
    )
  ];
  ours =
    names: builtins.filter (name: builtins.match "cc-warm.*" name != null) (builtins.attrNames names);

  unit = name: example.config.systemd.services.${name};
  directives = unit "cc-warm-update-keycloak";
in
{
  inherit lints;
  host-example =
    expect "the host example has nothing to complain of" [ ] (hosts.messages example)
    ++ expect "the host example's canonicals are named by the zone" "wordpress-warm.ci.example.org"
        example.config.services.ccWarm.build.config.apps.wordpress.domain
    ++ expect "a recipe's name stands for the catalogue's remote"
        "https://git.coopcloud.tech/coop-cloud/keycloak.git"
        example.config.services.ccWarm.build.config.apps.keycloak.recipe;
  not-enabled =
    expect "imported and not enabled, the module evaluates no option of its own" [ ] (
      ours poisoned.config.systemd.services
      ++ ours poisoned.config.systemd.timers
      ++ ours poisoned.config.environment.etc
      ++ hosts.messages poisoned
    )
    ++ expect "imported and not enabled, it makes nothing" [ ] (
      ours disabled.config.systemd.services ++ ours disabled.config.environment.etc
    );
  units =
    expect "data-warm apps have no update unit" [
      "cc-warm-activation"
      "cc-warm-alerts"
      "cc-warm-nightly"
      "cc-warm-recover"
      "cc-warm-synced"
      "cc-warm-unit-failed@"
      "cc-warm-update-keycloak"
      "cc-warm-update-traefik"
    ] (ours example.config.systemd.services)
    ++ expect "only what became stuck, and a bad configuration, fails a unit" "1 10 11 13 14 24 25 30"
        directives.serviceConfig.SuccessExitStatus
    ++ expect "an app is not cut by a switch"
        {
          restartIfChanged = false;
          stopOnRemoval = false;
        }
        {
          inherit (directives) restartIfChanged;
          stopOnRemoval = directives.unitConfig.X-StopOnRemoval;
        }
    ++ expect "docker is wanted and never required"
        {
          wants = true;
          after = true;
          requires = [ ];
          bindsTo = [ ];
          partOf = [ ];
        }
        {
          wants = builtins.elem "docker.service" directives.wants;
          after = builtins.elem "docker.service" directives.after;
          inherit (directives) requires bindsTo partOf;
        }
    ++ expect "nothing is wanted by a target but the activation and the note of the shutdown" [ ] (
      builtins.filter (
        name:
        name != "cc-warm-activation"
        && name != "cc-warm-synced"
        && (unit name).wantedBy ++ (unit name).requiredBy != [ ]
      ) (ours example.config.systemd.services)
    )
    ++
      expect "at shutdown, the note that all was synced comes after docker has stopped" [ true true ]
        [
          (builtins.elem "docker.service" (unit "cc-warm-synced").before)
          (lib.hasSuffix " synced shutdown" (unit "cc-warm-synced").serviceConfig.ExecStop)
        ]
    ++ expect "no unit stays active but the one that stops after docker at shutdown" [ "cc-warm-synced" ] (
      builtins.filter (name: (unit name).serviceConfig ? RemainAfterExit) (
        ours example.config.systemd.services
      )
    )
    ++ expect "no unit is restarted or stopped by a switch" [ ] (
      builtins.filter (name: (unit name).restartIfChanged || (unit name).unitConfig.X-StopOnRemoval) (
        ours example.config.systemd.services
      )
    )
    ++ expect "every unit but the alert's own tells when it failed" [ "cc-warm-unit-failed@" ] (
      builtins.filter (name: !((unit name).unitConfig ? OnFailure)) (ours example.config.systemd.services)
    )
    ++ expect "a switch that would restart docker is checked before" true (
      lib.hasInfix "/var/lib/ci-warm" checked.config.system.preSwitchChecks.cc-warm
      && lib.hasInfix " 600 " checked.config.system.preSwitchChecks.cc-warm
    )
    ++ expect "the program that wrote a journal is kept from the garbage collector" true (
      lib.elem
        "L+ /nix/var/nix/gcroots/cc-warm-keycloak - - - - /var/lib/ci-warm/apps/keycloak/helper"
        example.config.services.ccWarm.build.tmpfilesRules
    )
    ++ expect "there is time for the worst way back" true (
      # Twice the deadline of 15 min, and more to move the data.
      directives.serviceConfig.TimeoutStopSec > 2 * 15 * 60
    )
    ++ expect "what would make a snapshot unfaithful is not set" [ ] (
      builtins.filter (right: directives.serviceConfig ? ${right}) (
        builtins.attrNames (import ../../modules/hardening.nix { readWritePaths = [ ]; }).notSet
      )
    );
  vm-scripts =
    expect "each behaviour has its script" [ ] (
      builtins.filter (name: name != "default" && !builtins.pathExists (../nixos/scripts + "/${name}.py"))
        (
          builtins.concatLists (
            map (
              file:
              let
                name = builtins.match "(.*)\\.nix" file;
              in
              if name == null then [ ] else name
            ) (builtins.attrNames (builtins.readDir ../nixos))
          )
        )
    );
  options-reference =
    let
      page = import ../../docs/reference/options.nix { inherit nixpkgs; };
    in
    if builtins.readFile ../../docs/reference/options.md == page then
      [ ]
    else
      [ "docs/reference/options.md is not what the options say. Renew it: docs/reference/generate-options" ];
}
