"""What users do meanwhile, and what they see: nobody sends a request a second time."""

import asyncio
import itertools
import json
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

import httpx

from tests.deploy.proxies import Front

_PAUSE_S: Final = 0.02  # between two requests of one client
_ANSWER_S: Final = 60  # against hanging
_STREAM: Final = "/api/v1/telemetry/live/stream"
_FIRST_TS_MS: Final = 1_780_000_000_000


@dataclass
class RequestsSeen:
    """Of one kind of request."""

    answered: int = 0
    failed: list[str] = field(default_factory=list)  # what came instead of an answer that means something
    longest_s: float = 0.0


@dataclass
class UsersLoad:
    """Chargers, operators and a live stream, from when it is entered until `stop`."""

    front: Front
    device_token: str
    operator_token: str
    posts: RequestsSeen = field(default_factory=RequestsSeen)
    questions: RequestsSeen = field(default_factory=RequestsSeen)
    changes: RequestsSeen = field(default_factory=RequestsSeen)  # POSTs that no proxy may send again
    streams: RequestsSeen = field(default_factory=RequestsSeen)  # each from its request to its snapshot
    events: int = 0
    stream_away_s: float = 0.0  # longest, from the end of one stream to the first event of the next
    acknowledged: set[tuple[str, int]] = field(default_factory=set)  # station, seq

    def __post_init__(self) -> None:
        self._stopping = asyncio.Event()

    @asynccontextmanager
    async def running(self, chargers: int = 4, operators: int = 2) -> AsyncIterator["UsersLoad"]:
        """Within the block; at its end all requests are answered."""
        tasks = [
            *(asyncio.create_task(self._charger(f"ROLL-{number}")) for number in range(chargers)),
            *(asyncio.create_task(self._operator()) for _ in range(operators)),
            asyncio.create_task(self._changer()),
        ]
        stream = asyncio.create_task(self._watcher())
        try:
            yield self
        finally:
            self._stopping.set()
            await asyncio.gather(*tasks)
            stream.cancel()
            await asyncio.wait((stream,))

    async def _charger(self, station_id: str) -> None:
        """One reading a request, as chargers send them."""
        async with self._client(self.device_token) as client:
            for seq in itertools.count(1):
                if self._stopping.is_set():
                    return
                reading = {
                    "station_id": station_id, "connector_id": 1, "boot": 1, "seq": seq,
                    "ts": _FIRST_TS_MS + seq * 1_000, "energy_wh": 1_000 + seq, "power_w": 7_200, "status": "Charging",
                }  # fmt: skip
                if await self._ask(client, self.posts, "POST", "/api/v1/telemetry", {202}, json=reading):
                    self.acknowledged.add((station_id, seq))

    async def _operator(self) -> None:
        async with self._client(self.operator_token) as client:
            while not self._stopping.is_set():
                await self._ask(client, self.questions, "GET", "/api/v1/telemetry/live", {200})

    async def _changer(self) -> None:
        """There is no such station, which is an answer."""
        async with self._client(self.operator_token) as client:
            while not self._stopping.is_set():
                await self._ask(client, self.changes, "POST", "/api/v1/telemetry/unclaimed/none/release", {404})

    async def _ask(
        self,
        client: httpx.AsyncClient,
        seen: RequestsSeen,
        method: str,
        path: str,
        expected: set[int],
        json: object = None,
    ) -> bool:
        await asyncio.sleep(_PAUSE_S)
        began_s = time.monotonic()
        try:
            answer = await client.request(method, path, json=json)
        except httpx.HTTPError as error:
            seen.failed.append(f"{method} {path}: {error!r}")
            return False
        seen.longest_s = max(seen.longest_s, time.monotonic() - began_s)
        if answer.status_code not in expected:
            seen.failed.append(f"{method} {path}: {answer.status_code} {answer.text[:200]}")
            return False
        seen.answered += 1
        return True

    async def _watcher(self) -> None:
        """A stream after the other: each begins with all there is, so what happened in between is not missed."""
        ended_s = time.monotonic()
        async with self._client(self.operator_token) as client:
            while True:
                await asyncio.sleep(_PAUSE_S)
                began_s = time.monotonic()
                try:
                    async with client.stream("GET", _STREAM) as answer:
                        if answer.status_code != httpx.codes.OK:
                            self.streams.failed.append(f"{answer.status_code} {(await answer.aread())[:200]!r}")
                            continue
                        first = True
                        async for name, _ in _events(answer):
                            if first:
                                if name != "snapshot":
                                    self.streams.failed.append(f"it begins with {name}")
                                now_s = time.monotonic()
                                self.streams.answered += 1
                                self.streams.longest_s = max(self.streams.longest_s, now_s - began_s)
                                self.stream_away_s = max(self.stream_away_s, now_s - ended_s)
                            first = False
                            self.events += 1
                except httpx.HTTPError as error:
                    self.streams.failed.append(repr(error))
                ended_s = time.monotonic()

    def _client(self, token: str) -> httpx.AsyncClient:
        transport = httpx.AsyncHTTPTransport(verify=self.front.context)
        headers = {"Authorization": f"Bearer {token}"}
        return httpx.AsyncClient(base_url=self.front.url, transport=transport, headers=headers, timeout=_ANSWER_S)


async def _events(answer: httpx.Response) -> AsyncIterator[tuple[str, Mapping[str, object]]]:
    """Name and data of each event."""
    name = ""
    async for line in answer.aiter_lines():
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: "):
            yield name, json.loads(line.removeprefix("data: "))
