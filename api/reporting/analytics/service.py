"""Analytics: a page of a metric's figures. No HTTP and no SQL here."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from zoneinfo import ZoneInfo

import msgspec

from api.reporting.analytics.buckets import Bucket, Width, buckets_of, segments_of
from api.reporting.analytics.cache import Cache
from api.reporting.analytics.metrics import METRICS, Metric
from api.reporting.analytics.models import Analytics, FactorsUsed, Figure, Group
from api.reporting.analytics.store import AnalyticsStore, SeriesCursor, SeriesWanted
from api.reporting.rollups.facets import Facet
from kit.auth.station_filter import EVERY_STATION, StationFilter
from kit.clock import Clock
from kit.spelling import did_you_mean
from kit.web.errors import Forbidden, NotFound
from kit.web.paging import decode_cursor, encode_cursor, from_micros, to_micros

TOTAL: Final = "total"
NAMED_MAX: Final = 3  # versions of factors in the text of a source


@dataclass(frozen=True, slots=True)
class AnalyticsQuery:
    """What is asked for. Without `grouping` all stations together."""

    metric: str
    start: datetime
    end: datetime
    by: Width
    time_zone: str
    grouping: Group | None
    names: tuple[str, ...]  # of groups; empty: all
    limit: int
    cursor: str | None
    only: StationFilter = EVERY_STATION


class _Kept(msgspec.Struct, frozen=True, array_like=True):
    """A page as it is kept."""

    figures: list[tuple[str, int, str, tuple[int, ...]]]  # group, bucket, currency, sums
    cursor: str | None


_decode_kept = msgspec.msgpack.Decoder(_Kept).decode


class AnalyticsService:
    """The use cases, one method each."""

    def __init__(self, store: AnalyticsStore, cache: Cache, clock: Clock) -> None:
        self._store = store
        self._cache = cache
        self._clock = clock

    async def figures(self, query: AnalyticsQuery) -> tuple[Analytics, str | None]:
        """A page, without its `next`, and the next page's cursor. Raises NotFound, BadQuery, Forbidden."""
        metric, wanted = metric_of(query.metric), series_wanted(query)
        buckets = buckets_of(query.start, query.end, query.by, ZoneInfo(query.time_zone))
        start, end, now = buckets[0].start, buckets[-1].end, self._clock.now()
        after = decode_cursor(query.cursor, SeriesCursor) if query.cursor else None
        state = await self._store.state(metric, start, end, now, query.only)
        key = _key_of(query, state.version)
        factors = await self._store.factors_used(start, end) if metric.facet is Facet.CO2 else None
        keeps = not query.only.is_limited  # no mark of a change says that a station has moved
        kept = await self._cache.get(key) if keeps else None
        page = _decode_kept(kept) if kept is not None else await self._page(metric, query, wanted, buckets, after)
        if kept is None and keeps:
            await self._cache.put(key, msgspec.msgpack.encode(page))
        description = description_of(metric)
        if factors:
            description["source"] += f" ({_named(factors)})"
        return Analytics(
            **description,
            by=query.by,
            grouping=query.grouping,
            time_zone=query.time_zone,
            start=start,
            end=end,
            as_of=min(state.oldest or now, now),
            pending_hours=state.pending,
            factors=factors,
            figures=_figures(metric, buckets, page),
            next=None,
        ), page.cursor

    async def _page(
        self,
        metric: Metric,
        query: AnalyticsQuery,
        wanted: SeriesWanted,
        buckets: Sequence[Bucket],
        after: SeriesCursor | None,
    ) -> _Kept:
        """Whole series, as many as fit; or, of more buckets than fit, a part of one."""
        count = max(1, query.limit // len(buckets))
        first = None if after is None else after.series_key
        series = await self._store.series(wanted, first, count + 1)
        chosen, places = series[:count], range(len(buckets))
        following = SeriesCursor(series[count].series_key, to_micros(buckets[0].start)) if series[count:] else None
        if len(buckets) > query.limit and chosen:
            begins = from_micros(after.start_us) if after is not None else buckets[0].start
            skipped = sum(bucket.start < begins for bucket in buckets)
            places = range(skipped, min(skipped + query.limit, len(buckets)))
            if places.stop < len(buckets):
                following = SeriesCursor(chosen[0].series_key, to_micros(buckets[places.stop].start))
        segments = segments_of(buckets, places)
        found = await self._store.sums(metric, chosen, segments) if chosen and segments else []
        group_of = {one.series_key: one.name if query.grouping else "" for one in chosen}
        figures = sorted((group_of[one.series_key], one.bucket, one.currency, one.sums) for one in found)
        return _Kept(figures, None if following is None else encode_cursor(following))


def series_wanted(query: AnalyticsQuery) -> SeriesWanted:
    """The series of which the figures are. Raises Forbidden where they are sums over stations of others."""
    only, names = query.only, list(query.names) or None
    if not only.is_limited or query.grouping == "station":
        return SeriesWanted(query.grouping or TOTAL, names, only)
    if only.organisation is None or only.stations is not None or query.grouping not in (None, "organisation"):
        by = f"by {query.grouping}" if query.grouping else "in all"
        raise Forbidden(f"figures {by} are of stations that your token is not for, too: ask for group=station")
    own = [only.organisation]
    return SeriesWanted("organisation", own if names is None or only.organisation in names else [], EVERY_STATION)


def metric_of(name: str) -> Metric:
    """Raises NotFound."""
    metric = METRICS.get(name)
    if metric is None:
        raise NotFound(f"there is no metric {name}{did_you_mean(name, METRICS)}: GET /api/v1/analytics lists them")
    return metric


def description_of(metric: Metric) -> dict[str, str]:
    """Its description, as every answer has it."""
    return {
        "metric": metric.name,
        "unit": metric.unit,
        "definition": metric.definition,
        "source": metric.source,
        "grouped_by": metric.grouped_by,
    }


def _named(factors: Sequence[FactorsUsed]) -> str:
    """The newest few: `factors` of the answer has all of them."""
    newest = factors[: -NAMED_MAX - 1 : -1]
    named = [f"version {one.version}: {one.source}; fallback: {one.fallback_name}" for one in newest]
    more = len(factors) - len(newest)
    return "; ".join([*named, f"and {more} older versions"] if more else named)


def _key_of(query: AnalyticsQuery, version: str) -> str:
    return hashlib.sha256(msgspec.msgpack.encode((query, version))).hexdigest()


def _figures(metric: Metric, buckets: Sequence[Bucket], page: _Kept) -> list[Figure]:
    names = metric.sum_names
    figures = []
    for group, bucket, currency, sums in page.figures:
        named = dict(zip(names, sums, strict=True))
        start, end = buckets[bucket]
        figures.append(
            Figure(
                group=group or None,
                start=start,
                end=end,
                currency=currency or None,
                value=metric.value(named),
                sums=named,
            )
        )
    return figures
