{
  description = "A major step is held, with its release notes in the alert; nothing is stopped.";
}
