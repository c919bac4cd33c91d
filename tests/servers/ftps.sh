#!/usr/bin/env bash
# pyftpdlib with TLS begun by AUTH TLS. The certificate is by an issuer of its own,
# whom SSL_CERT_FILE in DIR/env makes known; without that line it is refused.
. "$(dirname "$0")/lib"

install() {
  debian openssl:openssl
  python ftpbench pyftpdlib pyopenssl
}

# An issuer and a certificate by it: strict clients refuse one that is both.
make_certificate() {
  local new='openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -x509 -days 30'
  $new -subj '/CN=esker test issuer' -keyout "$dir/issuer.key" -out "$dir/issuer.pem"
  openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=localhost -keyout "$dir/key" -out "$dir/request"
  printf 'subjectAltName=IP:127.0.0.1,DNS:localhost\nbasicConstraints=CA:FALSE\n' >"$dir/extensions"
  openssl x509 -req -in "$dir/request" -CA "$dir/issuer.pem" -CAkey "$dir/issuer.key" -CAcreateserial -days 30 \
    -extfile "$dir/extensions" -out "$dir/certificate"
  cat "$dir/key" "$dir/certificate" >"$dir/server.pem"
}

start() {
  vacant
  mkdir -p "$dir/data"
  [ -s "$dir/server.pem" ] || make_certificate 2>"$dir/openssl.log" || die "$(tail -3 "$dir/openssl.log")"
  launch ftps "$venv/bin/python" "$root/tests/servers/ftpd.py" "$dir/data" "$port" backup secret "$dir/server.pem"
  answers ftps greets
  environment "ESKER_REPOSITORY=ftps://backup@127.0.0.1:$port/backups/esker" ESKER_FTP_PASSWORD=secret \
    "SSL_CERT_FILE=$dir/issuer.pem"
}

act "$@"
