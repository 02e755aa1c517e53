"""The SQL of the search: one statement a page.

A station's row is found by the GiST index on its place. For the nearest, circles around the place double until one has
as many as the page; all within it are then sorted. So the work is that of the stations near the place, however many
there are, and however few of them fit.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import asyncpg

from api.stations.search.models import Box, Sort
from api.stations.search.projection import on_sphere
from api.stations.search.words import pattern_of
from api.stations.status.codes import AVAILABLE, BUSY
from kit.auth.station_filter import StationFilter, visible
from kit.database.postgres import Database
from kit.web.paging import Cursor, Int64

EARTH_RADIUS_M: Final = 6_371_008.8
WHOLE_EARTH_M: Final = 20_040_000  # no two places are farther apart
NO_PRICE: Final = 2**62  # sorts behind all prices
CIRCLE_DM_MIN: Final = 2_500
_EDGE_DEG: Final = 1e-6  # by which a box is wider, so that no rounding loses its edge
_BUSY: Final = ", ".join(map(str, BUSY))

_DISTANCE: Final = f"""
CROSS JOIN LATERAL (
    SELECT round({20 * EARTH_RADIUS_M} * asin(least(1, 0.5::float8 * sqrt(
               (p.x - {{x}}) ^ 2 + (p.y - {{y}}) ^ 2 + (p.z - {{z}}) ^ 2
           ))))::bigint AS distance_dm
) AS d
"""
_CONNECTORS: Final = f"""
CROSS JOIN LATERAL (
    SELECT count(*) AS connectors, max(m.rated_power_w) AS power_w_max, count(*) FILTER (WHERE m.free) AS free
    FROM (
        SELECT c.rated_power_w,
               c.status = {AVAILABLE}
               AND (c.reserved_until IS NULL OR c.reserved_until <= {{live}} OR NOT EXISTS (
                   SELECT FROM stations.reservation AS r
                   WHERE r.station_id = c.station_id AND r.connector_id = c.connector_id AND r.open
                     AND r.starts_at <= {{live}} AND r.ends_at > {{live}}
               ))
               AND (NOT c.shared OR NOT EXISTS (
                   SELECT FROM stations.connector_state AS o
                   WHERE o.station_id = c.station_id AND o.registered AND o.evse = c.evse
                     AND o.connector_id <> c.connector_id AND o.status IN ({_BUSY})
               )) AS free
        FROM stations.connector_state AS c
        WHERE c.station_id = p.station_id AND c.registered AND c.connector_id > 0{{fits}}
    ) AS m
) AS c
"""  # noqa: S608  # numbers of ours
_PRICE: Final = """
LEFT JOIN LATERAL (
    SELECT of_target.micros, of_target.currency
    FROM (
        (SELECT 1 AS rank, t.* FROM stations.price AS t
         WHERE t.target_kind = 'station' AND t.target = p.station_id AND t.starts_at <= {now}
         ORDER BY t.starts_at DESC LIMIT 1)
        UNION ALL
        (SELECT 2, t.* FROM stations.price AS t
         WHERE t.target_kind = 'group' AND t.target = p."group" AND t.starts_at <= {now}
         ORDER BY t.starts_at DESC LIMIT 1)
        UNION ALL
        (SELECT 3, t.* FROM stations.price AS t
         WHERE t.target_kind = 'default' AND t.target = '' AND t.starts_at <= {now}
         ORDER BY t.starts_at DESC LIMIT 1)
    ) AS of_target
    WHERE of_target.ends_at > {now}
    ORDER BY of_target.rank LIMIT 1
) AS price ON true
"""
# The array is in order, so the first that fits is the smallest; the result is the same with any that fits.
_CIRCLE: Final = """
WITH circle AS MATERIALIZED (
    SELECT ring.dm FROM unnest({circles}) AS ring (dm)
    WHERE ring.dm = {radius_dm} OR {limit} <= (
        SELECT count(*) FROM (
            SELECT FROM {places}
            WHERE p.location <@ stations.around({lat}, {lon}, ring.dm / 10::float8) AND d.distance_dm <= ring.dm
              AND {fits} AND {where}
            LIMIT {limit}
        ) AS fitting
    )
    LIMIT 1
)"""  # our own names and placeholders
# By distance the price is asked of the page only. Connectors are asked station by station in the page's order, until it
# is full: the planner knows that what it sorted first is in order.
_PAGE: Final = """{steps}
SELECT found.*, s.name, s.address, s.city{outer_price}
FROM (
    SELECT p.*, c.connectors, c.power_w_max, c.free
    FROM (
        SELECT p.station_id, p.latitude_udeg, p.longitude_udeg, p."group", d.distance_dm, {sort_price} AS sort_price,
               {open} AS open{inner_price}
        FROM {places}
        WHERE {where}
        ORDER BY sort_price, d.distance_dm, p.station_id
    ) AS p {connectors}
    WHERE {fits}
    ORDER BY p.sort_price, p.distance_dm, p.station_id LIMIT {limit}
) AS found
JOIN stations.station AS s ON s.station_id = found.station_id
{priced}
ORDER BY found.sort_price, found.distance_dm, found.station_id"""  # our own names and placeholders
_OPEN: Final = "(p.open_hours IS NULL OR p.open_hours @> {now})"


class SearchCursor(Cursor, frozen=True, tag="se"):
    """The last station seen, and the moment of the search's first page."""

    at_ms: Int64
    price: Int64  # 0 where the order is by distance
    distance_dm: Int64
    station_id: str


