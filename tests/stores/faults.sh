#!/usr/bin/env bash
# faults.sh NAME: a server of this name is killed in the middle of a backup, a
# restore and a prune, and comes back or does not; and the addresses and secrets
# that people get wrong are answered with one sentence that says what is wrong.
# With a second argument, `mistakes`, only the latter.
. "$(dirname "$0")/lib"

name=$1

# passed: bytes that went over the loopback device: how far a command has come,
# whatever it speaks
passed() {
  local bytes
  read -r bytes </sys/class/net/lo/statistics/tx_bytes
  printf '%d' "$bytes"
}

# starts COMMAND...: in the background; `pid` is its
starts() {
  began=$(passed)
  "$ESKER" "$@" >"$work/stdout" 2>"$work/stderr" </dev/null &
  pid=$!
}

# loses_server BYTES: what was started does, once so many bytes have passed. It is
# held meanwhile: some commands are done sooner than a server is killed
loses_server() {
  while [ $(($(passed) - began)) -lt "$1" ] && kill -0 $pid 2>/dev/null; do sleep 0.005; done
  kill -STOP $pid 2>/dev/null || fail "it had ended before the server was killed: $(cat "$work/stderr")"
  "$servers/$name.sh" kill "$work/servers/$name"
  kill -CONT $pid
}

# server_returns: after three seconds, for so long it is to be away
server_returns() {
  sleep 3
  "$servers/$name.sh" start "$work/servers/$name" "$port"
}

# ends CODE...: with one of these codes; all but 0 with one line that says why
ends() {
  local code=0 since=$SECONDS
  while kill -0 $pid 2>/dev/null; do
    [ $((SECONDS - since)) -lt 300 ] || { kill -KILL $pid; fail 'it hangs'; }
    sleep 0.05
  done
  wait $pid || code=$?
  case " $* " in *" $code "*) ;; *) fail "ended with $code, not $*: $(cat "$work/stderr")" ;; esac
  [ $code = 0 ] || one_reason
  ended=$code
}

# one_reason: beside notices that the store is waited for, one line that says why it ended
one_reason() {
  sed -i '/: trying again for up to [0-9]* s$/d' "$work/stderr"
  one_line
}

# sound: what is reported good is, and the earliest snapshot restores
sound() {
  esker -q check --read-data || fail "check ended with $? after: $1"
  restores earlier "$work/earlier"
}

# refused WORDS CODES COMMAND...: with one of the codes and a line that holds the words
refused() {
  local words=$1 codes=$2 code=0
  shift 2
  esker "$@" >"$work/stdout" 2>"$work/stderr" </dev/null || code=$?
  case " $codes " in *" $code "*) ;; *) fail "$words: ended with $code, not $codes: $(cat "$work/stderr")" ;; esac
  one_reason
  grep -qiE "$words" "$work/stderr" || fail "nothing about $words in: $(cat "$work/stderr")"
}

# elsewhere URL AUTHORITY: the URL with another host and port, or bucket, in it
elsewhere() { printf '%s' "$1" | sed -E "s#127\.0\.0\.1:[0-9]+#$2#"; }

