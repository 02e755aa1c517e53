"""The SQL of replays: two functions that the owner of the quarantine publishes."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from ingest.reingest.judgement import Quarantined, Replayed
from kit.messaging.outbox import Transaction

LOCK: Final = (
    "telemetry.lock_quarantined(bigint[], text, text, timestamp with time zone, timestamp with time zone, bigint, "
    "integer, bigint)"
)
MARK: Final = "telemetry.mark_replayed(bigint[], integer[], text, text)"

_LOCK: Final = """SELECT id, reason, raw FROM telemetry.lock_quarantined($1, $2, $3, $4, $5, $6, $7, $8) ORDER BY id"""
_MARK: Final = "SELECT telemetry.mark_replayed($1, $2, $3, $4)"


@dataclass(frozen=True, slots=True)
class Selection:
    """Which of the items that wait; None excludes nothing."""

    ids: tuple[int, ...] | None = None
    reason: str | None = None
    station_id: str | None = None
    start: datetime | None = None  # received at or after
    end: datetime | None = None  # received before
    above: int = 0  # ids above it only


async def lock(transaction: Transaction, wanted: Selection, items_max: int, bytes_max: int) -> list[Quarantined]:
    """The first of these by id, locked until the transaction ends; those that another one has are left out."""
    ids = None if wanted.ids is None else list(wanted.ids)
    conditions = (ids, wanted.reason, wanted.station_id, wanted.start, wanted.end, wanted.above)
    rows = await transaction.fetch(_LOCK, *conditions, items_max, bytes_max)
    return [Quarantined(row["id"], row["reason"], row["raw"]) for row in rows]


async def mark(transaction: Transaction, rows: Sequence[Replayed], who: str, correlation_id: str) -> None:
    """Record who replayed these, which the transaction has locked."""
    await transaction.execute(_MARK, [row.id for row in rows], [row.counted for row in rows], who, correlation_id)
