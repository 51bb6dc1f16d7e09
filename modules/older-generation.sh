# Is the generation that was just activated older than one before it? Then an operator went back, in an emergency more
# often than not: only say what an update would do, and exit with 1. $1 is the state folder, $2 is cc-warm.
set -eu
state=$1 cc_warm=$2
profile=${CC_WARM_PROFILE:-/nix/var/nix/profiles/system}
current=${CC_WARM_CURRENT_SYSTEM:-/run/current-system}

# `nixos-rebuild test`, or a system that is no generation: there is nothing to compare.
link=$(readlink "$profile") || exit 0
[ "$(readlink -f "$profile")" = "$(readlink -f "$current")" ] || exit 0
number=${link#system-}
number=${number%-link}
case $number in '' | *[!0-9]*) exit 0 ;; esac

highest=$(cat "$state/generation" 2>/dev/null) || highest=0
case $highest in '' | *[!0-9]*) highest=0 ;; esac
if [ "$number" -lt "$highest" ]; then
  echo "generation $number is older than $highest, which was active before: no update is started." \
    "This is what one would do; the night, or \`cc-warm update\`, does it."
  # A switch waits for this.
  timeout 60 "$cc_warm" plan || true
  exit 1
fi
echo "$number" >"$state/generation.new"
mv "$state/generation.new" "$state/generation"