@dataclass(frozen=True, slots=True)
class Question:
    """A search. `radius_m` is around the place; boxes are two where the region crosses 180 degrees."""

    latitude: float
    longitude: float
    radius_m: int
    boxes: Sequence[Box]
    plugs: int  # bit set; 0: any
    power_w_min: int
    free: bool
    open: bool
    words: Sequence[str]
    sort: Sort
    rows_max: int
    at: datetime  # of opening hours and prices
    live: datetime  # of reservations
    after: SearchCursor | None
    only: StationFilter


class _Arguments:
    """Arguments of a statement, each with its placeholder."""

    def __init__(self) -> None:
        self.values: list[Any] = []

    def add(self, value: Any, kind: str) -> str:
        """The placeholder of a value of that type."""
        self.values.append(value)
        return f"${len(self.values)}::{kind}"

    def add_filter(self, column: str, only: StationFilter) -> str:
        """The condition that the column's station passes it."""
        first = len(self.values) + 1
        self.values += only.values
        return visible(column, first)


class SearchStore:
    """Raises Unavailable where the database does not answer."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def found(self, question: Question) -> list[asyncpg.Record]:
        """Up to rows_max stations, in the question's order."""
        statement, arguments = statement_of(question)
        return await self._database.fetch(statement, *arguments)


