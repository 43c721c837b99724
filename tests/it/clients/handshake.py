"""Python's own TLS, one request: words like name=good.test port=8443 ca=ca.pem. Prints the first line of the answer, or
what the error says.

With `tamper` the connection changes the last byte of one of the client's messages: of the first one (`hello`), which in
a session that is resumed is the binder of its pre-shared key, or of the last one (`finished`).
"""

import socket
import ssl
import sys

words = dict(word.split("=", 1) for word in sys.argv[1:])


def context():
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.load_verify_locations(words["ca"])
    if "ciphers" in words:
        made.set_ciphers(words["ciphers"])
    if "version" in words:
        made.minimum_version = made.maximum_version = ssl.TLSVersion[words["version"]]
    if "groups" in words:
        made.set_ecdh_curve(words["groups"])
    if "alpn" in words:
        made.set_alpn_protocols(words["alpn"].split(","))
    if "identity" in words:
        made.load_cert_chain(words["identity"] + ".pem", words["identity"] + ".key")
    return made


def connect(client, session=None, tamper=None):
    """One request over memory buffers, so that what is sent can be changed; the answer and the session."""
    received, sent = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = client.wrap_bio(received, sent, server_hostname=words["name"], session=session)
    with socket.create_connection(("127.0.0.1", int(words["port"])), timeout=30) as connection:
        flights = 0

        def flush():
            nonlocal flights
            data = sent.read()
            if not data:
                return
            flights += 1
            if tamper == ("hello" if flights == 1 else "finished"):
                data = data[:-1] + bytes([data[-1] ^ 1])
            connection.sendall(data)

        def run(step):
            while True:
                try:
                    return step()
                except ssl.SSLWantReadError:
                    flush()
                    data = connection.recv(65536)
                    received.write(data) if data else received.write_eof()
                finally:
                    flush()

        run(tls.do_handshake)
        request = f"GET / HTTP/1.1\r\nHost: {words['name']}\r\nConnection: close\r\n\r\n"
        if tamper != "finished":
            run(lambda: tls.write(request.encode()))
        answer = run(lambda: tls.read(65536))
        return answer.decode().split("\r\n")[0], tls.session


try:
    client = context()
    tamper = words.get("tamper")
    session = connect(client)[1] if tamper == "hello" else None
    print(connect(client, session, tamper)[0])
except (OSError, EOFError) as error:
    print(type(error).__name__, error)
