"""Load mode: as many readings as one core can write, over plain HTTP/1.1 on a few kept-alive, pipelined connections.

Each request is sent again unchanged until it is acknowledged; so what is counted as acknowledged is what the
platform must have, exactly once.
"""

import asyncio
from array import array
from collections import deque
from dataclasses import dataclass, field
from typing import Final, NamedTuple
from urllib.parse import urlsplit

import msgspec
import numpy as np

from kit.clock import Clock
from kit.errors import ConfigError, Unavailable
from kit.retry import reconnect_pauses_s
from simulator.encode import CONTENT_TYPES
from simulator.errors import Rejected
from simulator.load.bodies import LoadSpec, bodies
from simulator.transports import PATIENCE_S, RETRY_AFTER_S_MAX, TELEMETRY_PATH, Receipt

LATENCIES_MAX: Final = 1_000_000  # 8 MB, the newest: 100 s at 10,000 requests/s
DRAIN_S: Final = 15.0  # after the end, for answers: more than the gateway's publish time-out of 10 s
_ANSWER_BYTES_MAX: Final = 8 * 1024 * 1024  # of one answer: 100,000 quarantined items of ~60 B are 6 MB
_AGAIN: Final = frozenset({408, 425, 429, 500, 502, 503, 504})

_receipt: Final = msgspec.json.Decoder(Receipt)


@dataclass(slots=True)
class LoadReport:
    """What a load run did. Rates count from the first request to the last acknowledgement."""

    sent: int = 0  # readings, each counted once, however often its body was sent
    acknowledged: int = 0  # readings in requests that were answered 202
    quarantined: int = 0
    requests: int = 0  # acknowledged
    retried: int = 0  # requests sent again
    elapsed_s: float = 0.0
    latencies_s: "array[float]" = field(default_factory=lambda: array("d"))

    def note(self, latency_s: float) -> None:
        """Keep a latency, the newest LATENCIES_MAX."""
        if len(self.latencies_s) < LATENCIES_MAX:
            self.latencies_s.append(latency_s)
        else:
            self.latencies_s[self.requests % LATENCIES_MAX] = latency_s

    def summary(self) -> dict[str, float | int]:
        """Flat, for JSON: counts, readings and requests a second, latency percentiles in ms."""
        elapsed_s = max(self.elapsed_s, 1e-9)
        percentiles = {"p50": 50, "p90": 90, "p99": 99, "p999": 99.9, "max": 100}
        latencies_ms = np.array(self.latencies_s) * 1_000 if self.latencies_s else np.zeros(1)
        return {
            "sent": self.sent,
            "acknowledged": self.acknowledged,
            "quarantined": self.quarantined,
            "unacknowledged": self.sent - self.acknowledged,
            "requests": self.requests,
            "retried": self.retried,
            "elapsed_s": round(self.elapsed_s, 3),
            "readings_per_s": round(self.acknowledged / elapsed_s, 1),
            "requests_per_s": round(self.requests / elapsed_s, 1),
            **{
                f"latency_ms_{name}": round(float(np.percentile(latencies_ms, share)), 3)
                for name, share in percentiles.items()
            },
        }


