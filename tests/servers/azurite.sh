#!/usr/bin/env bash
# Azurite, Microsoft's own stand-in for Azure Blob Storage. Its account and key
# are the published ones. Keeps its data on disk, but writes the list of it only
# every few seconds: kill loses what was put last, so it is no server for faults.
. "$(dirname "$0")/lib"

account=devstoreaccount1
key=Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==

install() {
  debian node:nodejs npm:npm curl:curl
  [ ! -e "$node/node_modules/azurite" ] || return 0
  mkdir -p "$node"
  npm install --prefix "$node" --silent --no-audit --no-fund azurite@3.35.0 >"$root/target/servers/npm.log" 2>&1 ||
    die "npm install azurite: $(tail -3 "$root/target/servers/npm.log")"
}

start() {
  vacant
  mkdir -p "$dir/data"
  launch azurite node "$node/node_modules/azurite/dist/src/blob/main.js" --silent --skipApiVersionCheck \
    --disableTelemetry -l "$dir/data" --blobHost 127.0.0.1 --blobPort "$port"
  local endpoint=http://127.0.0.1:$port/$account
  answers azurite http "$endpoint"
  environment "ESKER_REPOSITORY=azblob://esker-test/backups/azurite?endpoint=$endpoint" \
    AZURE_STORAGE_ACCOUNT=$account AZURE_STORAGE_KEY=$key
  python3 "$root/tests/servers/azure-container.py" "$endpoint" $account $key esker-test
}

act "$@"
