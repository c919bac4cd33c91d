#!/usr/bin/env python3
"""A proxy that does to requests what networks and busy servers do.

    proxy.py PORT TARGET FAULT [EVERY]   HTTP: every so many requests that the fault fits, one suffers it
    proxy.py PORT TARGET link MS RATE    any protocol: MS milliseconds there and back, RATE bytes a second each way;
                                         ended by SIGTERM it prints the bytes that passed up and down

TARGET is a port on 127.0.0.1. Headers pass unchanged, so that signatures hold. Faults:

    cut-put, cut-get   the connection ends in the middle of a body
    alter-put, alter-get   one byte of a body is another one; of what is got under one name, once
    500, 503, 429      instead of an answer; the last two ask to come again after a second
    lost-put           the server does it, and its answer never arrives
    expired, skewed    every request is refused as S3 refuses credentials that have expired, or a clock that is off
    gone               every request is answered as S3 does when there is no such bucket
"""
import asyncio
import os
import signal
import sys
import time

PORT, TARGET, FAULT = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
REFUSALS = {
    'expired': (400, 'ExpiredToken', 'The provided token has expired.'),
    'skewed': (403, 'RequestTimeTooSkewed', 'The difference between the request time and the server time is too large.'),
    'gone': (404, 'NoSuchBucket', 'The specified bucket does not exist.'),
    '500': (500, 'InternalError', 'We encountered an internal error. Please try again.'),
    '503': (503, 'SlowDown', 'Please reduce your request rate.'),
    '429': (429, 'TooManyRequests', 'Please reduce your request rate.'),
}
ALWAYS = {'expired', 'skewed', 'gone'}
SHORT = 4096  # bodies that are shorter are left alone by what happens to bodies
seen = 0
spoiled = set()


def refusal(head):
    code, name, message = REFUSALS[FAULT]
    body = f'<?xml version="1.0"?><Error><Code>{name}</Code><Message>{message}</Message></Error>'.encode()
    again = 'retry-after: 1\r\n' if FAULT in ('503', '429') else ''
    answer = f'HTTP/1.1 {code} No\r\ncontent-type: application/xml\r\n{again}content-length: {len(body)}\r\n\r\n'
    return answer.encode() + (b'' if head else body)


def suffers(method, length):
    """Whether this request is one that is to go wrong."""
    global seen
    if FAULT in ALWAYS:
        return True
    fits = {'cut-put': method == 'PUT' and length > SHORT, 'alter-put': method == 'PUT' and length > SHORT,
            'lost-put': method == 'PUT' and length > 0}.get(FAULT, method == 'GET' or FAULT in REFUSALS)
    if not fits:
        return False
    seen += 1
    return seen % int(sys.argv[4]) == 0


async def head_of(reader):
    """The lines up to the empty one, and the length of the body they tell; None for a chunked one."""
    head = await reader.readuntil(b'\r\n\r\n')
    length = 0
    for line in head.lower().split(b'\r\n')[1:]:
        name, _, value = line.partition(b':')
        if name == b'content-length':
            length = int(value)
        if name == b'transfer-encoding' and b'chunked' in value:
            length = None
    return head, length


async def body_of(reader, length):
    if length is not None:
        return await reader.readexactly(length)
    body = b''
    while True:
        size = await reader.readuntil(b'\r\n')
        body += size + await reader.readexactly(int(size.split(b';')[0], 16) + 2)
        if int(size.split(b';')[0], 16) == 0:
            return body


def altered(body):
    middle = len(body) // 2
    return body[:middle] + bytes([body[middle] ^ 1]) + body[middle + 1:]


async def request(reader, writer, server):
    """One request and its answer; whether the connection goes on."""
    head, length = await head_of(reader)
    method = head.split(b' ', 1)[0].decode()
    if b'expect: 100-continue' in head.lower():
        writer.write(b'HTTP/1.1 100 Continue\r\n\r\n')
    body = await body_of(reader, length)
    bad = suffers(method, len(body))
    if bad and FAULT in REFUSALS:
        writer.write(refusal(method == 'HEAD'))
        await writer.drain()
        return True
    up, down = server
    if bad and FAULT == 'alter-put':
        body = altered(body)
    if bad and FAULT == 'cut-put':
        down.write(head + body[:len(body) // 2])
        await down.drain()
        return False
    down.write(head + body)
    await down.drain()
    answer, length = await head_of(up)
    code = int(answer.split(b' ', 2)[1])
    body = b'' if method == 'HEAD' or code in (204, 304) else await body_of(up, length)
    if bad and FAULT == 'lost-put':
        return False
    # who would have the whole object, or a large part of it
    if bad and FAULT.endswith('-get') and code in (200, 206) and length and length > 100:
        if FAULT == 'cut-get':
            writer.write(answer + body[:len(body) // 2])
            await writer.drain()
            return False
        name = head.split(b' ', 2)[1]
        if b'application/xml' not in answer.lower() and name not in spoiled:
            spoiled.add(name)
            body = altered(body)
    writer.write(answer + body)
    await writer.drain()
    return b'connection: close' not in answer.lower()


async def http(reader, writer):
    server = None
    try:
        server = await asyncio.open_connection('127.0.0.1', TARGET, limit=1 << 20)
        while await request(reader, writer, server):
            pass
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        for end in [writer, server and server[1]]:
            if end:
                end.close()


class Direction:
    """What all connections share of the link in one direction."""

    def __init__(self, rate):
        self.rate = rate
        self.free = 0.0
        self.bytes = 0

    def pass_at(self, size):
        self.bytes += size
        # what waits in the buffers of a real link may pass at once
        self.free = max(self.free, time.monotonic() - 262144 / self.rate) + size / self.rate
        return self.free


async def carry(reader, writer, direction, delay):
    """Each piece arrives when the link has carried it and the way is over; meanwhile the next ones set off."""
    on_the_way = asyncio.Queue(maxsize=256)

    async def arrive():
        while True:
            due, piece = await on_the_way.get()
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            if piece is None:
                break
            writer.write(piece)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()

    arriving = asyncio.create_task(arrive())
    try:
        while piece := await reader.read(16384):
            passed = direction.pass_at(len(piece))
            await asyncio.sleep(max(0.0, passed - time.monotonic()))
            await on_the_way.put((passed + delay, piece))
        await on_the_way.put((time.monotonic() + delay, None))
        await arriving
    except ConnectionError:
        arriving.cancel()


async def link(reader, writer):
    there = await asyncio.open_connection('127.0.0.1', TARGET)
    try:
        await asyncio.gather(carry(reader, there[1], UP, DELAY), carry(there[0], writer, DOWN, DELAY))
    finally:
        writer.close()
        there[1].close()


def end():
    if FAULT == 'link':
        print(UP.bytes, DOWN.bytes, flush=True)
    os._exit(0)


async def serve():
    work = link if FAULT == 'link' else http
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, end)
    server = await asyncio.start_server(work, '127.0.0.1', PORT, limit=1 << 20, backlog=256)
    await server.serve_forever()


if FAULT == 'link':
    DELAY, RATE = float(sys.argv[4]) / 2000, float(sys.argv[5])
    UP, DOWN = Direction(RATE), Direction(RATE)
asyncio.run(serve())
