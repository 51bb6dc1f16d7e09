# Refuses a switch that would restart docker in the middle of an update, after having waited for its end.
# $1: the new system, $2: the action, $3: the state folder, $4: how long to wait in all, in seconds, $5: flock.
set -eu
incoming=$1 action=$2 state=$3 wait=$4 flock=$5
running=${CC_WARM_CURRENT_SYSTEM:-/run/current-system}
unit=etc/systemd/system/docker.service

# Only these restart units.
case $action in switch | test) ;; *) exit 0 ;; esac
[ -e "$running/$unit" ] || exit 0
[ "$(readlink -f "$running/$unit")" != "$(readlink -f "$incoming/$unit")" ] || exit 0

# A kernel lock is held for as long as cc-warm, or a program of it that changes the app, lives.
deadline=$(($(date +%s) + wait))
for lock in "$state"/apps/*/lock; do
  [ -e "$lock" ] || continue
  "$flock" --nonblock "$lock" true && continue
  app=${lock%/lock}
  app=${app##*/}
  left=$((deadline - $(date +%s)))
  [ "$left" -gt 0 ] || left=0
  echo "cc-warm: this switch restarts docker, and the app $app is being worked on; waiting for at most $left s: $(head -c 300 "$lock")" >&2
  "$flock" --timeout "$left" "$lock" true || {
    echo "error: the app $app is still being worked on, and a restart of docker would cut that off: $(head -c 300 "$lock")" >&2
    echo "hint: systemctl status 'cc-warm-*' shows how far it is; try again later" >&2
    exit 1
  }
done
