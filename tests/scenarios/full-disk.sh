#!/usr/bin/env bash
# A file system filled to the last byte by a backup, with the cache on it as
# well: nothing is lost, and forget --prune frees it without any other step.
. "$(dirname "$0")/lib"

[ "$(id -u)" = 0 ] || { echo 'skipped: mounting a tmpfs needs root'; exit 0; }
disk=$work/disk
mkdir "$disk" "$work/tree"
mount -t tmpfs -o size=48m none "$disk" || { echo 'skipped: no tmpfs can be mounted here'; exit 0; }
trap 'umount "$disk"; rm -rf "$work"' EXIT
export ESKER_CACHE_DIR=$disk/cache ESKER_REPOSITORY=$disk/repo ESKER_KEY_FILE=$work/key
"$ESKER" -q init --key-file "$work/key"
head -c 12000000 /dev/urandom >"$work/tree/old"
"$ESKER" -q backup --tag old "$work/tree"
rm "$work/tree/old"
head -c 8000000 /dev/urandom >"$work/tree/kept"
"$ESKER" -q backup --tag kept "$work/tree"
mkdir "$work/more"
head -c 60000000 /dev/urandom >"$work/more/much"
code=0
"$ESKER" -q backup --host other "$work/more" 2>"$work/stderr" || code=$?
[ "$code" = 1 ] || [ "$code" = 75 ] || fail "a backup onto a full disk ended with $code: $(cat "$work/stderr")"
dd if=/dev/zero of="$disk/filler" bs=4096 2>/dev/null || true
left=$(df --output=avail -B1 "$disk" | tail -1)
[ "$left" -lt 4096 ] || fail "the disk is not full: $left"
"$ESKER" -q restore --no-cache latest --tag kept "$work/out" || fail "nothing may be lost"
"$ESKER" -q forget --keep-last 1 --keep-tag kept --prune --grace 0 --yes || fail "no room was made"
free=$(df --output=avail -B1 "$disk" | tail -1)
[ "$free" -gt 10000000 ] || fail "only $free bytes came free"
rm -f "$disk/filler"
"$ESKER" -q check --read-data
rm -rf "$work/out"
"$ESKER" -q restore latest:"$work/tree" "$work/out"
same "$work/tree" "$work/out"
printf '%d bytes came free on a full disk\n' "$free"