class Load:
    """One load run. `report` may be looked at while it runs."""

    def __init__(self, spec: LoadSpec, clock: Clock) -> None:
        """Raises ConfigError for a URL that plain HTTP does not reach."""
        parts = urlsplit(spec.url)
        if parts.scheme != "http" or not parts.hostname:
            raise ConfigError(f"load mode speaks plain HTTP: {spec.url} must begin with http:// and name a host")
        self.report = LoadReport()
        self._spec, self._clock = spec, clock
        self._host, self._port = parts.hostname, parts.port or 80
        authorization = f"Authorization: Bearer {spec.token}\r\n" if spec.token else ""
        self._head = (
            f"POST {parts.path.rstrip('/')}{TELEMETRY_PATH} HTTP/1.1\r\nHost: {parts.netloc}\r\n{authorization}"
            f"Content-Type: {CONTENT_TYPES[spec.form]}\r\nContent-Length: "
        ).encode()
        self._bodies = bodies(spec, clock)
        self._turns = 0
        self._start_s = 0.0

    async def run(self) -> LoadReport:
        """Send until the duration is over, then wait for answers. Raises Rejected and Unavailable."""
        self._start_s = self._clock.monotonic_s()
        try:
            async with asyncio.timeout(self._spec.duration_s + DRAIN_S):
                await self._run_connections()
        except TimeoutError:  # the report says how many readings were never acknowledged
            if not self.report.requests:
                raise Unavailable(f"{self._host}:{self._port} acknowledged nothing; is the URL right?") from None
        return self.report

    async def _run_connections(self) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(self._spec.connections):
                    group.create_task(self._keep_connected())
        except* (Rejected, Unavailable) as errors:
            raise errors.exceptions[0] from None

    async def _keep_connected(self) -> None:
        """One connection, and the next one where it is lost."""
        waiting: deque[_Request] = deque()  # on their way, in the order of sending
        pauses_s = reconnect_pauses_s()
        give_up_s = self._clock.monotonic_s() + PATIENCE_S
        while True:
            before = self.report.requests
            try:
                reader, writer = await asyncio.open_connection(self._host, self._port, limit=_ANSWER_BYTES_MAX)
                try:
                    return await self._converse(reader, writer, waiting)
                finally:
                    writer.close()
            except (OSError, asyncio.IncompleteReadError) as error:
                if self.report.requests > before:
                    pauses_s, give_up_s = reconnect_pauses_s(), self._clock.monotonic_s() + PATIENCE_S
                if self._clock.monotonic_s() > give_up_s:
                    raise Unavailable(f"{self._host}:{self._port} for {PATIENCE_S:g} s: {error!r}") from error
                self.report.retried += len(waiting)
                await asyncio.sleep(next(pauses_s))

    async def _converse(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, waiting: "deque[_Request]"
    ) -> None:
        for request in waiting:
            writer.write(request.content)
        while True:
            while len(waiting) < self._spec.pipeline:
                new = await self._next(may_wait=not waiting)
                if new is None:
                    break
                waiting.append(new)
                writer.write(new.content)
            if not waiting:
                return
            answer = await _read_answer(reader)
            request = waiting.popleft()
            if answer.status == 202:
                self._acknowledge(request, answer.body)
            elif answer.status in _AGAIN:
                self.report.retried += 1
                await asyncio.sleep(min(answer.retry_after_s, RETRY_AFTER_S_MAX))
                waiting.append(request)
                writer.write(request.content)
            else:
                raise Rejected(f"{answer.status}: {answer.body[:500].decode(errors='replace')}", answer.status)

    async def _next(self, *, may_wait: bool) -> "_Request | None":
        """The next request; None: not yet (only unless `may_wait`), or never again."""
        start_s, now_s = self._start_s, self._clock.monotonic_s()
        if now_s - start_s >= self._spec.duration_s:
            return None
        due_s = now_s
        if self._spec.rate is not None:
            due_s = start_s + self._turns * self._spec.batch / self._spec.rate
            if due_s > now_s and not may_wait:
                return None
            if due_s - start_s >= self._spec.duration_s:
                return None
        self._turns += 1
        if due_s > now_s:
            await asyncio.sleep(due_s - now_s)
        body = next(self._bodies)
        self.report.sent += self._spec.batch
        return _Request(b"%b%d\r\n\r\n%b" % (self._head, len(body), body), due_s)

    def _acknowledge(self, request: "_Request", body: bytes) -> None:
        receipt = _receipt.decode(body)
        report, now_s = self.report, self._clock.monotonic_s()
        report.note(now_s - request.due_s)
        report.requests += 1
        report.acknowledged += self._spec.batch
        report.quarantined += len(receipt.quarantined)
        report.elapsed_s = now_s - self._start_s


class _Request(NamedTuple):
    content: bytes  # head and body
    due_s: float  # when it was to leave, monotonic: with a given rate, waiting for a place counts as latency


class _Answer(NamedTuple):
    status: int
    retry_after_s: float
    body: bytes


async def _read_answer(reader: asyncio.StreamReader) -> _Answer:
    """One HTTP/1.1 response with a Content-Length: what a gateway's small answers have."""
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    length, retry_after = _header(head, b"content-length"), _header(head, b"retry-after")
    body = await reader.readexactly(int(length)) if length else b""
    return _Answer(int(head[9:12]), float(retry_after) if retry_after.isdigit() else 1.0, body)


def _header(head: bytes, name: bytes) -> bytes:
    at = head.find(b"\r\n" + name + b":")
    return head[at + len(name) + 3 : head.index(b"\r\n", at + 2)].strip() if at >= 0 else b""
