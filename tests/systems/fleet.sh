#!/usr/bin/env bash
# Ten hosts with a write key each, whose logins may not delete; one host that keeps the repository with a maintain key,
# and one that watches. Thirty nights; one host is stolen and its key revoked. All that was not forgotten restores, that
# host's snapshots included.
. "$(dirname "$0")/lib"

nights=30
hosts='h0 h1 h2 h3 h4 h5 h6 h7 h8 h9'
server sftp
(. "$servers/lib" && debian faketime:faketime)
# shellcheck disable=SC1090
. "$work/servers/sftp/env"
unset ESKER_REPOSITORY
url=$(place sftp fleet)
# night N is so many days after a Monday
base=$(date -d 'last monday 12:00' +%s)
night=0
# on NIGHT COMMAND...: with a clock of that night
at() {
  FAKETIME_DONT_FAKE_MONOTONIC=1 faketime "@$((base + night * 86400))" "$@"
}
# owner WORDS...: esker with the owner's key
owner() { at "$ESKER" -q -r "$url" --key-file "$work/owner" "$@"; }
owner init
for host in $hosts keeper watcher; do
  mkdir -p "$work/$host/home" "$work/$host/cache"
  case $host in keeper) role=maintain ;; watcher) role=watch ;; *) role=write ;; esac
  owner key add --role $role --label "$host" --new-key-file "$work/$host/key"
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
  if [ $night = 20 ]; then
    # one host is stolen, with its key and its cache
    cp -a "$work/h3/data" "$work/lost"
    owner key remove h3 || fail 'the key of the lost host was not revoked'
    alive=${alive/h3 /}
  fi
done
step "$nights nights"
(. "$work/servers/sftp/env.append" && unset ESKER_REPOSITORY && ends 12 on h3 -q run night)
rm -rf "$work/h3"
code=0
on watcher -r fleet status >"$work/status" 2>&1 || code=$?
[ $code = 21 ] && grep -q h3 "$work/status" || fail "status ended with $code: $(cat "$work/status")"
[ "$(grep -c ' night ' "$work/status")" -ge 10 ] || fail "status: $(cat "$work/status")"
step status

# a week is kept, and the last nights of two weeks before; what was forgotten sooner than the last time is gone
owner --json snapshots --all >"$work/json"
# found HOST: night, status and id of each of its snapshots
found() {
  local time status id
  grep '"type":"snapshot"' "$work/json" | grep "\"host\":\"$1\"" |
    sed 's/.*"id":"\([^"]*\)","time":"\([^"]*\)".*"status":"\([^"]*\)".*/\2 \3 \1/' | sort |
    while read -r time status id; do printf '%d %s %s\n' $((($(date -d "$time" +%s) - base) / 86400)) "$status" "$id"; done
}
# stands HOST STATUS NIGHTS
stands() {
  local there
  there=$(found "$1" | grep " $2 " | cut -d' ' -f1 | tr '\n' ' ')
  [ "$there" = "$3" ] || fail "$2 of $1 should be the nights $3, not $there"
}
for host in $alive; do
  stands "$host" complete '20 24 25 26 27 28 29 30 '
  stands "$host" deleting '13 19 21 22 23 '
done
stands h3 complete '6 13 14 15 16 17 18 19 20 '
stands h3 deleting ''
step retention

# restores_all HOST DATA: every night of it, the last one to the attributes
restores_all() {
  local night status id out
  found "$1" | grep ' complete ' >"$work/out/$1.nights"
  while read -r night status id; do
    out=$work/out/$1/$night
    owner --cache-dir "$work/out/$1.cache" restore "$id:$work/$1/data" "$out" || fail "night $night of $1 does not restore"
    seq -f 'night %.0f' 1 "$night" | cmp - "$out/diary" || fail "the diary of night $night of $1 differs"
    diff -r --exclude=diary "$2" "$out" || fail "night $night of $1 differs"
  done <"$work/out/$1.nights"
  same "$2" "$out"
}
mkdir "$work/out"
jobs=
for host in $hosts; do
  data=$work/$host/data
  [ "$host" != h3 ] || data=$work/lost
  restores_all "$host" "$data" &
  jobs="$jobs $!"
done
for job in $jobs; do wait "$job" || fail 'not all of it came back'; done
owner check --read-data
step 'all of it'
