{
  lib,
  rustPlatform,
  installShellFiles,
  stdenv,
  git,
  acl,
  attr,
}:
let
  manifest = lib.importTOML ./Cargo.toml;
in
rustPlatform.buildRustPackage {
  pname = manifest.package.name;
  inherit (manifest.package) version;

  # Only what the build reads, so that a change of a document builds nothing anew.
  src = lib.fileset.toSource {
    root = ./.;
    fileset = lib.fileset.unions (
      lib.filter lib.pathExists [
        ./Cargo.toml
        ./Cargo.lock
        ./clippy.toml
        ./rustfmt.toml
        ./src
        ./tests
        ./benches
      ]
    );
  };
  cargoLock.lockFile = ./Cargo.lock;

  nativeBuildInputs = [ installShellFiles ];

  # Unit tests; what needs root, docker or a network is in tests/ beside this package and in the VM tests.
  cargoTestFlags = [ "--lib" ];
  nativeCheckInputs = [
    git
    acl
    attr
  ];

  postInstall = lib.optionalString (stdenv.buildPlatform.canExecute stdenv.hostPlatform) ''
    installShellCompletion --cmd cc-warm \
      --bash <($out/bin/cc-warm completions bash) \
      --fish <($out/bin/cc-warm completions fish) \
      --zsh <($out/bin/cc-warm completions zsh)
  '';

  meta = {
    inherit (manifest.package) description;
    license = lib.licenses.mit;
    mainProgram = "cc-warm";
    platforms = lib.platforms.linux;
  };
}
