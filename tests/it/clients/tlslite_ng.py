"""tlslite-ng, which can be made to speak as clients of any age did, one request: words like name=good.test port=8443
versions=3.1-3.1 kx=rsa. Prints the first line of the answer, or what the error says. Certificates are not verified.
"""

import socket
import sys

from tlslite.api import HandshakeSettings, TLSConnection

words = dict(word.split("=", 1) for word in sys.argv[1:])


def settings():
    made = HandshakeSettings()
    if "versions" in words:
        oldest, newest = words["versions"].split("-")
        made.minVersion, made.maxVersion = (tuple(map(int, text.split("."))) for text in (oldest, newest))
    lists = {
        "ciphers": ["cipherNames"],
        "macs": ["macNames"],
        "kx": ["keyExchangeNames"],
        "groups": ["eccCurves"],
        "shares": ["keyShares"],
        "hashes": ["rsaSigHashes", "ecdsaSigHashes", "dsaSigHashes"],
    }
    for word, fields in lists.items():
        for field in fields if word in words else []:
            setattr(made, field, words[word].split(","))
    if "hashes" in words:
        made.more_sig_schemes = []
    if "key" in words:
        made.minKeySize = int(words["key"])
    return made


with socket.create_connection(("127.0.0.1", int(words["port"])), timeout=30) as connection:
    try:
        tls = TLSConnection(connection)
        alpn = [bytearray(name, "ascii") for name in words.get("alpn", "http/1.1").split(",")]
        tls.handshakeClientCert(serverName=words["name"], settings=settings(), alpn=alpn)
        tls.write(f"GET / HTTP/1.1\r\nHost: {words['name']}\r\nConnection: close\r\n\r\n".encode())
        print(tls.read(max=65536, min=1).decode().split("\r\n")[0])
    except Exception as error:
        print(type(error).__name__, error)
