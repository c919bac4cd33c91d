#!/usr/bin/env bash
# An analysis server on Kubernetes: three PostgreSQL databases through `kubectl exec … pg_dump`, the volume of files through
# `kubectl exec … tar`, and values.yaml; to S3, with copies on an archive server. A stand-in for kubectl runs the commands in
# namespaces of their own: no network, and the pod's volume at /srv. Then the cluster is lost with all volumes, and the store
# with it: everything comes back from the archive.
. "$(dirname "$0")/lib"

[ "$(id -u)" = 0 ] || { printf 'not root: no namespaces here\n' && exit 0; }
server postgres
server moto
server sftp
PATH=$(setting sftp PATH)
step servers

export PODS=$work/pods
mkdir -p "$work/bin" "$PODS/file-storage" "$PODS/database" "$work/chart"
cat >"$work/bin/kubectl" <<'K'
#!/usr/bin/env bash
# kubectl exec [-i] POD -- COMMAND
set -eu
[ "$1" = exec ] && shift
while [ "$1" != -- ]; do
  case $1 in -i) ;; *) pod=$1 ;; esac
  shift
done
shift
[ -d "$PODS/$pod" ] || { printf 'Error from server (NotFound): pods "%s" not found\n' "$pod" >&2; exit 1; }
run() { unshare --mount --net -- bash -c 'mount --bind "$0" /srv && exec "$@"' "$PODS/$pod" "$@"; }
# the connection breaks: half of the stream, and exit status 0
case "$(cat "$PODS/breaks" 2>/dev/null) $*" in
  ' '*) run "$@" ;;
  *pg_dump* | *'tar -C'*) run "$@" | head -c "$(cat "$PODS/breaks")" || true ;;
  *) run "$@" ;;
esac
K
chmod +x "$work/bin/kubectl"
PATH=$work/bin:$PATH
PGPASSWORD=$(setting postgres ESKER_TEST_PASSWORD)
export PGPASSWORD PGHOST=$work/servers/postgres/run PGUSER=postgres
PGPORT=$(setting postgres ESKER_TEST_POSTGRES | sed 's/.*://')
export PGPORT
printf '%s\n' "$PGPASSWORD" | secret postgres

psql() { command psql -q -v ON_ERROR_STOP=1 "$@"; }
fill() {
  local database
  psql -d postgres -c "create role chipster login password 'tool''s \\\$ecret'"
  for database in auth session job; do
    psql -d postgres -c "create database ${database}_db owner chipster"
    psql -d ${database}_db -c 'set role chipster' -c "create table things (id serial primary key, name text, data bytea)" \
      -c "insert into things (name, data) select 'thing ' || n || ' ü', decode(md5(n::text), 'hex') from generate_series(1, 3000) n" \
      -c "create view few as select * from things where id < 10"
  done
}
# rows: all of them, and who they belong to
rows() {
  local database
  psql -At -d postgres -c "select rolname, rolcanlogin, rolpassword from pg_authid where rolname !~ '^pg_' order by 1"
  for database in auth session job; do
    psql -At -d ${database}_db -c 'select pg_get_userbyid(datdba) from pg_database where datname = current_database()' \
      -c "select tablename, tableowner from pg_tables where schemaname = 'public'" \
      -c 'select * from things order by id' -c 'select * from few order by id'
  done
}
fill
for n in $(seq 1 300); do
  mkdir -p "$PODS/file-storage/storage/$((n % 16))"
  head -c $((n * 37)) /dev/urandom >"$PODS/file-storage/storage/$((n % 16))/$n"
done
chown -R 1000:1000 "$PODS/file-storage/storage"
printf 'host: chipster\ntls: true\n' >"$work/chart/values.yaml"

