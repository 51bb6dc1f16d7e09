{
  description = "A broken latest version goes back with its data, raises an alert, and is not tried again.";
}
