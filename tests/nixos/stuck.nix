{
  description = "An update that gets stuck fails its unit; the next switch does not suffer for it.";
  configurations = [ "changed-env" ];
}
