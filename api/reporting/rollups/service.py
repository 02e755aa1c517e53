"""Roll-ups: hours that have changed are computed again, whole, from what other services publish."""

from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from api.reporting.co2.store import Co2Store
from api.reporting.rollups.facets import (
    BY_STATUS,
    HOUR,
    SUMS,
    Facet,
    Fact,
    Facts,
    Place,
    bits_of,
    day_of,
    hour_of,
)
from api.reporting.rollups.note_store import NoteStore
from api.reporting.rollups.sources import SOURCES, HoursQuery
from api.reporting.rollups.store import STATION_HOURS_MAX, DirtyHour, RollUpStore, SeriesName
from kit.clock import Clock
from kit.database.postgres import Database
from kit.messaging.outbox import Transaction
from schemas.reading import SILENT

ROUNDS_MAX: Final = 10  # of one run of the job, each two batches of ~1 s: the service's other jobs wait meanwhile
DROPS_MAX: Final = 100  # of one run of that job, each ~0.3 s: 5 M rows an hour, a day of 10,000 connectors is 0.6 M
PASSED_HOURS_MAX: Final = 48  # noted at once, after the service was down
# Of these facets less is known later than before only where the source drops what is old: then the row stays.
_ONLY_GROWS: Final = frozenset({Facet.ENERGY, Facet.POWER, Facet.STATUS})
# Entries of waiting lists are forgotten after 30 days.
_KNOWN_FOR: Final = {Facet.WAITING: timedelta(days=29)}


