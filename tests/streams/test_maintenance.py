"""Laws of the periodic maintenance of the tables."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import cast

import numpy as np
import psycopg
import pytest
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from kit.clock import ManualClock, from_ms
from kit.errors import Unavailable
from schemas.frame_rows import WHOLE_FRAMES
from streams.storage.commit import commit
from streams.storage.store import Store
from streams.storage.tables import WEEK_MS
from streams.worker.maintenance import MAINTAIN_EVERY_S, TRIM_EVERY_S, maintain_regularly
from streams.worker.metrics import WorkerMetrics
from streams.worker.processor import WorkerContext
from tests.streams.frames_and_effects import T0_MS, effects_of, flush_of, random_readings

_START = datetime(2026, 1, 5, 8, tzinfo=UTC)


class Tables:
    """Records when it is maintained. `failures`: raised by the next calls, one each."""

    def __init__(self, *failures: Exception) -> None:
        self.calls: list[tuple[int, datetime | None]] = []
        self.status_limits: list[datetime] = []
        self.quarantine_limits: list[datetime] = []
        self.dropped = 0
        self.window_limits: list[tuple[datetime, dict[str, int]]] = []
        self.threads: set[threading.Thread] = set()
        self._failures = list(failures)

    def drop_intervals(self, before: datetime) -> None:
        self.status_limits.append(before)

    def drop_quarantined(self, before: datetime, keep_reasons: tuple[str, ...]) -> int:
        assert keep_reasons == WHOLE_FRAMES
        self.quarantine_limits.append(before)
        return self.dropped

    def drop_windows(self, now: datetime, days: dict[str, int]) -> None:
        self.window_limits.append((now, days))

    def maintain(self, now_ms: int, drop_before_moment: datetime | None) -> None:
        self.calls.append((now_ms, drop_before_moment))
        self.threads.add(threading.current_thread())
        if self._failures:
            raise self._failures.pop(0)


async def maintained(worker: WorkerContext, times: int, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Maintain so many times, on a clock that moves only with the pauses in between. Return the pauses."""
    pauses: list[float] = []

    async def pause(seconds: float) -> None:
        pauses.append(seconds)
        assert isinstance(worker.clock, ManualClock)
        worker.clock.advance(seconds)
        if len(pauses) == times:
            raise asyncio.CancelledError

    monkeypatch.setattr("streams.worker.maintenance.asyncio.sleep", pause)
    with pytest.raises(asyncio.CancelledError):
        await maintain_regularly(worker)
    return pauses


async def of_tables(tables: Tables, times: int, retention_days: int, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    with ThreadPoolExecutor(1) as executor:
        metrics = WorkerMetrics(CollectorRegistry())
        parts = {"clock": ManualClock(_START), "store": tables, "executor": executor, "metrics": metrics}
        names = ("retention_days", "status_retention_days", "quarantine_retention_days")
        days = {name: lambda: retention_days for name in names}
        worker = cast(
            WorkerContext, SimpleNamespace(**parts, **days, window_retention_days=lambda: {"1m": retention_days})
        )
        return await maintained(worker, times, monkeypatch)


async def test_tables_are_maintained_at_once_and_then_at_every_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    tables = Tables()
    assert await of_tables(tables, 3, 0, monkeypatch) == [MAINTAIN_EVERY_S] * 3
    start_ms, every_ms = round(_START.timestamp() * 1_000), round(MAINTAIN_EVERY_S * 1_000)
    assert [now_ms for now_ms, _ in tables.calls] == [start_ms + number * every_ms for number in range(3)]


async def test_maintenance_never_blocks_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    tables = Tables()
    await of_tables(tables, 2, 0, monkeypatch)
    assert threading.current_thread() not in tables.threads


@pytest.mark.parametrize("days", [0, 1, 30])
async def test_retention_is_counted_from_each_moment_and_zero_days_drop_nothing(
    days: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables = Tables()
    await of_tables(tables, 2, days, monkeypatch)
    moments = [_START + timedelta(seconds=number * MAINTAIN_EVERY_S) for number in range(2)]
    assert [before for _, before in tables.calls] == [
        moment - timedelta(days=days) if days else None for moment in moments
    ]


async def test_what_is_too_old_is_looked_for_once_an_hour(monkeypatch: pytest.MonkeyPatch) -> None:
    tables, times = Tables(), round(TRIM_EVERY_S / MAINTAIN_EVERY_S)
    await of_tables(tables, times + 1, 7, monkeypatch)
    limit = _START - timedelta(days=7)
    assert tables.status_limits == [limit, limit + timedelta(seconds=TRIM_EVERY_S)]
    assert tables.quarantine_limits == tables.status_limits
    assert [days for _, days in tables.window_limits] == [{"1m": 7}] * 2
    kept = Tables()
    await of_tables(kept, 2, 0, monkeypatch)
    assert kept.status_limits == kept.quarantine_limits == kept.window_limits == []


async def test_what_the_quarantines_retention_dropped_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    tables = Tables()
    tables.dropped = 7
    with capture_logs() as logs:
        await of_tables(tables, 1, 30, monkeypatch)
    (said,) = [entry for entry in logs if entry["event"] == "quarantine_trimmed"]
    assert (said["dropped"], said["received_before"]) == (7, "2025-12-06T08:00:00.000Z")


async def test_a_failure_is_logged_and_maintenance_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    tables = Tables(Unavailable("the database is down"), ValueError("unforeseen"))
    with capture_logs() as logs:
        await of_tables(tables, 4, 0, monkeypatch)
    assert len(tables.calls) == 4
    assert [(log["event"], log["log_level"]) for log in logs] == [
        ("maintenance_failed", "warning"),
        ("maintenance_failed", "error"),
    ]
    assert logs[0]["error"] == "the database is down"
    assert logs[1]["exc_info"]


@pytest.mark.parametrize(("days", "left"), [(0, 100), (7, 50)])
async def test_readings_past_their_retention_leave_the_tables(
    days: int,
    left: int,
    store: Store,
    worker: WorkerContext,
    telemetry_url: str,
    seed: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    keys = store.register_connectors(0, [("A", 1)])
    readings = random_readings(np.random.default_rng(seed), keys, 100)
    readings["ts_ms"] = T0_MS - np.repeat([3 * WEEK_MS, 0], 50)
    commit(store, flush_of(store.acquire(0), effects_of(readings)))
    await maintained(replace(worker, clock=ManualClock(from_ms(T0_MS)), retention_days=lambda: days), 1, monkeypatch)
    with psycopg.connect(telemetry_url) as connection:
        assert connection.execute("SELECT count(*) FROM telemetry.reading").fetchone() == (left,)
