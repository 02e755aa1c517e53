"""Load of a fleet as a process: many kept-alive connections, each with one reading every so often.

`python -m benchmarks.clients.many_connections URL CONNECTIONS PERIOD_S WARM_UP_S SECONDS`, with the token in
VOLTSTREAM_DEVICE_TOKEN. Prints a line when the warm-up is over, and a JSON report at the end. Connection i of n posts
at i/n of every period; a post that is due while the last one is unanswered waits for it, which counts as latency.
A post that is answered otherwise than 202 is sent again.
"""

import asyncio
import json
import os
import resource
import sys
from array import array
from collections import deque
from collections.abc import Iterator
from typing import Final
from urllib.parse import urlsplit

import numpy as np
import uvloop

from kit.clock import SystemClock
from simulator.load.bodies import LoadSpec, bodies
from simulator.transports import TELEMETRY_PATH

_FILES_MORE: Final = 100  # open files besides the connections
_CONNECTING_MAX: Final = 100  # at once: the server's backlog is 2,048
_AGAIN_S: Final = 1.0
_DRAIN_S: Final = 120.0
_TICK_S: Final = 0.001


class Fleet:
    """What the connections share."""

    def __init__(self, head: bytes, made: Iterator[bytes]) -> None:
        self.head = head
        self.made = made
        self.latencies_s = array("d")
        self.unanswered = 0
        self.repeated = 0


class Device(asyncio.Protocol):
    """One connection."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._loop = asyncio.get_running_loop()
        self._due: deque[tuple[float, bytes]] = deque()  # the first of them is on its way
        self._received = b""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # a stream
        """See asyncio."""
        self._transport = transport

    def post(self, due_s: float) -> None:
        """Send the next reading, or once the last one is answered."""
        fleet = self._fleet
        body = next(fleet.made)
        fleet.unanswered += 1
        self._due.append((due_s, b"%b%d\r\n\r\n%b" % (fleet.head, len(body), body)))
        if len(self._due) == 1:
            self._transport.write(self._due[0][1])

    def data_received(self, data: bytes) -> None:
        """See asyncio. All answers end with a JSON object; those of the gateway come in one piece."""
        self._received += data
        if not self._received.endswith(b"}"):
            return
        accepted, self._received = self._received.startswith(b"HTTP/1.1 202"), b""
        if not accepted:
            self._fleet.repeated += 1
            self._loop.call_later(_AGAIN_S, self._transport.write, self._due[0][1])
            return
        due_s, _ = self._due.popleft()
        self._fleet.unanswered -= 1
        self._fleet.latencies_s.append(self._loop.time() - due_s)
        if self._due:
            self._transport.write(self._due[0][1])

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio."""
        if self._due:
            print(f"a connection was lost with a post unanswered: {exc!r}", file=sys.stderr)
            os._exit(1)


async def main(url: str, connections: int, period_s: float, warm_up_s: float, seconds: float) -> None:
    """Run the load and print the report."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    allowed = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if allowed < connections + _FILES_MORE:
        raise SystemExit(f"{connections} connections need as many open files; {allowed} are allowed (ulimit -n)")
    token, clock, loop = os.environ["VOLTSTREAM_DEVICE_TOKEN"], SystemClock(), asyncio.get_running_loop()
    parts = urlsplit(url)
    address = parts.hostname or "", parts.port or 80
    head = (
        f"POST {TELEMETRY_PATH} HTTP/1.1\r\nHost: {parts.netloc}\r\nAuthorization: Bearer {token}\r\n"
        "Content-Type: application/json\r\nContent-Length: "
    ).encode()
    spec = LoadSpec(url, token, seconds, stations=connections, connectors=1, batch=1)
    fleet = Fleet(head, bodies(spec, clock))
    devices: list[Device] = []
    while len(devices) < connections:
        count = min(_CONNECTING_MAX, connections - len(devices))
        opened = (loop.create_connection(lambda: Device(fleet), *address) for _ in range(count))
        devices += [device for _, device in await asyncio.gather(*opened)]
    start_s, posted, measured = loop.time(), 0, 0
    while (now_s := loop.time()) < start_s + warm_up_s + seconds:
        due = int((now_s - start_s) * connections / period_s)
        while posted < due:
            devices[posted % connections].post(start_s + posted * period_s / connections)
            posted += 1
        if not measured and now_s >= start_s + warm_up_s:
            measured = posted
            print("{}", flush=True)
        await asyncio.sleep(_TICK_S)
    ended_s = loop.time()
    async with asyncio.timeout(_DRAIN_S):
        while fleet.unanswered:  # noqa: ASYNC110  # answers are counted, not awaited one by one
            await asyncio.sleep(_TICK_S)
    latencies_ms = np.array(fleet.latencies_s[measured:]) * 1_000
    report = {
        "posted": posted,
        "measured": posted - measured,
        "repeated": fleet.repeated,
        "drain_s": loop.time() - ended_s,
        "latency_ms_p50": float(np.percentile(latencies_ms, 50)),
        "latency_ms_p99": float(np.percentile(latencies_ms, 99)),
        "latency_ms_max": float(latencies_ms.max()),
    }
    print(json.dumps(report), flush=True)


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], int(sys.argv[2]), *map(float, sys.argv[3:6])))
