"""The service `worker`: frames from the log become stored readings, windows, sessions and their costs."""

import asyncio
import os
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Final

import pyarrow as pa

from kit.lake.folder import LakeFolder
from kit.log.kafka import ensure_topic
from kit.log.partitioned_log import InProcessLog
from kit.memory_tuning import trim_periodically, tune_malloc
from kit.service import Context, Contract, Service
from schemas.reading import MILLI
from schemas.topics import (
    BAY_OCCUPANCY_CHANGED,
    READINGS_TOPIC,
    SESSION_COMPLETED,
    SESSION_COST_UPDATED,
    SESSION_STARTED,
    STATION_STATUS_CHANGED,
    TELEMETRY_AGGREGATED,
    TELEMETRY_RECEIVED,
)
from streams.effects import StepParams
from streams.settings import QUARANTINE, WorkerSettings
from streams.storage.connections import Connections, open_writer
from streams.storage.lake_move import LakeMover
from streams.storage.schema import MIGRATIONS, check_partitions, lay_out
from streams.storage.store import Store
from streams.storage.windows.retention import MINUTE
from streams.worker.embedded_worker import EmbeddedWorker
from streams.worker.kafka_worker import KafkaSource, KafkaWorker
from streams.worker.lake import LakeRunner
from streams.worker.live_documents import CpuBudget
from streams.worker.metrics import WorkerMetrics
from streams.worker.processor import LIVE_SHARE_MAX, LIVE_TOPIC, WorkerContext

# Flushes at once: one computes while another waits for the database, which has as much to do for a row as we have.
THREADS_MAX: Final = 2 * (os.cpu_count() or 1)


def open_worker(context: Context) -> AbstractAsyncContextManager[WorkerContext]:
    """The worker over the log in this process, or over Kafka. Raises ConfigError, Unavailable."""
    if context.in_process_log is not None:
        return _embedded_worker(context, context.in_process_log)
    return _group_member(context)


@asynccontextmanager
async def _embedded_worker(context: Context, log: InProcessLog) -> AsyncIterator[WorkerContext]:
    """Reads `log` within the block; at its end what was appended is committed."""
    # Every 202 waits for its commit: what arrives during one makes the next, nothing is gained by waiting longer.
    async with _opened(context, 0.0, 0.0) as worker:
        embedded = EmbeddedWorker(log, worker, context.settings.partitions)
        running = context.spawn(embedded.run(), "worker")
        try:
            yield worker
        finally:
            await embedded.stop()
            await asyncio.wait((running,))


@asynccontextmanager
async def _group_member(context: Context) -> AsyncIterator[WorkerContext]:
    """A member of the consumer group within the block."""
    common, settings = context.settings, context.group(WorkerSettings)
    await ensure_topic(common.kafka_url, READINGS_TOPIC, common.partitions)
    interval_s, interval_unwatched_s = settings.flush_interval_ms / 1_000, settings.flush_interval_unwatched_ms / 1_000
    async with _opened(context, interval_s, max(interval_s, interval_unwatched_s)) as worker:
        source = KafkaSource(common.kafka_url, READINGS_TOPIC, common.data_dir)
        member = KafkaWorker(source, worker)

        async def check() -> None:
            member.check_ready()

        context.checks["partitions"] = check
        running = context.spawn(member.run(), "worker")
        try:
            yield worker
        finally:
            member.stop()
            await asyncio.wait((running,))


@asynccontextmanager
async def _opened(context: Context, interval_s: float, interval_unwatched_s: float) -> AsyncIterator[WorkerContext]:
    """What the partitions of this process share. Raises ConfigError where the database is not prepared for them."""
    tune_malloc()
    pa.set_memory_pool(pa.system_memory_pool())  # its own pools keep as much again of what was freed
    partitions, config = context.settings.partitions, context.config
    threads = min(THREADS_MAX, partitions)
    # A step's query is made while its thread holds no other connection; one more is for maintenance.
    connections = Connections(partial(open_writer, context.database_url), threads + 1)
    store = Store(connections, priced=True, registered=True)
    executor = ThreadPoolExecutor(threads, thread_name_prefix="flush")
    trimming = asyncio.create_task(trim_periodically(), name="trim")
    lake = _lake(context)
    try:
        check_partitions(await asyncio.to_thread(store.partitions), partitions)
        if lake is not None:
            context.checks["lake"] = lake.check
            lake.start()
        yield WorkerContext(
            store=store,
            live=context.live,
            audience=context.live.audience(LIVE_TOPIC),
            live_budget=CpuBudget(context.clock, LIVE_SHARE_MAX),
            clock=context.clock,
            metrics=WorkerMetrics(context.registry),
            executor=executor,
            params=lambda: params_of(config.group(WorkerSettings)),
            readings_max=config.group(WorkerSettings).flush_readings_max,
            interval_s=interval_s,
            interval_unwatched_s=interval_unwatched_s,
            retention_days=lambda: config.group(WorkerSettings).raw_retention_days,
            status_retention_days=lambda: config.group(WorkerSettings).status_retention_days,
            quarantine_retention_days=lambda: config.group(WorkerSettings).quarantine_retention_days,
            window_retention_days=lambda: _dropped_windows(config.group(WorkerSettings)),
        )
    finally:
        trimming.cancel()
        if lake is not None:
            await lake.stop()
        executor.shutdown(wait=False, cancel_futures=True)
        connections.close()


