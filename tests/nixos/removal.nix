{
  description = "An app that is removed from the configuration in mid-update is not cut, and keeps running.";
  configurations = [ "without-notes" ];
}
