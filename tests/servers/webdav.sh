#!/usr/bin/env bash
# Apache with mod_dav, plain HTTP, basic authentication. Started by root it runs as
# www-data, who must be able to reach DIR.
. "$(dirname "$0")/lib"

install() {
  debian /usr/sbin/apache2:apache2-bin openssl:openssl curl:curl
}

configuration() {
  local module modules=/usr/lib/apache2/modules
  printf 'ServerRoot %s\nServerName localhost\nPidFile %s/httpd.pid-of-its-own\nListen 127.0.0.1:%s\nErrorLog %s/errors\n' \
    "$dir" "$dir" "$port" "$dir"
  [ "$(id -u)" != 0 ] || printf 'User www-data\nGroup www-data\n'
  for module in mpm_event authn_core authn_file authz_core authz_user auth_basic dav dav_fs; do
    printf 'LoadModule %s_module %s/mod_%s.so\n' $module $modules $module
  done
  cat <<C
DavLockDB $dir/locks/db
DocumentRoot $dir/data
<Directory $dir/data>
  Dav On
  AuthType Basic
  AuthName backups
  AuthUserFile $dir/passwords
  Require valid-user
</Directory>
C
}

start() {
  vacant
  mkdir -p "$dir/data" "$dir/locks"
  configuration >"$dir/config"
  printf 'backup:%s\n' "$(openssl passwd -apr1 secret)" >"$dir/passwords"
  if [ "$(id -u)" = 0 ]; then
    chmod 711 "$dir"
    chown -R www-data: "$dir/data" "$dir/locks"
    setpriv --reuid=www-data --regid=www-data --clear-groups test -w "$dir/data" || die "www-data cannot reach $dir"
  fi
  launch httpd /usr/sbin/apache2 -D FOREGROUND -f "$dir/config"
  answers httpd http -f --user backup:secret -X OPTIONS "http://127.0.0.1:$port/"
  environment "ESKER_REPOSITORY=webdav+http://backup@127.0.0.1:$port/backups/esker" ESKER_WEBDAV_PASSWORD=secret
}

act "$@"
