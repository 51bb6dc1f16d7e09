{
  description = "A healthy update is committed, twice in a row, at switches.";
  configurations = [ "waiting" ];
}
