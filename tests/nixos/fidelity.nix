{
  description = ''
    Under the unit's hardening, a snapshot brings back setgid folders, devices, trusted attributes and foreign owners.
  '';
}
