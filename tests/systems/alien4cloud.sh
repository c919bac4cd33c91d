#!/usr/bin/env bash
# A deployment tool with a search engine (Alien4Cloud): indices through the snapshot API, and directories of artifacts, archives
# and plugins with the configuration, in one snapshot. A search engine whose snapshot is PARTIAL does not take the files
# with it. The search engine is a stand-in, as is said in tests/servers/elasticsearch.py.
. "$(dirname "$0")/lib"

server elasticsearch
server moto
step servers

engine=$work/servers/elasticsearch
home=$work/alien4cloud
ask() { # ask METHOD PATH [BODY]
  curl -sS -f -X "$1" --user "elastic:$(cat "$engine/password")" -H 'content-type: application/json' \
    "$(setting elasticsearch ESKER_TEST_ELASTICSEARCH)/$2" ${3:+--data-binary "$3"}
}
bulk() { # bulk INDEX FROM TO
  seq "$2" "$3" | sed "s/.*/{\"index\":{\"_id\":\"&\"}}\n{\"name\":\"thing & of $1\",\"number\":&}/" >"$work/bulk"
  ask POST "$1/_bulk" "@$work/bulk" >/dev/null
}
documents() { for index in deploymenttasks imagedata toscaelement; do ask GET "$index/_search"; done; }
# came_back: documents and files are as they were
came_back() {
  documents >"$work/documents-after"
  cmp "$work/documents" "$work/documents-after" || fail 'documents differ'
  local of
  for of in config runtime/artifacts runtime/csar runtime/plugins; do same "$work/before/$of" "$home/$of"; done
}

for index in deploymenttasks imagedata toscaelement; do
  ask PUT $index '{"settings":{"number_of_shards":2}}' >/dev/null
  bulk $index 1 500
done
ask PUT _snapshot/alien '{"type":"fs","settings":{"location":"alien"}}' >/dev/null
mkdir -p "$home"/{config,runtime/artifacts,runtime/csar/tosca/1.0,runtime/plugins}
printf 'directories:\n  alien: runtime\n' >"$home/config/alien4cloud-config.yml"
printf 'keystore\n' >"$home/config/server-keystore.jks"
chmod 600 "$home/config/server-keystore.jks"
for n in 1 2 3 4; do noise "$home/runtime/artifacts/$n" $((n * 100000)); done
seq 1 20000 >"$home/runtime/csar/tosca/1.0/definitions.yml"
ln -s tosca "$home/runtime/csar/current"
noise "$home/runtime/plugins/orchestrator.zip" 200000
ln "$home/runtime/plugins/orchestrator.zip" "$home/runtime/plugins/orchestrator-4.zip"
touch -d '2020-02-29 12:00:00.123456789' "$home/runtime/plugins/orchestrator.zip"
secret elastic <"$engine/password"

{
  repository backups moto AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY
  cat <<C
[profiles.alien4cloud]
repositories = ["backups"]
host = "alien"
schedule = ["02:00"]
retention = { last = 2 }
name = "alien-{time:%H%M%S%3f}"

[[profiles.alien4cloud.sources]]
name = "search"
timeout = "1m"
restore_order = 3
[profiles.alien4cloud.sources.preset]
kind = "elasticsearch"
url = "$(setting elasticsearch ESKER_TEST_ELASTICSEARCH)"
user = "elastic"
password = { file = "$secrets/elastic" }
repository = "alien"
path = "$engine/snapshots/alien"

[[profiles.alien4cloud.sources]]
name = "runtime"
paths = ["$home/runtime/artifacts", "$home/runtime/csar", "$home/runtime/plugins"]
restore_order = 2

[[profiles.alien4cloud.sources]]
name = "configuration"
paths = ["$home/config"]
restore_order = 1
C
} >"$ESKER_CONFIG"
create backups
ends 0 "$ESKER" config check
step config

# asked once it would not be done yet
printf 1.5 >"$engine/seconds"
ends 0 "$ESKER" -q run alien4cloud
rm "$engine/seconds"
step 'first night'

bulk toscaelement 501 600
ask DELETE imagedata/_doc/7 >/dev/null
ask POST imagedata/_doc/8 '{"name":"changed ü"}' >/dev/null
printf 'later: true\n' >>"$home/config/alien4cloud-config.yml"
rm "$home/runtime/artifacts/4"
noise "$home/runtime/artifacts/5" 50000
for outcome in PARTIAL FAILED; do
  printf '%s' $outcome >"$engine/outcome"
  ends 3 "$ESKER" -q run alien4cloud
  says "$outcome"
  says search
  # the files are there nevertheless, and nothing is there that could be taken for indices
  partial=$("$ESKER" -r backups --json snapshots | grep '"status":"partial"' | tail -1 |
    grep -o '"id":"[0-9a-f]*"' | cut -d'"' -f4)
  ends 0 "$ESKER" -q -r backups restore "$partial" "$work/out"
  same "$home" "$work/out$home"
  [ ! -e "$work/out/search" ] || fail "something of the $outcome snapshot is stored: $(find "$work/out/search" | head -3)"
  rm -r "$work/out"
done
rm "$engine/outcome"
[ "$(ask GET _snapshot/alien/_all | grep -o '"snapshot": "' | wc -l)" = 1 ] || fail 'snapshots of no use stay in the search engine'
step 'PARTIAL and FAILED'

ends 0 "$ESKER" -q run alien4cloud
"$ESKER" -r backups --json snapshots >"$work/json"
statuses=$(grep -o '"status":"[a-z]*"' "$work/json" | cut -d'"' -f4 | sort | uniq -c | tr -s ' \n' ' ')
# failures do not crowd out what is good
[ "$statuses" = ' 2 complete 1 deleting 1 partial ' ] || fail "two complete snapshots should stay, and the older partial one go: $("$ESKER" -r backups snapshots)"
step 'second night'

documents >"$work/documents"
cp -a "$home" "$work/before"
disaster
"$servers/elasticsearch.sh" stop "$engine"
rm -rf "$engine" "$home"
# a new search engine with nothing in it
again elasticsearch
(. "$work/servers/moto/env" && unset ESKER_REPOSITORY && export ESKER_PASSWORD=$password &&
  ends 0 "$ESKER" -r "$(place moto backups)" recover --profile alien4cloud)
for name in password backups.AWS_SECRET_ACCESS_KEY elastic; do says "$secrets/$name"; done
remember backups moto AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY
secret elastic <"$engine/password"
ends 0 "$ESKER" -r backups restore --profile alien4cloud latest --yes
# in the order that is declared, and not in that of the file
order=$(sed -n 's/^\([a-z]*\): \(restored\|done\).*/\1/p' "$work/stdout" "$work/stderr" | tr '\n' ' ')
[ "$order" = 'configuration runtime search search ' ] || fail "restored in the order $order: $(cat "$work/stdout" "$work/stderr")"
came_back
step restored

# over what is there, indices open: the same again
ask POST imagedata/_doc/9 '{"name":"to be undone"}' >/dev/null
rm "$home/runtime/artifacts/5"
ends 0 "$ESKER" -q -r backups restore --profile alien4cloud latest --yes
came_back
step 'restored hot'

bulk imagedata 700 710
ends 0 "$ESKER" -q run alien4cloud
step 'next night'
