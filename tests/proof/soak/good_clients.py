"""Good clients of the soak: chargers, operators and drivers, each of which wants the usual answer every time."""

import asyncio
import random
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final

import httpx

from tests.proof.load import DeliveryRecord
from tests.proof.recording_chargers import Reading, RecordingCharger
from tests.waiting import eventually

PREFIX: Final = "SOAK"  # of their stations
STATION: Final = f"{PREFIX}-DRIVERS"
_ADDRESS: Final = "127.0.0.1"
_SINGLE_CHARGERS, _BATCH_CHARGERS, _BATCH = 20, 40, 50
_KNOWN_S: Final = 60.0  # against hanging
_DRIVERS, _STREAMS = 3, 4
_ANSWER_S: Final = 30.0
_RETRY_S: Final = 0.5
_NAP_S: Final = 0.05
LAG: Final = "lag"  # of this process, where its machine has other work
_QUESTIONS: Final = (
    "/api/v1/telemetry/live?limit=100",
    "/api/v1/telemetry/ledger",
    f"/api/v1/telemetry/{PREFIX}-000?limit=100",
    f"/api/v1/telemetry/{PREFIX}-000/uptime",
    "/api/v1/sessions?limit=50",
    "/api/v1/stations?limit=50",
    "/api/v1/analytics",
    "/api/v1/billing/invoices?limit=50",
    "/api/v1/telemetry/quarantine?limit=20",
)


