"""The load: clients that resend a batch until it is acknowledged, and record what was sent and acknowledged."""

import asyncio
import random
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import httpx

from tests.proof.recording_chargers import Content, Identity, Reading, RecordingCharger
from tests.waiting import eventually

STATIONS, CONNECTORS = 100, 2
CLIENTS = 8  # that send at the same time, each for its own stations
BATCH = 50

_ANSWER_S = 5.0  # then a device resends; longer than a publish time-out, so that most outages are answered
_RETRY_PAUSE_S = 0.05
_TWICE_SHARE = 0.03  # of the batches: sent to two gateways at once
_SWAPPED_SHARE = 0.03  # of the batches: sent after the one that follows
_RESENT_SHARE = 0.03  # of the batches: sent again though acknowledged, later
_GIVEN_UP_SHARE = 0.05  # of the refusals: the device has failed and does not resend
_RECENT = 20
_REFUSALS = 2 * CLIENTS
_PROGRESS_S = 300  # against hanging: a server that was killed starts within 90, on a machine with other work later

Batch = list[Reading]


class DeliveryRecord:
    """What was sent to the gateways, and what of it was acknowledged by a 202."""

    def __init__(self) -> None:
        self.attempted: dict[Identity, Content] = {}
        self.acknowledged: set[Identity] = set()
        self.items = 0  # in all acknowledged requests, a batch that was sent twice counting twice
        self.refusals = 0  # requests refused or not answered

    async def more(self, items: int) -> None:
        """Wait until so many more readings were acknowledged."""
        target = self.items + items
        await eventually(lambda: self.items >= target, within_s=_PROGRESS_S)

    async def more_or_refused(self, items: int) -> None:
        """Wait until so many more readings were acknowledged, or a few requests refused."""
        target, refusals = self.items + items, self.refusals + _REFUSALS
        await eventually(lambda: self.items >= target or self.refusals >= refusals, within_s=_PROGRESS_S)


class Load:
    """The clients of one run."""

    def __init__(self, urls: Sequence[str], token: str, start_ms: int, seed: int) -> None:
        self.record = DeliveryRecord()
        self._urls = urls
        self._headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        self._stopping = asyncio.Event()
        self._states = []
        for number in range(CLIENTS):
            rng = random.Random(f"{seed} client {number}")
            chargers = [
                RecordingCharger(
                    f"PROOF-{station:03}", connector, start_ms, random.Random(f"{seed} {station} {connector}")
                )
                for station in range(number, STATIONS, CLIENTS)
                for connector in range(1, CONNECTORS + 1)
            ]
            self._states.append(_ClientState(chargers, rng))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[DeliveryRecord]:
        """Load within the block; after it every request is answered or given up."""
        # Reused connections are faster, and a client notices a crash at once.
        limits = httpx.Limits(max_connections=4 * CLIENTS, max_keepalive_connections=4 * CLIENTS)
        async with (
            httpx.AsyncClient(headers=self._headers, timeout=_ANSWER_S, limits=limits, trust_env=False) as client,
            asyncio.TaskGroup() as tasks,
        ):
            for state in self._states:
                tasks.create_task(self._drive(client, state))
            try:
                yield self.record
            finally:
                self._stopping.set()

    async def _drive(self, client: httpx.AsyncClient, state: "_ClientState") -> None:
        while not self._stopping.is_set():
            for batch in state.next():
                urls = state.rng.sample(self._urls, len(self._urls))
                if state.rng.random() < _TWICE_SHARE:
                    await asyncio.gather(*(self._deliver(client, state, batch, [url]) for url in urls[:2]))
                else:
                    await self._deliver(client, state, batch, urls)

    async def _deliver(
        self, client: httpx.AsyncClient, state: "_ClientState", batch: Batch, urls: Sequence[str]
    ) -> None:
        """Send until it is acknowledged, given up, or the load stops."""
        self.record.attempted.update((reading.identity, reading.content) for reading in batch)
        body = b"[%b]" % b",".join(reading.wire for reading in batch)
        attempt = 0
        while not await self._post(client, urls[attempt % len(urls)], batch, body):
            attempt += 1
            self.record.refusals += 1
            if self._stopping.is_set() or state.rng.random() < _GIVEN_UP_SHARE:
                return
            await self._pause()

    async def _post(self, client: httpx.AsyncClient, url: str, batch: Batch, body: bytes) -> bool:
        """Whether it was acknowledged. Raises AssertionError for an answer that no outage explains."""
        try:
            answer = await client.post(f"{url}/api/v1/telemetry", content=body)
        except httpx.TransportError:
            return False
        if answer.status_code == httpx.codes.SERVICE_UNAVAILABLE:
            assert "Retry-After" in answer.headers, answer.text
            return False
        assert answer.status_code == httpx.codes.ACCEPTED, f"{answer.status_code}: {answer.text}"
        assert answer.json() == {"accepted": len(batch), "quarantined": []}
        self.record.acknowledged.update(reading.identity for reading in batch)
        self.record.items += len(batch)
        return True

    async def _pause(self) -> None:
        try:
            async with asyncio.timeout(_RETRY_PAUSE_S):
                await self._stopping.wait()
        except TimeoutError:
            return


class _ClientState:
    """The chargers of one client: their readings are sent together, in order except for simulated network faults."""

    def __init__(self, chargers: list[RecordingCharger], rng: random.Random) -> None:
        self.rng = rng
        self._chargers = chargers
        self._turn = 0
        self._recent: deque[Batch] = deque(maxlen=_RECENT)

    def next(self) -> list[Batch]:
        """The next batches, to send one after the other."""
        batches = [self._make()]
        chance = self.rng.random()
        if chance < _SWAPPED_SHARE:
            batches.insert(0, self._make())
        elif chance < _SWAPPED_SHARE + _RESENT_SHARE and self._recent:
            batches.append(self.rng.choice(self._recent))
        self._recent.append(batches[-1])
        return batches

    def _make(self) -> Batch:
        batch = []
        for _ in range(BATCH):
            batch.append(self._chargers[self._turn % len(self._chargers)].next())
            self._turn += 1
        return batch
