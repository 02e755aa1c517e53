"""The SQL of stations and their groups."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Final, NamedTuple

from msgspec import Meta

from kit.auth.station_filter import StationFilter, visible
from kit.clock import to_ms
from kit.database.postgres import Database
from kit.messaging.outbox import Transaction
from kit.web.paging import Cursor
from schemas.reading import STATION_ID_CHARS_MAX

_PUT: Final = """
INSERT INTO pricing.station_group AS s (station_id, revision, group_name, organisation, registered)
SELECT id, n, g, o, r
FROM unnest($1::text[], $2::int[], $3::text[], $4::text[], $5::boolean[]) AS seen (id, n, g, o, r) ORDER BY id
ON CONFLICT (station_id) DO UPDATE
SET (revision, group_name, organisation, registered) =
    (excluded.revision, excluded.group_name, excluded.organisation, excluded.registered)
WHERE s.revision < excluded.revision
"""  # ordered, so that two batches of the same stations wait for each other in one order
_MEMBERS: Final = f"""
SELECT station_id FROM pricing.station_group
WHERE group_name = $1 AND ($2::text IS NULL OR station_id > $2) AND {visible("station_id", 4)}
ORDER BY station_id LIMIT $3
"""  # noqa: S608  # our own names
_HAS_TARIFF: Final = """
SELECT station_id FROM unnest($1::text[]) WITH ORDINALITY AS asked (station_id, place)
WHERE place IN (
    SELECT place FROM pricing.tariffs_at($1, array_fill($2::bigint, ARRAY[cardinality($1)]))
)
"""
# Where the default is in force nobody is without: that is asked once, as of a station of no name.
_WITHOUT: Final = f"""
SELECT station_id FROM pricing.station_group AS s
WHERE registered AND ($1::text IS NULL OR station_id > $1)
  AND NOT EXISTS (SELECT FROM pricing.tariffs_at(ARRAY[''], ARRAY[$2::bigint]))
  AND NOT EXISTS (SELECT FROM pricing.tariffs_at(ARRAY[s.station_id], ARRAY[$2::bigint]))
  AND {visible("s.station_id", 4)}
ORDER BY station_id LIMIT $3
"""  # noqa: S608  # our own names


class StationCursor(Cursor, frozen=True, tag="ps"):
    """The last station seen."""

    station_id: Annotated[str, Meta(max_length=STATION_ID_CHARS_MAX)]


class KnownStation(NamedTuple):
    """A station, as an event has it."""

    station_id: str
    revision: int
    group: str | None
    organisation: str | None
    registered: bool


async def put(connection: Transaction, stations: Sequence[KnownStation]) -> None:
    """Store these, one each, where nothing newer is known."""
    await connection.execute(_PUT, *map(list, zip(*stations, strict=True)))


async def with_tariff(connection: Transaction, station_ids: Sequence[str], now: datetime) -> set[str]:
    """Those of these stations that a tariff applies to."""
    return {row[0] for row in await connection.fetch(_HAS_TARIFF, list(station_ids), to_ms(now))}


class StationStore:
    """Every method raises Unavailable where the database does not answer."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def members(self, group: str, after: str | None, rows_max: int, only: StationFilter) -> list[str]:
        """Up to rows_max stations of the group that pass the filter, in order."""
        return [row[0] for row in await self._database.fetch(_MEMBERS, group, after, rows_max, *only.values)]

    async def without_tariff(self, now: datetime, after: str | None, rows_max: int, only: StationFilter) -> list[str]:
        """Up to rows_max of these registered stations that no tariff applies to, in order."""
        rows = await self._database.fetch(_WITHOUT, after, to_ms(now), rows_max, *only.values)
        return [row[0] for row in rows]
