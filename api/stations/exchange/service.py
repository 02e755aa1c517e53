"""Imports with a preview, and exports page by page. No HTTP and no SQL here."""

import asyncio
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

from api.stations.exchange import csv_file, ocpi
from api.stations.exchange.evse_clashes import evse_clashes
from api.stations.exchange.models import STATIONS_MAX, ExchangeFormat, ImportedStation, ImportResult, Wanted
from api.stations.registry.models import ConnectorFacts, Station, StationFacts
from api.stations.registry.service import StationCursor, StationsService
from api.stations.registry.store import Change, StationsStore, evse_holders, lock_all, stations, stations_after
from api.stations.status.store import statuses
from kit.auth.station_filter import StationFilter
from kit.auth.token_store import Principal
from kit.database.postgres import Database
from kit.messaging.outbox import Transaction
from kit.web.errors import BadQuery
from kit.web.paging import decode_cursor, encode_cursor
from schemas.reading import STATION_ID_CHARS_MAX

REASON_CHARS_MAX: Final = 300
SHOWN_MAX: Final = 100  # refused stations in a problem document, ~200 B each


class ImportRefused(BadQuery):
    """Some stations of the file are refused, so nothing was changed. Carries the result."""

    def __init__(self, result: ImportResult) -> None:
        refused = [one for one in result.stations if one.outcome == "refused"]
        first = refused[0]
        super().__init__(
            f"{result.refused} stations are refused, so nothing was changed. Line {first.line}, {first.station_id}: "
            f"{first.reason}. Correct them, or import the others with partial=true"
        )
        self.refused = refused[:SHOWN_MAX]

    @property
    def extensions(self) -> Mapping[str, Any]:
        """The refused stations."""
        return {"refused": [one.model_dump() for one in self.refused]}


class ExchangeService:
    """The use cases, one method each."""

    def __init__(self, database: Database, registry: StationsService) -> None:
        self._database = database
        self._registry = registry
        self._store = StationsStore(database)

    async def import_stations(
        self,
        connection: Transaction,
        body: bytes,
        format_: ExchangeFormat,
        operator: Principal,
        *,
        dry_run: bool,
        partial: bool,
    ) -> ImportResult:
        """Register or change the stations of a file, in the open transaction: all of them or, unless `partial`, none.

        After a dry run the caller rolls back: so what it says would change is what does. Raises BadQuery where the file
        cannot be read, ImportRefused.
        """
        parsed = await asyncio.to_thread(_parsed, body, format_)
        names = _names(parsed, format_)
        if len(names) > STATIONS_MAX:
            raise BadQuery(f"the file has more than {STATIONS_MAX} stations: import it in parts")
        await lock_all(connection)
        known = await stations(connection, names)
        wanted = _once(await asyncio.to_thread(_read, parsed, format_, known))
        wanted = await _without_clashes(connection, wanted, known)
        documents = {one.station_id: one.document for one in wanted if one.document is not None}
        changes = await self._registry.change_many(connection, documents, operator)
        result = _result(wanted, changes, dry_run=dry_run, partial=partial)
        if not result.written and not dry_run:
            raise ImportRefused(result)
        return result

    async def export(
        self, format_: ExchangeFormat, limit: int, cursor: str | None, only: StationFilter
    ) -> tuple[str, str | None]:
        """A page of these stations by their ids, as a file, and the next page's cursor. Raises BadQuery."""
        after = decode_cursor(cursor, StationCursor).station_id if cursor else None
        async with self._database.snapshot() as connection:
            found = list((await stations_after(connection, after, limit + 1, only)).values())
            page = found[:limit]
            known = (
                await statuses(connection, [one.station_id for one in page]) if format_ == ExchangeFormat.OCPI else {}
            )
        key = encode_cursor(StationCursor(page[-1].station_id)) if len(found) > limit else None
        return await asyncio.to_thread(_written, page, format_, known), key


def _parsed(body: bytes, format_: ExchangeFormat) -> Any:
    try:
        text = body.decode("utf-8-sig")  # spreadsheets and some editors write a mark first
    except UnicodeDecodeError:
        raise BadQuery("the file is not UTF-8: save it as UTF-8") from None
    if "\0" in text:
        raise BadQuery("the file has a NUL character, which no text may have")
    if format_ == ExchangeFormat.CSV:
        return text
    try:
        return ocpi.locations_of(json.loads(text, parse_float=str))
    except RecursionError:
        raise BadQuery("the file is nested too deeply: nothing here has more than a dozen levels") from None
    except json.JSONDecodeError as error:
        raise BadQuery(f"the file is no JSON: {error}") from None
    except ValueError as error:
        raise BadQuery(str(error)) from None


