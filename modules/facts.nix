# What follows from the options, for whoever needs it.
{ lib, cfg }:
let
  own = import ./types.nix { inherit lib; };
  apps = lib.attrValues cfg.apps;
in
rec {
  # The git remote of an app's recipe.
  remote =
    app:
    if lib.hasInfix "/" app.recipe then
      app.recipe
    else
      "https://git.coopcloud.tech/coop-cloud/${app.recipe}.git";

  # The recipe's name: the last part of its remote.
  recipeName =
    app: lib.removeSuffix ".git" (lib.last (lib.splitString "/" (lib.removeSuffix "/" (remote app))));

  # Where an app is served; null if nobody said it.
  domain =
    app:
    if app.domain != null then
      app.domain
    else if app.warm == "data" && cfg.zone != null then
      "${recipeName app}-warm.${cfg.zone}"
    else
      null;

  liveApps = lib.filterAttrs (_: app: app.warm == "live") cfg.apps;
  dataApps = lib.filterAttrs (_: app: app.warm == "data") cfg.apps;

  usesDocker = app: app.deployer ? abra;
  usesAbra = lib.any usesDocker apps;

  updateUnit = name: "cc-warm-update-${name}";

  # Names of systemd credentials. Docker reads `config.json` in a folder, so that one's name is fixed.
  environmentCredential = app: n: "env-${app}-${toString n}";
  alertCredential = sink: "alert-${sink}";
  registryCredential = "config.json";

  # The longest that the way back of an app may take, in seconds: the prior version has its deadline twice before the
  # app counts as stuck; stopping and moving the data have two hours. cc-warm ends earlier whenever it can.
  worstRollback = app: 2 * own.seconds app.health.deadline + 2 * 60 * 60;
  worstRollbackOfAll = lib.foldl' lib.max (2 * 60 * 60) (map worstRollback apps);
}
