#!/usr/bin/env bash
# A stand-in for Elasticsearch, elasticsearch.py beside this: what its documentation says of snapshots, with documents in memory
# and on disk. Not Elasticsearch: no search, one shard or two an index, files of a format of its own.
#
# DIR/snapshots is what path.repo allows. DIR/outcome, if it is there, says how the next snapshots end (PARTIAL or FAILED),
# DIR/seconds how long they are IN_PROGRESS.
. "$(dirname "$0")/lib"

install() {
  debian python3:python3 curl:curl
}

start() {
  vacant
  mkdir -p "$dir/data" "$dir/snapshots"
  local password="it's \$ecret"
  (umask 077 && printf '%s' "$password" >"$dir/password")
  launch elasticsearch python3 "$root/tests/servers/elasticsearch.py" "$dir" "$port"
  answers elasticsearch http -f --user "elastic:$password" "http://127.0.0.1:$port/"
  environment "ESKER_TEST_ELASTICSEARCH=http://127.0.0.1:$port" ESKER_TEST_USER=elastic "ESKER_TEST_PASSWORD=$password"
}

act "$@"
