{
  description = "Booting is no activation: it recovers, and updates nothing.";
}
