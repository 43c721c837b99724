"""One handshake in memory, the client with X509_STRICT as Python sets it from 3.13 on. Arguments: host, a file with the
server's chain and key, a file with the root. Prints OK or why not."""
import ssl
import sys

host, chain, root = sys.argv[1:]
server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
server.load_cert_chain(chain)
client = ssl.create_default_context(cafile=root)
client.verify_flags |= ssl.VERIFY_X509_STRICT
to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
ends = [
    client.wrap_bio(to_client, to_server, server_hostname=host),
    server.wrap_bio(to_server, to_client, server_side=True),
]
try:
    for _ in range(4):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                pass
    print("OK" if ends[0].version() and ends[0].getpeercert() else "NO handshake")
except ssl.SSLError as error:
    print("NO", error)
