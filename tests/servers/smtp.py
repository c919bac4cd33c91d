#!/usr/bin/env python3
"""smtp.py DIRECTORY PORT USER PASSWORD: aiosmtpd on 127.0.0.1. Takes mail only from who knows the password, and writes
each into a file of DIRECTORY, its envelope in front. Prints its address when it answers; port 0 is any."""
import asyncio
import sys
import uuid
from pathlib import Path

from aiosmtpd.smtp import SMTP, AuthResult

directory, port, user, password = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]


class Keep:
    async def handle_DATA(self, server, session, envelope):
        head = f'X-MailFrom: {envelope.mail_from}\nX-RcptTo: {", ".join(envelope.rcpt_tos)}\n'
        file = directory / f'{uuid.uuid4()}.eml'
        file.write_bytes(head.encode() + envelope.content)
        return '250 taken'


def authenticate(server, session, envelope, mechanism, data):
    known = (data.login, data.password) == (user.encode(), password.encode())
    return AuthResult(success=known, handled=False)


async def main():
    def connection():
        return SMTP(Keep(), hostname='test', authenticator=authenticate, auth_required=True, auth_require_tls=False)
    server = await asyncio.get_running_loop().create_server(connection, '127.0.0.1', port)
    print('%s:%d' % server.sockets[0].getsockname(), flush=True)
    await server.serve_forever()

asyncio.run(main())
