#!/usr/bin/env bash
# A director with backups in its own data centre and a restore elsewhere: two jobs with schedules of their own, to S3,
# Azure, SFTP and FTP at once. One store is away for a night and catches up; then the machine is lost, and everything
# comes back from each of the four in turn.
. "$(dirname "$0")/lib"

server moto
server azurite
server sftp
server ftp
PATH=$(setting sftp PATH)
step servers

site=$work/site
mkdir -p "$site/configuration/certificates" "$site/analytics"
printf 'director = 1\n' >"$site/configuration/director.conf"
head -c 3000 /dev/urandom >"$site/configuration/certificates/root.der"
chmod 600 "$site/configuration/certificates/root.der"
ln -s certificates/root.der "$site/configuration/current"
for month in 1 2 3; do seq 1 50000 >"$site/analytics/$month.csv"; done

places='s3:moto azure:azurite ssh:sftp files:ftp'
# login NAME: the variables that open its store
login() {
  case $1 in
    s3) printf 'AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY' ;;
    azure) printf 'AZURE_STORAGE_ACCOUNT AZURE_STORAGE_KEY' ;;
    files) printf ESKER_FTP_PASSWORD ;;
  esac
}
{
  # shellcheck disable=SC2046
  for place in $places; do repository "${place%:*}" "${place#*:}" $(login "${place%:*}"); done
  cat <<C
[profiles.all]
kind = "template"
repositories = ["s3", "azure", "ssh", "files"]
host = "director"
zone = "Europe/Berlin"
promises = { maximum_age = "26h", check = "8d" }
retention = { last = 2 }

[profiles.configuration]
extends = ["all"]
schedule = ["06:00", "12:00", "18:00", "00:00"]

[[profiles.configuration.sources]]
paths = ["$site/configuration"]

[profiles.analytics]
extends = ["all"]
schedule = ["Mon..Fri 22:30"]

[[profiles.analytics.sources]]
paths = ["$site/analytics"]

[[profiles.analytics.sources]]
name = "figures"
command = "cat $site/analytics/*.csv | sort -n | uniq -c; echo '# end'"
ends_with = "# end"
restore = "cat >$site/figures"
C
} >"$ESKER_CONFIG"
create s3 azure ssh files
ends 0 "$ESKER" config check
step 'config'

ends 0 "$ESKER" -q run configuration analytics
step 'first night'
# the second night finds one store away: that is told, the others have it
"$servers/ftp.sh" stop "$work/servers/ftp"
printf 'director = 2\n' >"$site/configuration/director.conf"
seq 1 60000 >"$site/analytics/4.csv"
ends 75 "$ESKER" -q run configuration
says 'repository files'
again ftp
step 'second night'
ends 0 "$ESKER" -q run configuration analytics
# two nights stay everywhere, the one that a store missed as well
kept() { # kept PROFILE STATUSES
  local place
  for place in $places; do
    [ "$(statuses "${place%:*}" --profile "$1")" = "$2" ] ||
      fail "${place%:*}, profile $1, is not $2: $("$ESKER" -r "${place%:*}" snapshots --all)"
  done
}
kept configuration 'deleting complete complete '
kept analytics 'complete complete '
step 'third night'

cp -a "$site" "$work/before"
sort -n "$site"/analytics/*.csv | uniq -c >"$work/before/figures"
printf '# end\n' >>"$work/before/figures"
for place in $places; do
  name=${place%:*} store=${place#*:}
  disaster
  rm -rf "$site" "$work/recovered"
  # each profile comes back into a file of its own
  for profile in configuration analytics; do
    ESKER_CONFIG=$work/recovered/$profile.toml
    (. "$work/servers/$store/env" && unset ESKER_REPOSITORY && export ESKER_PASSWORD=$password &&
      ends 0 "$ESKER" -r "$(place "$store" "$name")" recover --profile "$profile")
    says "$secrets/password"
    for variable in $(login "$name"); do says "$secrets/$name.$variable"; done
  done
  # what opens the others is not needed
  # shellcheck disable=SC2046
  remember "$name" "$store" $(login "$name")
  for profile in configuration analytics; do
    ESKER_CONFIG=$work/recovered/$profile.toml ends 0 "$ESKER" -q -r "$name" restore --profile "$profile" latest --yes
  done
  for part in configuration analytics; do same "$work/before/$part" "$site/$part"; done
  cmp "$work/before/figures" "$site/figures" || fail 'figures differ'
  step "from $name"
done

# the profiles that came back go on without being edited, once the other secrets are there
# shellcheck disable=SC2046
for place in $places; do remember "${place%:*}" "${place#*:}" $(login "${place%:*}"); done
for profile in configuration analytics; do ESKER_CONFIG=$work/recovered/$profile.toml ends 0 "$ESKER" -q run "$profile"; done
ESKER_CONFIG=$work/recovered/configuration.toml
kept configuration 'deleting deleting complete complete '
kept analytics 'deleting complete complete '
step 'next night'
