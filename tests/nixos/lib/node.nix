# The machine that every VM test runs on, but for services.ccWarm itself.
{ lib, pkgs, ... }:
{
  virtualisation = {
    memorySize = 2048;
    diskSize = 4096;
    cores = 2;
    docker = {
      enable = true;
      liveRestore = false;
    };
  };

  # A stand-in that acts on the real swarm: it is the same everywhere, and can be told to fail.
  services.ccWarm.abraPackage = lib.mkDefault (
    pkgs.writeScriptBin "abra" (
      "#!${pkgs.python3}/bin/python3\n" + builtins.readFile ../../programs/abra
    )
  );

  environment.systemPackages = [
    pkgs.git
    pkgs.jq
    pkgs.python3
    pkgs.acl
    pkgs.attr
    pkgs.curl
    pkgs.e2fsprogs
  ];

  environment.etc = {
    # What images are imported from: there is no registry.
    "cc-warm-test/busybox".source = "${pkgs.pkgsStatic.busybox or pkgs.busybox}/bin/busybox";
    "cc-warm-test/demo-server".source = ../../programs/demo-server;
    "cc-warm-test/alert-token".text = "alert-token-of-the-tests";
  };

  systemd.services.alert-receiver = {
    description = "HTTP server that keeps the alerts it gets";
    wantedBy = [ "multi-user.target" ];
    serviceConfig = {
      ExecStart = "${pkgs.python3}/bin/python3 ${../../programs/alert-receiver} --port 9000 --folder /var/lib/alert-receiver";
      StateDirectory = "alert-receiver";
    };
  };
}
