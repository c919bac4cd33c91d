#!/usr/bin/env bash
# A first backup killed twenty times at random loses nothing, and uploads at
# most 1.1 times the bytes of an undisturbed one.
. "$(dirname "$0")/lib"

mkdir "$work/tree"
for file in $(seq 60); do head -c 6000000 /dev/urandom >"$work/tree/$file"; done
"$ESKER" -q -r "$work/repo" init --key-file "$work/key"
export ESKER_KEY_FILE=$work/key ESKER_REPOSITORY=$work/repo
kills=20
for attempt in $(seq $kills); do
  "$ESKER" -q backup "$work/tree" &
  pid=$!
  sleep "0.$((RANDOM % 45 + 5))"
  kill -9 "$pid" 2>/dev/null || true
  wait "$pid" 2>/dev/null || true
done
"$ESKER" -q backup "$work/tree"
put=$(du -sb "$work/repo/packs" | cut -f1)
[ "$put" -lt $((360000000 * 11 / 10)) ] || fail "$put bytes lie in packs for 360000000 in files"
"$ESKER" -q restore latest:"$work/tree" "$work/out"
same "$work/tree" "$work/out"
"$ESKER" -q check --read-data
printf 'killed %d times; %d bytes put for 360000000\n' "$kills" "$put"
