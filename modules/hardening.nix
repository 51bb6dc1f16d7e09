# What the units may not do, and why each is safe to forbid; then what they must be allowed to do, and why.
# A snapshot has to bring back owners, modes, devices, attributes and times that cc-warm did not choose: a right that
# is missing here is data that comes back different.
{ readWritePaths }:
let
  forbidden = {
    NoNewPrivileges = {
      value = true;
      reason = "nothing that cc-warm starts is setuid";
    };
    ProtectSystem = {
      value = "strict";
      reason = "it writes in its state, docker's volumes and abra's servers folder, and nowhere else";
    };
    # Each is a mount of its own, and a rename across two of them fails: every exchange happens inside one folder.
    ReadWritePaths = {
      value = readWritePaths;
      reason = "what ProtectSystem leaves writable";
    };
    PrivateTmp = {
      value = true;
      reason = "docker's client reads what it sends, so the daemon never needs to see our temporary files";
    };
    ProtectKernelTunables = {
      value = true;
      reason = "it sets no sysctl";
    };
    ProtectKernelModules = {
      value = true;
      reason = "it loads no module";
    };
    ProtectKernelLogs = {
      value = true;
      reason = "it reads no kernel log";
    };
    ProtectHostname = {
      value = true;
      reason = "it reads the host's name only";
    };
    ProtectControlGroups = {
      value = true;
      reason = "it asks systemd for cgroups and reads them";
    };
    RestrictRealtime = {
      value = true;
      reason = "nothing here is urgent";
    };
    RestrictNamespaces = {
      value = true;
      reason = "containers are docker's to make, units systemd's";
    };
    LockPersonality = {
      value = true;
      reason = "it runs native programs only";
    };
    KeyringMode = {
      value = "private";
      reason = "it uses no kernel keyring";
    };
    RestrictAddressFamilies = {
      value = [
        "AF_UNIX"
        "AF_INET"
        "AF_INET6"
        "AF_NETLINK"
      ];
      reason = "docker's and systemd's sockets, HTTP and git, and the resolver's look at the interfaces";
    };
    SystemCallArchitectures = {
      value = "native";
      reason = "it runs native programs only";
    };
    SystemCallFilter = {
      value = [ "@system-service" ];
      reason = "it neither mounts nor traces nor reboots; files, devices and attributes are in this set";
    };
    SystemCallErrorNumber = {
      value = "EPERM";
      reason = "a probe's program gets an error and not a signal";
    };
    CapabilityBoundingSet = {
      value = builtins.attrNames capabilities;
      reason = "see the table of capabilities";
    };
    UMask = {
      value = "0077";
      reason = "snapshots hold what users wrote, and `.env` files secrets; what a volume's files allow is set file by file";
    };
  };

  capabilities = {
    CAP_CHOWN = "files come back with their owners";
    CAP_DAC_OVERRIDE = "volumes belong to any user";
    CAP_DAC_READ_SEARCH = "and may be closed to all others";
    CAP_FOWNER = "modes, times and ACLs of files that belong to others";
    CAP_FSETID = "the setgid bit stays when the group is set";
    CAP_KILL = "a command that does not end is killed, as whatever user it runs";
    CAP_LINUX_IMMUTABLE = "immutable and append-only files";
    CAP_MKNOD = "device nodes in volumes";
    CAP_SETFCAP = "file capabilities are an attribute too";
    CAP_SETGID = "programs of an app run as its user";
    CAP_SETUID = "programs of an app run as its user";
    CAP_SYS_ADMIN = "trusted.* attributes; mounting stays forbidden by the filter of system calls";
    CAP_SYS_PTRACE = "to see in /proc that no process of an app is left";
    CAP_SYS_RESOURCE = "the space that a file system reserves for root, when a rollback needs it";
  };

  # Not set, because a snapshot or a restore would not be faithful with them, or because they break a program that we
  # start. Said here, so that nobody adds them in good faith.
  notSet = {
    RestrictSUIDSGID = "setgid folders could not be restored; and its filter makes openat2 fail, which keeps copies inside a volume";
    PrivateDevices = "forbids mknod";
    ProtectClock = "it implies DeviceAllow=, and with that the device cgroup forbids mknod";
    DevicePolicy = "the same";
    PrivateUsers = "owners of files in volumes would be nobody";
    ProtectHome = "abra's servers folder, and root's ssh keys for private recipes, lie in /root";
    ProtectProc = "to see that no process of an app is left";
    MemoryDenyWriteExecute = "a probe's program may be a just-in-time compiler";
    PrivateNetwork = "probes, git and registries";
    DynamicUser = "a snapshot is root's work";
  };
in
{
  inherit forbidden capabilities notSet;
  # Lists on one line, as a person would write them in a unit.
  serviceConfig = builtins.mapAttrs (
    _: right: if builtins.isList right.value then toString right.value else right.value
  ) forbidden;
}
