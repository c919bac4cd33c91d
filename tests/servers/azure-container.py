#!/usr/bin/env python3
"""azure-container.py ENDPOINT ACCOUNT KEY CONTAINER: makes the container unless it is there, with a request signed as
Azure's "authorize with Shared Key" says."""
import base64
import email.utils
import hashlib
import hmac
import sys
import urllib.error
import urllib.request

endpoint, account, key, container = sys.argv[1:]
url = f'{endpoint}/{container}?restype=container'
headers = {'x-ms-date': email.utils.formatdate(usegmt=True), 'x-ms-version': '2021-08-06'}
path = '/' + url.split('://', 1)[1].split('/', 1)[1].split('?', 1)[0]
# the method, eleven headers that are not sent, those of Microsoft's, and what is asked for
lines = ['PUT'] + [''] * 11 + [f'{name}:{headers[name]}' for name in sorted(headers)]
text = '\n'.join(lines + [f'/{account}{path}', 'restype:container'])
signature = base64.b64encode(hmac.new(base64.b64decode(key), text.encode(), hashlib.sha256).digest()).decode()
headers |= {'authorization': f'SharedKey {account}:{signature}', 'content-length': '0'}
try:
    urllib.request.urlopen(urllib.request.Request(url, method='PUT', headers=headers), timeout=10)
except urllib.error.HTTPError as error:
    if error.code != 409:  # 409: it is there
        sys.exit(f'{error}: {error.read().decode()}')
