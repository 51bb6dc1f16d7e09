# What a type cannot say: each message names the app and what to change.
{
  lib,
  config,
  ...
}:
let
  cfg = config.services.ccWarm;
  own = import ./types.nix { inherit lib; };
  facts = import ./facts.nix { inherit lib cfg; };
  docker = config.virtualisation.docker;

  option = name: "services.ccWarm.apps.${name}";
  quoted = lib.concatMapStringsSep ", " (text: "`${text}`");
  isName = name: builtins.match "[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?" name != null;

  # abra cuts a longer stack name, so that with a service's or secret's name it stays within docker's 64 characters.
  longestStack = 45;
  runDomain = app: "${facts.recipeName app}-ffffff.${cfg.zone}";

  named = lib.filterAttrs (_: app: facts.domain app != null) cfg.apps;
  sameDomain = lib.filterAttrs (_: names: lib.length names > 1) (
    lib.zipAttrs (lib.mapAttrsToList (name: app: { ${facts.domain app} = name; }) named)
  );

  # All of an app in docker is found by its stack's name; what one domain gives is said of the domain.
  stack =
    app:
    if app.deployer.abra.stack != null then
      app.deployer.abra.stack
    else
      lib.replaceStrings [ "." ] [ "_" ] (facts.domain app);
  sameStack =
    lib.filterAttrs
      (_: names: lib.length (lib.unique (map (name: facts.domain cfg.apps.${name}) names)) > 1)
      (
        lib.zipAttrs (
          lib.mapAttrsToList (name: app: { ${stack app} = name; }) (
            lib.filterAttrs (_: facts.usesDocker) named
          )
        )
      );

  # Apps that wait for themselves, directly or by others.
  undeclared = app: lib.filter (other: !(cfg.apps ? ${other})) app.after;
  ready =
    done:
    let
      more = lib.filter (
        name:
        !lib.elem name done
        && lib.all (other: lib.elem other done) (lib.filter (o: cfg.apps ? ${o}) cfg.apps.${name}.after)
      ) (lib.attrNames cfg.apps);
    in
    if more == [ ] then done else ready (done ++ more);
  inCycle = lib.subtractLists (ready [ ]) (lib.attrNames cfg.apps);

  ofDomain =
    domain: names:
    let
      canonicals = lib.filter (name: cfg.apps.${name}.warm == "data") names;
      live = lib.filter (name: cfg.apps.${name}.warm == "live") names;
    in
    {
      assertion = false;
      message =
        if canonicals != [ ] && live != [ ] then
          "services.ccWarm: the canonical of ${quoted canonicals} would be served at `${domain}`, where the live app ${quoted live} is: set another ${option (lib.head canonicals)}.domain, or another services.ccWarm.zone."
        else
          "services.ccWarm: the apps ${quoted names} have one domain, `${domain}`: give each its own (${option (lib.last names)}.domain).";
    };

  ofStack = name: names: {
    assertion = false;
    message = "services.ccWarm: the apps ${quoted names} have one stack, `${name}`, so each would stop and restore the other: give each its own (${option (lib.last names)}.deployer.abra.stack, or another domain).";
  };

  ofApp =
    name: app:
    let
      domain = facts.domain app;
      unknownAlerts = lib.subtractLists (lib.attrNames cfg.alerts) (
        if app.alerts == null then [ ] else app.alerts
      );
    in
    [
      {
        assertion = isName name;
        message = "services.ccWarm.apps: `${name}` is not an app's name: use 1 to 32 of a-z, 0-9 and `-`, the latter not at its ends.";
      }
      {
        assertion = domain != null;
        message =
          if app.warm == "live" then
            "${option name}: no domain: set ${option name}.domain to where the app is served, like \"${name}.example.org\"."
          else
            "${option name}: no domain: set services.ccWarm.zone, for `${facts.recipeName app}-warm.<zone>`, or ${option name}.domain.";
      }
      {
        assertion =
          !(facts.usesDocker app)
          || app.deployer.abra.stack != null
          || domain == null
          || lib.stringLength domain <= longestStack;
        message = "${option name}: the domain `${toString domain}` has ${toString (lib.stringLength (toString domain))} characters, and docker's names, which begin with it, have 64 at most: use one of at most ${toString longestStack}, or say how the stack is called (${option name}.deployer.abra.stack).";
      }
      {
        assertion =
          app.warm == "live"
          || !(facts.usesDocker app)
          || cfg.zone == null
          || lib.stringLength (runDomain app) <= longestStack;
        message = "${option name}: its test runs would be served at domains like `${runDomain app}`, and docker's names, which begin with them, have 64 characters at most: use a services.ccWarm.zone that is ${
          toString (lib.stringLength (runDomain app) - longestStack)
        } shorter.";
      }
      {
        assertion = !app.stateful || app.warm == "data" || app.health.probes != [ ];
        message = "${option name}: a stateful app needs a probe, since nothing else tells a good update from a bad one: set ${option name}.health.probes, like [ { http.url = \"https://${toString domain}/\"; } ], or stateful = false if it has no data.";
      }
      {
        assertion = own.seconds app.health.soak < own.seconds app.health.deadline;
        message = "${option name}: health.soak (${toString app.health.soak}) must be shorter than health.deadline (${toString app.health.deadline}), or no update could ever be healthy: raise the deadline or lower the soak.";
      }
      {
        assertion = undeclared app == [ ];
        message = "${option name}: `after` names ${quoted (undeclared app)}, which is not declared: declare it in services.ccWarm.apps, or remove it from ${option name}.after.";
      }
      {
        assertion = app.alerts != [ ];
        message = "${option name}: `alerts` names none, so nobody would be told about it: leave it out for all, or name some.";
      }
      {
        assertion = unknownAlerts == [ ];
        message = "${option name}: `alerts` names ${quoted unknownAlerts}, which is not declared: declare it in services.ccWarm.alerts${
          lib.optionalString (cfg.alerts != { }) " (there is ${quoted (lib.attrNames cfg.alerts)})"
        }.";
      }
      {
        assertion = app.update.pin == null || !lib.elem app.update.pin app.update.ignore;
        message = "${option name}: update.pin and update.ignore both name ${toString app.update.pin}: remove it from one of them.";
      }
      {
        assertion = !(facts.usesDocker app) || !(app.env ? STACK_NAME);
        message = "${option name}.env.STACK_NAME: with another stack's name the app would be on empty volumes: set ${option name}.deployer.abra.stack.";
      }
      {
        assertion = lib.all (window: window.from != window.to) app.update.windows;
        message = "${option name}: a window of update.windows that opens and closes at the same time is never open: leave update.windows empty for \"always\".";
      }
    ];

  secretKey =
    key:
    builtins.match ".*(PASSWORD|PASSWD|TOKEN|SECRET|PRIVATE_KEY|API_KEY).*" key != null
    # SECRET_X_VERSION is abra's way to name a secret, and no secret.
    && builtins.match "SECRET_.*_VERSION" key == null;

  rebuildKinds =
    rebuild:
    lib.count (x: x) [
      (rebuild.flake != null)
      (rebuild.channel != null || rebuild.upgrade)
      (rebuild.command != null)
    ];
  inherit (cfg.nightly) rebuild;

  dockerAssertions = [
    {
      assertion = docker.enable;
      message = "services.ccWarm: apps are deployed by abra on Docker Swarm, and docker is off: set virtualisation.docker.enable = true.";
    }
    {
      assertion = !docker.rootless.enable;
      message = "services.ccWarm: rootless docker has no swarm, and `docker` could mean it: set virtualisation.docker.rootless.enable = false.";
    }
    {
      assertion =
        !config.virtualisation.podman.dockerCompat && !config.virtualisation.podman.dockerSocket.enable;
      message = "services.ccWarm: `docker` would be podman, which has no swarm: set virtualisation.podman.dockerCompat and virtualisation.podman.dockerSocket.enable to false.";
    }
    {
      assertion = !(docker.daemon.settings.live-restore or docker.liveRestore);
      message = "services.ccWarm: docker's live-restore and its swarm exclude each other: set virtualisation.docker.liveRestore = false.";
    }
    {
      assertion = !docker.autoPrune.enable || !lib.any (lib.hasPrefix "--volumes") docker.autoPrune.flags;
      message = "services.ccWarm: `docker system prune --volumes` deletes the data of every app that is undeployed, data-warm ones among them: remove \"--volumes\" from virtualisation.docker.autoPrune.flags.";
    }
  ];
