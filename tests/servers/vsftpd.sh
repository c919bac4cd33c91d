#!/usr/bin/env bash
# vsftpd, the FTP server of many hosts: no MLSD, listings as `ls -l` prints them.
# The anonymous user may write here, and his password is one of a list: so the
# machine needs no account for it.
. "$(dirname "$0")/lib"

install() {
  debian vsftpd:vsftpd
}

configuration() {
  cat <<C
listen=YES
listen_address=127.0.0.1
listen_port=$port
background=NO
run_as_launching_user=YES
seccomp_sandbox=NO
local_enable=NO
anonymous_enable=YES
anon_root=$dir/data
secure_email_list_enable=YES
email_password_file=$dir/passwords
write_enable=YES
anon_upload_enable=YES
anon_mkdir_write_enable=YES
anon_other_write_enable=YES
anon_world_readable_only=NO
anon_umask=077
allow_writeable_chroot=YES
pasv_address=127.0.0.1
max_per_ip=0
max_clients=0
max_login_fails=20
delay_failed_login=0
vsftpd_log_file=$dir/transfers.log
C
}

start() {
  vacant
  mkdir -p "$dir/data"
  configuration >"$dir/config"
  printf 'secret\n' >"$dir/passwords"
  launch vsftpd "$(PATH=$PATH:/usr/sbin command -v vsftpd)" "$dir/config"
  answers vsftpd greets
  # as whoever starts it, vsftpd does not change its root: paths are the machine's
  environment "ESKER_REPOSITORY=ftp://anonymous@127.0.0.1:$port$dir/data/backups/esker" ESKER_FTP_PASSWORD=secret
}

act "$@"
