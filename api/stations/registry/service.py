"""Stations and connectors: registering, changing, retiring. No HTTP and no SQL here."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final

from msgspec import Meta, Raw

from api.stations.registry.events import station_changed
from api.stations.registry.models import (
    CONNECTORS_MAX,
    Connector,
    ConnectorFacts,
    NewStation,
    NumberedConnector,
    Station,
    StationChange,
    StationDocument,
    StationFacts,
    StationSummary,
    plug_of,
)
from api.stations.registry.store import (
    SCHEMA,
    Change,
    StationsStore,
    held_evses,
    last_revisions,
    lock_all,
    lock_evses,
    lock_station,
    registered_of,
    stations,
    twice_held,
    write,
)
from api.stations.search.projection import project
from kit.audit.recording import AuditedChange, record_all
from kit.auth.station_filter import StationFilter
from kit.auth.token_store import Principal
from kit.clock import Clock, from_ms
from kit.database.postgres import Database
from kit.messaging.outbox import Transaction, insert_async
from kit.web.errors import BadQuery, Conflict, Forbidden, NotFound
from kit.web.paging import Cursor, Int64, decode_cursor, encode_cursor
from kit.web.versions import check_version
from schemas.reading import MAIN_METER, STATION_ID_CHARS_MAX

_BY_PLATFORM: Final = "voltstream"

Registered = tuple[StationFacts, Mapping[int, ConnectorFacts]]
"""A station, and its connectors by their numbers."""


class StationCursor(Cursor, frozen=True, tag="st"):
    """The last station seen."""

    station_id: Annotated[str, Meta(max_length=STATION_ID_CHARS_MAX)]


class StationChangeCursor(Cursor, frozen=True, tag="sc"):
    """The last change seen."""

    revision: Int64


class StationsService:
    """The use cases, one method each. A change, its audit and its event are one transaction."""

    def __init__(self, store: StationsStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def station(self, station_id: str) -> Station:
        """A station with its connectors. Raises NotFound."""
        found = await self._store.station(station_id)
        if found is None:
            raise no_station(station_id)
        return found

    async def stations(
        self, limit: int, cursor: str | None, only: StationFilter
    ) -> tuple[Sequence[StationSummary], str | None]:
        """A page of these stations by their ids, and the next page's cursor. Raises BadQuery."""
        after = decode_cursor(cursor, StationCursor).station_id if cursor else None
        rows = await self._store.summaries(after, limit + 1, only)
        page = [StationSummary(**row) for row in rows[:limit]]
        return page, encode_cursor(StationCursor(page[-1].station_id)) if len(rows) > limit else None

    async def history(
        self, station_id: str, limit: int, cursor: str | None
    ) -> tuple[Sequence[StationChange], str | None]:
        """A page of the station's changes, newest first, and the next page's cursor; of a retired one too.

        Raises BadQuery, NotFound.
        """
        after = decode_cursor(cursor, StationChangeCursor).revision if cursor else None
        rows = await self._store.changes(station_id, after, limit + 1)
        if not rows and after is None:
            await self.station(station_id)  # registered before there was an audit, or never
        page = [StationChange(**row) for row in rows[:limit]]
        return page, encode_cursor(StationChangeCursor(page[-1].revision)) if len(rows) > limit else None

    async def add(self, connection: Transaction, new: NewStation, operator: Principal) -> Station:
        """Register a station, in the open transaction. Raises Conflict, BadQuery as `put_station`."""
        await lock_station(connection, new.station_id)
        if await stations(connection, [new.station_id]):
            raise Conflict(f"station {new.station_id} is registered already: change it with PUT")
        return await self._change(connection, new.station_id, None, _replaced(None, new), operator)

    async def put_station(
        self, station_id: str, version: int | None, document: StationDocument, operator: Principal
    ) -> tuple[Station, bool]:
        """Register the station, or replace what is known of it. Whether it is new.

        `version`: the revision that the change was made to; None: any; 0: If-Match was not given. Raises VersionNeeded,
        VersionChanged, Conflict where another station has the EVSE, BadQuery where a bay names a connector that the
        station does not have, Forbidden where it would become another organisation's than the token's.
        """
        if operator.organisation not in (None, document.organisation):
            raise Forbidden(
                f"body/organisation: your token is for the stations of {operator.organisation}, which stay its own"
            )
        async with self._store.database.transaction() as connection:
            await lock_station(connection, station_id)
            known = (await stations(connection, [station_id])).get(station_id)
            check_version(f"station {station_id}", version, None if known is None else known.revision)
            after = _replaced(known, document)
            return await self._change(connection, station_id, known, after, operator), known is None

    async def retire(self, station_id: str, version: int | None, operator: Principal) -> None:
        """Remove the station; its history stays. Raises NotFound, VersionNeeded, VersionChanged."""
        async with self._store.database.transaction() as connection:
            known = await self._locked(connection, station_id)
            check_version(f"station {station_id}", version, known.revision)
            await record(connection, [self._changed(known, None, known.revision, operator.name)])

    async def put_connector(
        self, station_id: str, connector_id: int, version: int | None, facts: ConnectorFacts, operator: Principal
    ) -> tuple[Connector, int, bool]:
        """Register the connector, or replace what is known of it: it, the station's revision, and whether it is new.

        Raises NotFound where the station is not registered, VersionNeeded, VersionChanged, Conflict where another
        station has the EVSE or the station has CONNECTORS_MAX connectors, BadQuery where a main meter is given a plug.
        """
        plug = plug_of(facts)
        if connector_id == MAIN_METER and plug:
            raise BadQuery(f"connector 0 is the station's main meter: it has a rated power, and no {', '.join(plug)}")
        one = NumberedConnector(connector_id=connector_id, **facts.model_dump())
        async with self._store.database.transaction() as connection:
            known = await self._locked(connection, station_id)
            others = [other for other in known.connectors if other.connector_id != connector_id]
            created = len(others) == len(known.connectors)
            if not created or version:
                check_version(f"station {station_id}", version, known.revision)
            if len(others) >= CONNECTORS_MAX:
                raise Conflict(f"station {station_id} has {CONNECTORS_MAX} connectors, the most there may be")
            after = (StationFacts(**_facts_of(known)), [*(_numbered(other) for other in others), one])
            station = await self._change(connection, station_id, known, after, operator)
        stored = next(other for other in station.connectors if other.connector_id == connector_id)
        return stored, station.revision, created

    async def connector(self, station_id: str, connector_id: int) -> tuple[Connector, int]:
        """A connector, and its station's revision. Raises NotFound."""
        found = await self._store.connector(station_id, connector_id)
        if found is None:
            raise _no_connector(station_id, connector_id)
        return found

    async def delete_connector(
        self, station_id: str, connector_id: int, version: int | None, operator: Principal
    ) -> None:
        """Remove the connector. Raises NotFound, VersionNeeded, VersionChanged, Conflict where a bay names it."""
        async with self._store.database.transaction() as connection:
            known = await self._locked(connection, station_id)
            others = [one for one in known.connectors if one.connector_id != connector_id]
            if len(others) == len(known.connectors):
                raise _no_connector(station_id, connector_id)
            check_version(f"station {station_id}", version, known.revision)
            naming = [one.bay for one in known.bays if connector_id in one.connectors]
            if naming:
                raise Conflict(
                    f"bay {naming[0]} of station {station_id} names connector {connector_id}: "
                    "take it out of the bay first"
                )
            after = (StationFacts(**_facts_of(known)), [_numbered(one) for one in others])
            await self._change(connection, station_id, known, after, operator)

    async def change_many(
        self, connection: Transaction, wanted: Mapping[str, StationDocument], operator: Principal
    ) -> Mapping[str, Change | None]:
        """Register or replace these stations, in the open transaction; None: it is that already.

        Raises Conflict where two stations would have one EVSE, BadQuery as `put_station`.
        """
        await lock_all(connection)
        known = await stations(connection, list(wanted))
        revisions = await last_revisions(connection, [name for name in wanted if name not in known])
        changes: dict[str, Change | None] = {}
        for name, document in wanted.items():
            before = known.get(name)
            revision = before.revision if before is not None else revisions.get(name, 0)
            change = self._changed(before, (name, _replaced(before, document)), revision, operator.name)
            changes[name] = None if before is not None and _same(before, change) else change
        made = [one for one in changes.values() if one is not None]
        if made:
            await record(connection, made)
        return changes

    async def _locked(self, connection: Transaction, station_id: str) -> Station:
        await lock_station(connection, station_id)
        known = (await stations(connection, [station_id])).get(station_id)
        if known is None:
            raise no_station(station_id)
        return known

    async def _change(
        self,
        connection: Transaction,
        station_id: str,
        known: Station | None,
        after: tuple[StationFacts, Sequence[NumberedConnector]],
        operator: Principal,
    ) -> Station:
        """What is changed to what it was already is no change."""
        if known is None:
            revision = (await last_revisions(connection, [station_id])).get(station_id, 0)
        else:
            revision = known.revision
        change = self._changed(known, (station_id, after), revision, operator.name)
        if known is not None and _same(known, change):
            return known
        await record(connection, [change], names_others=not operator.is_limited)
        if change.after is None:
            raise AssertionError("the station was changed, not retired")
        return change.after

    def _changed(
        self,
        before: Station | None,
        after: tuple[str, tuple[StationFacts, Sequence[NumberedConnector]]] | None,
        revision: int,
        changed_by: str,
    ) -> Change:
        now = from_ms(self._clock.now_ms())
        if after is None:
            return Change(before, None, revision + 1, now, changed_by)
        station_id, (facts, numbered) = after
        old = {} if before is None else {one.connector_id: one for one in before.connectors}
        connectors = []
        for one in sorted(numbered, key=lambda plug: plug.connector_id):
            facts_of = _facts_of_connector(one)
            same = old.get(one.connector_id)
            if same is not None and facts_of == _facts_of_connector(same):
                connectors.append(same)
                continue
            connectors.append(
                Connector(**facts_of, station_id=station_id, connector_id=one.connector_id, changed_at=now)
            )
        station = Station(
            **_facts_of(facts), station_id=station_id, revision=revision + 1, changed_at=now, connectors=connectors
        )
        return Change(before, station, revision + 1, now, changed_by)


