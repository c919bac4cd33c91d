#!/usr/bin/env bash
# Backing up the directory that holds the repository and the cache: both are
# left out, and the third backup stores nothing.
. "$(dirname "$0")/lib"

mkdir -p "$work/tree/data" && printf 'x' >"$work/tree/data/file"
export ESKER_CACHE_DIR=$work/tree/cache
"$ESKER" -q -r "$work/tree/repo" init --key-file "$work/key"
export ESKER_KEY_FILE=$work/key ESKER_REPOSITORY=$work/tree/repo
for _ in 1 2; do sleep 0.1; "$ESKER" -q backup "$work/tree"; done
before=$(data_packs "$work/tree/repo")
sleep 0.1
"$ESKER" -q backup "$work/tree"
[ "$(data_packs "$work/tree/repo")" = "$before" ] || fail "the third backup put a data pack"