def _names(parsed: Any, format_: ExchangeFormat) -> list[str]:
    try:
        named = csv_file.station_ids(parsed) if format_ == ExchangeFormat.CSV else map(ocpi.station_id_of, parsed)
        return [name for name in dict.fromkeys(named) if name and name.isprintable()]  # no other can be registered
    except csv_file.WrongFile as error:
        raise BadQuery(str(error)) from None


def _read(parsed: Any, format_: ExchangeFormat, known: Mapping[str, Station]) -> list[Wanted]:
    return csv_file.read(parsed, known) if format_ == ExchangeFormat.CSV else ocpi.read(parsed, known)


def _once(wanted: Sequence[Wanted]) -> list[Wanted]:
    """A station that is there twice is refused the second time."""
    lines: dict[str, int] = {}
    found = []
    for one in wanted:
        first = lines.setdefault(one.station_id, one.line)
        twice = one.document is not None and first != one.line
        found.append(Wanted(one.line, one.station_id, None, f"is there twice: see {first}") if twice else one)
    return found


async def _without_clashes(
    connection: Transaction, wanted: Sequence[Wanted], known: Mapping[str, Station]
) -> list[Wanted]:
    """A station that wants the EVSE of another one is refused, and one whose bays name connectors that it does not
    have."""
    evses: dict[str, set[str]] = {}
    unreachable: dict[str, str] = {}
    for one in wanted:
        if one.document is not None:
            before = known.get(one.station_id)
            plugs = one.document.connectors
            kept = before.connectors if plugs is None and before is not None else plugs or ()
            wrong = one.document.unreachable(plug.connector_id for plug in kept)
            if wrong is not None:
                unreachable[one.station_id] = wrong
                continue
            evses[one.station_id] = {plug.evse_id for plug in kept if plug.evse_id is not None}
    holders = await evse_holders(connection, set().union(*evses.values()))
    reasons = {**evse_clashes(evses, holders), **unreachable}
    return [
        Wanted(one.line, one.station_id, None, reasons[one.station_id])
        if one.document is not None and one.station_id in reasons
        else one
        for one in wanted
    ]


def _result(
    wanted: Sequence[Wanted], changes: Mapping[str, Change | None], *, dry_run: bool, partial: bool
) -> ImportResult:
    shown = [_imported(one, changes) for one in wanted]
    counted = Counter(one.outcome for one in shown)
    return ImportResult(
        dry_run=dry_run,
        written=partial or not counted["refused"],
        created=counted["created"],
        changed=counted["changed"],
        unchanged=counted["unchanged"],
        refused=counted["refused"],
        stations=[one for one in shown if one.outcome != "unchanged" or one.not_taken],
    )


def _imported(one: Wanted, changes: Mapping[str, Change | None]) -> ImportedStation:
    key: dict[str, Any] = {
        "line": one.line,
        "station_id": _shown(one.station_id[:STATION_ID_CHARS_MAX]),
        "not_taken": [_shown(name) for name in one.not_taken],
    }
    if one.document is None:
        return ImportedStation(**key, outcome="refused", changes=[], reason=_shown(one.reason or ""))
    change = changes[one.station_id]
    if change is None:
        return ImportedStation(**key, outcome="unchanged", changes=[], reason=None)
    if change.before is None:
        return ImportedStation(**key, outcome="created", changes=[], reason=None)
    return ImportedStation(**key, outcome="changed", changes=_differences(change.before, change.after), reason=None)


def _shown(text: str) -> str:
    """Of a file's text, which may be anything, what an answer can carry."""
    return text[:REASON_CHARS_MAX].encode(errors="replace").decode()


def _differences(before: Station, after: Station | None) -> list[str]:
    if after is None:
        return []
    found = [name for name in StationFacts.model_fields if getattr(before, name) != getattr(after, name)]
    old, new = ({one.connector_id: one for one in of.connectors} for of in (before, after))
    for number in sorted(old.keys() | new.keys()):
        one, other = old.get(number), new.get(number)
        if other is None:
            found.append(f"connectors/{number} removed")
        elif one is None:
            found.append(f"connectors/{number}")
        else:
            names = [name for name in ConnectorFacts.model_fields if getattr(one, name) != getattr(other, name)]
            found += [f"connectors/{number}/{name}" for name in names]
    return found


def _written(page: Sequence[Station], format_: ExchangeFormat, known: Mapping[str, Mapping[int, int]]) -> str:
    if format_ == ExchangeFormat.CSV:
        return csv_file.write(page)
    locations = (ocpi.location(one, known.get(one.station_id, {})) for one in page)
    return json.dumps([one for one in locations if one is not None], ensure_ascii=False)
