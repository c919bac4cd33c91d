#!/usr/bin/env bash
# A standby: two nights, then three weeks off in which the main site goes on; `status` says how far behind it is, one run
# brings it level and fetches only what differs. Failover, a change there, failback, and back again. Both sites have their
# application at the same path: the standby sees a disk of its own there. And a drill, which finds flipped bits and names
# the file.
. "$(dirname "$0")/lib"

[ "$(id -u)" = 0 ] || { printf 'not root: no namespaces here\n' && exit 0; }
server sftp
(. "$servers/lib" && debian faketime:faketime)
PATH=$(setting sftp PATH)
app=$work/srv/app
site=$work/site
mkdir -p "$app" "$site/app" "$work/one" "$work/two"
printf 'name = main\n' >"$app/local.conf"
printf 'name = standby\n' >"$site/app/local.conf"
noise "$app/archive" 20000000
noise "$app/image" 20000000
seq 1 20000 >"$app/data"
ln -s data "$app/current"
# saves HOST: a profile that saves the application as that host; follows HOST: one that restores what it saved
saves() {
  cat <<C
[profiles.app]
repositories = ["offsite"]
host = "$1"
promises = { maximum_age = "26h" }
retention = { daily = 7 }
drill = { every = "30d", files = 5 }
[[profiles.app.sources]]
paths = ["$app"]
C
}
follows() {
  cat <<C
[profiles.level]
kind = "standby"
repositories = ["offsite"]
promises = { maximum_age = "26h" }
standby = { host = "$1", profile = "app", keep = ["$app/local.conf"], delete = true }
C
}
{ repository offsite sftp; saves main; } >"$work/one/esker.toml"
{ repository offsite sftp; follows main; } >"$work/two/esker.toml"
base=$(date +%s)
night=0
# on HOST WORDS...: esker there, with a clock of this night
on() {
  local host=$1 time="@$((base + night * 86400))"
  shift
  set -- env ESKER_CONFIG="$work/$host/esker.toml" ESKER_CACHE_DIR="$work/$host/cache" \
    FAKETIME_DONT_FAKE_MONOTONIC=1 faketime "$time" "$ESKER" "$@"
  if [ "$host" = two ]; then
    # shellcheck disable=SC2016
    set -- unshare --mount -- bash -c 'mount --bind "$0" "$1" && shift && exec "$@"' "$site" "$work/srv" "$@"
  fi
  "$@"
}
# level HERE THERE: both are the same, but for the setting that each has of its own
level() {
  local difference
  difference=$(rsync -aHAXn --checksum --delete --itemize-changes --exclude=/local.conf "$1/" "$2/") || fail "rsync $1 $2"
  [ -z "$difference" ] || fail "$1 and $2 differ: $(printf '%s' "$difference" | head -5)"
  grep -q main "$app/local.conf" || fail 'the main site lost a setting of its own'
  grep -q standby "$site/app/local.conf" || fail 'the standby lost a setting of its own'
}
# count NAME: what the newest record of a run says
count() {
  on one --json -r offsite history --kind run | grep '"extent":"standby"' | tail -1 | grep -o "\"$1\":[0-9]*" | cut -d: -f2
}
packs() { find "$work/servers/sftp/data" -path '*/packs/*' -type f; }
# a bit of each pack of files is flipped, or back again
flip() {
  local pack at byte
  while read -r pack; do
    [ "$(od -An -tu1 -j6 -N1 "$pack" | tr -d ' ')" = 1 ] || continue
    chmod u+w "$pack"
    at=$(($(stat -c %s "$pack") / 3))
    byte=$(od -An -tu1 -j$at -N1 "$pack" | tr -d ' ')
    # shellcheck disable=SC2059
    printf "\\x$(printf %x $((byte ^ 4)))" | dd of="$pack" bs=1 seek=$at conv=notrunc 2>/dev/null
  done
}

on one -q -r offsite init
ends 0 on one -q run app
ends 0 on two -q run level
level "$app" "$site/app"
night=1
seq 2 20000 >"$app/data"
ends 0 on one -q run app
ends 0 on two -q run level
level "$app" "$site/app"
# applied already: nothing is done
ends 0 on two run level
says already
ends 0 on two -q status
step 'two nights'

# three weeks in which only the main site runs; files come, grow and go
packs >"$work/packs"
while [ $night -lt 22 ]; do
  night=$((night + 1))
  seq $night 30000 >"$app/data"
  printf 'night %d\n' $night >"$app/night$night"
  rm -f "$app/night$((night - 3))"
  [ $night != 10 ] || printf 'changed' | dd of="$app/image" bs=1 seek=10000000 conv=notrunc 2>/dev/null
  ends 0 on one -q run app
done
# a week is kept, and what the standby holds is not of it
on one --json -r offsite snapshots --all >"$work/json"
[ "$(grep -c '"status":"complete"' "$work/json")" = 7 ] || fail "seven nights should stay: $(on one -r offsite snapshots --all)"
[ "$(head -2 "$work/json" | grep -c '"status":"deleting"')" = 2 ] || fail "the first nights stay: $(on one -r offsite snapshots --all)"
step '21 nights, standby off'
ends 21 on two status
says '2[01] d behind'
says 'OVERDUE: profile level, repository offsite: what the standby holds is 2[01] d old, promised is 26 h'
# what it has already is not fetched: that cannot be read
flip <"$work/packs"
ends 0 on two -q run level
flip <"$work/packs"
level "$app" "$site/app"
[ "$(count files_written) $(count files_updated)" = '3 2' ] || fail "$(on one --json -r offsite history --kind run | tail -1)"
[ "$(count bytes_written)" -lt 2000000 ] || fail "$(count bytes_written) bytes were written"
ends 0 on two -q status
step 'level with one run'

# failover: the standby works, and changes; the main site comes back, and follows until it is level
night=23
printf 'changed there\n' >"$site/app/data"
rm "$site/app/night21"
{ repository offsite sftp; saves two; } >"$work/two/esker.toml"
ends 0 on two -q run app
rm -rf "$app/archive" "$app/night22"
{ repository offsite sftp; follows two; } >"$work/one/esker.toml"
ends 0 on one -q run level
level "$site/app" "$app"
step 'failover and failback'
night=24
{ repository offsite sftp; saves main; } >"$work/one/esker.toml"
{ repository offsite sftp; follows main; } >"$work/two/esker.toml"
seq 5 5000 >"$app/data"
ends 0 on one -q run app
ends 0 on two -q run level
level "$app" "$site/app"
ends 0 on two -q status
step 'and back again'

ends 0 on one -r offsite history --kind drill
[ "$(grep -c drill "$work/stdout")" -ge 1 ] || fail "no drill was recorded: $(cat "$work/stdout")"
packs | flip
ends 22 on one drill --profile app
says "$app/"
step drill
