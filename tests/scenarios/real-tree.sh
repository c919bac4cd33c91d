#!/usr/bin/env bash
# The three commands of the README on a real tree, and the independent reader
# on what they wrote. With a password, as a person would.
. "$(dirname "$0")/lib"

source=/usr/lib/python3
[ "$long" = yes ] && source=/usr/lib
[ -d "$source" ] || source=/usr/share
export ESKER_PASSWORD='correct horse battery staple'
"$ESKER" init 2>/dev/null >/dev/null
"$ESKER" -q backup "$source"
"$ESKER" -q restore latest "$work/out"
same "$source" "$work/out$source"
"$ESKER" -q backup "$source" /etc/passwd
repository=$HOME/.local/share/esker/repository
printf '%s' "$ESKER_PASSWORD" >"$work/password"
snapshot=$("$PYTHON" "$READER" list "$repository" --password-file "$work/password" | tail -1 | grep -o '"id": *"[0-9a-f]*"' | cut -d'"' -f4)
"$PYTHON" "$READER" restore "$repository" "$snapshot" "$work/read" --password-file "$work/password"
same "$source" "$work/read$source"
