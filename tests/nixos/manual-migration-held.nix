{
  description = "A note of a manual migration, between the current and the latest version, holds.";
}
