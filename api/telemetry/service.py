"""The telemetry queries: history, live, ledger of readings, quarantine. No HTTP and no SQL here."""

from base64 import b64encode
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import ROUND_DOWN, Decimal
from typing import Any, Final

import msgspec

from api.telemetry.history.renderings import ColumnTable
from api.telemetry.history.retained import WIDTHS
from api.telemetry.history.store import (
    Connector,
    HistoryStore,
    ReadingCursor,
    Span,
    WindowCursor,
    reading_cursor,
    window_cursor,
)
from api.telemetry.history.tables import reading_table, window_table
from api.telemetry.ledger import energy_of, ledger_of
from api.telemetry.models import (
    ConnectorUptime,
    Energy,
    Interval,
    Ledger,
    QuarantinedItem,
    StatusInterval,
    StatusIntervalPage,
    UnclaimedStation,
    Uptime,
)
from api.telemetry.store import (
    QuarantineCursor,
    QuarantineFilter,
    StationCursor,
    StatusCursor,
    TelemetryStore,
    status_cursor,
)
from kit.auth.station_filter import StationFilter
from kit.clock import Clock, format_rfc3339
from kit.instants import floor_to
from kit.live.view import LiveView
from kit.web.errors import BadQuery, NotFound
from kit.web.paging import decode_cursor, encode_cursor
from schemas.reading import MAIN_METER, SILENT, STATUS_INTERVAL_LABELS, Status

LIVE_TOPIC: Final = "telemetry"  # key "STATION/connector"
LEDGER_TOPIC: Final = "ledger"
_MAIN_METER_ENDING: Final = f"/{MAIN_METER}"  # how the live view's keys of it end
_DEFAULT_SPAN: Final = timedelta(hours=1)
_DEFAULT_STATUS_SPAN: Final = timedelta(days=7)
# A page reads all intervals of the time: a connector's ~100 a day of 10 connectors are 92,000, 0.3 s.
STATUS_SPAN_MAX: Final = timedelta(days=92)
_DAY: Final = timedelta(days=1)
_MS: Final = timedelta(milliseconds=1)
_DOWN: Final = frozenset({SILENT, int(Status.UNAVAILABLE), int(Status.FAULTED)})
_PCT: Final = Decimal("0.0001")


@dataclass(frozen=True, slots=True)
class HistoryQuery:
    """A question about a station's history. Without `end` until now, without `start` from an hour before the end."""

    station_id: str
    interval: Interval
    start: datetime | None
    end: datetime | None
    connector_id: int | None
    limit: int
    cursor: str | None
    flags: int = 0  # raw readings with any of these; 0: all


@dataclass(frozen=True, slots=True)
class StatusQuery:
    """A question about a station's statuses. Without `end` until now, without `start` from a week before the end."""

    station_id: str
    start: datetime | None
    end: datetime | None
    connector_id: int | None
    limit: int
    cursor: str | None


@dataclass(frozen=True, slots=True)
class History:
    """A page of a station's history, with the bounds that were applied and the cursor of the next page."""

    station_id: str
    interval: Interval
    start: datetime
    end: datetime
    table: ColumnTable
    cursor: str | None


@dataclass(frozen=True, slots=True)
class FleetSnapshot:
    """Many stations' live documents, and the sums over all of them."""

    documents: list[bytes]
    truncated: bool
    silent: list[str]
    stations: int
    connectors: int
    by_status: dict[str, int]
    power_w: float


class _LiveDocument(msgspec.Struct):
    """The part of a live document that the sums need."""

    status: str | None = None
    power_w: float | None = None


_live_documents = msgspec.json.Decoder(_LiveDocument)


