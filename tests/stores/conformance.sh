#!/usr/bin/env bash
# conformance.sh NAME: the suite that every store passes (tests/store/conformance.rs),
# on a server of this name, beside things in the same place that are none of esker's.
. "$(dirname "$0")/lib"

serve "$1"
step start
case $1 in
  # without conditional puts, whoever looks first may lose
  gcs | webdav | ftp | ftps | vsftpd) export ESKER_TEST_RACES=lost ;;
esac
if [ -n "${FOREIGN:-}" ]; then
  printf 'not an object of ours\n' | rclone rcat "$FOREIGN/Übersicht, ungelesen.txt"
  printf 'nor this\n' | rclone rcat "$FOREIGN/packs/ab/naïve name"
  step strangers
fi
ESKER_TEST_STORE=$ESKER_REPOSITORY \
  cargo test -q --locked --manifest-path "$here/Cargo.toml" --test store servers::the_named_store_conforms >"$work/suite" 2>&1 ||
  fail "$(tail -20 "$work/suite")"
grep -q '1 passed' "$work/suite" || fail "the suite did not run: $(cat "$work/suite")"
step suite
[ -z "${FOREIGN:-}" ] || [ "$(rclone cat "$FOREIGN/Übersicht, ungelesen.txt")" = 'not an object of ours' ] ||
  fail 'what is not ours was touched'
