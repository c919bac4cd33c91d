#!/usr/bin/env python3
"""ftpd.py DIRECTORY PORT USER PASSWORD [CERTIFICATE]: pyftpdlib on 127.0.0.1. With a file of certificate and key it
speaks TLS only, begun by AUTH TLS."""
import sys

from pyftpdlib.authorizers import DummyAuthorizer
from pyftpdlib.handlers import FTPHandler
from pyftpdlib.servers import ThreadedFTPServer

directory, port, user, password = sys.argv[1:5]
handler = FTPHandler
if len(sys.argv) > 5:
    from pyftpdlib.handlers import TLS_FTPHandler
    handler = TLS_FTPHandler
    handler.certfile = sys.argv[5]
    handler.tls_control_required = handler.tls_data_required = True
handler.authorizer = DummyAuthorizer()
handler.authorizer.add_user(user, password, directory, perm='elradfmwMT')
# a wrong password is answered at once: nobody is kept out here, and tests need not wait
handler.auth_failed_timeout = 0
handler.max_login_attempts = 20
ThreadedFTPServer(('127.0.0.1', int(port)), handler).serve_forever()