class GoodClients:
    """The clients of one platform, what they sent and how they were answered."""

    def __init__(self, url: str, device: str, operator: str, driver: str, seed: int) -> None:
        self.record = DeliveryRecord()
        self.answers: dict[str, Counter[int]] = defaultdict(Counter)  # by what was asked
        self.latencies_ms: dict[str, list[tuple[float, float]]] = defaultdict(list)  # (monotonic second, ms)
        self.events: list[float] = []  # of live streams: when
        self.problems: list[str] = []
        self._url = url
        self._device, self._operator, self._driver = device, operator, driver
        self._rng = random.Random(f"{seed} good")
        start_ms = int(time.time() * 1_000) - 7 * 86_400_000
        self._chargers = [
            RecordingCharger(f"{PREFIX}-{number:03}", 1, start_ms, random.Random(f"{seed} charger {number}"))
            for number in range(_SINGLE_CHARGERS + _BATCH_CHARGERS)
        ]
        self._stopping = asyncio.Event()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Within the block; after it every reading is acknowledged."""
        transport = httpx.AsyncHTTPTransport(local_address=_ADDRESS, limits=httpx.Limits(max_connections=None))
        async with (
            httpx.AsyncClient(transport=transport, base_url=self._url, timeout=_ANSWER_S) as client,
            asyncio.TaskGroup() as tasks,
        ):
            await self._send_next(client, self._chargers[0])
            await eventually(partial(self._is_known, client), within_s=_KNOWN_S)
            for charger in self._chargers[:_SINGLE_CHARGERS]:
                tasks.create_task(self._repeat(partial(self._send_next, client, charger)))
            tasks.create_task(self._repeat(lambda: self._send(client, "batch", self._batch())))
            tasks.create_task(self._repeat(lambda: self._question(client), every_s=0.5))
            for number in range(_DRIVERS):
                tasks.create_task(self._repeat(partial(self._drive, client, number + 1), every_s=2.0))
            tasks.create_task(self._repeat(self._lag, every_s=0.2))
            streams = [tasks.create_task(self._listen(client)) for _ in range(_STREAMS)]
            try:
                yield
            finally:
                self._stopping.set()
                for stream in streams:
                    stream.cancel()

    async def _repeat(self, work: Callable[[], Awaitable[None]], every_s: float = 1.0) -> None:
        due_s = time.monotonic() + self._rng.random() * every_s
        while not self._stopping.is_set():
            try:
                async with asyncio.timeout(max(due_s - time.monotonic(), 0)):
                    await self._stopping.wait()
            except TimeoutError:
                await work()
            due_s = max(due_s + every_s, time.monotonic())

    async def _is_known(self, client: httpx.AsyncClient) -> bool:
        """Whether there is an answer to each question: a station has a history once a reading of it is stored."""
        headers = {"authorization": f"Bearer {self._operator}"}
        return all([(await client.get(path, headers=headers)).is_success for path in _QUESTIONS])

    async def _send_next(self, client: httpx.AsyncClient, charger: RecordingCharger) -> None:
        await self._send(client, "single", [charger.next()])

    def _batch(self) -> list[Reading]:
        of_batches = self._chargers[_SINGLE_CHARGERS:]
        return [self._rng.choice(of_batches).next() for _ in range(_BATCH)]

    async def _send(self, client: httpx.AsyncClient, kind: str, readings: list[Reading]) -> None:
        """Send until it is acknowledged."""
        self.record.attempted.update((reading.identity, reading.content) for reading in readings)
        wires = [reading.wire for reading in readings]
        body = wires[0] if len(wires) == 1 else b"[%b]" % b",".join(wires)
        while True:
            answer = await self._ask(client, kind, "POST", "/api/v1/telemetry", self._device, content=body)
            if answer is not None and answer.status_code == httpx.codes.ACCEPTED:
                self.record.acknowledged.update(reading.identity for reading in readings)
                self.record.items += len(readings)
                return
            self.record.refusals += 1
            await asyncio.sleep(_RETRY_S)

    async def _lag(self) -> None:
        """How long this machine lets a client wait that asks nobody for anything."""
        began_s = time.monotonic()
        await asyncio.sleep(_NAP_S)
        self.latencies_ms[LAG].append((began_s, 1_000 * (time.monotonic() - began_s - _NAP_S)))

    async def _question(self, client: httpx.AsyncClient) -> None:
        await self._ask(client, "question", "GET", self._rng.choice(_QUESTIONS), self._operator)

    async def _drive(self, client: httpx.AsyncClient, connector_id: int) -> None:
        """Ask to charge, look, and ask to stop."""
        wanted = {"station_id": STATION, "connector_id": connector_id, "driver_id": f"D-{connector_id}"}
        asked = await self._ask(client, "session", "POST", "/api/v1/sessions", self._operator, json=wanted)
        if asked is not None and asked.is_success:
            path = f"/api/v1/sessions/{asked.json()['request_id']}"
            await self._ask(client, "session", "GET", path, self._operator)
            await self._ask(client, "session", "POST", f"{path}/stop", self._operator)
        await self._ask(client, "question", "GET", "/api/v1/billing/invoices", self._driver)

    async def _ask(
        self, client: httpx.AsyncClient, kind: str, method: str, path: str, token: str, **more: Any
    ) -> httpx.Response | None:
        """The answer; None where there is none. What is neither a success nor a documented outage is a problem."""
        headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
        began_s = time.monotonic()
        try:
            answer = await client.request(method, path, headers=headers, **more)
        except httpx.TransportError as error:
            self.answers[kind][0] += 1
            self.problems.append(f"{method} {path}: {error!r}")
            return None
        self.latencies_ms[kind].append((began_s, 1_000 * (time.monotonic() - began_s)))
        self.answers[kind][answer.status_code] += 1
        outage = answer.status_code == httpx.codes.SERVICE_UNAVAILABLE and "retry-after" in answer.headers
        if not (answer.is_success or outage):
            self.problems.append(f"{method} {path}: {answer.status_code} {answer.text[:300]}")
        return answer

    async def _listen(self, client: httpx.AsyncClient) -> None:
        """Read live events, and open the stream again where it ends."""
        headers = {"authorization": f"Bearer {self._operator}"}
        while True:
            try:
                async with client.stream("GET", "/api/v1/telemetry/live/stream", headers=headers) as answer:
                    self.answers["stream"][answer.status_code] += 1
                    if not answer.is_success:
                        self.problems.append(f"live stream: {answer.status_code}")
                    async for line in answer.aiter_lines():
                        if line.startswith("data:"):
                            self.events.append(time.monotonic())
            except httpx.TransportError as error:
                self.problems.append(f"live stream: {error!r}")
            await asyncio.sleep(_RETRY_S)
