#!/usr/bin/env bash
# append-only.sh NAME: a client whose credentials do not let it delete backs up
# all the same, and whoever steals its machine, with every key, removes nothing.
. "$(dirname "$0")/lib"

name=$1
as_client() { (. "$work/servers/$name/env.append" && export ESKER_CACHE_DIR=$work/client && "$@"); }

serve "$name"
step start
esker -q init --key-file "$work/key"
esker -q --key-file "$work/key" key add --role write --label client --new-key-file "$work/write"
mkdir "$work/tree"
for file in $(seq 30); do noise "$work/tree/$file" 200000; done
as_client esker -q --key-file "$work/write" backup --host client --name first "$work/tree" || fail "the first backup ended with $?"
cp -a "$work/tree" "$work/first"
noise "$work/tree/1" 400000
as_client esker -q --key-file "$work/write" backup --host client --name second "$work/tree" || fail "the second backup ended with $?"
step backups
export ESKER_KEY_FILE=$work/key
esker -q forget --yes first
code=0
as_client timeout 60 "$ESKER" -q prune --grace 0 --max-unused 0 2>"$work/stderr" || code=$?
[ $code != 0 ] || fail 'a prune by a client that may not delete said that it was done'
one_line
esker -q check --read-data || fail "check after a prune that was not allowed ended with $?"
restores second "$work/tree"
step 'a prune that may not'
esker -q prune --grace 0 --max-unused 0
esker -q check --read-data
restores second "$work/tree"
step 'a prune that may'
