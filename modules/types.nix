# The types that several options share, and how their texts become numbers.
{ lib }:
let
  inherit (lib) types;

  # The number that `text` begins with, and the unit after it.
  amount =
    units: text:
    let
      parts = builtins.match "([0-9]+) *([A-Za-z]*)" text;
    in
    lib.toIntBase10 (builtins.elemAt parts 0) * units.${builtins.elemAt parts 1};

  timeUnits = {
    s = 1;
    min = 60;
    h = 60 * 60;
    d = 24 * 60 * 60;
  };

  sizeUnits = {
    B = 1;
    KiB = 1024;
    MiB = 1024 * 1024;
    GiB = 1024 * 1024 * 1024;
    TiB = 1024 * 1024 * 1024 * 1024;
  };

  described =
    description: type:
    type
    // {
      inherit description;
      descriptionClass = "noun";
    };

  alternatives = units: lib.concatStringsSep "|" (builtins.attrNames units);
in
rec {
  # Whole seconds, or the units that cc-warm reads too; "m" is left out, since it could be a month.
  duration = described ''duration (whole seconds, or a text like "90s", "5min", "1h 30min", "7d")'' (
    types.either types.ints.unsigned (
      types.strMatching "[0-9]+ *(${alternatives timeUnits})( +[0-9]+ *(${alternatives timeUnits}))*"
    )
  );

  # A duration in seconds.
  seconds =
    value:
    if builtins.isInt value then
      value
    else
      lib.foldl' (sum: part: sum + amount timeUnits (lib.concatStrings part)) 0 (
        lib.filter builtins.isList (builtins.split "([0-9]+ *[a-z]+)" value)
      );

  size = described ''size (bytes, or a text like "500MiB", "20GiB")'' (
    types.either types.ints.unsigned (types.strMatching "[0-9]+ *(${alternatives sizeUnits})")
  );

  # A size in bytes.
  bytes = value: if builtins.isInt value then value else amount sizeUnits value;

  # The store is readable by every user and is copied to caches.
  secretFile =
    described
      "absolute path outside of the Nix store, as a string (the store is readable by every user)"
      (
        types.addCheck types.str (
          path:
          lib.hasPrefix "/" path && path != builtins.storeDir && !lib.hasPrefix "${builtins.storeDir}/" path
        )
      );

  absolutePath = described "absolute path, as a string" (types.strMatching "/.*");

  domain = described "domain name in lower case" (
    types.strMatching "[a-z0-9]([a-z0-9-]*[a-z0-9])?(\\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*"
  );

  url = described "URL that begins with http:// or https://" (
    types.strMatching "https?://[^[:space:]]+"
  );

  # A program and its arguments. No shell reads it.
  argv = described ''command as a list of strings, like [ "curl" "--fail" "https://example.org" ]; no shell reads it'' (
    types.nonEmptyListOf types.str
  );
}
