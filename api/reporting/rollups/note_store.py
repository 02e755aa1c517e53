"""The SQL of notes: dirty hours, and where sessions and reservations were last seen."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final, NamedTuple
from uuid import UUID

from api.reporting.rollups.facets import Facet, Place, hour_of
from kit.messaging.outbox import Transaction

_KEPT_DAYS: Final = 800  # a session or reservation that has not changed for so long is forgotten
_SUBJECTS_MAX: Final = 50_000  # forgotten at once, ~0.3 s

_INTO: Final = "INSERT INTO reporting.dirty_hour AS d (hour, station_id, facets, mark, noted_at)"
_OR_ADD: Final = """
ON CONFLICT (hour, station_id) DO UPDATE SET facets = d.facets | excluded.facets, mark = excluded.mark
"""
# Ordered, so that two transactions wait for each other in one order. Hours that are dropped are not computed again.
_NOTE: Final = f"""
{_INTO}
SELECT n.hour, n.station_id, n.facets, nextval('reporting.mark'), $4
FROM (
    SELECT hour, station_id, bit_or(facets) AS facets
    FROM unnest($1::timestamptz[], $2::text[], $3::int[]) AS given (hour, station_id, facets)
    WHERE hour >= (SELECT kept_from FROM reporting.progress)
    GROUP BY hour, station_id ORDER BY hour, station_id
) AS n {_OR_ADD}"""  # noqa: S608 - constants
# Hours to come are noted when they have passed.
_NOTE_SPAN: Final = f"""
{_INTO}
SELECT n.hour, $1, $4, nextval('reporting.mark'), $5
FROM generate_series(
    greatest(date_trunc('hour', $2::timestamptz, 'UTC'), (SELECT kept_from FROM reporting.progress)),
    least($3::timestamptz, $5) - interval '1 microsecond', interval '1 hour'
) AS n (hour) ORDER BY n.hour {_OR_ADD}"""  # noqa: S608  # our own names
_NOTE_ALL: Final = f"""
{_INTO}
SELECT $1, station_id, $2, nextval('reporting.mark'), $3
FROM (
    SELECT station_id FROM reporting.connector WHERE station_id <> ''
    UNION SELECT station_id FROM reporting.station ORDER BY station_id
) AS s {_OR_ADD}"""  # noqa: S608  # our own names
_PLACES: Final = """
SELECT station_id, hour FROM reporting.subject WHERE facet = $1 AND subject_id = ANY ($2::uuid[])
"""
_OFFERS: Final = """
SELECT offer.subject_id, one.station_id, offer.hour FROM reporting.subject AS offer
JOIN reporting.subject AS one ON one.subject_id = offer.subject_id AND one.facet = ANY ($2::smallint[])
WHERE offer.facet = $3 AND offer.subject_id = ANY ($1::uuid[])
"""
_RECORD_LAST: Final = """
INSERT INTO reporting.subject AS s (subject_id, facet, revision, station_id, hour, noted_at)
SELECT DISTINCT ON (subject_id) subject_id, $1, revision, station_id, hour, $6
FROM unnest($2::uuid[], $3::int[], $4::text[], $5::timestamptz[]) AS given (subject_id, revision, station_id, hour)
ORDER BY subject_id, revision DESC
ON CONFLICT (subject_id, facet) DO UPDATE SET
    (revision, station_id, hour, noted_at) = (excluded.revision, excluded.station_id, excluded.hour, excluded.noted_at)
WHERE s.revision < excluded.revision
"""
_CHARGED: Final = """
SELECT DISTINCT c.station_id, c.ended_at
FROM unnest($1::uuid[]) AS given (document_id)
CROSS JOIN LATERAL (
    SELECT station_id, ended_at FROM billing.documented_charges WHERE document_id = given.document_id OFFSET 0
) AS c
"""  # OFFSET 0 keeps the planner to one look-up a document
_PUT_STATIONS: Final = """
INSERT INTO reporting.station AS s (station_id, revision, site, "group", organisation, connectors, plugs)
VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT (station_id) DO UPDATE SET (revision, site, "group", organisation, connectors, plugs) =
    (excluded.revision, excluded.site, excluded."group", excluded.organisation, excluded.connectors, excluded.plugs)
WHERE s.revision < excluded.revision
"""
_FORGET: Final = """
DELETE FROM reporting.subject WHERE ctid = ANY(ARRAY(
    SELECT ctid FROM reporting.subject WHERE noted_at < $1 LIMIT $2
))
"""


class LastPlace(NamedTuple):
    """In which hour of which station a session or reservation counts, by an event."""

    subject_id: UUID
    revision: int
    station_id: str
    hour: datetime


class RegisteredStation(NamedTuple):
    """A station as the registry has it, by an event: a row of reporting.station but for `grouped`."""

    station_id: str
    revision: int
    site: str
    group: str
    organisation: str
    connectors: list[int]
    plugs: list[str]


class NoteStore:
    """Every method works in the given open transaction."""

    async def note(self, connection: Transaction, noted: Sequence[tuple[Place, int]], now: datetime) -> None:
        """Have these facets (bits) of these hours computed again."""
        if noted:
            places, facets = zip(*noted, strict=True)
            stations, hours = zip(*places, strict=True)
            await connection.execute(_NOTE, hours, stations, facets, now)

    async def note_span(
        self, connection: Transaction, station_id: str, start: datetime, end: datetime, facets: int, now: datetime
    ) -> None:
        """Have the hours of a station in that time computed again."""
        await connection.execute(_NOTE_SPAN, station_id, start, end, facets, now)

    async def note_all(self, connection: Transaction, hour: datetime, facets: int, now: datetime) -> None:
        """Have that hour of all stations computed again."""
        await connection.execute(_NOTE_ALL, hour, facets, now)

    async def places(self, connection: Transaction, facet: Facet, subjects: Sequence[UUID]) -> list[Place]:
        """Where these were last seen, those that were."""
        rows = await connection.fetch(_PLACES, facet, list(subjects))
        return [Place(row["station_id"], row["hour"]) for row in rows]

    async def offers(self, connection: Transaction, reservations: Sequence[UUID]) -> list[tuple[UUID, Place]]:
        """The hours in which these were offered, at the station of then and at that of now."""
        facets = [Facet.WAITING, Facet.RESERVATIONS]
        rows = await connection.fetch(_OFFERS, list(reservations), facets, Facet.WAITING)
        return [(row["subject_id"], Place(row["station_id"], row["hour"])) for row in rows]

    async def record_last(
        self, connection: Transaction, facet: Facet, places: Sequence[LastPlace], now: datetime
    ) -> None:
        """Keep the highest revision of each."""
        await connection.execute(_RECORD_LAST, facet, *map(list, zip(*places, strict=True)), now)

    async def charged_places(self, connection: Transaction, documents: Sequence[UUID]) -> list[Place]:
        """The hours in which the charges of these documents ended."""
        rows = await connection.fetch(_CHARGED, list(documents))
        return sorted({Place(row["station_id"], hour_of(row["ended_at"])) for row in rows})

    async def put_stations(self, connection: Transaction, stations: Sequence[RegisteredStation]) -> None:
        """Store these where nothing newer is known."""
        for station in sorted(stations):
            await connection.execute(_PUT_STATIONS, *station)

    async def forget_old(self, connection: Transaction, now: datetime) -> None:
        """Forget what has not changed for long, some of it if it is much."""
        await connection.execute(_FORGET, now - timedelta(days=_KEPT_DAYS), _SUBJECTS_MAX)
