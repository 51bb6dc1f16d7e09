{
  description = "A switch with nothing to update is fast, and stops nothing.";
}
