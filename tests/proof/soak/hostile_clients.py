"""Hostile clients of the soak, in a process and at an address of their own: `python -m
tests.proof.soak.hostile_clients URL --seconds N --seed N`, with the tokens that they have as JSON on stdin. Prints the
answers of each attack by status.

All of it is bounded in connections and requests a second, and speaks to loopback only.
"""

import argparse
import asyncio
import json
import random
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

import zstandard

ADDRESS: Final = "127.0.0.2"  # good clients have another
NO_ANSWER: Final = 0  # in place of a status: the connection ended
_ANSWER_S: Final = 30.0
_HELD_S: Final = 75.0  # longer than the platform waits for one that does not read
_SLOW_CONNECTIONS, _STREAMS, _FLOODERS = 20, 100, 4
_BOMB_BYTES: Final = 128 << 20
_DEEP: Final = 100_000
_WEEK_MS: Final = 7 * 86_400_000
_POST: Final = "/api/v1/telemetry"
_HELLO: Final = bytes.fromhex("1603010200010001fc0303")  # of TLS
_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


class Stolen(NamedTuple):
    """Tokens that hostile clients have got."""

    station: str  # a device's, for the station HOSTILE
    fleet: str  # a device's, for all stations
    operator: str
    driver: str


class Hostile:
    """All attacks on one platform; each is called again and again."""

    def __init__(self, url: str, tokens: Stolen, seed: int) -> None:
        self.answers: dict[str, Counter[int]] = defaultdict(Counter)
        parts = urlsplit(url)
        self._host, self._port = str(parts.hostname), int(parts.port or 80)
        self._tokens = tokens
        self._rng = random.Random(f"{seed} hostile")
        self._number = 0
        self._bomb = zstandard.compress(b"[" + b" " * _BOMB_BYTES)
        self._now_ms = int(time.time() * 1_000)

    async def run(self, seconds: float) -> None:
        """All attacks at once, so many calls a second of each."""
        attacks: dict[Callable[[], Awaitable[None]], tuple[int, float]] = {  # clients, calls a second of each
            self.flood: (_FLOODERS, 60.0),
            self.guess_a_token: (3, 50.0),
            self.send_a_slow_head: (_SLOW_CONNECTIONS, 1.0),
            self.send_a_slow_body: (_SLOW_CONNECTIONS, 1.0),
            self.send_a_big_head: (1, 2.0),
            self.send_a_bomb: (1, 1.0),
            self.nest: (1, 1.0),
            self.send_junk: (2, 5.0),
            self.make_stations: (1, 1.0),
            self.make_weeks: (1, 1.0),
            self.fill_the_quarantine: (1, 2.0),
            self.open_a_stream: (_STREAMS, 1.0),
        }
        tasks = [
            asyncio.create_task(self._repeat(attack, 1 / a_second))
            for attack, (clients, a_second) in attacks.items()
            for _ in range(clients)
        ]
        await asyncio.wait(tasks, timeout=seconds)
        for task in tasks:
            task.cancel()
        for ended in await asyncio.gather(*tasks, return_exceptions=True):
            if not isinstance(ended, asyncio.CancelledError):
                raise AssertionError(f"an attack ended: {ended!r}")

    @staticmethod
    async def _repeat(attack: Callable[[], Awaitable[None]], every_s: float) -> None:
        while True:
            began_s = time.monotonic()
            await attack()
            await asyncio.sleep(max(every_s - (time.monotonic() - began_s), 0))

    # -- attacks ----------------------------------------------------------------------------------------------------

    async def flood(self) -> None:
        """Readings of one station, whatever is answered."""
        await self._request("flood", _POST, self._tokens.station, self._readings("HOSTILE", 1))

    async def guess_a_token(self) -> None:
        """Tokens that nobody has."""
        guess = f"vso_{self._rng.getrandbits(256):064x}"[:47]
        await self._request("guess", "/api/v1/telemetry/ledger", guess)

    async def send_a_slow_head(self) -> None:
        """A byte a second."""
        await self._send_slowly("slow head", b"GET / HTTP/1.1\r\nHost: x\r\nA: ", b"a")

    async def send_a_slow_body(self) -> None:
        """Likewise, after a head that says there is more."""
        head = self._head("POST", _POST, self._tokens.station, {"content-length": "100000"})
        await self._send_slowly("slow body", head, b" ")

    async def send_a_big_head(self) -> None:
        """More than the bound, and than is read at once."""
        headers = {f"x-{number}": "y" * 1_000 for number in range(600)}
        await self._request("big head", _POST, self._tokens.station, None, headers)

    async def send_a_bomb(self) -> None:
        """A body that inflates to 128 MiB."""
        await self._request("bomb", _POST, self._tokens.fleet, self._bomb, {"content-encoding": "zstd"})

    async def nest(self) -> None:
        """JSON that never closes, and JSON that does."""
        deep = b"[" * _DEEP + (b"]" * _DEEP if self._rng.random() < 0.5 else b"")
        await self._request("nesting", _POST, self._tokens.fleet, deep)
        await self._request("nesting", "/api/v1/sessions", self._tokens.driver, b'{"a":' * 20_000)

    async def send_junk(self) -> None:
        """Bytes that are no HTTP."""
        junk = self._rng.choice([self._rng.randbytes(2_000), _HELLO, _PREFACE, b"GET / HTTP/9.9\r\n\r\n", b"\0" * 500])
        await self._exchange("junk", junk, answer_s=2.0)

    async def make_stations(self) -> None:
        """Five hundred that nobody knows."""
        self._number += 1
        names = [f"NEW-{self._number}-{place}" for place in range(500)]
        body = b"[%b]" % b",".join(self._readings(name, 1)[1:-1] for name in names)
        await self._request("new stations", _POST, self._tokens.fleet, body)

    async def make_weeks(self) -> None:
        """Readings of one station, each a week before the last."""
        self._number += 1
        at_ms = self._now_ms - (self._number % 200) * _WEEK_MS
        await self._request("new weeks", _POST, self._tokens.fleet, self._readings("OLD", 1, at_ms))

    async def fill_the_quarantine(self) -> None:
        """Items that are no readings."""
        body = b"[%b]" % b",".join([b'{"station_id":"BAD"}'] * 500)
        await self._request("quarantine", _POST, self._tokens.fleet, body)

    async def open_a_stream(self) -> None:
        """A live stream of which asyncio reads no more than twice the limit; what is sent then fills the buffers."""
        head = self._head("GET", "/api/v1/telemetry/live/stream", self._tokens.operator)
        try:
            reader, writer = await self._open(limit=1_024)
        except OSError:
            self.answers["stream"][NO_ANSWER] += 1
            return
        try:
            writer.write(head)
            status = await self._status(reader)
            self.answers["stream"][status] += 1
            if status == 200:
                await asyncio.sleep(_HELD_S)
        finally:
            writer.close()

    # -- requests ---------------------------------------------------------------------------------------------------

    def _readings(self, station_id: str, count: int, at_ms: int | None = None) -> bytes:
        """Without registers, so that no meter seems to fall."""
        items = []
        for _ in range(count):
            self._number += 1
            ts = at_ms if at_ms is not None else self._now_ms - 3_600_000 + self._number
            items.append({"station_id": station_id, "connector_id": 1, "boot": 1, "seq": self._number, "ts": ts,
                          "power_w": 1_000})  # fmt: skip
        return json.dumps(items).encode()

    def _head(self, method: str, path: str, token: str, headers: dict[str, str] | None = None) -> bytes:
        lines = {"host": f"{self._host}:{self._port}", "authorization": f"Bearer {token}",
                 "content-type": "application/json", **(headers or {})}  # fmt: skip
        text = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        return f"{method} {path} HTTP/1.1\r\n{text}\r\n".encode()

    async def _request(
        self, attack: str, path: str, token: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> None:
        length = {"content-length": str(len(body))} if body is not None else {}
        head = self._head("GET" if body is None else "POST", path, token, {**length, **(headers or {})})
        await self._exchange(attack, head + (body or b""))

    async def _exchange(self, attack: str, sent: bytes, answer_s: float = _ANSWER_S) -> None:
        """Send it on a connection of its own, and count the status of the answer."""
        status = NO_ANSWER
        try:
            reader, writer = await self._open()
        except OSError:
            self.answers[attack][status] += 1
            return
        try:
            with suppress(OSError, TimeoutError):
                async with asyncio.timeout(answer_s):
                    writer.write(sent)
                    status = await self._status(reader)
        finally:
            writer.close()
            self.answers[attack][status] += 1

    async def _send_slowly(self, attack: str, head: bytes, more: bytes) -> None:
        try:
            reader, writer = await self._open()
        except OSError:
            self.answers[attack][NO_ANSWER] += 1
            return
        answer = asyncio.create_task(self._status(reader))
        try:
            writer.write(head)
            while not answer.done():
                writer.write(more)
                await asyncio.wait([answer], timeout=1)
            self.answers[attack][await answer] += 1
        finally:
            answer.cancel()
            writer.close()

    async def _open(self, limit: int = 1 << 16) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(self._host, self._port, local_addr=(ADDRESS, 0), limit=limit)

    @staticmethod
    async def _status(reader: asyncio.StreamReader) -> int:
        """Of the answer's first line; NO_ANSWER where none comes."""
        try:
            line = await reader.readline()
        except (OSError, ValueError):
            return NO_ANSWER
        words = line.split()
        return int(words[1]) if len(words) > 1 and words[1].isdigit() else NO_ANSWER


def main() -> None:
    """Attack, then print the counts as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    tokens: dict[str, Any] = json.loads(sys.stdin.read())
    hostile = Hostile(arguments.url, Stolen(**tokens), arguments.seed)
    asyncio.run(hostile.run(arguments.seconds))
    print(json.dumps(hostile.answers))


if __name__ == "__main__":
    main()
