#!/usr/bin/env bash
# A prune killed at random moments loses nothing that was reported good, and
# the next prune finishes the job.
. "$(dirname "$0")/lib"

kills=20
[ "$long" = yes ] && kills=200
"$ESKER" -q -r "$work/repo" init --key-file "$work/key"
export ESKER_REPOSITORY=$work/repo ESKER_KEY_FILE=$work/key
mkdir "$work/tree"
for file in $(seq 400); do head -c 50000 /dev/urandom >"$work/tree/$file"; done
"$ESKER" -q backup "$work/tree"
killed=0
for attempt in $(seq $kills); do
  # much of what the snapshot before holds is gone in the next one
  for _ in $(seq 60); do head -c 50000 /dev/urandom >"$work/tree/$((RANDOM % 400 + 1))"; done
  "$ESKER" -q backup "$work/tree"
  "$ESKER" -q forget --keep-last 1 --yes
  "$ESKER" -q prune --grace 0 --max-unused 0 2>/dev/null &
  pid=$!
  sleep "0.0$((RANDOM % 9))$((RANDOM % 9))"
  kill -9 "$pid" 2>/dev/null && killed=$((killed + 1))
  wait "$pid" 2>/dev/null || true
  rm -rf "$work/out"
  "$ESKER" -q restore latest:"$work/tree" "$work/out" || fail "restore after kill $attempt"
  same "$work/tree" "$work/out"
done
"$ESKER" -q prune --grace 0 --max-unused 0 --full
[ -z "$(find "$work/repo/sweeps" -type f 2>/dev/null)" ] || fail "an announcement is left"
[ "$(find "$work/repo/snapshots" -type f | wc -l)" = 1 ] || fail "a forgotten snapshot is left"
"$ESKER" -q check --read-data
stored=$(du -sb "$work/repo/packs" | cut -f1)
# packs of prunes that were killed before they were listed are kept for three days
listed=$("$ESKER" --json stats | grep -o '"packs_bytes":[0-9]*' | cut -d: -f2 || true)
"$ESKER" -q restore latest:"$work/tree" "$work/last"
same "$work/tree" "$work/last"
printf 'killed %d of %d prunes; %d bytes lie in packs for 20000000 in files\n' "$killed" "$kills" "$stored"
