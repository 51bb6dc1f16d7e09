# docs/reference/options.md, from the options alone.
{ nixpkgs, ... }:
let
  inherit (nixpkgs) lib;
  evaluated = lib.evalModules {
    modules = [
      ../../modules/options.nix
      {
        _module.args.pkgs = nixpkgs.legacyPackages.x86_64-linux;
      }
    ];
  };

  options = lib.filter (
    option: option.visible && !option.internal && lib.hasPrefix "services.ccWarm" option.name
  ) (lib.optionAttrSetToDocList evaluated.options);

  # Roles are for nixpkgs' own manual.
  prose = text: lib.trim (lib.replaceStrings [ "{manpage}" "{command}" ] [ "" "" ] text);

  value =
    label: rendered:
    let
      text = lib.trim (rendered.text or (toString rendered));
    in
    if lib.hasInfix "\n" text then
      "${label}:\n\n```nix\n${text}\n```\n"
    else if lib.hasInfix "`" text then
      "${label}: `` ${text} ``\n"
    else
      "${label}: `${text}`\n";

  section =
    option:
    lib.concatStringsSep "\n" (
      [
        "## ${lib.replaceStrings [ "<" ">" "*" ] [ "\\<" "\\>" "\\*" ] option.name}\n"
        "${prose (option.description.text or option.description)}\n"
        "Type: ${lib.replaceStrings [ "<" ">" "*" ] [ "\\<" "\\>" "\\*" ] option.type}\n"
      ]
      ++ lib.optional (option ? default) (value "Default" option.default)
      ++ lib.optional (option ? example) (value "Example" option.example)
    );
in
''
  # Options of the NixOS module

  All of them are below `services.ccWarm`. How they are used together: [set up a host](../how-to/set-up-nixos.md).
  Made from the options themselves by `docs/reference/generate-options`; edit those.

''
+ lib.concatMapStringsSep "\n" section options