{
  repository s3 moto AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY
  repository archive sftp
  cat <<C
[profiles.chipster]
repositories = ["s3"]
host = "chipster"
schedule = ["03:10"]
retention = { last = 1 }
copy = [{ to = "archive" }]

[[profiles.chipster.sources]]
paths = ["$work/chart"]

[[profiles.chipster.sources]]
name = "databases"
restore_order = 1
[profiles.chipster.sources.preset]
kind = "postgresql"
through = ["kubectl", "exec", "-i", "database", "--"]
databases = ["auth_db", "session_db", "job_db"]
host = "$PGHOST"
port = $PGPORT
user = "postgres"
password = { file = "$secrets/postgres" }

[[profiles.chipster.sources]]
name = "file-storage"
tar = ["kubectl", "exec", "file-storage", "--", "tar", "-C", "/srv", "-cf", "-", "storage"]
restore = ["kubectl", "exec", "-i", "file-storage", "--", "tar", "-C", "/srv", "-xpf", "-"]
restore_order = 2
C
} >"$ESKER_CONFIG"
create s3 archive
unset PGPASSWORD
ends 0 "$ESKER" config check
ends 0 "$ESKER" -q run chipster
step 'first night'
export PGPASSWORD=$(cat "$secrets/postgres")
psql -d job_db -c "update things set name = 'changed' where id % 100 = 0" -c "insert into things (name) values ('new')"
printf 'later\n' >"$PODS/file-storage/storage/1/later"
unset PGPASSWORD
# the connection breaks half way, and kubectl says that all is well
for bytes in 0 20000; do
  printf '%d' "$bytes" >"$PODS/breaks"
  ends 3 "$ESKER" -q run chipster
  says databases
  says file-storage
done
rm "$PODS/breaks"
step 'broken connection'
ends 0 "$ESKER" -q run chipster
# the store keeps one night, as it is told; the archive keeps what it got
[ "$(statuses s3)" = 'deleting deleting deleting complete ' ] || fail "one night should stay: $("$ESKER" -r s3 snapshots --all)"
[ "$(statuses archive)" = 'complete partial partial complete ' ] || fail "the archive lacks a night: $("$ESKER" -r archive snapshots --all)"
step 'second night'

export PGPASSWORD=$(cat "$secrets/postgres")
rows >"$work/rows"
unset PGPASSWORD
cp -a "$PODS/file-storage" "$work/files"
cp -a "$work/chart" "$work/chart-before"
# what is left: the archive's address, what opens its store, and a password
url=$(place sftp archive)
disaster
for name in postgres moto; do
  "$servers/$name.sh" stop "$work/servers/$name"
  rm -rf "$work/servers/$name"
done
rm -rf "$PODS" "$work/chart"
# a new cluster, with nothing in it
mkdir -p "$PODS/file-storage" "$PODS/database"
again postgres
ESKER_PASSWORD=$password ends 0 "$ESKER" -r "$url" recover
for name in password s3.AWS_ACCESS_KEY_ID s3.AWS_SECRET_ACCESS_KEY postgres; do says "$secrets/$name"; done
remember archive sftp
setting postgres ESKER_TEST_PASSWORD | secret postgres
ends 0 "$ESKER" -q -r archive restore --profile chipster latest --yes
export PGPASSWORD=$(cat "$secrets/postgres")
rows >"$work/rows-after"
cmp "$work/rows" "$work/rows-after" || fail 'rows differ'
same "$work/files/storage" "$PODS/file-storage/storage"
same "$work/chart-before" "$work/chart"
unset PGPASSWORD
# the password of a role that came back
[ "$(PGPASSWORD="tool's \\\$ecret" psql -U chipster -d job_db -At -c 'select count(*) from few')" = 9 ] || fail 'the role cannot log in'
step restored
again moto
remember s3 moto AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY
create s3
ends 0 "$ESKER" -q run chipster
[ "$(statuses archive)" = 'complete partial partial complete complete ' ] || fail "the archive lacks the next night: $("$ESKER" -r archive snapshots --all)"
step 'next night'
