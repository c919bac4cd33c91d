#!/usr/bin/env bash
# Ten hosts with a write key each, whose logins may not delete; one host that keeps the repository with a maintain key,
# and one that watches. Six nights, thirty with --long; one host is lost and its key revoked. What was not forgotten restores, that host's
# snapshots included.
. "$(dirname "$0")/lib"

nights=6
[ $long = no ] || nights=30
hosts='h0 h1 h2 h3 h4 h5 h6 h7 h8 h9'
server sftp
(. "$servers/lib" && debian faketime:faketime)
# shellcheck disable=SC1090
. "$work/servers/sftp/env"
unset ESKER_REPOSITORY
url=$(place sftp fleet)
base=$(date +%s)
night=0
# on NIGHT COMMAND...: with a clock of that night
at() {
  FAKETIME_DONT_FAKE_MONOTONIC=1 faketime "@$((base + night * 86400))" "$@"
}
at "$ESKER" -q -r "$url" init --key-file "$work/owner"
for host in $hosts keeper watcher; do
  mkdir -p "$work/$host/home" "$work/$host/cache"
  case $host in keeper) role=maintain ;; watcher) role=watch ;; *) role=write ;; esac
  at "$ESKER" -q -r "$url" --key-file "$work/owner" key add --role $role --label "$host" --new-key-file "$work/$host/key"
  printf '[repositories.fleet]\nurl = "%s"\nkey_file = "%s"\n' "$url" "$work/$host/key" >"$work/$host/esker.toml"
done
for host in $hosts; do
  mkdir -p "$work/$host/data"
  printf 'host %s\n' "$host" >"$work/$host/data/name"
  seq 1 2000 >"$work/$host/data/numbers"
  cat >>"$work/$host/esker.toml" <<C
[profiles.night]
repositories = ["fleet"]
host = "$host"
promises = { maximum_age = "26h" }
[[profiles.night.sources]]
paths = ["$work/$host/data"]
C
done
cat >>"$work/keeper/esker.toml" <<'C'
[profiles.keep]
kind = "maintenance"
repositories = ["fleet"]
retention = { daily = 7, weekly = 3, group_by = ["host", "profile"] }
prune = { grace = "1d" }
C
# on HOST WORDS...: esker as that host
on() {
  local host=$1
  shift
  HOME=$work/$host/home ESKER_CACHE_DIR=$work/$host/cache ESKER_CONFIG=$work/$host/esker.toml at "$ESKER" "$@"
}
step 'fleet'

alive=$hosts
while [ $night -lt $nights ]; do
  night=$((night + 1))
  jobs=
  for host in $alive; do
    printf 'night %d\n' $night >>"$work/$host/data/diary"
    # their logins may put, and delete nothing
    (. "$work/servers/sftp/env.append" && unset ESKER_REPOSITORY && on "$host" -q run night >"$work/$host/log" 2>&1) &
    jobs="$jobs $!"
  done
  for job in $jobs; do wait "$job" || fail "night $night: $(tail -3 "$work"/h*/log)"; done
  [ $((night % 5)) != 0 ] || on keeper -q run keep >"$work/keeper/log" 2>&1 || fail "keeper: $(tail -5 "$work/keeper/log")"
  if [ $night = $((nights * 2 / 3)) ]; then
    # one host is stolen
    cp -a "$work/h3/data" "$work/lost"
    at "$ESKER" -q -r "$url" --key-file "$work/owner" key remove h3 ||
      fail 'the key of the lost host was not revoked'
    alive=${alive/h3 /}
  fi
done
step "$nights nights"
code=0
on watcher -r fleet status >"$work/status" 2>&1 || code=$?
[ $code = 21 ] && grep -q h3 "$work/status" || fail "status ended with $code: $(cat "$work/status")"
[ "$(grep -c ' night ' "$work/status")" -ge 10 ] || fail "status: $(cat "$work/status")"
step status
export ESKER_CACHE_DIR=$work/auditor
for host in $hosts; do
  at "$ESKER" -q -r "$url" --key-file "$work/owner" restore --host "$host" "latest:$work/$host/data" "$work/out/$host" ||
    fail "nothing of $host"
  if [ "$host" = h3 ]; then same "$work/lost" "$work/out/h3"; else same "$work/$host/data" "$work/out/$host"; fi
done
at "$ESKER" -q -r "$url" --key-file "$work/owner" check --read-data
step 'all of it'
