#!/usr/bin/env bash
# Managed clusters (Hopsworks): three of them in two repositories, named backups with their statuses, retention that is changed
# later, deletion that asks, restore by name that leaves newer backups alone, and one view of everything.
. "$(dirname "$0")/lib"

server moto
server sftp
(. "$servers/lib" && debian faketime:faketime)
PATH=$(setting sftp PATH)
step servers

clusters='alpha beta gamma'
base=$(date -d "$(date +%F) 03:00" +%s)
day=1
# at COMMAND...: with a clock of that day
at() { FAKETIME_DONT_FAKE_MONOTONIC=1 faketime "@$((base + day * 86400))" "$@"; }
on() { # on HOST WORDS...: esker as that host
  local host=$1
  shift
  HOME=$work/$host/home ESKER_CACHE_DIR=$work/$host/cache ESKER_CONFIG=$work/$host/esker.toml at "$ESKER" "$@"
}
name_of() { printf '%s-%s' "$1" "$(date -d "@$((base + $2 * 86400))" +%F)"; } # name_of CLUSTER DAY
region() { case $1 in gamma) printf us ;; *) printf eu ;; esac }
store() { case $(region "$1") in us) printf sftp ;; *) printf moto ;; esac }
regions() {
  repository eu moto AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY
  repository us sftp
}
# backups CLUSTER: name and status of each of its backups, and of runs without one
backups() {
  on watcher -r "$(region "$1")" --json snapshots --host "$1" >"$work/json"
  sed -n 's/.*"status":"\([a-z]*\)".*/\1 &/p' "$work/json" |
    sed 's/^\([a-z]*\) .*"name":"\([^"]*\)".*/\2 \1/; s/^\([a-z]*\) {.*/- \1/'
}
# shows CLUSTER DAY STATUS
shows() {
  backups "$1" >"$work/statuses"
  grep -qx -- "$(name_of "$1" "$2") $3" "$work/statuses" || fail "$(name_of "$1" "$2") is not $3: $(cat "$work/statuses")"
}

for cluster in $clusters; do
  site=$work/site/$cluster
  mkdir -p "$work/$cluster/home" "$site/hopsfs/projects/demo"
  printf 'INSERT INTO project VALUES (1);\n' >"$site/metadata.sql"
  seq 1 20000 >"$site/hopsfs/projects/demo/features.csv"
  noise "$site/hopsfs/projects/demo/model" 300000
  chmod 2750 "$site/hopsfs/projects/demo"
  ln -s projects/demo "$site/hopsfs/current"
  {
    regions
    cat <<C
[profiles.cluster]
repositories = ["$(region "$cluster")"]
host = "$cluster"
name = "{host}-{time:%Y-%m-%d}"
schedule = ["03:00"]
promises = { maximum_age = "26h" }
retention = { daily = 7 }
C
    [ $cluster != beta ] || printf 'expire_after = "36h"\n'
    cat <<C

[[profiles.cluster.sources]]
name = "metadata"
restore_order = 1
command = "cat $site/metadata.sql && while [ -e $site/busy ]; do sleep 0.1; done && echo '-- end'"
ends_with = "-- end"
restore = "grep -v '^-- end' >$site/metadata.sql"

[[profiles.cluster.sources]]
restore_order = 2
paths = ["$site/hopsfs"]
C
  } >"$work/$cluster/esker.toml"
done
mkdir -p "$work/watcher/home"
# who watches can see what there is, and no more
for name in eu us; do
  (export ESKER_PASSWORD=$password && on alpha -q -r $name init)
  ends 0 on alpha -q -r $name key add --role watch --label watcher --new-key-file "$work/watcher/$name"
done
regions | sed "/^password = /d; s|^\[repositories\.\(.*\)\]|&\nkey_file = \"$work/watcher/\1\"|" >"$work/watcher/esker.toml"
for cluster in $clusters; do ends 0 on "$cluster" config check; done
step config

# night CLUSTER...: they all run at once
night() {
  local cluster jobs=
  for cluster; do
    on "$cluster" -q run cluster >"$work/$cluster.log" 2>&1 &
    jobs="$jobs $!"
  done
  for job in $jobs; do wait "$job" || fail "a run of day $day failed: $(tail -n 3 "$work"/*.log)"; done
}
# shellcheck disable=SC2086
night $clusters
cp -a "$work/site" "$work/site-1"
day=2
for cluster in $clusters; do
  printf 'INSERT INTO project VALUES (2);\n' >>"$work/site/$cluster/metadata.sql"
  noise "$work/site/$cluster/hopsfs/projects/demo/model-2" 200000
  rm "$work/site/$cluster/hopsfs/projects/demo/model"
done
# shellcheck disable=SC2086
night $clusters
shows alpha 1 complete
shows alpha 2 complete
step 'two nights'

