"""OpenSSL 1.0.2, as nassl brings it, one request: words like name=good.test port=8443 version=TLSV1. Prints the first
line of the answer, or what the error says. Certificates are not verified.
"""

import socket
import sys

from nassl.legacy_ssl_client import LegacySslClient
from nassl.ssl_client import OpenSslVerifyEnum, OpenSslVersionEnum

words = dict(word.split("=", 1) for word in sys.argv[1:])

try:
    with socket.create_connection(("127.0.0.1", int(words["port"])), timeout=30) as connection:
        client = LegacySslClient(
            underlying_socket=connection,
            ssl_version=OpenSslVersionEnum[words["version"]],
            ssl_verify=OpenSslVerifyEnum.NONE,
        )
        if words["version"] != "SSLV2":
            client.set_tlsext_host_name(words["name"])
        if "ciphers" in words:
            client.set_cipher_list(words["ciphers"])
        client.do_handshake()
        client.write(f"GET / HTTP/1.1\r\nHost: {words['name']}\r\nConnection: close\r\n\r\n".encode())
        print(client.read(65536).decode().split("\r\n")[0])
except Exception as error:
    print(type(error).__name__, error)
