"""As much of HTTP/2 (RFC 9113) as one GET needs."""

import socket
import ssl
import struct

_HEADERS, _DATA, _SETTINGS, _GOAWAY = 1, 0, 4, 7
_END_STREAM, _END_HEADERS, _ACK = 1, 4, 1
_STATUS_200 = 0x88  # HPACK: the eighth entry of the static table


def get(context: ssl.SSLContext, host: str, port: int, path: str) -> tuple[bool, bytes]:
    """Whether it is a 200, and the body. Raises AssertionError where the server does not speak HTTP/2."""
    context.set_alpn_protocols(["h2"])
    with (
        socket.create_connection((host, port), timeout=60) as plain,
        context.wrap_socket(plain, server_hostname=host) as connection,
    ):
        assert connection.selected_alpn_protocol() == "h2"
        head = b"".join(
            b"\x00%c%b%c%b" % (len(name), name, len(value), value)
            for name, value in (
                (b":method", b"GET"),
                (b":scheme", b"https"),
                (b":authority", host.encode()),
                (b":path", path.encode()),
            )
        )
        connection.sendall(
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
            + _frame(_SETTINGS, 0, 0, b"")
            + _frame(_HEADERS, _END_STREAM | _END_HEADERS, 1, head)
        )
        found, body = False, b""
        with connection.makefile("rb") as incoming:
            while True:
                length, kind, flags, stream = struct.unpack("!IBBI", b"\0" + incoming.read(9))
                payload = incoming.read(length)
                assert kind != _GOAWAY, payload
                if kind == _SETTINGS and not flags & _ACK:
                    connection.sendall(_frame(_SETTINGS, _ACK, 0, b""))
                if stream != 1:
                    continue
                if kind == _HEADERS:
                    # Before it a change of the table's size may stand, which begins with 001.
                    found = next(octet for octet in payload if octet >> 5 != 1) == _STATUS_200
                if kind == _DATA:
                    body += payload
                if flags & _END_STREAM:
                    return found, body


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack("!I", len(payload))[1:] + struct.pack("!BBI", kind, flags, stream) + payload
