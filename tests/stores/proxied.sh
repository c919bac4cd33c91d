#!/usr/bin/env bash
# proxied.sh NAME: on a server of this name that speaks HTTP, behind a proxy that cuts,
# alters, loses and refuses (tests/servers/proxy.py): every run ends well, or in one
# sentence that says what is wrong.
. "$(dirname "$0")/lib"

name=$1

# behind FAULT [EVERY]: a proxy in front of the server; `through` is the repository seen through it
behind() {
  at=$(free_port)
  python3 "$servers/proxy.py" "$at" "$port" "$@" >"$work/proxy.log" 2>&1 </dev/null &
  proxy=$!
  until (exec 3<>"/dev/tcp/127.0.0.1/$at") 2>/dev/null; do
    kill -0 $proxy 2>/dev/null || fail "the proxy: $(cat "$work/proxy.log")"
    sleep 0.02
  done
  through=${ESKER_REPOSITORY/127.0.0.1:$port/127.0.0.1:$at}
}

direct() {
  kill $proxy
  wait $proxy 2>/dev/null || true
}

# suffers FAULT EVERY: a backup, a check, a prune and a restore through the proxy
suffers() {
  behind "$@"
  for file in 1 2 3; do noise "$work/tree/$file" 6000000; done
  esker -q -r "$through" backup "$work/tree" || fail "$1: backup ended with $?"
  esker -q -r "$through" check --read-data || fail "$1: check ended with $?"
  esker -q -r "$through" forget --keep-last 1 --keep-tag earlier --yes --prune --grace 0 --max-unused 0 ||
    fail "$1: prune ended with $?"
  rm -rf "$work/out"
  esker -q -r "$through" --cache-dir "$work/none" restore "latest:$work/tree" "$work/out" ||
    fail "$1: restore ended with $?"
  same "$work/tree" "$work/out"
  esker -q -r "$through" dump "latest:$work/tree/2" | cmp - "$work/tree/2" || fail "$1: dump"
  rm -rf "$work/none"
  direct
  step "$*"
}

# refused FAULT CODE WORDS: nothing but a sentence
refused() {
  behind "$1"
  exits "$2" esker -r "$(impatient "$through")" --no-cache snapshots
  one_line
  grep -qi "$3" "$work/stderr" || fail "nothing of $3 in: $(cat "$work/stderr")"
  exits "$2" esker -r "$(impatient "$through")" --no-cache backup "$work/tree"
  one_line
  direct
  step "$1"
}

serve "$name"
export ESKER_KEY_FILE=$work/key
mkdir -p "$work/tree"
noise "$work/tree/0" 1000000
cp -a "$work/tree" "$work/earlier"
esker -q init --key-file "$work/key"
esker -q backup --tag earlier --name earlier "$work/tree"
step start
suffers cut-put 3
suffers cut-get 9
suffers lost-put 6
suffers alter-get 7
case $name in
  ceph)
    suffers alter-put 3
    suffers 500 31
    suffers 503 41
    suffers 429 47
    refused expired 1 expired
    refused skewed 1 clock
    refused gone 10 'no such bucket'
    if command -v faketime >/dev/null; then
      exits 1 faketime '2031-01-01' "$ESKER" --no-cache snapshots
      one_line
      grep -qi clock "$work/stderr" || fail "nothing of a clock in: $(cat "$work/stderr")"
      step clock
    fi ;;
esac
# and nothing that is wrong was left behind
esker -q check --read-data || fail "check without a proxy ended with $?"
restores earlier "$work/earlier"
esker -q backup "$work/tree"
step end
