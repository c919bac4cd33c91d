#!/usr/bin/env python3
"""refusing.py PORT: answers every request as S3 does when the bucket lies in another region than the request was
signed for. A stand-in: the real servers of these tests take any region."""
import http.server
import sys

BODY = b'''<?xml version="1.0" encoding="UTF-8"?>
<Error><Code>AuthorizationHeaderMalformed</Code><Message>The authorization header is malformed; the region 'us-east-1'
 is wrong; expecting 'eu-central-1'</Message><Region>eu-central-1</Region><RequestId>1</RequestId></Error>'''


class Refusing(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'

    def refuse(self):
        self.rfile.read(int(self.headers.get('content-length') or 0))
        self.send_response(400)
        self.send_header('content-type', 'application/xml')
        self.send_header('content-length', str(len(BODY)))
        self.end_headers()
        if self.command != 'HEAD':
            self.wfile.write(BODY)

    do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = refuse

    def log_message(self, *_):
        pass


http.server.ThreadingHTTPServer(('127.0.0.1', int(sys.argv[1])), Refusing).serve_forever()
