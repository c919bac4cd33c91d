#!/usr/bin/env bash
# pyftpdlib, a modern FTP server: MLSD, and a rename that replaces.
. "$(dirname "$0")/lib"

install() {
  python ftpbench pyftpdlib pyopenssl
}

start() {
  vacant
  mkdir -p "$dir/data"
  launch ftp "$venv/bin/python" "$root/tests/servers/ftpd.py" "$dir/data" "$port" backup secret
  answers ftp greets
  environment "ESKER_REPOSITORY=ftp://backup@127.0.0.1:$port/backups/esker" ESKER_FTP_PASSWORD=secret
}

act "$@"
