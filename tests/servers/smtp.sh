#!/usr/bin/env bash
# aiosmtpd, a mail server that keeps what it is given as files in DIR/mails.
. "$(dirname "$0")/lib"

install() {
  python aiosmtpd 'aiosmtpd>=1.4,<2'
}

start() {
  vacant
  mkdir -p "$dir/mails"
  launch smtp "$venv/bin/python" "$root/tests/servers/smtp.py" "$dir/mails" "$port" user word
  answers smtp greets
  environment "MAIL_SERVER=smtp://127.0.0.1:$port" MAIL_USER=user MAIL_PASSWORD=word "MAILS=$dir/mails"
}

act "$@"
