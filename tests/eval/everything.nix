# A host that sets every option, so that each is seen to reach cc-warm, and to be understood there.
{
  services.ccWarm = {
    enable = true;
    stateDir = "/srv/warm";
    serversDir = "/srv/abra/servers";
    zone = "ci.example.org";
    tls.mode = "internal";
    maxTests = 2;
    activation = "wait";
    activationTimeout = "5min";
    failSwitchOn = [
      "stuck"
      "rolled-back"
    ];
    preSwitchWait = "1h";
    registry.authFile = "/run/secrets/docker-config.json";
    disk.reserve = "20GiB";
    nightly = {
      enable = true;
      timerConfig.OnCalendar = "Sun 02:00";
      maxWait = "1h 30min";
      rebuild.command = [
        "/run/current-system/sw/bin/true"
        "a word with spaces"
      ];
    };
    settings = {
      reminder = "3d";
      fetchFailures = 5;
    };
    alerts = {
      team.webhook = {
        url = "https://hooks.example.org";
        tokenFile = "/run/secrets/hook";
      };
      ops.ntfy = {
        url = "https://ntfy.example.org/ops";
        tokenFile = "/run/secrets/ntfy";
      };
      pager.command = {
        argv = [
          "/run/current-system/sw/bin/logger"
          "-t"
          "cc-warm"
        ];
        tokenFile = "/run/secrets/pager";
      };
    };
    apps = {
      proxy = {
        recipe = "traefik";
        domain = "proxy.example.org";
        stateful = false;
        deployer.process.user = "proxy";
      };
      canonical = {
        recipe = "ssh://git@git.example.org/recipes/nextcloud.git";
        warm = "data";
      };
      web = {
        recipe = "/srv/recipes/web";
        domain = "web.example.org";
        warm = "live";
        stateful = true;
        ensure = false;
        after = [ "proxy" ];
        deployer.abra = {
          server = "default";
          stack = "web_stack";
        };
        env.GREETING = "hello";
        environmentFiles = [
          "/run/secrets/web.env"
          "/run/secrets/more.env"
        ];
        alerts = [
          "ops"
          "pager"
        ];
        activation = "never";
        health = {
          probes = [
            {
              http = {
                url = "https://web.example.org/health";
                status = 204;
                body = "^ok";
                headers.content-type = "^text/";
                tlsVerify = false;
                resolve = "127.0.0.1:443";
                followRedirects = true;
                timeout = "3s";
              };
            }
            {
              command = {
                argv = [
                  "/run/current-system/sw/bin/true"
                ];
                timeout = 5;
              };
            }
          ];
          successes = 2;
          interval = "5s";
          soak = "2min";
          deadline = "1h 30min";
          continuity = {
            argv = [
              "/run/current-system/sw/bin/wc"
              "-l"
            ];
          };
        };
        update = {
          policy = "hold";
          to = "latest-compatible";
          pin = "1.2.3+4.5";
          ignore = [ "1.2.4+4.6" ];
          minAge = "2d";
          markers = [ "run .* by hand" ];
          windows = [
            {
              days = [
                "sat"
                "sun"
              ];
              from = "23:00";
              to = "02:00";
            }
          ];
          keepFailed = "14d";
          keepPrevious = "14d";
          unmanaged = [ "/etc/localtime" ];
        };
        snapshot.fullEvery = 10;
      };
    };
  };
}
