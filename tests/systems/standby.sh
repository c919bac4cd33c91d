#!/usr/bin/env bash
# A standby: two nights, then three weeks off, one restore brings it level; failover, a change there, and failback. And a
# drill, which finds a flipped bit and names the file.
. "$(dirname "$0")/lib"

server sftp
PATH=$(setting sftp PATH)
main=$work/main
site=$work/site
mkdir -p "$main/app" "$work/one" "$work/two"
printf 'name = main\n' >"$main/app/local.conf"
seq 1 20000 >"$main/app/data"
ln -s data "$main/app/current"
{ repository offsite sftp; cat <<C
[profiles.app]
repositories = ["offsite"]
host = "main"
promises = { maximum_age = "26h", drill = "30d" }
drill = { files = 5 }
[[profiles.app.sources]]
paths = ["$main/app"]
C
} >"$work/one/esker.toml"
{ repository offsite sftp; cat <<C
[profiles.level]
kind = "standby"
repositories = ["offsite"]
standby = { host = "main", profile = "app", target = "$site", keep = ["$main/app/local.conf"], delete = true }

[profiles.back]
repositories = ["offsite"]
host = "two"
[[profiles.back.sources]]
paths = ["$site"]
C
} >"$work/two/esker.toml"
# on HOST WORDS...: esker there
on() {
  local host=$1
  shift
  ESKER_CONFIG=$work/$host/esker.toml ESKER_CACHE_DIR=$work/$host/cache "$ESKER" "$@"
}
ESKER_CONFIG=$work/one/esker.toml create offsite
ends 0 on one -q run app
mkdir -p "$site/$main/app"
printf 'name = standby\n' >"$site/$main/app/local.conf"
ends 0 on two -q run level
is_level() {
  cmp "$main/app/data" "$site$main/app/data" && [ -L "$site$main/app/current" ] || fail 'the standby is not level'
  grep -q standby "$site$main/app/local.conf" || fail 'the standby lost a setting of its own'
}
is_level
step 'first night'
# applied already: nothing is done
ends 0 on two run level
says already
# three weeks in which only the main site runs
for week in 1 2 3; do
  seq "$week" 30000 >"$main/app/data"
  printf 'week %d\n' $week >"$main/app/week$week"
  ends 0 on one -q run app
done
rm "$main/app/week1"
ends 0 on one -q run app
ends 0 on two -q run level
is_level
[ -e "$site$main/app/week2" ] && [ ! -e "$site$main/app/week1" ] || fail 'the standby is not as the newest snapshot'
step 'three weeks off'
# failover: the standby works, and changes; failback: the main site restores from it
printf 'changed there\n' >"$site$main/app/data"
ends 0 on two -q run back
rm -rf "$main/app"
ends 0 on one -q -r offsite restore --host two --profile back "latest:$site$main/app" "$main/app"
grep -q 'changed there' "$main/app/data" || fail 'the change did not come back'
step failback
ends 0 on one -q run app
ends 0 on one -r offsite history --kind drill
[ "$(grep -c drill "$work/stdout")" -ge 1 ] || fail "no drill was recorded: $(cat "$work/stdout")"
# a flipped bit in each pack of data
for pack in $(find "$work/servers/sftp/data" -path '*packs*' -type f); do
  chmod u+w "$pack"
  printf 'x' | dd of="$pack" bs=1 seek=$(($(stat -c %s "$pack") / 3)) conv=notrunc 2>/dev/null
done
ends 22 on one drill --profile app
says data
step drill
