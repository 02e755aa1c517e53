"""Records that end after a time: declared by the service whose schema has them, ended by one job of each service.

Service(…, retention=(RecordRetention("waiting_list", "reservations.waiting_retention", store.DELETE_OLD),))
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from prometheus_client import CollectorRegistry, Counter
from pydantic import BaseModel, Field

from kit.config.adjustable import adjustable
from kit.config.runtime import RuntimeConfig
from kit.database.names import checked_name
from kit.database.postgres import Database
from kit.observability.logs import get_logger

ROWS_MAX: Final = 5_000  # of one transaction: ~50 ms, as long as another could wait for one of its rows
STEPS_MAX: Final = 200  # of one kind and run: 1,000,000 records, ~10 s of one connection; the rest at the next run
IDEMPOTENCY: Final = "api.idempotency_retention"
_UNITS: Final = {"h": timedelta(hours=1), "d": timedelta(days=1)}
_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class RecordRetention:
    """How long records of a kind are kept.

    `setting`: adjustable, in hours, days, or years of the calendar; 0: for ever. `statement`: deletes or changes up to
    $2 records that are older than $1, so that it finds them no more.
    """

    kind: str
    setting: str
    statement: str


class StandardTableSettings(BaseModel):
    """How long the standard tables of every service keep what they need to know again."""

    idempotency_retention_hours: int = Field(
        default=48,
        ge=24,  # as the API promises
        le=8_760,
        description="a response is given again to a repeated request (Idempotency-Key) for so long",
        json_schema_extra=adjustable(IDEMPOTENCY, unit="h"),
    )
    # An event may be redelivered for as long as it is in a queue or a dead letter.
    inbox_retention_days: int = Field(
        default=30,
        ge=30,
        le=3_650,
        description="ids of events that were handled, by which they are known if they come again, are kept for so long",
        json_schema_extra=adjustable("events.inbox_retention", unit="d"),
    )


def of_standard_tables(schema: str) -> tuple[RecordRetention, ...]:
    """Of the standard tables of a schema (kit/database/standard_tables)."""
    return (
        RecordRetention("responses", IDEMPOTENCY, delete_old(f"{checked_name(schema)}.idempotency", "created_at")),
        RecordRetention(
            "handled_events",
            "events.inbox_retention",
            delete_old(f"{checked_name(schema)}.events_processed", "processed_at"),
        ),
    )


def delete_old(table: str, column: str, condition: str = "true") -> str:
    """A statement that deletes the rows of a table in which that column is older. All are names of ours."""
    return (
        f"DELETE FROM {table} WHERE ctid = ANY(ARRAY("  # noqa: S608
        f"SELECT ctid FROM {table} WHERE {column} < $1 AND {condition} "
        f"ORDER BY {column} LIMIT $2 FOR UPDATE SKIP LOCKED))"
    )


class RetentionMetrics:
    """Metrics of what ended; one a process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        labels = ("schema", "kind")
        self.ended = Counter(
            "retention_records",
            "Records deleted or made nobody's at the end of their retention",
            labels,
            registry=registry,
        )


async def end_records(
    database: Database,
    schema: str,
    retentions: Sequence[RecordRetention],
    config: RuntimeConfig,
    now: datetime,
    metrics: RetentionMetrics,
) -> dict[str, int]:
    """End what is past its retention, and say what it was: records by kind. In steps, each a transaction of its own.
    Raises Unavailable."""
    ended: dict[str, int] = {}
    for one in retentions:
        unit, value = config.adjustable(one.setting).unit, int(config.resolved(one.setting).value)
        if not value:
            continue
        before = moment_before(now, value, unit)
        records = await _end(database, one.statement, before)
        if records:
            _log.info("retention_done", schema=schema, kind=one.kind, records=records, before=before.isoformat())
            metrics.ended.labels(schema, one.kind).inc(records)
            ended[one.kind] = ended.get(one.kind, 0) + records
    return ended


def moment_before(now: datetime, value: int, unit: str) -> datetime:
    """What is older than that ends. Years are whole ones of the calendar, after the one in which a record was made."""
    return datetime(max(1, now.year - value), 1, 1, tzinfo=UTC) if unit == "y" else now - value * _UNITS[unit]


async def _end(database: Database, statement: str, before: datetime) -> int:
    total = 0
    for _ in range(STEPS_MAX):
        records = int((await database.execute(statement, before, ROWS_MAX)).rpartition(" ")[2])
        if not records:
            break
        total += records
    return total