in
{
  config = lib.mkIf cfg.enable {
    assertions =
      lib.concatLists (lib.mapAttrsToList ofApp cfg.apps)
      ++ lib.mapAttrsToList ofDomain sameDomain
      ++ lib.mapAttrsToList ofStack sameStack
      ++ lib.optionals facts.usesAbra dockerAssertions
      ++ [
        {
          assertion = inCycle == [ ];
          message = "services.ccWarm: `after` of the apps ${quoted inCycle} makes a cycle, or waits for one: none of them would ever be updated. Remove one of these names from `after`.";
        }
        {
          assertion = rebuild == null || rebuildKinds rebuild == 1;
          message = "services.ccWarm.nightly.rebuild: set exactly one of `flake`, `channel` (with or without `upgrade`) and `command`.";
        }
        {
          assertion = !(cfg.nightly.enable && rebuild != null && config.system.autoUpgrade.enable);
          message = "services.ccWarm: system.autoUpgrade and nightly.rebuild would both rebuild the host at night: set system.autoUpgrade.enable = false, or nightly.rebuild = null.";
        }
        {
          assertion = lib.all isName (lib.attrNames cfg.alerts);
          message = "services.ccWarm.alerts: ${
            quoted (lib.filter (name: !isName name) (lib.attrNames cfg.alerts))
          } is not a name: use 1 to 32 of a-z, 0-9 and `-`, the latter not at its ends.";
        }
      ];

    inherit (cfg.build) warnings;
    services.ccWarm.build.warnings =
      lib.concatLists (
        lib.mapAttrsToList (
          name: app:
          map (
            key:
            "${option name}.env.${key} looks like a secret, and the Nix store is readable by every user: put it into a file named in ${option name}.environmentFiles, or let abra make it."
          ) (lib.filter secretKey (lib.attrNames app.env))
        ) cfg.apps
      )
      ++
        lib.optional (cfg.apps != { } && cfg.alerts == { })
          "services.ccWarm: no alerts are declared, so nobody is told of a held update, a rollback or an app that is stuck: set services.ccWarm.alerts."
      ++
        lib.optional (cfg.tls.mode == "acme" && facts.dataApps != { })
          "services.ccWarm: with tls.mode = \"acme\" every test run takes a certificate, and Let's Encrypt allows 50 a week for a domain: prefer \"wildcard\".";
  };
}