class TelemetryService:
    """The use cases, one method each. All raise Unavailable where the database or the live view does not answer."""

    def __init__(self, store: TelemetryStore, histories: HistoryStore, live: LiveView, clock: Clock) -> None:
        self._store = store
        self._histories = histories
        self._live = live
        self._clock = clock

    async def history(self, query: HistoryQuery) -> History:
        """A page of windows or readings. Raises NotFound and BadQuery."""
        end = query.end or self._clock.now()
        start = query.start or end - _DEFAULT_SPAN
        if start >= end:
            raise BadQuery(f"from ({format_rfc3339(start)}) must be before to ({format_rfc3339(end)})")
        if query.interval is not Interval.RAW:
            start = floor_to(start, WIDTHS[query.interval])
        span = Span(await self._connectors(query.station_id, query.connector_id), start, end, query.limit + 1)
        pages = self._readings if query.interval is Interval.RAW else self._windows
        table, cursor = await pages(query, span)
        return History(query.station_id, query.interval, start, end, table, cursor)

    async def _readings(self, query: HistoryQuery, span: Span) -> tuple[ColumnTable, str | None]:
        after = decode_cursor(query.cursor, ReadingCursor) if query.cursor else None
        rows = await self._histories.readings(span, after, query.flags)
        page = rows[: query.limit]
        return reading_table(page), encode_cursor(reading_cursor(page[-1])) if len(rows) > len(page) else None

    async def _windows(self, query: HistoryQuery, span: Span) -> tuple[ColumnTable, str | None]:
        after = decode_cursor(query.cursor, WindowCursor) if query.cursor else None
        rows, registers = await self._histories.windows(query.interval, span, after)
        page = rows[: query.limit]
        table = window_table(page, registers, revised=query.interval is Interval.MINUTE)
        return table, encode_cursor(window_cursor(page[-1])) if len(rows) > len(page) else None

    async def _connectors(self, station_id: str, connector_id: int | None) -> list[Connector]:
        known = await self._store.connectors([station_id])
        if not known:
            raise NotFound(f"station {station_id} is not known: no reading of it was ever stored")
        if connector_id is None:
            return known
        asked_for = [connector for connector in known if connector.connector_id == connector_id]
        if not asked_for:
            ids = ", ".join(str(connector.connector_id) for connector in known)
            raise NotFound(f"station {station_id} has no connector {connector_id}; it has {ids}")
        return asked_for

    async def energy(self, station_id: str, start: datetime | None, end: datetime | None) -> Energy:
        """What the meters of the station's connectors rose by, and whose it is. Raises NotFound and BadQuery."""
        end = end or self._clock.now()
        start = start or end.replace(hour=0, minute=0, second=0, microsecond=0)
        if start >= end:
            raise BadQuery(f"from ({format_rfc3339(start)}) must be before to ({format_rfc3339(end)})")
        connectors = await self._connectors(station_id, None)
        start, sums = await self._histories.energy(connectors, start, end)
        pairs = [(connector.connector_key, connector.connector_id) for connector in connectors]
        return energy_of(station_id, start, end, pairs, sums)

    async def status_intervals(self, query: StatusQuery) -> tuple[StatusIntervalPage, str | None]:
        """A page of status intervals, without its `next`, and the next page's cursor. Raises NotFound and BadQuery."""
        start, end = _status_span(query.start, query.end, self._clock.now())
        span = Span(await self._connectors(query.station_id, query.connector_id), start, end, query.limit + 1)
        after = decode_cursor(query.cursor, StatusCursor) if query.cursor else None
        rows = await self._store.status_intervals(span, after)
        page = [_status_interval(row) for row in rows[: query.limit]]
        following = encode_cursor(status_cursor(rows[query.limit - 1])) if len(rows) > query.limit else None
        bounds = {"from": start, "to": end}
        whole = StatusIntervalPage(**bounds, station_id=query.station_id, intervals=page, next=None)
        return whole, following

    async def registers(self, station_ids: Sequence[str]) -> dict[tuple[str, int], int]:
        """The newest register of each connector of these stations that gave one, mWh, by station and connector."""
        rows = await self._store.newest_registers(station_ids)
        return {(row["station_id"], row["connector_id"]): row["energy_mwh"] for row in rows}

    async def uptime(self, station_id: str, start: datetime | None, end: datetime | None) -> Uptime:
        """How long each of the station's connectors had each status. Raises NotFound and BadQuery."""
        now = self._clock.now()
        start, end = (floor_to(one, _MS) for one in _status_span(start, min(end or now, now), now))
        rows = await self._store.status_times(await self._connectors(station_id, None), start, end)
        by_connector: dict[int, dict[int, int]] = {}
        for row in rows:
            times_ms = by_connector.setdefault(row["connector_id"], {})
            if row["status"] is not None:
                times_ms[row["status"]] = row["time_ms"]
        span_ms = (end - start) // _MS
        connectors = [uptime_of(connector_id, of_it, span_ms) for connector_id, of_it in by_connector.items()]
        return Uptime(**{"from": start, "to": end}, station_id=station_id, connectors=connectors)

    async def unclaimed(self, limit: int, cursor: str | None) -> tuple[list[UnclaimedStation], str | None]:
        """A page of stations that are registered nowhere, and the next page's cursor. Raises BadQuery."""
        after, now = decode_cursor(cursor, StationCursor) if cursor else None, self._clock.now()
        rows = await self._store.unclaimed(after, now - _DAY, now, limit + 1)
        stations = [
            UnclaimedStation(
                station_id=row["station_id"],
                connectors=row["connectors"],
                first_reading_at=row["first_ts"],
                last_reading_at=row["last_ts"],
                readings_last_day=row["readings"],
                last_quarantined_at=row["quarantined_at"],
            )
            for row in rows[:limit]
        ]
        return stations, encode_cursor(StationCursor(stations[-1].station_id)) if len(rows) > limit else None

    async def live_station(self, station_id: str) -> list[bytes]:
        """The live documents of the station's connectors, in their order. Raises NotFound."""
        keys = [_live_key(connector) for connector in await self._connectors(station_id, None)]
        documents = await self._live.get(LIVE_TOPIC, keys)
        return [documents[key] for key in keys if key in documents]

    async def visible(self, named: Sequence[str] | None, organisation: str | None) -> frozenset[str] | None:
        """The stations that are named and now the organisation's; None: all there are."""
        if organisation is not None:
            return await self._store.stations_of(organisation, named)
        return None if named is None else frozenset(named)

    async def live_fleet(self, named: Sequence[str] | None, organisation: str | None, limit: int) -> FleetSnapshot:
        """The live documents of those stations, or of all where none is named, and their sums. One that is not of the
        organisation is silent, as one that nobody knows."""
        seen = await self.visible(named, organisation)
        if seen is None:
            documents = await self._live.all(LIVE_TOPIC)
        else:
            keys = [_live_key(connector) for connector in await self._store.connectors(sorted(seen))]
            documents = await self._live.get(LIVE_TOPIC, keys)
        by_status: dict[str, int] = defaultdict(int)
        power_mw = 0  # in thousandths: the sum is exact in any order
        for key, document in documents.items():
            newest = _live_documents.decode(document)
            by_status[newest.status or "Unknown"] += 1
            if not key.endswith(_MAIN_METER_ENDING):  # it measures the others once more
                power_mw += round((newest.power_w or 0.0) * 1000)
        live_stations = {station_of(key) for key in documents}
        return FleetSnapshot(
            documents=[documents[key] for key in sorted(documents, key=_live_order)[:limit]],
            truncated=len(documents) > limit,
            silent=sorted(set(named or seen or ()) - live_stations),
            stations=len(live_stations),
            connectors=len(documents),
            by_status=dict(by_status),
            power_w=power_mw / 1000,
        )

    async def ledger(self) -> Ledger:
        """The outcome of every accepted item."""
        # Live counters first: the sources' rows in the snapshot make up for whatever the counters miss until then, so
        # that nothing is ever received before it was accepted.
        counters = await self._live.all(LEDGER_TOPIC)
        entries, sources = await self._store.ledger()
        return ledger_of(entries, sources, counters)

    async def quarantine(
        self, wanted: QuarantineFilter, limit: int, cursor: str | None
    ) -> tuple[list[QuarantinedItem], str | None]:
        """A page of refused items, newest first, and the next page's cursor. Raises BadQuery."""
        if wanted.start is not None and wanted.end is not None and wanted.start >= wanted.end:
            raise BadQuery(f"from ({format_rfc3339(wanted.start)}) must be before to ({format_rfc3339(wanted.end)})")
        after = decode_cursor(cursor, QuarantineCursor) if cursor else None
        rows = await self._store.quarantine(wanted, after, limit + 1)
        items = [_quarantined(row) for row in rows[:limit]]
        return items, encode_cursor(QuarantineCursor(items[-1].id)) if len(rows) > limit else None

    async def quarantined(self, item_id: int, only: StationFilter) -> QuarantinedItem:
        """One refused item of these stations. Raises NotFound."""
        row = await self._store.quarantined(item_id, only)
        if row is None:
            raise NotFound(f"there is no item {item_id} in quarantine; it may have been dropped since")
        return _quarantined(row)


