# With nixpkgs' abra instead of the stand-in. Not yet run anywhere: it needs a nixpkgs that can be built from.
{
  description = "The real abra, with recipe and catalogue from disk, does what the stand-in does.";
  node =
    { pkgs, lib, ... }:
    {
      services.ccWarm.abraPackage = lib.mkForce pkgs.abra;
    };
}
