# A host with the proxy and the login server live-warm, and two recipes under test. tests/eval evaluates it.
{ ... }:
{
  imports = [ ../../modules ];

  # Docker Swarm is what abra deploys to; live-restore and a swarm exclude each other.
  virtualisation.docker = {
    enable = true;
    liveRestore = false;
  };

  services.ccWarm = {
    enable = true;

    # Test runs are served below this; *.ci.example.org points to this host.
    zone = "ci.example.org";

    apps.traefik = {
      recipe = "traefik";
      domain = "traefik.example.org";
      # Its certificates can be had anew, so it is updated without a stop.
      stateful = false;
      update.unmanaged = [
        "letsencrypt"
        "file-providers"
      ];
      health.probes = [ { http.url = "https://traefik.example.org/ping"; } ];
    };

    apps.keycloak = {
      recipe = "keycloak";
      domain = "login.example.org";
      after = [ "traefik" ];
      health = {
        # This page needs the database.
        probes = [
          {
            http = {
              url = "https://login.example.org/realms/master";
              body = ''"realm":"master"'';
            };
          }
        ];
        deadline = "15min";
      };
      # Nobody is logged out while people work.
      update.windows = [
        {
          from = "02:00";
          to = "06:00";
        }
      ];
    };

    # Under test: undeployed, with their data, until a run needs them.
    apps.wordpress = {
      recipe = "wordpress";
      warm = "data";
    };
    apps.cryptpad = {
      recipe = "cryptpad";
      warm = "data";
    };

    alerts.ops.ntfy = {
      url = "https://ntfy.example.org/ops";
      tokenFile = "/run/secrets/ntfy-token";
    };

    # So much stays free where docker's volumes and the snapshots are, for what the apps write meanwhile.
    disk.reserve = "20GiB";

    # The host itself is rebuilt every night before its apps are updated.
    nightly.rebuild = {
      flake = "git+https://git.example.org/infra";
      flags = [ "--refresh" ];
    };
  };
}