def station_of(live_key: str) -> str:
    """The station of a live view's key."""
    return live_key.rpartition("/")[0]


def uptime_of(connector_id: int, times_ms: Mapping[int, int], span_ms: int) -> ConnectorUptime:
    """`times_ms`: by status; together at most the span. What it had for no time is left out."""
    down_ms = sum(time_ms for status, time_ms in times_ms.items() if status in _DOWN)
    up_ms = sum(times_ms.values()) - down_ms
    known_ms = up_ms + down_ms
    share = (Decimal(up_ms * 100) / known_ms).quantize(_PCT, ROUND_DOWN) if known_ms else None
    return ConnectorUptime(
        connector_id=connector_id,
        time_ms={STATUS_INTERVAL_LABELS[status]: time_ms for status, time_ms in sorted(times_ms.items()) if time_ms},
        up_ms=up_ms,
        down_ms=down_ms,
        unknown_ms=span_ms - known_ms,
        uptime_pct=share,
    )


def _status_span(start: datetime | None, end: datetime | None, now: datetime) -> tuple[datetime, datetime]:
    """Raises BadQuery."""
    end = end or now
    start = start or end - _DEFAULT_STATUS_SPAN
    if start >= end:
        raise BadQuery(f"from ({format_rfc3339(start)}) must be before to ({format_rfc3339(end)})")
    if end - start > STATUS_SPAN_MAX:
        raise BadQuery(f"from {format_rfc3339(start)} to {format_rfc3339(end)} is longer than "
                       f"{STATUS_SPAN_MAX.days} days: ask for less at once")  # fmt: skip
    return start, end


def _status_interval(row: Mapping[str, Any]) -> StatusInterval:
    return StatusInterval(
        connector_id=row["connector_id"],
        since=row["since"],
        until=row["until"],
        status=STATUS_INTERVAL_LABELS[row["status"]],
        error_code=row["error_code"],
        vendor_error_code=row["vendor_error_code"],
    )


def _live_key(connector: Connector) -> str:
    return f"{connector.station_id}/{connector.connector_id}"


def _live_order(key: str) -> tuple[str, int, str]:
    """By station, then by connector number: of two numbers the shorter one is the smaller."""
    station_id, _, connector_id = key.rpartition("/")
    return station_id, len(connector_id), connector_id


def _quarantined(row: Mapping[str, Any]) -> QuarantinedItem:
    raw: bytes = row["raw"]
    try:
        text, encoding = raw.decode(), "utf-8"
    except UnicodeDecodeError:
        text, encoding = b64encode(raw).decode(), "base64"
    return QuarantinedItem.model_validate({**row, "raw": text, "raw_encoding": encoding})