async def record(connection: Transaction, changes: Sequence[Change], *, names_others: bool = True) -> None:
    """Store these changes with their history, their entries in the audit and their events, in the open transaction.
    Raises Conflict, which names the station that has an EVSE already if `names_others`."""
    taken = {one.evse_id for change in changes if change.after for one in change.after.connectors if one.evse_id}
    held = {one.evse_id for change in changes if change.before for one in change.before.connectors if one.evse_id}
    if len(changes) == 1:  # of many nobody else changes anything
        await lock_evses(connection, taken - held)
    await write(connection, changes)
    if twice := await twice_held(connection, taken):
        evse_id, first, last = twice
        named = {change.station_id for change in changes}
        holder = last if first in named and last not in named else first
        raise Conflict(
            f"{evse_id} is an EVSE of {f'station {holder}' if names_others else 'another station'}: an EVSE is at one "
            "station"
        )
    await project(connection, changes)
    await record_all(connection, map(_audited, changes))
    await insert_async(connection, SCHEMA, [station_changed(change) for change in changes])


def _audited(change: Change) -> AuditedChange:
    before, after = (None if one is None else Raw(one.model_dump_json()) for one in (change.before, change.after))
    return AuditedChange(f"station.{change.kind}", f"station/{change.station_id}", before, after)


