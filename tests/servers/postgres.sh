#!/usr/bin/env bash
# PostgreSQL, which refuses to run as root: then as the account that its package made.
# Its superuser postgres has a password with characters that need quoting.
. "$(dirname "$0")/lib"

install() {
  debian /usr/lib/postgresql:postgresql psql:postgresql-client setpriv:util-linux
}

binaries() { (cd /usr/lib/postgresql && printf '%s\n' */bin) | sort -n | tail -1 | sed 's|^|/usr/lib/postgresql/|'; }

as_owner() {
  if [ "$(id -u)" = 0 ]; then
    setpriv --reuid=postgres --regid=postgres --init-groups "$@"
  else
    "$@"
  fi
}

start() {
  vacant
  local bin password="it's \\\$ecret"
  bin=$(binaries)
  export LC_ALL=C.UTF-8
  if [ ! -e "$dir/data/PG_VERSION" ]; then
    mkdir -p "$dir/data" "$dir/run"
    printf '%s\n' "$password" >"$dir/password"
    [ "$(id -u)" != 0 ] || chown postgres "$dir/data" "$dir/run" "$dir/password"
    (cd "$dir" && as_owner "$bin/initdb" -D "$dir/data" -A scram-sha-256 -U postgres --pwfile="$dir/password" --no-sync) >"$dir/initdb.log" 2>&1 ||
      die "initdb: $(tail -3 "$dir/initdb.log")"
  fi
  cd "$dir"
  # exec: the pid is to be the server's
  launch postgres bash -c '[ "$(id -u)" != 0 ] || set -- setpriv --reuid=postgres --regid=postgres --init-groups "$@"; exec "$@"' bash \
    "$bin/postgres" -D "$dir/data" -p "$port" -c listen_addresses=127.0.0.1 -c unix_socket_directories="$dir/run" -c fsync=off
  answers postgres "$bin/pg_isready" -q -h 127.0.0.1 -p "$port"
  environment "ESKER_TEST_POSTGRES=127.0.0.1:$port" "ESKER_TEST_PASSWORD=$password"
}

# SIGTERM waits for clients that never go
stop() {
  alive postgres || return 0
  end INT postgres
}

act "$@"
