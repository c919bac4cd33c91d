#!/usr/bin/env bash
# moto, an S3 server in memory: quick, and a second opinion. It checks neither
# secrets nor checksums, and forgets all when it ends.
. "$(dirname "$0")/lib"

# Its threads look and then write: of two puts on condition that nothing is there
# both may win. So one request is dealt with after the other.
one_at_a_time='
import sys, threading
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import run_simple
server, alone = DomainDispatcherApplication(create_backend_app), threading.Lock()
def answer(environ, start):
    with alone:
        return list(server(environ, start))
run_simple("127.0.0.1", int(sys.argv[1]), answer, threaded=True)
'

install() {
  debian curl:curl
  # without the extra named server: it brings what only other services need
  python moto_server 'moto[s3]>=5,<6' flask flask-cors
}

start() {
  vacant
  launch moto "$venv/bin/python" -c "$one_at_a_time" "$port"
  local endpoint=http://127.0.0.1:$port
  answers moto http -f "$endpoint/moto-api/data.json"
  http -f -X PUT -H 'authorization: AWS4-HMAC-SHA256 Credential=any/20260101/us-east-1/s3/aws4_request' "$endpoint/esker-test"
  environment "ESKER_REPOSITORY=s3://esker-test/backups/moto?endpoint=$endpoint&region=us-east-1" \
    AWS_ACCESS_KEY_ID=any AWS_SECRET_ACCESS_KEY=anything AWS_EC2_METADATA_DISABLED=true
}

act "$@"
