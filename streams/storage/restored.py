"""What a database that was restored from a backup needs before a worker may use it."""

from collections.abc import Mapping, Sequence
from dataclasses import astuple
from datetime import datetime
from typing import Final

import msgspec

from kit.messaging.outbox import OutboxEvent, insert
from schemas.events import Consumption, Money, Pricing
from streams.state.encoding import load_state, snapshot
from streams.storage.commit import PUBLISHED_SESSIONS
from streams.storage.events import FlushContext, SessionEventRow, session_completed
from streams.storage.store import NEXT_EPOCH, VERSIONS
from streams.storage.table_drops import Connection
from streams.tariffs.version import TariffVersion

# A worker of before the restore may be alive, and as good as the database that it remembers.
_EPOCHS: Final = f"UPDATE telemetry.stream_offset SET epoch = {NEXT_EPOCH}"  # noqa: S608  # our own text
_PARTITIONS: Final = "SELECT partition, commits FROM telemetry.stream_offset ORDER BY partition"
_BODIES: Final = "SELECT body FROM telemetry.partition_state WHERE partition = %s ORDER BY patch"
_NEW_BASE: Final = "INSERT INTO telemetry.partition_state (partition, patch, base, body) VALUES (%s, %s, true, %b)"
# More than were made since any backup, and of the 2**48 keys of a partition enough for 65,536 restores.
_SESSIONS_LEFT_OUT: Final = 1 << 32
_FROM_THE_START: Final = "UPDATE telemetry.stream_offset SET next = 0"
_IDENTITY: Final = "UPDATE telemetry.storage SET prepared_at = coalesce(%s::timestamptz, clock_timestamp())"
_CONSUMPTION: Final = "SELECT session_key, consumption FROM telemetry.session WHERE session_key = ANY(%s)"
_OFFSETS: Final = "SELECT partition, next FROM telemetry.stream_offset ORDER BY partition"


def begin_again(connection: Connection, *, identity: datetime | None, new_log: bool = False) -> None:
    """Shut out all workers of before. Within the caller's transaction.

    `identity`: of the database whose place this one takes; None: a new one. The database that was backed up may go on,
    and what both keep elsewhere by their identity (the live view) must not meet. `new_log`: the topic is a new one, to
    be read from its start.
    """
    connection.execute(_EPOCHS)
    for partition, commits in connection.execute(_PARTITIONS).fetchall():
        _leave_session_keys_out(connection, partition, commits)
    connection.execute(_IDENTITY, (identity,))
    if new_log:
        connection.execute(_FROM_THE_START)


def _leave_session_keys_out(connection: Connection, partition: int, commits: int) -> None:
    """Give sessions from now on keys that no session after the backup had: by its key a session is known to everybody,
    and frames that are read again may make sessions in another order."""
    bodies = [bytes(body) for (body,) in connection.execute(_BODIES, (partition,))]
    state = load_state(partition, bodies)
    state.sessions_made += _SESSIONS_LEFT_OUT
    connection.execute("DELETE FROM telemetry.partition_state WHERE partition = %s", (partition,))
    connection.execute(_NEW_BASE, (partition, commits, snapshot(state)))


def publish_completed_again(connection: Connection, session_keys: Sequence[int], now_ms: int) -> int:
    """Put session.completed of these sessions into the outbox, as their rows have them; how many.

    The event is the one that was published before, by its id: who has handled it drops it.
    """
    found = [SessionEventRow(*row) for row in connection.execute(PUBLISHED_SESSIONS, (list(session_keys),))]
    used: dict[int, str | None] = dict(connection.execute(_CONSUMPTION, (list(session_keys),)).fetchall())
    keys = [row.tariff_key for row in found if row.tariff_key is not None]
    versions = {key: TariffVersion.of(key, *rest) for key, *rest in connection.execute(VERSIONS, (keys,))}
    context = FlushContext(now_ms, "")
    rows = [session_completed(row, _pricing(row, versions, used[row.session_key]), context) for row in found]
    with connection.cursor() as cursor:
        insert(cursor, "telemetry", [OutboxEvent(*astuple(row)) for row in rows])
    return len(rows)


def _pricing(row: SessionEventRow, versions: Mapping[int, TariffVersion], consumption: str | None) -> Pricing | None:
    if row.tariff_key is None or row.excl_vat_micros is None or row.incl_vat_micros is None:
        return None
    version = versions[row.tariff_key]
    return Pricing(
        version=version.id,
        time_zone=version.time_zone,
        tariff=version.document,
        consumption=msgspec.json.decode(consumption or "[]", type=list[Consumption]),
        cost=Money(
            currency=version.tariff.currency,
            excl_vat_micros=row.excl_vat_micros,
            incl_vat_micros=row.incl_vat_micros,
        ),
    )


def offsets(connection: Connection) -> dict[int, int]:
    """By partition, the offset in the log from which its records are not in this database."""
    return dict(connection.execute(_OFFSETS).fetchall())