killed() {
  for file in $(seq 30); do noise "$work/tree/$file" 2000000; done
  starts backup --name killed "$work/tree"
  loses_server 25000000
  server_returns
  ends 0 75
  # what was put before is not put again, and whatever is half there does no harm
  esker -q backup --name whole "$work/tree" || fail "the backup after a killed one ended with $?"
  sound 'a backup without its server'
  restores whole "$work/tree"
  step "backup ($ended)"

  rm -rf "$work/out"
  starts --cache-dir "$work/none" restore "whole:$work/tree" "$work/out"
  loses_server 10000000
  server_returns
  ends 0 75
  esker -q restore "whole:$work/tree" "$work/out" || fail "the restore after a killed one ended with $?"
  same "$work/tree" "$work/out"
  step "restore ($ended)"

  # half of every pack is of no use any more, the other half has to move
  for file in $(seq 1 2 30); do noise "$work/tree/$file" 2000000; done
  esker -q backup --name after "$work/tree"
  esker -q forget --keep-last 1 --keep-tag earlier --yes
  starts prune --grace 0 --max-unused 0
  loses_server 8000000
  server_returns
  ends 0 75
  esker -q prune --grace 0 --max-unused 0 || fail "the prune after a killed one ended with $?"
  sound 'a prune without its server'
  restores after "$work/tree"
  step "prune ($ended)"

  noise "$work/tree/1" 40000000
  local address since=$SECONDS
  address=$(impatient "$ESKER_REPOSITORY")
  starts -r "$address" backup "$work/tree"
  loses_server 10000000
  ends 75
  [ $((SECONDS - since)) -lt 90 ] || fail "it took $((SECONDS - since)) s to give up"
  step 'gone in the middle'
  since=$SECONDS
  refused '127.0.0.1' 75 -r "$address" --no-cache snapshots
  [ $((SECONDS - since)) -lt 60 ] || fail "it took $((SECONDS - since)) s to give up"
  server_returns
  esker -q backup "$work/tree"
  sound 'a server that was gone'
  step gone
}

# What the password, the key or the secret is wrong for.
wrong_secret() {
  local words='credential|password|secret'
  case $name in
    ceph) AWS_SECRET_ACCESS_KEY=wrong refused "$words" 1 snapshots
      AWS_ACCESS_KEY_ID=nobody refused "$words" 1 snapshots ;;
    azurite) AZURE_STORAGE_KEY=d3Jvbmc= refused "$words" 1 snapshots ;;
    ftp | ftps | vsftpd) ESKER_FTP_PASSWORD=wrong refused "$words" 1 snapshots
      (unset ESKER_FTP_PASSWORD && refused "$words" 1 snapshots) ;;
    webdav) ESKER_WEBDAV_PASSWORD=wrong refused "$words" 1 snapshots
      (unset ESKER_WEBDAV_PASSWORD && refused "$words" 1 snapshots) ;;
    sftp)
      ssh-keygen -q -t ed25519 -N '' -f "$work/stranger"
      other_ssh "s#^IdentityFile .*#IdentityFile $work/stranger#" refused "$words" 1 snapshots
      : >"$work/nobody"
      other_ssh "s#^UserKnownHostsFile .*#UserKnownHostsFile $work/nobody#" refused 'host key' 1 snapshots ;;
  esac
  step secret
}

# other_ssh SED COMMAND...: with the client's configuration changed
other_ssh() {
  mkdir -p "$work/other"
  sed "$1" "$work/servers/sftp/bin/config" >"$work/other/config"
  printf '#!/bin/sh\nexec %s -F %q "$@"\n' "$(PATH=/usr/bin:/bin command -v ssh)" "$work/other/config" >"$work/other/ssh"
  chmod 755 "$work/other/ssh"
  shift
  PATH=$work/other:$PATH "$@"
}

# passwords: a login with one works, asks for it once, and says in a sentence when it is wrong; a server that is
# not known is not told it
passwords() {
  [ "$name" = sftp ] || return 0
  if [ ! -e "$work/servers/sftp/env.password" ]; then
    echo 'logins with a password are not tried: only root can make the account that they need'
    return 0
  fi
  local since=$SECONDS asked=$work/servers/sftp/asked
  mkdir -p "$work/answers"
  (
    # shellcheck disable=SC1091
    . "$work/servers/sftp/env.password"
    export TMPDIR=$work/answers ESKER_CACHE_DIR=$work/cache.password
    esker -q init
    esker -q backup --name first "$work/earlier" || fail "a backup with a password ended with $?"
    [ "$(wc -l <"$asked")" = 2 ] || fail "two commands asked $(wc -l <"$asked") times for the password"
    esker -q check --read-data
    rm -rf "$work/out"
    esker -q restore "first:$work/earlier" "$work/out"
    same "$work/earlier" "$work/out"
    ESKER_SFTP_PASSWORD_COMMAND='echo wrong' refused 'credential|password' 1 snapshots
    ESKER_SFTP_PASSWORD_COMMAND='exit 3' refused 'password command' 1 snapshots
    (unset ESKER_SFTP_PASSWORD_COMMAND && refused 'credential|password' 1 snapshots)
    : >"$work/nobody"
    other_ssh "s#^UserKnownHostsFile .*#UserKnownHostsFile $work/nobody#" refused 'host key' 1 snapshots
  )
  [ $((SECONDS - since)) -lt 60 ] || fail "it took $((SECONDS - since)) s"
  [ -z "$(ls -A "$work/answers")" ] || fail "left behind: $(ls "$work/answers")"
  step password
}

