# The JSON that cc-warm reads, checked by cc-warm itself while the system is built: a bad one fails the build, not the
# boot. pkgs/cc-warm/src/config/raw.rs is the other side.
{
  lib,
  pkgs,
  config,
  ...
}:
let
  cfg = config.services.ccWarm;
  own = import ./types.nix { inherit lib; };
  facts = import ./facts.nix { inherit lib cfg; };

  # Without what is not set, so that the file shows what somebody chose.
  compact =
    value:
    if lib.isAttrs value then
      lib.mapAttrs (_: compact) (lib.filterAttrs (_: v: v != null) value)
    else if lib.isList value then
      map compact value
    else
      value;

  # A unit reads the credential, a root shell the file itself.
  secret = credential: path: if path == null then null else { inherit credential path; };

  app =
    name: app:
    removeAttrs app [ "activation" ]
    // {
      recipe = facts.remote app;
      domain = facts.domain app;
      environmentFiles = lib.imap0 (n: secret (facts.environmentCredential name n)) app.environmentFiles;
    };

  sink =
    name: lib.mapAttrs (_: s: s // { tokenFile = secret (facts.alertCredential name) s.tokenFile; });

  value = lib.recursiveUpdate (compact {
    format = 1;
    inherit (cfg)
      stateDir
      serversDir
      zone
      tls
      maxTests
      ;
    host = config.networking.fqdnOrHostName;
    apps = lib.mapAttrs app cfg.apps;
    alerts = lib.mapAttrs sink cfg.alerts;
    disk.reserve = own.bytes cfg.disk.reserve;
    registry.authFile = secret facts.registryCredential cfg.registry.authFile;
  }) cfg.settings;

  # A program for another platform cannot check anything here.
  canCheck = pkgs.stdenv.buildPlatform.canExecute pkgs.stdenv.hostPlatform;

  configFile =
    pkgs.runCommand "cc-warm-config.json"
      {
        value = builtins.toJSON value;
        passAsFile = [ "value" ];
        nativeBuildInputs = [ pkgs.jq ];
      }
      ''
        jq . "$valuePath" > config.json
        ${lib.optionalString canCheck "${lib.getExe cfg.package} check-config --config config.json"}
        cp config.json $out
      '';
in
{
  config = lib.mkIf cfg.enable {
    services.ccWarm.build = {
      config = value;
      inherit configFile;
    };
    environment.etc."cc-warm/config.json".source = configFile;
    environment.systemPackages = [
      cfg.package
    ]
    ++ lib.optional facts.usesAbra cfg.abraPackage;
  };
}
