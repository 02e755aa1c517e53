"""`python -m benchmarks.clients.flood URL TOKEN CONNECTIONS`: posts single readings as fast as they are answered,
whatever the answer is; prints an empty JSON object once it has begun, and at SIGTERM the number of answers by status.
"""

import json
import re
import selectors
import signal
import socket
import sys
import time
from collections import Counter
from urllib.parse import urlsplit

from simulator.transports import TELEMETRY_PATH

_READ_BYTES = 1 << 16
_HEAD_END = b"\r\n\r\n"
_LENGTH = re.compile(rb"\r\ncontent-length: (\d+)\r\n")
_HEAD = (
    "POST {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n"
    "Content-Length: {length}\r\n\r\n"
)


def main(url: str, token: str, connections: int) -> None:
    """Until SIGTERM. Raises SystemExit where a connection ends."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    parts, answers = urlsplit(url), Counter[str]()
    parts_of: dict[int, bytes] = {}  # of answers, by connection
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
                    came = key.fileobj.recv(_READ_BYTES)
                    if not came:
                        raise SystemExit("a connection ended")
                    answer = parts_of[key.fd] = parts_of.pop(key.fd, b"") + came
                    if is_whole(answer):
                        del parts_of[key.fd]
                        answers[answer[9:12].decode()] += 1
                        key.fileobj.sendall(request())
    finally:
        print(json.dumps(answers), flush=True)


def is_whole(answer: bytes) -> bool:
    """Whether the response is complete."""
    head, _, body = answer.partition(_HEAD_END)
    length = _LENGTH.search(head + b"\r\n")
    return length is not None and len(body) == int(length[1])


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
