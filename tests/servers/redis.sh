#!/usr/bin/env bash
# Redis, with a password, in memory only. DEBUG tells a digest of all it holds.
. "$(dirname "$0")/lib"

install() {
  debian redis-server:redis-server redis-cli:redis-tools
}

start() {
  vacant
  local password='it-is $ecret'
  {
    printf 'port %s\nbind 127.0.0.1\ndir %s\nsave ""\nappendonly no\nenable-debug-command yes\n' "$port" "$dir"
    printf 'requirepass "%s"\n' "$password"
  } >"$dir/config"
  chmod 600 "$dir/config"
  launch redis redis-server "$dir/config"
  REDISCLI_AUTH=$password answers redis redis-cli -e -p "$port" PING
  environment "ESKER_TEST_REDIS=$port" "ESKER_TEST_PASSWORD=$password"
}

act "$@"