def _dropped_windows(settings: WorkerSettings) -> dict[str, int]:
    """After how many days windows are dropped, by width. Minutes go to the lake, where there is one."""
    days = settings.window_retention_days
    return {width: after for width, after in days.items() if width != MINUTE} if settings.lake_url else days


def _lake(context: Context) -> LakeRunner | None:
    """What moves readings to the lake, where there is one. Raises ConfigError."""
    settings, config = context.group(WorkerSettings), context.config
    if not settings.lake_url:
        return None
    connections = Connections(partial(open_writer, context.database_url), 1)
    mover = LakeMover(connections, LakeFolder.at(settings.lake_url))
    return LakeRunner(mover, connections, context.clock, lambda: config.group(WorkerSettings))


def params_of(settings: WorkerSettings) -> StepParams:
    """The parameters of the step."""
    return StepParams(
        lateness_ms=settings.lateness_s * 1_000,
        session_timeout_ms=settings.session_timeout_s * 1_000,
        power_max_mw=settings.rated_power_w * MILLI,
        void_ms=settings.void_session_s * 1_000,
        void_mwh=settings.void_session_wh * MILLI,
        by_station=settings.received_events,
        quarantine_unclaimed=settings.unclaimed == QUARANTINE,
        silent_after_ms=settings.silent_after_s * 1_000,
    )


SERVICE: Final = Service(
    name="worker",
    summary="frames from the log become stored readings, windows, sessions and their costs",
    open=open_worker,
    components=WorkerContext,
    schema="telemetry",
    migrations=MIGRATIONS.folder,
    prepare=lay_out,
    contracts=(
        Contract("telemetry.session_overview", "sessions with their station, energy and cost"),
        Contract("telemetry.session_readings(bigint[])", "all stored readings of these sessions"),
        Contract(
            "telemetry.session_lake_files(bigint[])", "the files of the lake with more readings of these sessions"
        ),
        Contract("telemetry.connector_status", "the status and the fault of each connector now, and since when"),
        Contract(
            "telemetry.status_intervals(text[], timestamp with time zone, timestamp with time zone)",
            "the statuses of these stations' connectors in a time, silences among them",
        ),
        Contract(
            "telemetry.connector_hours(text[], timestamp with time zone[])",
            "energy and power of these stations' connectors in these hours",
        ),
        Contract("telemetry.session_peaks(uuid[])", "the highest power of each of these sessions"),
        Contract(
            "telemetry.release_unclaimed(bigint[], uuid, text, text, bytea)",
            "publishes readings that were set apart because their station was not registered",
        ),
        Contract(
            "telemetry.items_to_replay(bigint[], text, text[], timestamp with time zone, timestamp with time zone, "
            "bigint, bigint, integer, bigint, boolean)",
            "items of the quarantine that wait, locked for a replay or only read",
        ),
        Contract("telemetry.last_quarantined()", "the newest item of the quarantine, where a replay ends"),
        Contract(
            "telemetry.mark_replayed(bigint[], integer[], text, text)",
            "marks items of the quarantine as replayed, by whom",
        ),
        Contract(
            "telemetry.bay_intervals(text[], timestamp with time zone, timestamp with time zone)",
            "when these stations' bays were occupied and free in a time, by their sensors",
        ),
    ),
    reads=(
        "pricing.tariffs_at(text[], bigint[])",
        "pricing.documents(bigint[])",
        "stations.rated_powers(text[], smallint[])",
        "stations.station_overview",
        "stations.silence_overview",
    ),
    publishes=(
        BAY_OCCUPANCY_CHANGED,
        SESSION_STARTED,
        SESSION_COMPLETED,
        SESSION_COST_UPDATED,
        STATION_STATUS_CHANGED,
        TELEMETRY_AGGREGATED,
        TELEMETRY_RECEIVED,
    ),
    settings=WorkerSettings,
    backends=frozenset({"live", "log_reader"}),
    without_pool=True,
    health_port=8083,
)
