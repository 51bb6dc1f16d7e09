# The whole project as Nix sees it; flake.nix calls this for each system. Without flakes:
# `nix-build -A packages.cc-warm`, and `imports = [ "${cc-warm}/modules" ]` in a configuration.
{
  pkgs ? import <nixpkgs> { },
  nixosSystem ? import "${toString pkgs.path}/nixos/lib/eval-config.nix",
}:
let
  inherit (pkgs) lib;
  cc-warm = pkgs.callPackage ./pkgs/cc-warm/package.nix { };
  vmTests = import ./tests/nixos { inherit pkgs; };
  evalTests = import ./tests/eval/check.nix { inherit pkgs nixosSystem; };

  # The program `script`, with `tools` on its PATH, as an app of the flake.
  app = name: tools: script: {
    type = "app";
    program = lib.getExe (
      pkgs.writeShellApplication {
        inherit name;
        runtimeInputs = tools;
        text = script;
      }
    );
  };

  # cc-warm's build, doing something else than building.
  cargoCheck =
    name: tools: command:
    cc-warm.overrideAttrs (old: {
      pname = "cc-warm-${name}";
      nativeBuildInputs = old.nativeBuildInputs ++ tools;
      buildPhase = command;
      doCheck = false;
      installPhase = "touch $out";
    });
in
rec {
  packages = {
    default = cc-warm;
    inherit cc-warm;
    docs = pkgs.runCommand "cc-warm-docs" { docs = ./docs; } ''
      mkdir -p $out/share/doc
      cp -r $docs $out/share/doc/cc-warm
    '';
  };

  checks = vmTests // evalTests // {
    package = cc-warm;
    fmt = cargoCheck "fmt" [ pkgs.rustfmt ] "cargo fmt --check";
    clippy = cargoCheck "clippy" [
      pkgs.clippy
    ] "cargo clippy --all-targets --features fault-points -- -D warnings";
  };

  apps = rec {
    default = demo;
    demo = app "cc-warm-demo" [ cc-warm pkgs.git ] ''exec cc-warm demo "$@"'';
    vm-tests = app "cc-warm-vm-tests" [ ] (
      lib.concatStrings (
        lib.mapAttrsToList (name: test: ''
          echo "== ${name}"
          ${test.driver or test}/bin/nixos-test-driver
        '') vmTests
      )
    );
  };

  devShells.default = pkgs.mkShell {
    inputsFrom = [ cc-warm ];
    packages = [
      pkgs.cargo
      pkgs.clippy
      pkgs.rustfmt
      pkgs.rust-analyzer
      pkgs.cargo-deny
      formatter
    ];
  };

  formatter = pkgs.nixfmt;

  nixosModules.default.imports = [ ./modules ];
  overlays.default = final: _: { cc-warm = final.callPackage ./pkgs/cc-warm/package.nix { }; };
}
