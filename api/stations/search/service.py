"""The search: from what is asked to one statement, and from its rows to a page. No HTTP and no SQL here."""

import math
from collections.abc import Mapping, Sequence
from datetime import timedelta
from decimal import Decimal
from typing import Any, Final

from api.stations.registry.models import from_udeg, to_udeg
from api.stations.registry.store import Change, stations
from api.stations.search.models import RADIUS_M_DEFAULT, Box, EnergyPrice, FoundStation, Search, SearchPage
from api.stations.search.projection import extend_hours, plug_mask, project, unprojected
from api.stations.search.store import EARTH_RADIUS_M, WHOLE_EARTH_M, Question, SearchCursor, SearchStore
from api.stations.search.words import WORDS_MAX, folded
from kit.auth.station_filter import StationFilter
from kit.clock import Clock, from_ms
from kit.database.postgres import Database
from kit.web.errors import BadQuery
from kit.web.paging import decode_cursor, encode_cursor

ROWS_AT_ONCE: Final = 500  # of a job's transaction
CURSOR_AGE_MAX: Final = timedelta(hours=1)  # a price and opening hours of before that are of no use
_MICRO: Final = Decimal("0.000001")
_ALL: Final = 180_000_000
_POLE: Final = 89.8  # beyond it a circle has every longitude


class SearchService:
    """The use cases, one method each."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._store = SearchStore(database)
        self._clock = clock

    async def search(self, asked: Search, only: StationFilter) -> tuple[SearchPage, str | None]:
        """A page of these stations, and the next page's cursor. Raises BadQuery."""
        after = decode_cursor(asked.cursor, SearchCursor) if asked.cursor else None
        live_ms = self._clock.now_ms()
        at_ms = live_ms if after is None else after.at_ms
        if not live_ms - CURSOR_AGE_MAX / timedelta(milliseconds=1) <= at_ms <= live_ms + 60_000:
            raise BadQuery("cursor is of a search that is over: leave it out to search again")
        words = list(dict.fromkeys(folded(asked.text)))
        if asked.text.strip() and not words:
            raise BadQuery(
                "text has no word: write letters or digits, as of a name, an address or a city, or leave it out"
            )
        if len(words) > WORDS_MAX:
            raise BadQuery(f"text has more than {WORDS_MAX} words: name fewer")
        latitude, longitude, radius_m, boxes = region_of(asked)
        question = Question(
            latitude=latitude,
            longitude=longitude,
            radius_m=radius_m,
            boxes=boxes,
            plugs=plug_mask(asked.plug),
            power_w_min=asked.power_w_min or 0,
            free=asked.free,
            open=asked.open,
            words=words,
            sort=asked.sort,
            rows_max=asked.limit + 1,
            at=from_ms(at_ms),
            live=from_ms(live_ms),
            after=after,
            only=only,
        )
        rows = await self._store.found(question)
        page = rows[: asked.limit]
        key = _cursor(page[-1], at_ms) if len(rows) > asked.limit else None
        return SearchPage(at=from_ms(at_ms), stations=[_found(row) for row in page], next=None), key

    async def extend_hours(self) -> None:
        """Compute the opening hours of all stations further."""
        more = True
        while more:
            async with self._database.transaction() as connection:
                more = await extend_hours(connection, from_ms(self._clock.now_ms()), ROWS_AT_ONCE) == ROWS_AT_ONCE

    async def project_missing(self) -> None:
        """Make stations findable that were registered before there was a search."""
        more = True
        while more:
            async with self._database.transaction() as connection:
                known = await stations(connection, await unprojected(connection, ROWS_AT_ONCE))
                changes = [Change(one, one, one.revision, one.changed_at, "") for one in known.values()]
                await project(connection, changes)
                more = len(changes) == ROWS_AT_ONCE


def region_of(asked: Search) -> tuple[float, float, int, Sequence[Box]]:
    """The place that distances are from, degrees; the greatest distance, m; and the boxes to look in."""
    if asked.box is not None:
        edges = asked.box
        box = Box(*(to_udeg(edge) or 0 for edge in (edges.south, edges.west, edges.north, edges.east)))
        latitude, longitude = _middle(box)
        radius_m = asked.radius_m or WHOLE_EARTH_M
        if asked.latitude is not None and asked.longitude is not None:
            latitude, longitude = float(asked.latitude), float(asked.longitude)
        return latitude, longitude, radius_m, _split(box)
    if asked.latitude is None or asked.longitude is None:
        raise AssertionError("the model asks for a place or a box")
    latitude, longitude = float(asked.latitude), float(asked.longitude)
    radius_m = asked.radius_m or RADIUS_M_DEFAULT
    return latitude, longitude, radius_m, _split(_around(latitude, longitude, radius_m))


def _around(latitude: float, longitude: float, radius_m: int) -> Box:
    """The box of a circle, a little larger."""
    radius = radius_m / EARTH_RADIUS_M + 1e-6
    south, north = latitude - math.degrees(radius), latitude + math.degrees(radius)
    if south < -_POLE or north > _POLE:
        return Box(_udeg(max(south, -90)), -_ALL, _udeg(min(north, 90)), _ALL)
    wide = math.degrees(math.asin(min(1.0, math.sin(radius) / math.cos(math.radians(latitude))))) + 1e-6
    if wide >= 180:
        return Box(_udeg(south), -_ALL, _udeg(north), _ALL)
    west, east = longitude - wide, longitude + wide
    return Box(
        _udeg(south),
        _udeg(west + 360 if west < -180 else west),
        _udeg(north),
        _udeg(east - 360 if east > 180 else east),
    )


def _split(box: Box) -> Sequence[Box]:
    """Two where it crosses 180 degrees."""
    if box.west_udeg <= box.east_udeg:
        return [box]
    return [
        Box(box.south_udeg, box.west_udeg, box.north_udeg, _ALL),
        Box(box.south_udeg, -_ALL, box.north_udeg, box.east_udeg),
    ]


def _middle(box: Box) -> tuple[float, float]:
    east = box.east_udeg if box.west_udeg <= box.east_udeg else box.east_udeg + 2 * _ALL
    longitude = (box.west_udeg + east) // 2
    return (box.south_udeg + box.north_udeg) // 2 / 1e6, (longitude - 2 * _ALL if longitude > _ALL else longitude) / 1e6


def _udeg(degrees: float) -> int:
    return round(degrees * 1e6)


def _cursor(row: Mapping[str, Any], at_ms: int) -> str:
    return encode_cursor(SearchCursor(at_ms, row["sort_price"], row["distance_dm"], row["station_id"]))


def _found(row: Mapping[str, Any]) -> FoundStation:
    price = None
    if row["micros"] is not None:
        price = EnergyPrice(amount=row["micros"] * _MICRO, currency=row["currency"])
    same = ("station_id", "name", "address", "city", "open", "connectors", "free", "power_w_max")
    return FoundStation(
        **{name: row[name] for name in same},
        latitude=from_udeg(row["latitude_udeg"]) or Decimal(0),
        longitude=from_udeg(row["longitude_udeg"]) or Decimal(0),
        distance_m=row["distance_dm"] / 10,
        price_10_kwh=price,
    )