wrong_place() {
  local url=$ESKER_REPOSITORY vacant
  case $url in
    *//esker-test/*) refused 'no such (bucket|container)|does not exist' '1 10' -r "${url/esker-test/no-such-bucket}" --no-cache snapshots
      refused 'no such (bucket|container)|does not exist' '1 10' -r "${url/esker-test/no-such-bucket}" --no-cache init ;;
  esac
  # the server is there, and in it no repository
  refused 'no repository' 10 -r "${url/backups/elsewhere}" --no-cache snapshots
  vacant=$(free_port)
  refused "127.0.0.1:$vacant|nobody answers" '1 75' -r "$(impatient "$(elsewhere "$url" "127.0.0.1:$vacant")")" --no-cache snapshots
  refused 'nohost.invalid' '1 75' -r "$(impatient "$(elsewhere "$url" "nohost.invalid:$vacant")")" --no-cache snapshots
  step place
}

# listens PORT COMMAND...: a helper of ours in the background, until the end
listens() {
  local at=$1
  shift
  "$@" >"$work/helper.log" 2>&1 </dev/null &
  until (exec 3<>"/dev/tcp/127.0.0.1/$at") 2>/dev/null; do
    kill -0 $! 2>/dev/null || fail "$*: $(cat "$work/helper.log")"
    sleep 0.02
  done
}

# A certificate that nobody known to this machine has signed.
unknown_certificate() {
  local url=
  local at
  at=$(free_port)
  case $ESKER_REPOSITORY in
    *endpoint=http:*) url=$(elsewhere "${ESKER_REPOSITORY/endpoint=http:/endpoint=https:}" "127.0.0.1:$at") ;;
    webdav+http:*) url=$(elsewhere "${ESKER_REPOSITORY/webdav+http:/webdav:}" "127.0.0.1:$at") ;;
    ftps:*) (unset SSL_CERT_FILE && refused certificate 1 snapshots) ;;
  esac
  [ -n "$url" ] || return 0
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost \
    -addext subjectAltName=IP:127.0.0.1 -addext basicConstraints=critical,CA:FALSE \
    -keyout "$work/tls.key" -out "$work/tls.pem" 2>/dev/null
  listens "$at" openssl s_server -accept "127.0.0.1:$at" -key "$work/tls.key" -cert "$work/tls.pem" -www -quiet
  refused certificate 1 -r "$(impatient "$url")" --no-cache snapshots
  step certificate
}

regions() {
  case $name in ceph | moto) ;; *) return 0 ;; esac
  local at
  # servers of one's own have no regions: any is right, and none has to be named
  esker -q -r "${ESKER_REPOSITORY/us-east-1/mars-north-1}" snapshots >/dev/null
  esker -q -r "${ESKER_REPOSITORY/&region=us-east-1/}" snapshots >/dev/null
  at=$(free_port)
  listens "$at" python3 "$servers/refusing.py" "$at"
  refused region 1 -r "$(elsewhere "$ESKER_REPOSITORY" "127.0.0.1:$at")" --no-cache snapshots
  step region
}

serve "$name"
export ESKER_KEY_FILE=$work/key
mkdir -p "$work/tree"
for file in $(seq 100 130); do noise "$work/tree/$file" 10000; done
cp -a "$work/tree" "$work/earlier"
esker -q init --key-file "$work/key"
esker -q backup --name earlier --tag earlier "$work/tree"
step start
[ "${2:-}" = mistakes ] || killed
wrong_secret
passwords
wrong_place
unknown_certificate
regions
sound 'all of this'
step check
