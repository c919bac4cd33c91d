#!/usr/bin/env bash
# OpenSSH, with host keys, a login key and a client's configuration of its own:
# ~/.ssh is neither read nor written. The login is that of whoever starts it.
#
# ssh finds its configuration by the password file and not by HOME, so DIR/bin
# holds an `ssh` that names ours, and DIR/env puts it first in PATH.
# Started by root, it has a second login with a password: that of an account that
# is made for it and removed at stop. DIR/env.password makes a client of it of
# whoever sources it after DIR/env, and DIR/asked gets a line for each time that
# the password is asked for.
#
# DIR/env.append makes a client of whoever sources it after DIR/env: its key may
# write files and rename them to names that are free, but remove none. It can
# still write into files that are there: sftp-server cannot tell that apart.
. "$(dirname "$0")/lib"

install() {
  debian /usr/sbin/sshd:openssh-server ssh:openssh-client rclone:rclone
}

# What the append-only key may ask for. Plain rename never replaces a file;
# posix-rename would, so it is not on the list.
allowed=open,close,read,write,lstat,fstat,stat,opendir,readdir,mkdir,realpath,rename,readlink,limits,fsync,fsetstat,setstat

make_keys() {
  ssh-keygen -q -t ed25519 -N '' -f "$dir/host"
  local name
  for name in id append; do ssh-keygen -q -t ed25519 -N '' -C $name -f "$dir/$name"; done
  { cat "$dir/id.pub"
    printf 'restrict,command="/usr/lib/openssh/sftp-server -p %s" %s\n' "$allowed" "$(cat "$dir/append.pub")"
  } >"$dir/authorized"
}

server_configuration() {
  cat <<C
ListenAddress 127.0.0.1:$port
HostKey $dir/host
PidFile none
AuthorizedKeysFile $dir/authorized
StrictModes no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
UsePAM no
UseDNS no
PrintMotd no
MaxStartups 100
MaxSessions 64
Subsystem sftp /usr/lib/openssh/sftp-server
C
  # its hash is in the list of accounts, where sshd itself looks it up
  [ ! -e "$dir/account" ] || printf 'Match User %s\nPasswordAuthentication yes\nPubkeyAuthentication no\n' "$(cat "$dir/account")"
}

# make_account: with a password that nobody else knows, in a directory of its own
make_account() {
  [ "$(id -u)" = 0 ] && [ ! -e "$dir/account" ] && command -v useradd >/dev/null || return 0
  local account=esker-test-$port
  (umask 077 && openssl rand -hex 16 >"$dir/password")
  # several servers may start at once, and the list of accounts has one lock that nobody waits for
  mkdir -p "$root/target/servers"
  flock "$root/target/servers/accounts" useradd --no-create-home --no-user-group --home-dir "$dir/own" --shell /bin/sh \
    --password "$(openssl passwd -6 -stdin <"$dir/password")" "$account"
  printf '%s\n' "$account" >"$dir/account"
  command install -d -o "$account" "$dir/own"
}

remove_account() {
  [ -e "$dir/account" ] || return 0
  flock "$root/target/servers/accounts" userdel "$(cat "$dir/account")"
  rm -f "$dir/account"
}

stop() {
  end TERM $(pids)
  remove_account
}

client_configuration() { # client_configuration KEY
  cat <<C
Host 127.0.0.1 server
HostName 127.0.0.1
Port $port
IdentityFile $dir/$1
Host *
User $(id -un)
IdentitiesOnly yes
IdentityAgent none
UserKnownHostsFile $dir/known_hosts
GlobalKnownHostsFile none
StrictHostKeyChecking yes
BatchMode yes
# the quick ones: every command of a test connects anew
KexAlgorithms curve25519-sha256
Ciphers aes128-gcm@openssh.com
C
}

# wrapper DIRECTORY KEY: an ssh that reads this configuration and no other
wrapper() {
  mkdir -p "$dir/$1"
  client_configuration "$2" >"$dir/$1/config"
  printf '#!/bin/sh\nexec %s -F %q "$@"\n' "$(PATH=/usr/bin:/bin command -v ssh)" "$dir/$1/config" >"$dir/$1/ssh"
  chmod 755 "$dir/$1/ssh"
}

start() {
  vacant
  mkdir -p "$dir/data"
  [ -e "$dir/authorized" ] || make_keys
  make_account
  server_configuration >"$dir/config"
  printf '[127.0.0.1]:%s %s\n' "$port" "$(cat "$dir/host.pub")" >"$dir/known_hosts"
  wrapper bin id
  wrapper bin.append append
  [ "$(id -u)" != 0 ] || mkdir -p /run/sshd
  launch sshd /usr/sbin/sshd -D -e -f "$dir/config"
  answers sshd greets
  # a user in the shape that addresses have
  environment "ESKER_REPOSITORY=sftp://$(id -un)@127.0.0.1:$port$dir/data/backups/esker" \
    "FOREIGN=foreign:$dir/data/backups/esker" RCLONE_CONFIG_FOREIGN_TYPE=sftp RCLONE_CONFIG_FOREIGN_HOST=127.0.0.1 \
    "RCLONE_CONFIG_FOREIGN_PORT=$port" "RCLONE_CONFIG_FOREIGN_USER=$(id -un)" "RCLONE_CONFIG_FOREIGN_KEY_FILE=$dir/id" \
    "RCLONE_CONFIG_FOREIGN_KNOWN_HOSTS_FILE=$dir/known_hosts"
  # PATH is that of whoever sources it, not of now
  printf 'export PATH=%q:$PATH\n' "$dir/bin" >>"$dir/env"
  [ ! -e "$dir/account" ] ||
    environment env.password "ESKER_REPOSITORY=sftp://$(cat "$dir/account")@127.0.0.1:$port$dir/own/esker" \
      "ESKER_SFTP_PASSWORD_COMMAND=echo asked >>$dir/asked && cat $dir/password"
  environment env.append "RCLONE_CONFIG_FOREIGN_KEY_FILE=$dir/append"
  printf 'export PATH=%q:$PATH\n' "$dir/bin.append" >>"$dir/env.append"
}

act "$@"