async def ensure_stations(database: Database, clock: Clock, registered: Mapping[str, Registered]) -> None:
    """Register those stations, with their connectors, that are not registered: without EVSE ids that others have.

    Raises Unavailable.
    """
    service = StationsService(StationsStore(database), clock)
    async with database.transaction() as connection:
        await lock_all(connection)
        known = await registered_of(connection, list(registered))
        names = [name for name in registered if name not in known]
        evses = {one.evse_id for name in names for one in registered[name][1].values() if one.evse_id is not None}
        held = await held_evses(connection, evses)
        revisions = await last_revisions(connection, names)
        changes = []
        for name in names:
            facts, plugs = registered[name]
            free = {one: of if of.evse_id not in held else _without_evse(of) for one, of in plugs.items()}
            connectors = [NumberedConnector(connector_id=one, **of.model_dump()) for one, of in free.items()]
            after = (name, (facts, connectors))
            changes.append(service._changed(None, after, revisions.get(name, 0), _BY_PLATFORM))
        if changes:
            await record(connection, changes)


def _without_evse(facts: ConnectorFacts) -> ConnectorFacts:
    return facts.model_copy(update={"evse_id": None})


def no_station(station_id: str) -> NotFound:
    """A 404 that says what to do."""
    return NotFound(f"no station {station_id}: register it with PUT /api/v1/stations/{station_id}")


def _replaced(known: Station | None, document: StationDocument) -> tuple[StationFacts, Sequence[NumberedConnector]]:
    """Raises BadQuery where a bay names a connector that the station does not have."""
    if document.connectors is not None:  # its bays are checked by then
        return document.facts(), document.connectors
    connectors = [] if known is None else [_numbered(one) for one in known.connectors]
    wrong = document.unreachable(one.connector_id for one in connectors)
    if wrong is not None:
        raise BadQuery(wrong)
    return document.facts(), connectors


def _same(known: Station, change: Change) -> bool:
    after = change.after
    return after is not None and known == after.model_copy(
        update={"revision": known.revision, "changed_at": known.changed_at}
    )


def _facts_of(facts: StationFacts) -> dict[str, Any]:
    return {name: getattr(facts, name) for name in StationFacts.model_fields}


def _facts_of_connector(facts: ConnectorFacts) -> dict[str, Any]:
    return {name: getattr(facts, name) for name in ConnectorFacts.model_fields}


def _numbered(one: Connector) -> NumberedConnector:
    return NumberedConnector(connector_id=one.connector_id, **_facts_of_connector(one))


def _no_connector(station_id: str, connector_id: int) -> NotFound:
    return NotFound(
        f"no connector {connector_id} of station {station_id}: register it with "
        f"PUT /api/v1/stations/{station_id}/connectors/{connector_id}"
    )
