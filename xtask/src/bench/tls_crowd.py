"""Holds connections over TLS that were served once: `tls_crowd.py PORT http/1.1|h2 COUNT`.

Prints "warm" once a few are there, waits for a line, opens the others, prints "open", and waits for the end of its input.
"""

import socket
import ssl
import sys

port, protocol, count = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
context = ssl.create_default_context()
context.check_hostname = False
context.verify_mode = ssl.CERT_NONE
context.set_alpn_protocols([protocol])

PATH = b"/healthz"
HTTP1 = b"GET " + PATH + b" HTTP/1.1\r\nhost: shop.test\r\n\r\n"
# HPACK: GET, https, a path and an authority without an index (RFC 7541).
HEAD = b"\x82\x87\x04" + bytes([len(PATH)]) + PATH + b"\x01\x09shop.test"
HTTP2 = (
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
    + bytes([0, 0, len(HEAD), 1, 5, 0, 0, 0, 1])
    + HEAD
)
SETTINGS_ACK = bytes([0, 0, 0, 4, 1, 0, 0, 0, 0])


def served(connection):
    """Reads one answer: a head of HTTP/1.1, or the frames of a stream up to its end."""
    got = b""
    while True:
        more = connection.recv(65536)
        if not more:
            sys.exit("the server has closed a connection")
        got += more
        if protocol == "http/1.1":
            if not got.startswith(b"HTTP/1.1 200"):
                sys.exit(f"not served: {got!r}")
            return
        while len(got) >= 9:
            length, kind, flags = int.from_bytes(got[:3], "big"), got[3], got[4]
            stream = int.from_bytes(got[5:9], "big")
            if len(got) < 9 + length:
                break
            if kind == 4 and not flags & 1:
                connection.sendall(SETTINGS_ACK)
            if kind == 3:
                sys.exit("the server has reset the stream")
            if stream == 1 and flags & 1:
                return
            got = got[9 + length :]


def connect():
    connection = context.wrap_socket(socket.create_connection(("127.0.0.1", port)))
    if connection.selected_alpn_protocol() != protocol:
        sys.exit(f"the server speaks {connection.selected_alpn_protocol()}")
    connection.sendall(HTTP1 if protocol == "http/1.1" else HTTP2)
    served(connection)
    return connection


def say(word):
    print(word, flush=True)


held = [connect() for _ in range(50)]
say("warm")
sys.stdin.readline()
held += [connect() for _ in range(count)]
say("open")
sys.stdin.read()
