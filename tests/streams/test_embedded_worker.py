"""The embedded worker: in-process log, real step, real PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace

import msgspec
import psycopg
import pytest

from kit.live.view import InProcessLive
from kit.log.partitioned_log import InProcessLog
from schemas.energy import ENERGY_SHARES
from schemas.reading import SessionEvent
from streams.effects import StepParams
from streams.errors import Fenced
from streams.worker.embedded_worker import EmbeddedWorker
from streams.worker.processor import LIVE_TOPIC, WorkerContext
from tests.streams.conftest import PARTITIONS
from tests.streams.frames_and_effects import T0_MS, charging, frame_of
from tests.waiting import eventually


@asynccontextmanager
async def running(worker: WorkerContext, log: InProcessLog) -> AsyncIterator["asyncio.Task[None]"]:
    embedded = EmbeddedWorker(log, worker, PARTITIONS)
    task = asyncio.create_task(embedded.run())
    try:
        yield task
    finally:
        await embedded.stop()
        await asyncio.wait((task,))


async def append(log: InProcessLog, first: int, frames: int) -> None:
    """To every partition, all at once."""
    await asyncio.gather(
        *(
            log.append(partition, frame_of(partition, number, charging(f"S{partition}", number), f"{partition:016x}"))
            for number in range(first, first + frames)
            for partition in range(PARTITIONS)
        )
    )


def stored(url: str) -> list[tuple[int, int]]:
    with psycopg.connect(url) as connection:
        return connection.execute(
            "SELECT count(*), count(DISTINCT seq) FROM telemetry.reading GROUP BY connector_key"
        ).fetchall()


async def test_an_append_returns_when_its_readings_are_stored_and_live(
    worker: WorkerContext, telemetry_url: str
) -> None:
    log = InProcessLog()
    async with running(worker, log):
        await append(log, 0, 5)
        assert stored(telemetry_url) == [(50, 50)] * PARTITIONS

        async def last() -> bool:
            documents = await worker.live.all(LIVE_TOPIC)
            return len(documents) == PARTITIONS and all(
                msgspec.json.decode(document)["energy_wh"] == 49 for document in documents.values()
            )

        await eventually(last)


async def test_energy_that_a_late_reading_moves_is_counted_for_its_new_owner_and_taken_from_the_old_one(
    worker: WorkerContext, telemetry_url: str
) -> None:
    log = InProcessLog()
    unnamed = [row | {"session_id": None, "status": 0} for row in charging("A", 0)]
    late_start = {"station_id": "A", "ts_ms": T0_MS + 3_500, "session_id": "tx", "session_event": SessionEvent.STARTED}
    async with running(worker, log):
        await log.append(0, frame_of(0, 0, unnamed))
        await eventually(lambda: energy(worker, telemetry_url, "outside") == (9.0, 0.0))
        await log.append(0, frame_of(0, 1, [late_start] * 10))  # all frames of a source have as many items
        await eventually(lambda: energy(worker, telemetry_url, "outside") == (9.0, 5.0))
        assert energy(worker, telemetry_url, "session") == (5.0, 0.0)
        assert energy(worker, telemetry_url, "rejected") == (0.0, 0.0)


def energy(worker: WorkerContext, url: str, owner: str) -> tuple[float, float]:
    """By the metrics, Wh accounted to this owner and taken from it again; their difference is that of the windows."""
    sums = [
        sum(
            s.value
            for m in counter.collect()
            for s in m.samples
            if s.name.endswith("_total") and wanted(s.labels, owner)
        )
        for counter in (worker.metrics.energy_accounted, worker.metrics.energy_reversed)
    ]
    column = {share.owner: name for name, share in ENERGY_SHARES.items()}[owner]
    with psycopg.connect(url) as connection:
        (stored_wh,) = connection.execute(  # type: ignore[misc]  # a sum is one row
            f"SELECT coalesce(sum({column}_sum), 0) / 1000.0 FROM telemetry.window_1m".encode()
        ).fetchone()
    return (sums[0], sums[1]) if sums[0] - sums[1] == float(stored_wh) else (-1.0, -1.0)


def wanted(labels: dict[str, str], owner: str) -> bool:
    return labels["owner"] == owner and labels["reason"] == ("register_leapt" if owner == "rejected" else "")


async def test_a_restart_goes_on_and_what_is_sent_again_counts_once(worker: WorkerContext, telemetry_url: str) -> None:
    for first in (0, 3):
        log = InProcessLog()
        async with running(worker, log):
            await append(log, first, 5)
    assert stored(telemetry_url) == [(80, 80)] * PARTITIONS


async def test_stopping_commits_what_was_appended(worker: WorkerContext, telemetry_url: str) -> None:
    log = InProcessLog()
    async with running(worker, log):
        appended = asyncio.create_task(append(log, 0, 20))
        await asyncio.sleep(0)
    await appended
    assert stored(telemetry_url) == [(200, 200)] * PARTITIONS


async def test_a_closed_log_ends_it_though_time_will_bring_more(worker: WorkerContext) -> None:
    log = InProcessLog()
    patient = replace(worker, params=StepParams(session_timeout_ms=10**12))
    async with running(patient, log) as task:
        await append(log, 0, 1)  # its session stays open, to be closed in many years
        await log.close()
        await eventually(task.done, within_s=5.0)  # the stop that follows would end it by force, after 10 s


@contextmanager
def away(admin_url: str, url: str) -> Iterator[None]:
    """Within the block the database refuses connections and has none."""
    name = url.rpartition("/")[2]
    with psycopg.connect(admin_url, autocommit=True) as admin:
        admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false".encode())
        admin.execute("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = %s", (name,))
        yield
        admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true".encode())


async def test_an_outage_of_the_database_delays_and_loses_nothing(
    worker: WorkerContext, postgres_url: str, telemetry_url: str
) -> None:
    log = InProcessLog(timeout_s=60.0)
    async with running(worker, log):
        await append(log, 0, 2)
        with away(postgres_url, telemetry_url):
            appended = asyncio.create_task(append(log, 2, 5))
            retries = worker.metrics.retries
            await eventually(
                lambda: any(s.value > 1 for m in retries.collect() for s in m.samples if "_total" in s.name)
            )
            assert not appended.done()
        await appended
    assert stored(telemetry_url) == [(70, 70)] * PARTITIONS


async def test_a_second_process_on_the_same_database_ends_the_first(worker: WorkerContext, telemetry_url: str) -> None:
    log = InProcessLog(timeout_s=60.0)
    async with running(worker, log) as first:
        await append(log, 0, 1)
        worker.store.acquire(2)
        appending = asyncio.create_task(append(log, 1, 1))
        with pytest.raises(Fenced):
            await first
        assert not appending.done(), "what is not stored is not acknowledged"
        appending.cancel()
        await asyncio.wait((appending,))


async def test_the_view_is_filled_again_by_a_restart(worker: WorkerContext) -> None:
    for log in (InProcessLog(), InProcessLog()):
        async with running(worker, log):
            if not await worker.live.all(LIVE_TOPIC):
                await append(log, 0, 1)
            await eventually(lambda: worker.live.all(LIVE_TOPIC))
        assert isinstance(worker.live, InProcessLive)
        worker.live._topics.clear()
