"""The SQL of waiting lists. Whoever changes one has locked its site."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

import asyncpg

from api.reservations.life.rule import Place
from api.reservations.life.store import OUT_OF_ORDER_STATUSES
from api.reservations.waiting.rule import SiteConnector, WaitingDriver
from kit.database.postgres import Database
from kit.messaging.outbox import Transaction
from kit.retention import RecordRetention, delete_old

LINE_MAX: Final = 500  # drivers who wait at one site
CONNECTORS_MAX: Final = 500  # of one site
SITES_MAX: Final = 200  # of one run of the job
OWN_MAX: Final = 100  # of one driver that are listed, newest first
RETENTION: Final = RecordRetention(
    "waiting_list",
    "reservations.waiting_retention",
    delete_old("reservations.waiting", "joined_at", "state NOT IN ('waiting', 'offered')"),
)

_LOCK: Final = "SELECT pg_advisory_xact_lock(hashtextextended('reservations/site/' || $1, 0))"
_COLUMNS: Final = (
    "w.id, w.number, w.site, w.driver_id, w.standard, w.power_w_min, w.duration_s, w.joined_at, w.state, "
    "w.skipped_until, w.reservation_id"
)
_SELECT: Final = f"SELECT {_COLUMNS} FROM reservations.waiting AS w"  # noqa: S608  # the names above
_LINE: Final = f"{_SELECT} WHERE w.site = $1 AND w.state IN ('waiting', 'offered') ORDER BY w.number"
_INSERT: Final = """
INSERT INTO reservations.waiting (id, site, driver_id, standard, power_w_min, duration_s, joined_at, state)
VALUES ($1, $2, $3, $4, $5, $6, $7, 'waiting')
ON CONFLICT DO NOTHING
"""
_SET: Final = """
UPDATE reservations.waiting SET state = $2, reservation_id = $3, skipped_until = coalesce($4, skipped_until)
WHERE id = $1
"""
# An offer is a held reservation: what became of that became of the offer. One that could not be kept (its connector
# was lost) is no fault of the driver's, who keeps the place in the line.
_SETTLE: Final = """
UPDATE reservations.waiting AS w SET
    state = CASE r.state WHEN 'expired' THEN 'lapsed' WHEN 'cancelled' THEN 'waiting' ELSE 'accepted' END,
    reservation_id = CASE r.state WHEN 'cancelled' THEN NULL ELSE w.reservation_id END
FROM reservations.reservation AS r
WHERE w.site = $1 AND w.state = 'offered' AND r.id = w.reservation_id AND r.state <> 'held'
"""
_ITS_CLAIMS: Final = """reservations.claim AS c JOIN unnest(p.place_key || p.taken_with) AS keys (key)
        ON c.place_key = keys.key"""
_CONNECTORS: Final = f"""
SELECT p.place_key, p.station_id, p.connector_id, p.bay, p.taken_with, p.standard,
       coalesce(p.rated_power_w, 0) AS power_w,
       coalesce((SELECT max(upper(c.during)) FROM {_ITS_CLAIMS} WHERE c.during @> $2::timestamptz), $2) AS free_from,
       (SELECT min(lower(c.during)) FROM {_ITS_CLAIMS} WHERE lower(c.during) > $2) AS free_until
FROM reservations.station AS s JOIN reservations.place AS p ON p.station_id = s.station_id
WHERE s.site = $1 AND NOT s.removed AND p.registered AND p.standard IS NOT NULL
  AND NOT coalesce(p.status = ANY ($3::text[]), false)
ORDER BY p.place_key LIMIT {CONNECTORS_MAX}
"""  # noqa: S608  # the names above
_BEFORE: Final = """
SELECT count(DISTINCT w.id) FROM reservations.place AS p
JOIN reservations.station AS s ON s.station_id = p.station_id
JOIN reservations.waiting AS w ON w.site = s.site AND w.standard = p.standard
    AND w.power_w_min <= coalesce(p.rated_power_w, 0)
