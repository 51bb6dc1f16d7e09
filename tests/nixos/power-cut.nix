{
  description = "The power fails in mid-update; after the boot, recovery brings the app back with its data.";
  globalTimeout = 30 * 60;
}