def statement_of(question: Question) -> tuple[str, list[Any]]:
    """The statement and its arguments. Its text depends only on which conditions there are."""
    arguments = _Arguments()
    add = arguments.add
    x, y, z = (add(value, "float8") for value in on_sphere(question.latitude, question.longitude))
    now, live = add(question.at, "timestamptz"), add(question.live, "timestamptz")
    limit, radius_dm = add(question.rows_max, "int"), add(question.radius_m * 10, "bigint")
    by_price = question.sort == "price"
    sort_price = f"coalesce(price.micros, {NO_PRICE})" if by_price else "0::bigint"
    boxes = [f"p.location <@ {add(_box(box), 'box')}" for box in question.boxes]
    conditions = [f"({' OR '.join(boxes)})", f"d.distance_dm <= {radius_dm}", *_conditions(question, add, now)]
    # Who asks for a station by its name finds it, though none of its connectors is registered yet.
    by_name = question.words and not (question.plugs or question.power_w_min)
    fits = "c.free > 0" if question.free else "true" if by_name else "c.connectors > 0"
    if question.after is not None:
        after = question.after
        key = (add(after.price, "bigint"), add(after.distance_dm, "bigint"), add(after.station_id, "text"))
        conditions.append(f'({sort_price}, d.distance_dm, p.station_id) > ({", ".join(key)} COLLATE "C")')
    if question.only.is_limited:
        conditions.append(arguments.add_filter("p.station_id", question.only))
    distance, priced = _DISTANCE.format(x=x, y=y, z=z), _PRICE.format(now=now)
    connectors = _CONNECTORS.format(live=live, fits=_fitting(question, add))
    places = f"stations.place AS p {distance}"
    steps = ""
    if not by_price:
        lat, lon = add(question.latitude, "float8"), add(question.longitude, "float8")
        parts = {"lat": lat, "lon": lon, "limit": limit, "radius_dm": radius_dm, "fits": fits}
        parts["places"] = f"{places} {connectors}"
        steps = _CIRCLE.format(**parts, circles=add(_circles(question), "bigint[]"), where=" AND ".join(conditions))
        places = f"circle CROSS JOIN {places}"
        conditions.append(f"p.location <@ stations.around({lat}, {lon}, circle.dm / 10::float8)")
        conditions.append("d.distance_dm <= circle.dm")
    statement = _PAGE.format(
        steps=steps,
        sort_price=sort_price,
        open=_OPEN.format(now=now),
        places=f"{places} {priced}" if by_price else places,
        priced="" if by_price else priced.replace("p.", "found."),
        inner_price=", price.micros, price.currency" if by_price else "",
        outer_price="" if by_price else ", price.micros, price.currency",
        where=" AND ".join(conditions),
        connectors=connectors,
        fits=fits,
        limit=limit,
    )
    return statement, arguments.values


def _conditions(question: Question, add: Any, now: str) -> list[str]:
    found = []
    if question.plugs:
        found.append(f"p.plugs & {add(question.plugs, 'bigint')} <> 0")
    if question.power_w_min:
        found.append(f"p.power_w_max >= {add(question.power_w_min, 'bigint')}")
    if question.open:
        found.append(_OPEN.format(now=now))
    found += [f"p.words LIKE {add(pattern_of(word), 'text')}" for word in question.words]
    if any(_bounded(box) for box in question.boxes):
        inside = [_inside(box, add) for box in question.boxes]
        found.append(f"({' OR '.join(inside)})")
    return found


def _fitting(question: Question, add: Any) -> str:
    fits = ""
    if question.plugs:
        fits += f" AND (1::bigint << c.plug) & {add(question.plugs, 'bigint')} <> 0"
    if question.power_w_min:
        fits += f" AND c.rated_power_w >= {add(question.power_w_min, 'bigint')}"
    return fits


def _inside(box: Box, add: Any) -> str:
    south, north = add(box.south_udeg, "int"), add(box.north_udeg, "int")
    west, east = add(box.west_udeg, "int"), add(box.east_udeg, "int")
    return f"(p.latitude_udeg BETWEEN {south} AND {north} AND p.longitude_udeg BETWEEN {west} AND {east})"


def _bounded(box: Box) -> bool:
    return (box.south_udeg, box.west_udeg, box.north_udeg, box.east_udeg) != WORLD


WORLD: Final = (-90_000_000, -180_000_000, 90_000_000, 180_000_000)


def _box(box: Box) -> asyncpg.Box:
    south, west, north, east = (edge / 1e6 for edge in (box.south_udeg, box.west_udeg, box.north_udeg, box.east_udeg))
    return asyncpg.Box(
        asyncpg.Point(east + _EDGE_DEG, north + _EDGE_DEG), asyncpg.Point(west - _EDGE_DEG, south - _EDGE_DEG)
    )


def _circles(question: Question) -> list[int]:
    """Radii in decimetres, each the double of the one before, beyond what was seen already; the last is the whole."""
    seen_dm, radius_dm = 0 if question.after is None else question.after.distance_dm, question.radius_m * 10
    found, circle_dm = [], CIRCLE_DM_MIN
    while circle_dm < radius_dm:
        if circle_dm > seen_dm:
            found.append(circle_dm)
        circle_dm *= 2
    return [*found, radius_dm]
