#!/usr/bin/env bash
# gcp-storage-emulator, a stand-in for Google Cloud Storage that shows that the
# requests have the right form and no more: it asks for no credentials, ignores
# conditions and lists everything in one page.
. "$(dirname "$0")/lib"

install() {
  debian curl:curl
  python gcp-storage-emulator gcp-storage-emulator
}

start() {
  vacant
  mkdir -p "$dir/data"
  launch gcs "$venv/bin/gcp-storage-emulator" -d "$dir/data" start --host 127.0.0.1 --port "$port"
  local endpoint=http://127.0.0.1:$port
  answers gcs http "$endpoint/storage/v1/b?project=esker"
  http -H 'content-type: application/json' -d '{"name":"esker-test"}' "$endpoint/storage/v1/b?project=esker"
  environment "ESKER_REPOSITORY=gcs://esker-test/backups/gcs?endpoint=$endpoint&anonymous=true"
}

act "$@"
