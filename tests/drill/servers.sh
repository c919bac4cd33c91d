#!/usr/bin/env bash
# Drills of databases: dumps of real servers are loaded into servers that the drill starts itself. A dump that lacks what
# was counted fails the drill and is named; a program that is not there is told.
. "$(dirname "$0")/../systems/lib"

(. "$servers/lib" && debian sqlite3:sqlite3)
server postgres
server mariadb
server redis
repository=$work/repository
place=$(setting postgres ESKER_TEST_POSTGRES)
socket=$(setting mariadb ESKER_TEST_MARIADB)
port=$(setting redis ESKER_TEST_REDIS)
for name in postgres mariadb redis; do (umask 077 && setting $name ESKER_TEST_PASSWORD >"$work/$name.password"); done
rows="CREATE TABLE orders (id INT PRIMARY KEY, name TEXT); INSERT INTO orders VALUES (1, 'one'), (2, 'two'), (3, 'three');"
psql() { PGPASSWORD=$(cat "$work/postgres.password") command psql -X -q -h 127.0.0.1 -p "${place##*:}" -U postgres "$@"; }
psql -c 'CREATE DATABASE shop'
psql -d shop -c "$rows"
MYSQL_PWD=$(cat "$work/mariadb.password") mariadb --no-defaults -uroot -S "$socket" -e "CREATE DATABASE shop; USE shop; $rows"
redis() { REDISCLI_AUTH=$(cat "$work/redis.password") redis-cli -p "$port" "$@" >/dev/null; }
redis MSET one 1 two 2 three 3
sqlite3 "$work/app.db" "$rows"
# source NAME PRESET: a profile of one database
source_of() {
  printf '[profiles.%s]\nrepositories = ["here"]\nhost = "db"\n[[profiles.%s.sources]]\nname = "%s"\npreset = { kind = "%s", %s }\n\n' \
    "$1" "$1" "$1" "$1" "$2"
}
{ printf '[repositories.here]\nurl = "%s"\nkey_file = "%s"\n\n' "$repository" "$work/key"
  source_of postgresql "host = '127.0.0.1', port = ${place##*:}, user = 'postgres', password = { file = '$work/postgres.password' }"
  source_of mariadb "socket = '$socket', user = 'root', password = { file = '$work/mariadb.password' }"
  source_of redis "port = $port, password = { file = '$work/redis.password' }"
  source_of sqlite "files = ['$work/app.db'], through = ['env']"
} >"$ESKER_CONFIG"
"$ESKER" -q -r "$repository" init --key-file "$work/key"
kinds='postgresql mariadb redis sqlite'
step servers

# recorded PATTERN: the newest record of a drill is so
recorded() { "$ESKER" -r here --json history --kind drill --last 1 | grep -q "$1" || fail "the record is not $1: $("$ESKER" -r here --json history --kind drill --last 1)"; }
for kind in $kinds; do
  ends 0 "$ESKER" -q run "$kind"
  ends 0 "$ESKER" drill --profile "$kind" --databases --scratch "$work"
  says '1 source loaded'
  recorded '"exit_code":0.*"loaded":1'
  step "$kind"
done
[ -z "$(ls -d "$work"/esker-drill-* 2>/dev/null)" ] || fail 'scratch was left behind'

# arguments may leave out rows: nothing is counted then, and nothing compared
sed "s/user = 'postgres',/user = 'postgres', arguments = ['--no-comments'],/; s/user = 'root',/user = 'root', arguments = ['--hex-blob'],/" \
  "$ESKER_CONFIG" >"$work/arguments.toml"
for kind in postgresql mariadb; do
  ends 0 env ESKER_CONFIG="$work/arguments.toml" "$ESKER" -q run "$kind"
  ends 0 env ESKER_CONFIG="$work/arguments.toml" "$ESKER" drill --profile "$kind" --databases --scratch "$work"
  says "not covered: source $kind was loaded, and not compared: .*shop"
done
step 'not compared'

# a machine without the programs
mkdir "$work/few"
for kind in postgresql mariadb redis; do
  ends 0 env PATH="$work/few" "$ESKER" drill --profile "$kind" --databases --scratch "$work"
  says "not covered: source $kind was not loaded: .*no such program"
  recorded '"exit_code":0.*"loaded":0'
done
step 'no programs'

# tools that lose a row of the dump, after it was counted
mkdir "$work/lossy"
lossy() { { printf '#!/bin/sh\nreal=%s\n' "$(command -v "$1")"; cat; } >"$work/lossy/$1" && chmod 755 "$work/lossy/$1"; }
lossy pg_dump <<'C'
"$real" "$@" | sed '/^2	two$/d'
C
lossy mariadb-dump <<'C'
"$real" "$@" | sed "s/(2,'two'),//"
C
lossy redis-cli <<C
case "\$*" in *--rdb*) "\$real" -p $port DEL two >/dev/null; "\$real" "\$@"; "\$real" -p $port SET two 2 >/dev/null ;; *) exec "\$real" "\$@" ;; esac
C
lossy sqlite3 <<'C'
for last; do :; done
case $last in
  .backup*) copy=${last#*\'} && "$real" "$@" && "$real" "${copy%\'}" 'DELETE FROM orders WHERE id = 2' ;;
  *) exec "$real" "$@" ;;
esac
C
for kind in $kinds; do
  ends 0 env PATH="$work/lossy:$PATH" "$ESKER" -q run "$kind"
  ends 22 "$ESKER" drill --profile "$kind" --databases --scratch "$work"
  case $kind in
    postgresql) says 'is not what was dumped: shop: public.orders has 2 and had 3' ;;
    redis) says 'is not what was dumped: keys: db0 has 2 and had 3' ;;
    *) says 'is not what was dumped: .*: orders has 2 and had 3' ;;
  esac
  recorded '"exit_code":22.*"loaded":0'
done
step 'rows lost'
