{
  description = "cc-warm keeps Co-op Cloud apps warm: updates that can always go back, and CI runs from known-good data";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-26.05";

  outputs =
    { nixpkgs, ... }:
    let
      inherit (nixpkgs) lib;
      project = lib.genAttrs [ "x86_64-linux" "aarch64-linux" ] (
        system:
        import ./. {
          pkgs = nixpkgs.legacyPackages.${system};
          inherit (lib) nixosSystem;
        }
      );
      each = output: lib.mapAttrs (_: outputs: outputs.${output}) project;
    in
    {
      packages = each "packages";
      checks = each "checks";
      apps = each "apps";
      devShells = each "devShells";
      formatter = each "formatter";
      inherit (project.x86_64-linux) nixosModules overlays;
    };
}
