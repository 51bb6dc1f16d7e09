# How an update can end without being done, and the exit code that says so (`cc-warm --help` has the same list).
# 0 is done, and 2 (wrong usage or configuration) fails the unit always, so neither is here.
{
  failed = 1;
  held = 10;
  rolled-back = 11;
  stuck = 12;
  already-stuck = 13;
  not-ready = 14;
  refused = 24;
  cancelled = 25;
  busy = 30;
}
