#!/usr/bin/env bash
# While three machines back up in a loop and two prune without grace, one of
# them forgetting as it goes, every snapshot that was reported good and that
# nobody forgot passes check --read-data and restores.
. "$(dirname "$0")/lib"

seconds=60
[ "$long" = yes ] && seconds=600
"$ESKER" -q -r "$work/repo" init --key-file "$work/key"
export ESKER_REPOSITORY=$work/repo ESKER_KEY_FILE=$work/key
"$ESKER" -q key add --role maintain --label maintainer --new-key-file "$work/maintain"
mkdir "$work/good" "$work/forgotten"
end=$((SECONDS + seconds))

# digest TREE: one hash over names and contents
digest() { (cd "$1" && find . -type f -print0 | sort -z | xargs -0 sha256sum | sha256sum | cut -d' ' -f1); }

back_up() { # back_up CLIENT: each good snapshot leaves a file with its digest
  local tree=$work/tree$1 round=0 code id
  mkdir "$tree"
  for file in $(seq 60); do head -c $((RANDOM % 40000 + 200)) /dev/urandom >"$tree/$file"; done
  while [ $SECONDS -lt $end ]; do
    round=$((round + 1))
    # some content is new, some was seen before and may be about to go
    for _ in 1 2 3 4; do
      cp "$work/pool/$((RANDOM % 30))" "$tree/$((RANDOM % 60 + 1))"
      head -c $((RANDOM % 40000 + 200)) /dev/urandom >"$tree/$((RANDOM % 60 + 1))"
    done
    code=0
    ESKER_CACHE_DIR=$work/cache$1 "$ESKER" --json backup --host "host$1" "$tree" >"$work/json$1" 2>"$work/err$1" || code=$?
    case $code in
      0)
        id=$(grep -o '"snapshot":"[0-9a-f]*"' "$work/json$1" | head -1 | cut -d'"' -f4)
        [ -n "$id" ] || { cat "$work/json$1"; return 1; }
        digest "$tree" >"$work/good/$id"
        ;;
      75) ;;
      *) echo "backup $1 ended with $code: $(cat "$work/err$1")"; return 1 ;;
    esac
  done
  echo "$round backups by client $1"
}

prune() { # prune NUMBER KEY
  local round=0 code id
  while [ $SECONDS -lt $end ]; do
    round=$((round + 1))
    if [ "$1" = 1 ]; then
      for id in $(find "$work/good" -type f -printf '%f\n' | shuf -n 2); do
        # noted first: it may be gone from then on
        mv "$work/good/$id" "$work/forgotten/$id"
        ESKER_CACHE_DIR=$work/prunes$1 "$ESKER" -q --key-file "$2" forget --yes --allow-empty "$id" 2>"$work/forget$1" || { cat "$work/forget$1"; return 1; }
      done
    fi
    code=0
    ESKER_CACHE_DIR=$work/prunes$1 "$ESKER" -q --key-file "$2" prune --grace 0 --max-unused 0 2>"$work/prune$1" || code=$?
    [ "$code" = 0 ] || { echo "prune $1 ended with $code: $(cat "$work/prune$1")"; return 1; }
  done
  echo "$round prunes by maintainer $1"
}

mkdir "$work/pool"
for file in $(seq 0 29); do head -c $((RANDOM % 40000 + 200)) /dev/urandom >"$work/pool/$file"; done
pids=
for client in 1 2 3; do back_up $client & pids="$pids $!"; done
prune 1 "$work/key" & pids="$pids $!"
prune 2 "$work/maintain" & pids="$pids $!"
for pid in $pids; do wait "$pid" || fail "one of the five"; done
"$ESKER" -q check --read-data || fail "check after all"
count=0
for file in "$work"/good/*; do
  id=$(basename "$file")
  rm -rf "$work/out"
  "$ESKER" -q restore "$id" "$work/out" || fail "snapshot $id does not restore"
  tree=$(find "$work/out" -type d -name 'tree?' | head -1)
  [ "$(digest "$tree")" = "$(cat "$file")" ] || fail "snapshot $id restores to something else"
  count=$((count + 1))
done
[ "$count" -gt 3 ] || fail "only $count snapshots were left to look at"
gone=$(find "$work/forgotten" -type f | wc -l)
"$ESKER" -q prune --grace 0 --max-unused 0 --full
"$ESKER" -q check --read-data || fail "check after the last prune"
printf '%d snapshots reported good and kept restore; %d were forgotten\n' "$count" "$gone"
