#!/usr/bin/env bash
# full.sh NAME: the disk of a server of this name fills up during a backup. It ends with
# one sentence, what was stored before restores, and with room again the next one works.
. "$(dirname "$0")/lib"

if [ "$(id -u)" != 0 ]; then
  printf 'full %s: left out, a small file system can only be made by root\n' "$1"
  exit 0
fi
mounted=$work/servers/$1/data
mkdir -p "$mounted"
mount -t tmpfs -o size=40m esker-test "$mounted"
serve "$1"
export ESKER_KEY_FILE=$work/key
mkdir -p "$work/tree"
noise "$work/tree/small" 5000000
cp -a "$work/tree" "$work/earlier"
esker -q init --key-file "$work/key"
esker -q backup --name earlier "$work/tree"
step start
noise "$work/tree/large" 60000000
exits 1 esker -q backup "$work/tree"
one_line
grep -qi 'no space left' "$work/stderr" || fail "nothing of space in: $(cat "$work/stderr")"
restores earlier "$work/earlier"
step full
mount -o remount,size=400m "$mounted"
esker -q backup --name later "$work/tree"
esker -q check --read-data
restores later "$work/tree"
step 'room again'
