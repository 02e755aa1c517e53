"""`python -m benchmarks.clients.flood URL TOKEN CONNECTIONS`: posts single readings as fast as they are answered, whatever
the answer is; prints an empty JSON object once it has begun, and at SIGTERM how many answers there were by status.
"""

import json
import selectors
import signal
import socket
import sys
import time
from collections import Counter
from urllib.parse import urlsplit

from simulator.transports import TELEMETRY_PATH

_READ_BYTES = 1 << 16
_HEAD = (
    "POST {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n"
    "Content-Length: {length}\r\n\r\n"
)


def main(url: str, token: str, connections: int) -> None:
    """Until SIGTERM. Raises SystemExit where a connection ends."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    parts, answers = urlsplit(url), Counter[str]()
    sent = 0

    def request() -> bytes:
        nonlocal sent
        sent += 1
        body = json.dumps({"station_id": f"FLOOD{token[-4:]}", "connector_id": 1, "ts": _now_ms(), "seq": sent})
        head = _HEAD.format(path=TELEMETRY_PATH, host=parts.netloc, token=token, length=len(body))
        return head.encode() + body.encode()

    try:
        with selectors.DefaultSelector() as selector:
            for _ in range(connections):
                connection = socket.create_connection((parts.hostname or "", parts.port or 80))
                connection.sendall(request())
                selector.register(connection, selectors.EVENT_READ)
            print("{}", flush=True)
            while True:
                for key, _ in selector.select():
                    assert isinstance(key.fileobj, socket.socket)
                    answer = key.fileobj.recv(_READ_BYTES)  # of a few hundred bytes: it comes whole
                    if not answer:
                        raise SystemExit("a connection ended")
                    answers[answer[9:12].decode("latin-1")] += 1
                    key.fileobj.sendall(request())
    finally:
        print(json.dumps(answers), flush=True)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
