#!/usr/bin/env bash
# page.sh NAME: what docs/stores.md tells a user of such a store to type, typed: line
# for line, but for the address and secrets of the server that the tests started.
. "$(dirname "$0")/lib"

case $1 in
  ceph | moto) heading='S3 and' ;;
  azurite) heading='Azure' ;;
  gcs) heading='Google' ;;
  sftp) heading=SFTP ;;
  webdav) heading=WebDAV ;;
  ftp | ftps | vsftpd) heading=FTP ;;
esac
block=$(awk -v heading="$heading" '
  /^## / { within = index($0, "## " heading) == 1 }
  within && /^```/ { if (open) exit; open = /^```sh/; next }
  open' "$here/docs/stores.md")
[ "$(printf '%s\n' "$block" | wc -l)" -gt 5 ] || fail "docs/stores.md has no lines for $1"
serve "$1"
step start
mkdir -p "$HOME/documents" "$work/path" "$work/here"
noise "$HOME/documents/a" 300000
printf 'text\n' >"$HOME/documents/b"
ln -s "$ESKER" "$work/path/esker"
cd "$work/here"
script=
while IFS= read -r line; do
  case $line in
    # an address or a secret: set by the server's script, under the same name
    *export\ *…* | export\ ESKER_REPOSITORY=*)
      for pair in ${line%%#*}; do
        [ "$pair" = export ] || [ -n "$(printenv "${pair%%=*}")" ] || fail "the page sets ${pair%%=*}, the tests do not"
      done
      scheme=${line#*\'} scheme=${scheme%%://*}
      case $line in
        *ESKER_REPOSITORY*) case $ESKER_REPOSITORY in "${scheme%s}"*) ;; *) fail "$line is of another store" ;; esac ;;
      esac ;;
    *) script="$script$line"$'\n' ;;
  esac
done <<<"$block"
PATH=$work/path:$PATH bash -eu -c "$script" >"$work/said" 2>&1 || fail "$1: $(tail -5 "$work/said")"
same "$HOME/documents" restored
step page