# the third night: one is under way, one fails, one has lost its connection half way
day=3
touch "$work/site/gamma/busy"
on gamma -q run cluster >"$work/gamma.log" 2>&1 &
job=$!
until backups gamma | grep -q running; do
  kill -0 $job 2>/dev/null || fail "it ended: $(cat "$work/gamma.log")"
  sleep 0.1
done
rm "$work/site/gamma/busy"
wait $job || fail "$(cat "$work/gamma.log")"
shows gamma 3 complete
step running

mv "$work/site/beta" "$work/site/beta-away"
ends 1 on beta -q run cluster
backups beta | grep -qx -- '- failed' || fail "no failed run of beta: $(backups beta)"
# retention has not run since: the first has expired, the last one stays
shows beta 1 expired
shows beta 2 complete
mv "$work/site/beta-away" "$work/site/beta"
mv "$work/site/alpha/metadata.sql" "$work/away"
ends 3 on alpha -q run cluster
says metadata
shows alpha 3 partial
mv "$work/away" "$work/site/alpha/metadata.sql"
step 'failed and partial'

# nobody is there to be asked
name=$(name_of alpha 1)
ends 2 on alpha -r eu forget "$name"
says yes
shows alpha 1 complete
ends 0 on alpha -q -r eu forget "$name" --yes
shows alpha 1 deleting
ends 0 on alpha -q -r eu undo "$name"
shows alpha 1 complete
# retention of backups that are there already is changed, and changed back
day=4
sed -i 's/^retention = .*/retention = { last = 1 }/' "$work/alpha/esker.toml"
ends 0 on alpha -q run cluster
shows alpha 1 deleting
shows alpha 2 deleting
shows alpha 4 complete
sed -i 's/^retention = .*/retention = { daily = 30 }/' "$work/alpha/esker.toml"
ends 0 on alpha -q -r eu undo "$(name_of alpha 1)" "$(name_of alpha 2)"
night beta gamma
# what expired goes with the next run
shows beta 1 deleting
step retention

# an old backup by its name: beside, and in place; the newer ones stay
backups alpha >"$work/before"
name=$(name_of alpha 1)
ends 0 on alpha -q -r eu restore "$name:$work/site/alpha/hopsfs" "$work/out"
same "$work/site-1/alpha/hopsfs" "$work/out"
cp -a "$work/site/alpha" "$work/site-4"
rm -rf "$work/site/alpha/hopsfs"
ends 0 on alpha -q -r eu restore --profile cluster "$name" --yes
same "$work/site-1/alpha/hopsfs" "$work/site/alpha/hopsfs"
cmp "$work/site-1/alpha/metadata.sql" "$work/site/alpha/metadata.sql"
backups alpha >"$work/after"
cmp "$work/before" "$work/after" || fail "an old backup was restored, and others changed: $(diff "$work/before" "$work/after")"
rm -rf "$work/site/alpha/hopsfs"
ends 0 on alpha -q -r eu restore --profile cluster latest --host alpha --yes
same "$work/site-4/hopsfs" "$work/site/alpha/hopsfs"
cmp "$work/site-4/metadata.sql" "$work/site/alpha/metadata.sql"
step 'by name'

# one view of all clusters in both repositories
ends 0 on watcher snapshots --all-repositories
for cluster in $clusters; do for d in 1 2 4; do says "$(name_of "$cluster" $d)"; done; done
ends 0 on watcher status
day=6
ends 21 on watcher status
for cluster in $clusters; do says "$cluster"; done
step 'one view'

rm -rf "$work/before"
cp -a "$work/site" "$work/before"
disaster
rm -rf "$work/site" "$work/alpha" "$work/beta" "$work/gamma" "$work/watcher"
for cluster in $clusters; do
  mkdir -p "$work/$cluster/home"
  (. "$work/servers/$(store "$cluster")/env" && unset ESKER_REPOSITORY && export ESKER_PASSWORD=$password &&
    ends 0 on "$cluster" -r "$(place "$(store "$cluster")" "$(region "$cluster")")" recover --host "$cluster" --profile cluster)
  says "$secrets/password"
done
remember eu moto AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY
for cluster in $clusters; do
  mkdir -p "$work/site/$cluster"
  ends 0 on "$cluster" -q -r "$(region "$cluster")" restore --host "$cluster" --profile cluster latest --yes
  cmp "$work/before/$cluster/metadata.sql" "$work/site/$cluster/metadata.sql" || fail "metadata of $cluster differ"
  same "$work/before/$cluster/hopsfs" "$work/site/$cluster/hopsfs"
done
# a profile comes back as the last backup knew it
grep -q 'last = 1' "$work/alpha/esker.toml" || fail "another retention came back: $(grep -A3 retention "$work/alpha/esker.toml")"
step restored

# shellcheck disable=SC2086
night $clusters
step 'next night'
