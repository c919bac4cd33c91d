#!/usr/bin/env bash
# MariaDB, as nobody where root starts it, on a socket and on loopback. Its user root
# has a password with characters that need quoting.
. "$(dirname "$0")/lib"

install() {
  debian mariadbd:mariadb-server /usr/sbin/mariadbd:mariadb-server mariadb-dump:mariadb-client
}

start() {
  vacant
  local user password="it's \$ecret"
  user=$(id -un)
  [ "$user" != root ] || user=nobody
  export PATH=$PATH:/usr/sbin
  if [ ! -e "$dir/data/mysql" ]; then
    mkdir -p "$dir/data" "$dir/tmp" "$dir/run"
    printf "ALTER USER root@localhost IDENTIFIED BY '%s';\n" "${password//\'/\'\'}" >"$dir/init.sql"
    [ "$(id -u)" != 0 ] || chown "$user" "$dir/data" "$dir/tmp" "$dir/run"
    mariadb-install-db --no-defaults --datadir="$dir/data" --auth-root-authentication-method=normal --skip-test-db \
      --user="$user" --skip-name-resolve >"$dir/install.log" 2>&1 || die "mariadb-install-db: $(tail -3 "$dir/install.log")"
  fi
  launch mariadbd mariadbd --no-defaults --user="$user" --datadir="$dir/data" --tmpdir="$dir/tmp" --socket="$dir/run/socket" \
    --port="$port" --bind-address=127.0.0.1 --skip-name-resolve --innodb-buffer-pool-size=64M --innodb-log-file-size=16M \
    --innodb-flush-log-at-trx-commit=2 --performance-schema=OFF --event-scheduler=OFF --init-file="$dir/init.sql"
  MYSQL_PWD=$password answers mariadbd mariadb-admin --no-defaults -uroot -S "$dir/run/socket" status
  environment "ESKER_TEST_MARIADB=$dir/run/socket" "ESKER_TEST_PASSWORD=$password"
}

act "$@"
