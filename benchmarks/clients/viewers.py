"""`python -m benchmarks.clients.viewers URL TOKEN COUNT`: opens event streams of all stations, discards what they send.

Prints one line when all are open, and reads until it is ended.
"""

import selectors
import socket
import sys
from urllib.parse import urlsplit

_READ_BYTES = 1 << 20
_REQUEST = "GET /api/v1/telemetry/live/stream HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n\r\n"


def main(url: str, token: str, count: int) -> None:
    """Read for ever. Raises SystemExit where a stream is refused or ends."""
    parts = urlsplit(url)
    request = _REQUEST.format(host=parts.netloc, token=token).encode()
    with selectors.DefaultSelector() as selector:
        for _ in range(count):
            connection = socket.create_connection((parts.hostname or "", parts.port or 80))
            connection.sendall(request)
            status = connection.recv(_READ_BYTES)
            if b" 200 " not in status[:15]:
                raise SystemExit(f"a stream was refused: {status[:200]!r}")
            selector.register(connection, selectors.EVENT_READ)
        print("{}", flush=True)
        while True:
            for key, _ in selector.select():
                if isinstance(key.fileobj, socket.socket) and not key.fileobj.recv(_READ_BYTES):
                    raise SystemExit("a stream ended")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
