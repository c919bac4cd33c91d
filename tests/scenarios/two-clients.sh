#!/usr/bin/env bash
# Two machines back up into one repository at once; both snapshots restore.
. "$(dirname "$0")/lib"

for client in 1 2; do
  mkdir -p "$work/tree$client"
  for file in $(seq 200); do
    head -c $((file * 300)) /dev/urandom >"$work/tree$client/$file"
  done
  cp -r /usr/share/perl5 "$work/tree$client/" 2>/dev/null || true
done
"$ESKER" -q -r "$work/repo" init --key-file "$work/key"
export ESKER_KEY_FILE=$work/key ESKER_REPOSITORY=$work/repo
pids=
for client in 1 2; do
  ESKER_CACHE_DIR=$work/cache$client "$ESKER" -q backup --host "host$client" "$work/tree$client" &
  pids="$pids $!"
done
for pid in $pids; do wait "$pid" || fail "one of the two backups"; done
# the same machine twice at once, sharing one cache
for client in 1 2; do
  "$ESKER" -q backup --host both --profile "p$client" "$work/tree$client" &
  pids="$pids $!"
done
for pid in $pids; do wait "$pid" || fail "one of two backups with one cache"; done
for client in 1 2; do
  "$ESKER" -q restore --host "host$client" latest:"$work/tree$client" "$work/out$client"
  same "$work/tree$client" "$work/out$client"
done
"$ESKER" -q check --read-data
