#!/usr/bin/env bash
# A tree with every kind of entry comes back identical, by esker and by the
# independent reader.
. "$(dirname "$0")/lib"

make_tree() {
  local t=$1
  mkdir -p "$t/empty" "$t/deep" "$t/many"
  printf 'plain\n' >"$t/plain"
  : >"$t/nothing"
  head -c 3000000 /dev/urandom >"$t/random"
  head -c 9000000 /dev/zero >"$t/zeros"
  truncate -s 40M "$t/sparse" && printf 'middle' | dd of="$t/sparse" bs=1 seek=20000000 conv=notrunc status=none
  ln "$t/random" "$t/hard link"
  ln -s ../somewhere "$t/link" && ln -s "$(head -c 3000 /dev/zero | tr '\0' x)" "$t/long link" 2>/dev/null || true
  mkfifo "$t/fifo"
  printf x >"$t/$(printf 'not\377utf8')"
  printf x >"$t/$(printf 'new\nline')"
  printf x >"$t/-rf"
  printf x >"$t/$(printf '%0250d' 1)"
  printf 'old' >"$t/old" && touch -d '1969-07-20 20:17:40.123456789 UTC' "$t/old"
  printf 'mode' >"$t/mode" && chmod 4711 "$t/mode"
  mkdir "$t/sticky" && chmod 1777 "$t/sticky"
  setfattr -n user.test -v value "$t/plain" && setfattr -n user.long -v "$(head -c 3500 /dev/zero | tr '\0' y)" "$t/random"
  setfacl -m u:12345:rwx,g:23456:r "$t/plain" && setfacl -d -m u:12345:rx "$t/empty"
  (cd "$t/deep" && for _ in $(seq 15); do d=$(printf '%0200d' 7); mkdir "$d" && cd "$d"; done && printf bottom >file)
  (cd "$t/many" && seq 1 3000 | xargs touch)
  if [ "$(id -u)" = 0 ]; then
    mknod "$t/null" c 1 3 && mknod "$t/block" b 7 99
    chown 12345:23456 "$t/plain" && chown -h 1:1 "$t/link"
    setcap cap_net_raw+ep "$t/mode" 2>/dev/null || true
  fi
}

make_tree "$work/tree"
"$ESKER" -q -r "$work/repo" init --key-file "$work/key"
export ESKER_KEY_FILE=$work/key ESKER_REPOSITORY=$work/repo
sleep 0.1
"$ESKER" -q backup "$work/tree"
"$ESKER" -q restore latest:"$work/tree" "$work/out"
same "$work/tree" "$work/out"
snapshot=$("$ESKER" --json snapshots | grep -o '"id":"[0-9a-f]*"' | head -1 | cut -d'"' -f4)
[ -n "$snapshot" ] || fail "no snapshot listed"
"$PYTHON" "$READER" restore "$work/repo" "$snapshot" "$work/read" --key-file "$work/key"
same "$work/tree" "$work/read$work/tree"
"$ESKER" -q check --read-data
"$ESKER" -q scrub
rm -rf "$work/cache"
packs=$(data_packs "$work/repo")
"$ESKER" -q backup "$work/tree"
[ "$(data_packs "$work/repo")" = "$packs" ] || fail "a second backup after the cache was deleted stored data"
"$ESKER" -q restore latest:"$work/tree" "$work/out" && same "$work/tree" "$work/out"
