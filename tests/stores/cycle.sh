#!/usr/bin/env bash
# cycle.sh NAME: on a server of this name (or `local`), a tree is backed up,
# changed, backed up again, forgotten, pruned, checked and restored.
. "$(dirname "$0")/lib"

# 10,000 files of 140 bytes to 4 KB, a few large ones, links and a hole
make_tree() {
  local hundred size
  mkdir -p "$1/large" "$1/links" "$1/empty"
  for hundred in $(seq 100 199); do
    size=$(((hundred - 99) * 40 + 100))
    mkdir -p "$1/small/$hundred"
    head -c $((size * 100)) /dev/urandom | split -b $size -a 2 -d - "$1/small/$hundred/file"
  done
  for size in 1 5 12 30; do noise "$1/large/$size" $((size * 1048576)); done
  ln -s ../small/100/file00 "$1/links/relative"
  ln -s /nowhere/at/all "$1/links/dangling"
  ln "$1/large/1" "$1/links/hard"
  truncate -s 40M "$1/hole"
  printf middle | dd of="$1/hole" bs=1 seek=20000000 conv=notrunc status=none
}

# twenty files grow, one goes, one comes, and a directory gets another name
change_tree() {
  local files file
  files=$(find "$1" -type f -size -64k | wc -l)
  find "$1" -type f -size -64k | sort | awk -v every=$((files / 20)) 'NR % every == 1' >"$work/changing"
  while read -r file; do printf 'and one line more\n' >>"$file"; done <"$work/changing"
  rm "$(tail -1 "$work/changing")"
  noise "$1/new" 200000
  mkdir "$1/moved" && mv "$(find "$1" -mindepth 2 -type d | sort | head -1)" "$1/moved/"
}

back_up() { esker --json backup "$work/tree" >"$work/json" || fail "backup ended with $?: $(tail -3 "$work/json")"; }

if [ "$long" = yes ]; then
  mkdir "$work/tree"
  cp -a /usr/lib/python3* "$work/tree/"
else
  make_tree "$work/tree"
fi
step tree
serve "$1"
step start
export ESKER_KEY_FILE=$work/key
esker -q init --key-file "$work/key"
step init
"$ESKER" store test >"$work/stdout" || fail "store test ended with $?: $(cat "$work/stdout")"
step test
back_up
first=$(grep -o '"snapshot":"[0-9a-f]*"' "$work/json" | head -1 | cut -d'"' -f4)
stored=$(number bytes_stored)
[ "$stored" -gt 1000000 ] || fail "the first backup stored $stored bytes"
step backup
change_tree "$work/tree"
back_up
[ $(($(number bytes_stored) * 10)) -lt "$stored" ] && [ $(($(number bytes_added) * 10)) -lt "$stored" ] ||
  fail "the second backup added $(number bytes_added) bytes and stored $(number bytes_stored), the first stored $stored"
[ "$(number files_unchanged)" -gt $(($(number files) / 2)) ] || fail "only $(number files_unchanged) files were unchanged"
step again
esker -q forget "$first" --yes --prune --grace 0
listed=$(esker --json snapshots | grep -c '"id":"')
[ "$listed" = 1 ] || fail "$listed snapshots are listed and not 1"
step forget
esker -q check --read-data
step check
esker -q restore latest:"$work/tree" "$work/out"
same "$work/tree" "$work/out"
step restore
restores latest "$work/tree"
step 'from an empty cache'
esker -q scrub
step scrub
