{
  description = "An update for which the disk has no room is refused before its app is stopped.";
}