WHERE p.place_key = ANY ($1::bigint[]) AND w.state = 'waiting' AND w.driver_id <> $2
  AND (w.skipped_until IS NULL OR w.skipped_until <= $3)
"""
_SITES: Final = """
SELECT DISTINCT site FROM reservations.waiting WHERE state IN ('waiting', 'offered') ORDER BY site LIMIT $1
"""


@dataclass(frozen=True, slots=True)
class Entry:
    """A row of reservations.waiting."""

    id: UUID
    number: int
    site: str
    driver_id: str
    standard: str
    power_w_min: int
    duration_s: int
    joined_at: datetime
    state: str
    skipped_until: datetime | None
    reservation_id: UUID | None

    @property
    def waits(self) -> bool:
        """Whether it is in the line."""
        return self.state in ("waiting", "offered")

    @property
    def driver(self) -> WaitingDriver:
        """As the rule sees it."""
        return WaitingDriver(
            id=self.id,
            number=self.number,
            driver_id=self.driver_id,
            standard=self.standard,
            power_w_min=self.power_w_min,
            duration=timedelta(seconds=self.duration_s),
            offered=self.state == "offered",
            skipped_until=self.skipped_until,
        )


async def lock_site(connection: Transaction, site: str) -> None:
    """Wait until no other transaction changes the site's line."""
    await connection.execute(_LOCK, site)


async def line_of(database: Database | Transaction, site: str) -> list[Entry]:
    """The drivers who wait at the site, in order."""
    return _entries(await database.fetch(_LINE, site))


async def entry(database: Database | Transaction, id_: UUID) -> Entry | None:
    """The entry of that id."""
    row = await database.fetchrow(f"{_SELECT} WHERE w.id = $1", id_)
    return None if row is None else Entry(*row)


async def of_driver(database: Database, driver_id: str) -> list[Entry]:
    """The driver's entries, newest first."""
    query = f"{_SELECT} WHERE w.driver_id = $1 ORDER BY w.number DESC LIMIT $2"
    return _entries(await database.fetch(query, driver_id, OWN_MAX))


async def add(connection: Transaction, new: Entry) -> bool:
    """Add it at the end of the line; whether the driver was not in it."""
    columns = (new.id, new.site, new.driver_id, new.standard, new.power_w_min, new.duration_s, new.joined_at)
    tag: str = await connection.execute(_INSERT, *columns)
    return tag == "INSERT 0 1"


async def set_state(
    connection: Transaction,
    id_: UUID,
    state: str,
    reservation_id: UUID | None = None,
    skipped_until: datetime | None = None,
) -> None:
    """Store what became of it."""
    await connection.execute(_SET, id_, state, reservation_id, skipped_until)


async def settle(connection: Transaction, site: str) -> None:
    """Take over what became of the site's offers."""
    await connection.execute(_SETTLE, site)


async def connectors_of(database: Database | Transaction, site: str, now: datetime) -> list[SiteConnector]:
    """The site's connectors that are in order."""
    rows = await database.fetch(_CONNECTORS, site, now, OUT_OF_ORDER_STATUSES)
    return [_connector(row) for row in rows]


async def waiting_before(connection: Transaction, places: Sequence[Place], driver_id: str, now: datetime) -> int:
    """How many other drivers wait at their site for such a connector as one of these."""
    count: int = await connection.fetchval(_BEFORE, [place.key for place in places], driver_id, now)
    return count


async def sites(database: Database) -> list[str]:
    """Sites where somebody waits."""
    return [row["site"] for row in await database.fetch(_SITES, SITES_MAX)]


def _entries(rows: Sequence[asyncpg.Record]) -> list[Entry]:
    return [Entry(*row) for row in rows]


def _connector(row: Any) -> SiteConnector:
    place = Place(row["place_key"], row["station_id"], row["connector_id"], row["bay"], tuple(row["taken_with"]))
    return SiteConnector(place, row["standard"], row["power_w"], row["free_from"], row["free_until"])
