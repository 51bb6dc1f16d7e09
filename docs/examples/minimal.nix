{
  virtualisation.docker = {
    enable = true;
    liveRestore = false;
  };
  services.ccWarm = {
    enable = true;
    apps.keycloak = {
      recipe = "keycloak";
      domain = "login.example.org";
      health.probes = [ { http.url = "https://login.example.org/realms/master"; } ];
    };
    alerts.ops.ntfy.url = "https://ntfy.example.org/ops";
  };
}
