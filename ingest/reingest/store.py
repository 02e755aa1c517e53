"""The SQL of replays: three functions that the owner of the quarantine publishes."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from ingest.reingest.judgement import Quarantined, Replayed
from kit.messaging.outbox import Transaction

ITEMS: Final = (
    "telemetry.items_to_replay(bigint[], text, text[], timestamp with time zone, timestamp with time zone, bigint, "
    "bigint, integer, bigint, boolean)"
)
LAST: Final = "telemetry.last_quarantined()"
MARK: Final = "telemetry.mark_replayed(bigint[], integer[], text, text)"

_ITEMS: Final = (
    "SELECT id, reason, raw FROM telemetry.items_to_replay($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ORDER BY id"
)
_LAST: Final = "SELECT telemetry.last_quarantined()"
_MARK: Final = "SELECT telemetry.mark_replayed($1, $2, $3, $4)"


@dataclass(frozen=True, slots=True)
class Selection:
    """Which of the items that wait; None excludes nothing."""

    ids: tuple[int, ...] | None = None
    reason: str | None = None
    stations: tuple[str, ...] | None = None  # upper case
    start: datetime | None = None  # received at or after
    end: datetime | None = None  # received before


async def last(transaction: Transaction) -> int:
    """The newest item; 0: there is none."""
    found: int = await transaction.fetchval(_LAST)
    return found


async def items(
    transaction: Transaction,
    wanted: Selection,
    between: tuple[int, int],
    items_max: int,
    bytes_max: int,
    *,
    locked: bool,
) -> list[Quarantined]:
    """The first of these by id, above the first and up to the second of `between`. `locked`: until the transaction
    ends; those that another one has are left out."""
    ids, stations = (None if one is None else list(one) for one in (wanted.ids, wanted.stations))
    conditions = (ids, wanted.reason, stations, wanted.start, wanted.end)
    rows = await transaction.fetch(_ITEMS, *conditions, *between, items_max, bytes_max, locked)
    return [Quarantined(row["id"], row["reason"], row["raw"]) for row in rows]


async def mark(transaction: Transaction, rows: Sequence[Replayed], who: str, correlation_id: str) -> None:
    """Record who replayed these, which the transaction has locked."""
    await transaction.execute(_MARK, [row.id for row in rows], [row.counted for row in rows], who, correlation_id)
