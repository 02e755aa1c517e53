"""The limits of one gateway: what of a request's items its token may send. Each gateway counts by itself.

Readings are counted when they are decoded, whatever becomes of them. A request is decoded while its token owes none;
what it has more than the bound is owed. New stations, new weeks and refused items are counted when the request is
taken: one that is refused, for whatever reason, costs the request and its readings.

New stations and weeks have to fit as a whole, because they cost others. Of refused items, each of which costs a row of
600 B in the quarantine, a token may owe some: a request of refused items alone is taken while one more is within the
bound, and one with readings among them until as many again are owed, so that a faulty station does not hold up those
that share its requests.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from ingest.admission import Admitted
from ingest.limits.declared import NEW_STATIONS, NEW_WEEKS, QUARANTINE, READINGS
from ingest.limits.novelty import Novelties, Novelty
from kit.web.limits.buckets import Buckets
from kit.web.limits.refusals import Limit, Refusals

if TYPE_CHECKING:
    from kit.auth.token_store import Principal

_CHECKED_S: Final = -math.inf  # whatever is left of a bound: it was checked before


@dataclass(frozen=True, slots=True)
class TelemetryBounds:
    """Of one token. 0: any number."""

    quarantined_per_hour: int = 0
    station_readings_per_minute: int = 0  # for each station that it names
    fleet_readings_per_minute: int = 0  # where it names none
    new_stations_per_hour: int = 0
    new_weeks_per_hour: int = 0


class RequestCosts(NamedTuple):
    """What a request costs its token once it is taken, beside the request and its readings."""

    key: int  # of the token
    new_stations_s: float
    new_weeks_s: float
    refused_s: float
    novelties: Novelties | None


class TelemetryLimits:
    """Not thread-safe."""

    def __init__(
        self, bounds: Callable[[], TelemetryBounds], monotonic_s: Callable[[], float], refusals: Refusals
    ) -> None:
        """`bounds`: as they are now."""
        self._bounds = bounds
        self._refusals = refusals
        self._readings: Buckets[int] = Buckets(READINGS.window_s, monotonic_s)
        self._new_stations: Buckets[int] = Buckets(NEW_STATIONS.window_s, monotonic_s)
        self._new_weeks: Buckets[int] = Buckets(NEW_WEEKS.window_s, monotonic_s)
        self._refused: Buckets[int] = Buckets(QUARANTINE.window_s, monotonic_s)
        self._novelty = Novelty()

    def check(self, principal: "Principal") -> None:
        """Raise Problem 429 where the token owes readings: a long body need not be decoded."""
        bound = self._readings_of(principal)
        if bound:
            wait_s = self._readings.wait_s(principal.token_id.int, READINGS.window_s / bound)
            if wait_s > 0:
                raise self._refusals.refuse(READINGS, bound, wait_s, principal.name)

    def spend(self, principal: "Principal", items: int) -> None:
        """Count the items of a request that was decoded. Raises Problem 429."""
        bound = self._readings_of(principal)
        if bound:
            unit_s = READINGS.window_s / bound
            wait_s = self._readings.spend(principal.token_id.int, items * unit_s, unit_s)
            if wait_s > 0:
                raise self._refusals.refuse(READINGS, bound, wait_s, principal.name)

    def judge(self, principal: "Principal", admitted: Admitted) -> RequestCosts | None:
        """What the request costs, to be passed to `take` once it is taken; None: nothing. Nothing else may be judged
        in between. Raises Problem 429."""
        refused = admitted.refused
        novelties = self._novelty.find(admitted, any_station=principal.stations is None)
        if novelties is None and not refused:
            return None
        bounds, key = self._bounds(), principal.token_id.int
        stations_s = weeks_s = 0.0
        if novelties is not None:
            stations, weeks = len(novelties.stations), len(novelties.weeks)
            stations_s = self._whole(
                self._new_stations, NEW_STATIONS, bounds.new_stations_per_hour, stations, principal
            )
            weeks_s = self._whole(self._new_weeks, NEW_WEEKS, bounds.new_weeks_per_hour, weeks, principal)
        bound = bounds.quarantined_per_hour
        if refused and bound:
            unit_s = QUARANTINE.window_s / bound
            wait_s = self._refused.wait_s(key, unit_s - (QUARANTINE.window_s if admitted.accepted else 0.0))
            if wait_s > 0:
                mend = f"mend them: {refused[0].detail}"
                raise self._refusals.refuse(QUARANTINE, bound, wait_s, principal.name, mend)
        return RequestCosts(key, stations_s, weeks_s, _cost_s(QUARANTINE, bound, len(refused)), novelties)

    def take(self, costs: RequestCosts) -> None:
        """The request was taken."""
        key = costs.key
        for buckets, cost_s in (
            (self._new_stations, costs.new_stations_s),
            (self._new_weeks, costs.new_weeks_s),
            (self._refused, costs.refused_s),
        ):
            if cost_s:
                buckets.spend(key, cost_s, _CHECKED_S)
        if costs.novelties is not None:
            self._novelty.know(costs.novelties)

    def _whole(self, buckets: Buckets[int], limit: Limit, bound: int, count: int, principal: "Principal") -> float:
        """What so many cost, all of which are there. Raises Problem 429."""
        cost_s = _cost_s(limit, bound, count)
        wait_s = buckets.wait_s(principal.token_id.int, cost_s) if cost_s else 0.0
        if wait_s > 0:
            # More than the bound: no waiting helps.
            mend = f"this request has {count}; {limit.mend}" if count > bound else ""
            raise self._refusals.refuse(limit, bound, min(wait_s, limit.window_s), principal.name, mend)
        return cost_s

    def _readings_of(self, principal: "Principal") -> int:
        bounds, stations = self._bounds(), principal.stations
        if stations is None:
            return bounds.fleet_readings_per_minute
        return bounds.station_readings_per_minute * (len(stations) or 1)


def _cost_s(limit: Limit, bound: int, count: int) -> float:
    return count * limit.window_s / bound if bound else 0.0
