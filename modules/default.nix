# services.ccWarm: keeps Co-op Cloud apps warm. Nothing but options is evaluated until `enable` is set.
{
  imports = [
    ./options.nix
    ./assertions.nix
    ./config-file.nix
    ./units.nix
    ./nightly.nix
    ./pre-switch.nix
  ];
}
