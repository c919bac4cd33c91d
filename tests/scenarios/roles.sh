#!/usr/bin/env bash
# A write key on a machine of its own backs up incrementally and opens nothing;
# the codes of wrong keys and places.
. "$(dirname "$0")/lib"

mkdir "$work/tree" && cp -r /usr/share/perl5 "$work/tree/" 2>/dev/null
printf 'secret' >"$work/tree/file" && head -c 5000000 /dev/urandom >"$work/tree/large"
"$ESKER" -q -r "$work/repo" init --key-file "$work/full"
export ESKER_REPOSITORY=$work/repo
"$ESKER" -q --key-file "$work/full" key add --role write --label laptop --new-key-file "$work/write"
"$ESKER" -q --key-file "$work/full" key add --role read --label auditor --new-key-file "$work/read"
sleep 0.1
export ESKER_CACHE_DIR=$work/laptop
"$ESKER" -q --key-file "$work/write" backup --host laptop "$work/tree"
"$ESKER" --json --key-file "$work/write" backup --host laptop "$work/tree" >"$work/second"
grep -q '"files_changed":0' "$work/second" && grep -q '"files_new":0' "$work/second" ||
  fail "the second backup with a write key read files: $(cat "$work/second")"
rm -rf "$work/laptop"
packs=$(data_packs "$work/repo")
"$ESKER" -q --key-file "$work/write" backup --host laptop "$work/tree"
[ "$(data_packs "$work/repo")" = "$packs" ] || fail "without its cache a write key stored data twice"
exits 13 "$ESKER" --key-file "$work/write" restore latest "$work/out" && one_line
exits 13 "$ESKER" --key-file "$work/read" backup "$work/tree" && one_line
"$ESKER" -q --key-file "$work/read" restore latest:"$work/tree" "$work/out"
same "$work/tree" "$work/out"
"$PYTHON" "$READER" public "$work/repo" --key-file "$work/write"
head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \n' | sed 's/^/ESKER-KEY-1 /' >"$work/wrong"
exits 12 "$ESKER" --key-file "$work/wrong" snapshots && one_line
exits 10 "$ESKER" -r "$work/nowhere" --key-file "$work/full" snapshots && one_line
unset ESKER_REPOSITORY
exits 10 "$ESKER" --key-file "$work/full" backup "$work/tree" && one_line