class RollUpService:
    """The jobs of roll-ups."""

    def __init__(
        self,
        database: Database,
        store: RollUpStore,
        notes: NoteStore,
        co2: Co2Store,
        clock: Clock,
        statuses_kept: Callable[[], timedelta],
    ) -> None:
        self._database = database
        self._store = store
        self._notes = notes
        self._co2 = co2
        self._clock = clock
        self._statuses_kept = statuses_kept

    async def run(self) -> None:
        """Note what has other factors of CO2, group stations and compute what is dirty, a batch of each in turn: none
        waits for the others. Another process that does so at the moment does it all."""
        if not await self._store.has_work(self._database, self._clock.now()):
            return
        for _ in range(ROUNDS_MAX):
            noted = await self._note_stale()
            grouped, computed = await self._group_some(), await self._compute_some()
            if not (noted or grouped or computed):
                return

    async def _note_stale(self) -> bool:
        """Some hours that were computed with other factors of CO2, as many as are computed at once. Whether there may
        be more."""
        now, room = self._clock.now(), STATION_HOURS_MAX
        async with self._database.transaction() as connection:
            if not await self._store.try_lock(connection) or await self._store.has_many(connection, hour_of(now)):
                return False
            stations = await self._co2.stale(connection)
            noted: list[tuple[Place, int]] = []
            for one in stations:
                hours = await self._co2.hours_with_energy(connection, one, Facet.ENERGY, room)
                noted += ((Place(one.station_id, hour), Facet.CO2.bit) for hour in hours)
                room -= len(hours)
                if not room:
                    await self._co2.noted(connection, one.station_id, hours[-1] + HOUR)
                    break
                await self._co2.noted(connection, one.station_id, None)
            # All at once: events note hours of several stations meanwhile, and all wait for each other in one order.
            await self._notes.note(connection, noted, now)
            return bool(stations)

    async def _group_some(self) -> bool:
        """Whether there may be more."""
        async with self._database.transaction() as connection:
            if not await self._store.try_lock(connection):
                return False
            stations = await self._store.ungrouped(connection)
            if stations:
                await self._group_again(connection, stations)
            return bool(stations)

    async def _compute_some(self) -> bool:
        """Whether there may be more."""
        now = self._clock.now()
        async with self._database.transaction() as connection:
            if not await self._store.try_lock(connection):
                return False
            await self._note_passed(connection, now)
            dirty = await self._store.dirty(connection, hour_of(now), now)
            if not dirty:
                return False
            await self._compute(connection, dirty, now)
            await self._store.clean(connection, dirty)
            return True

    async def _note_passed(self, connection: Transaction, now: datetime) -> None:
        """Hours that have ended: statuses last without an event."""
        following, kept_from = await self._store.progress(connection)
        open_hour = hour_of(now)
        if following is None:
            await self._store.noted_up_to(connection, max(open_hour, kept_from))
            return
        for number in range(min(PASSED_HOURS_MAX, max(0, (open_hour - following) // HOUR))):
            hour = following + number * HOUR
            await self._notes.note_all(connection, hour, bits_of(BY_STATUS), now)
            await self._store.noted_up_to(connection, hour + HOUR)

    async def _compute(self, connection: Transaction, dirty: Sequence[DirtyHour], now: datetime) -> None:
        days: set[datetime] = set()
        for facets, read in SOURCES.items():
            bits = bits_of(facets)
            places = [one.place for one in dirty if one.facets & bits and _is_known(facets[0], one.hour, now)]
            if not places:
                continue
            asked = set(places)
            query = HoursQuery(places, now, now - self._statuses_kept())
            for facet, found in (await read(connection, query)).items():
                new = {key: fact for key, fact in found.items() if Place(key.station_id, key.hour) in asked}
                days |= await self._put(connection, facet, places, new)
                if facet is Facet.AVAILABILITY:
                    await self._note_repairs(connection, dirty, new)
        if days:
            await self._store.changed(connection, days)

    async def _put(self, connection: Transaction, facet: Facet, places: Sequence[Place], new: Facts) -> set[datetime]:
        """Replace the rows of these hours. The days of which something has changed."""
        old = await self._store.old(connection, facet, places)
        replaced = _changes(facet, old, new)
        if facet is Facet.STATUS:
            await self._note_following(connection, places, old, new, replaced)
        if not replaced:
            return set()
        keys = await self._keys(connection, {(key.station_id, key.connector_id) for key in replaced})
        rows, deltas = [], []
        for key, fact in replaced.items():
            connector_key = keys[key.station_id, key.connector_id]
            rows.append((connector_key, key.hour, key.currency, fact))
            before = old[key].sums if key in old else (0,) * len(fact.sums)
            delta = tuple(now - then for now, then in zip(fact.sums, before, strict=True))
            if any(delta):
                deltas.append((connector_key, key.hour, key.currency, delta))
        await self._store.replace(connection, facet, rows)
        if facet is Facet.CO2:
            await self._co2.count_used(connection, _versions_used(old, replaced))
        if deltas:
            await self._store.add_to_groups(connection, facet, deltas)
        return {day_of(hour) for _, hour, *_ in deltas}

    async def _note_following(
        self, connection: Transaction, places: Sequence[Place], old: Facts, new: Facts, replaced: Facts
    ) -> None:
        """Where an hour ends with another status, so may the next one: it is computed again, if it has been. So it is
        where an hour ends in silence: what was said meanwhile shows only when that is over. And so are the sessions
        that lasted while a fault has come or gone."""
        following, _ = await self._store.progress(connection)
        differs = {key for key, fact in replaced.items() if fact.ends_as != (old[key].ends_as if key in old else None)}
        silent = {key for key, fact in new.items() if fact.ends_as == SILENT}
        after = {Place(key.station_id, key.hour + HOUR) for key in differs | silent} - set(places)
        after = {place for place in after if following is not None and place.hour < following}
        now = self._clock.now()
        await self._notes.note(connection, [(place, bits_of(BY_STATUS)) for place in after], now)
        faulted = SUMS[Facet.STATUS].place("faulted_ms")
        changed = {
            Place(key.station_id, key.hour)
            for key, fact in replaced.items()
            if fact.sums[faulted] != (old[key].sums[faulted] if key in old else 0)
        }
        ended = await self._store.sessions_during(connection, sorted(changed))
        await self._notes.note(connection, [(place, Facet.SESSIONS.bit) for place in ended], now)

    async def _note_repairs(self, connection: Transaction, dirty: Sequence[DirtyHour], new: Facts) -> None:
        """An outage counts where it ended: where its hours change, that one is computed again. Only hours that changed
        themselves say so, or each end of an outage would have the next one computed."""
        changed = {one.place for one in dirty if one.facets & Facet.AVAILABILITY.bit}
        service, up, excluded = (
            SUMS[Facet.AVAILABILITY].place(name) for name in ("service_ms", "up_ms", "excluded_ms")
        )
        out = [
            key
            for key, fact in new.items()
            if Place(key.station_id, key.hour) in changed and fact.sums[up] - fact.sums[excluded] < fact.sums[service]
        ]
        ends = await self._store.up_next(connection, out)
        noted = [(place, Facet.REPAIRS.bit) for place in ends if place not in changed]
        await self._notes.note(connection, noted, self._clock.now())

    async def _keys(self, connection: Transaction, connectors: set[tuple[str, int]]) -> dict[tuple[str, int], int]:
        """The keys of these connectors, new ones among them."""
        wanted = sorted(connectors)
        keys = await self._store.connector_keys(connection, wanted)
        unknown = [one for one in wanted if one not in keys]
        if unknown:
            stations = await self._store.registered(connection, sorted({station_id for station_id, _ in unknown}))
            await self._store.add_connectors(
                connection, {(station, one): series_of(station, one, stations.get(station)) for station, one in unknown}
            )
            keys |= await self._store.connector_keys(connection, unknown)
        return keys

    async def _group_again(self, connection: Transaction, stations: Sequence[str]) -> None:
        """Sum these stations' connectors by what the registry says of them now, in the past too."""
        registered = await self._store.registered(connection, stations)
        days: set[datetime] = set()
        new: dict[tuple[str, int], list[SeriesName]] = {}
        for station_id, station in registered.items():
            members, moved = await self._move(connection, station_id, station)
            days |= moved
            new |= {
                (station_id, one): series_of(station_id, one, station)
                for one in station["connectors"]
                if one not in members and one != 0
            }
        if new:
            await self._store.add_connectors(connection, new)
        await self._store.grouped(connection, {one: registered[one]["revision"] for one in registered})
        if days:
            await self._store.changed(connection, days)

    async def _move(self, connection: Transaction, station_id: str, station: Any) -> tuple[set[int], set[datetime]]:
        """Move a station's connectors to where they belong now. All that have figures, and the days of those moved."""
        days: set[datetime] = set()
        members = await self._store.memberships(connection, station_id)
        keys = await self._store.connector_keys(connection, [(station_id, one) for one in members])
        for connector_id, before in members.items():
            wanted = set(series_of(station_id, connector_id, station))
            leaves = [key for series, key in before.items() if series not in wanted]
            joins = wanted - before.keys()
            if leaves or joins:
                await self._store.add_series(connection, joins)
                joined = await self._store.series_keys(connection, joins)
                connector_key = keys[station_id, connector_id]
                days |= set(await self._store.move(connection, connector_key, leaves, list(joined.values())))
        return set(members), days

    async def drop_old(self, retention: timedelta) -> None:
        """Drop hours that are older than that, whole days of them, a batch a transaction."""
        before = day_of(hour_of(self._clock.now() - retention))
        for _ in range(DROPS_MAX):
            async with self._database.transaction() as connection:
                await self._store.lock(connection)
                if not await self._store.drop_before(connection, before):
                    return


def _is_known(facet: Facet, hour: datetime, now: datetime) -> bool:
    """Whether its source still has all of that hour."""
    return facet not in _KNOWN_FOR or hour > now - _KNOWN_FOR[facet]


def _versions_used(old: Facts, replaced: Facts) -> list[tuple[datetime, int, int]]:
    """By day and version of the factors how many more hours of connectors are computed with it; fewer are below 0."""
    counts: Counter[tuple[datetime, int]] = Counter()
    for key, fact in replaced.items():
        for row, sign in ((old.get(key), -1), (fact, 1)):
            if row is not None and row.version is not None and any(row.sums):
                counts[day_of(key.hour), row.version] += sign
    return [(*key, count) for key, count in counts.items()]


def _changes(facet: Facet, old: Facts, new: Facts) -> Facts:
    """The rows to store: those that differ, and zeros in place of those that are no more."""
    changed = {key: fact for key, fact in new.items() if old.get(key) != fact and (key in old or any(fact.sums))}
    if facet in _ONLY_GROWS:
        if facet is Facet.STATUS:
            return {key: fact for key, fact in changed.items() if key not in old or fact.sums[0] >= old[key].sums[0]}
        return changed
    gone = Fact((0,) * len(SUMS[facet].names))
    return changed | {key: gone for key, fact in old.items() if key not in new and fact != gone}


def series_of(station_id: str, connector_id: int, station: Any) -> list[SeriesName]:
    """The series that a connector is a member of. `station`: its registration; None: it has none."""
    plugs = {} if station is None else dict(zip(station["connectors"], station["plugs"], strict=True))
    groups = {kind: "" if station is None else station[kind] for kind in ("site", "group", "organisation")}
    return [
        SeriesName("total", ""),
        SeriesName("station", station_id),
        *(SeriesName(kind, name) for kind, name in groups.items()),
        SeriesName("plug", plugs.get(connector_id, "")),
    ]
