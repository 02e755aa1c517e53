"""Waits until readings are committed, and checks that rows, windows and ledger agree."""

import time
from typing import Final

import psycopg

from benchmarks.run import Deadline

_POLL_S: Final = 0.02
_STORED: Final = "SELECT coalesce(sum(least(stored, in_windows)), 0)::bigint FROM telemetry.ledger"


def drain(url: str, until: int) -> float:
    """Wait until `until` readings and their windows are stored; readings per second from the first commit to the last.

    Readings of the first commit do not count, because its start is unknown. If it has all of them it took as long as
    between two looks: a run so short says nothing anyway.
    """
    deadline = Deadline(f"{until} readings stored")
    with psycopg.connect(url, autocommit=True) as connection:
        before = first = _stored(connection)
        looked_s = time.perf_counter()
        while first == before and first < until:
            deadline.check()
            looked_s = time.perf_counter()
            time.sleep(_POLL_S)
            first = _stored(connection)
        began_s = time.perf_counter()
        stored = first
        while stored < until:
            deadline.check()
            time.sleep(_POLL_S)
            stored = _stored(connection)
        elapsed_s = time.perf_counter() - began_s
    assert stored == until, f"{stored} readings stored, {until} sent"
    return (until - first) / elapsed_s if stored > first else (until - before) / (began_s - looked_s)


def check_rows(url: str, readings: int) -> None:
    """Raw rows, window counts and ledger agree, and nothing was duplicated or refused."""
    with psycopg.connect(url) as connection:
        raw = connection.execute("SELECT count(*) FROM telemetry.reading").fetchone()
        windows = connection.execute("SELECT sum(readings)::bigint FROM telemetry.window_1m").fetchone()
        ledger = connection.execute(
            "SELECT sum(stored)::bigint, sum(duplicate)::bigint, sum(quarantined)::bigint FROM telemetry.ledger"
        ).fetchone()
    assert raw == windows == (readings,), f"{readings} sent, raw rows {raw}, in windows {windows}"
    assert ledger == (readings, 0, 0), f"{readings} sent, ledger {ledger}"


def _stored(connection: "psycopg.Connection[tuple[int]]") -> int:
    row = connection.execute(_STORED).fetchone()
    return row[0] if row else 0
