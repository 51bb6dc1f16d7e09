# What an app can be asked: HTTP requests and commands.
{ lib }:
let
  inherit (lib) mkOption types literalExpression;
  own = import ./types.nix { inherit lib; };

  timeout = mkOption {
    type = own.duration;
    default = "10s";
    description = "How long one attempt may take in all.";
  };

  http = types.submodule {
    options = {
      url = mkOption {
        type = own.url;
        example = "https://login.example.org/realms/master";
        description = "What is asked for, by GET.";
      };
      status = mkOption {
        type = types.ints.between 100 599;
        default = 200;
        description = "The status that the answer must have.";
      };
      body = mkOption {
        type = types.nullOr types.str;
        default = null;
        example = ''"realm":"master"'';
        description = "A regular expression that must match somewhere in the first 64 KiB of the body.";
      };
      headers = mkOption {
        type = types.attrsOf types.str;
        default = { };
        example = {
          content-type = "^application/json";
        };
        description = "Regular expressions that the headers of these names must match.";
      };
      tlsVerify = mkOption {
        type = types.bool;
        default = true;
        description = "Whether the certificate must be valid.";
      };
      resolve = mkOption {
        type = types.nullOr types.str;
        default = null;
        example = "127.0.0.1:443";
        description = "Address and port to connect to, whatever the URL's host resolves to.";
      };
      followRedirects = mkOption {
        type = types.bool;
        default = false;
        description = "Whether redirects are followed. A login page behind a redirect proves little about the app.";
      };
      inherit timeout;
    };
  };

  commandOptions = types.submodule {
    options = {
      argv = mkOption {
        type = own.argv;
        example = literalExpression ''[ "''${pkgs.my-checks}/bin/realms" "--count" ]'';
        description = "Program and arguments. `CC_WARM_APP` and `CC_WARM_DOMAIN` are in its environment.";
      };
      inherit timeout;
    };
  };
in
{
  probe = types.attrTag {
    http = mkOption {
      type = http;
      description = "An HTTP request, and what its answer must look like.";
    };
    command = mkOption {
      type = commandOptions;
      description = "A command that must exit with 0.";
    };
  };
  command = commandOptions;
}
