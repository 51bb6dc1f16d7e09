{
  description = "A broken latest version of an app without data goes back.";
}
