"""The limits of one gateway: what of a request's items its token may send. Each gateway counts by itself.

Readings are counted when they are decoded, whatever becomes of them. A request is decoded while its token owes none;
what it has more than the bound is owed. New stations and weeks have to fit as a whole, before anything of the request
is taken: they cost others.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ingest.admission import Admitted
from ingest.limits.declared import NEW_STATIONS, NEW_WEEKS, READINGS
from ingest.limits.novelty import Novelties, Novelty
from ingest.limits.quarantine import QuarantineBudgets
from kit.web.limits.buckets import Buckets
from kit.web.limits.refusals import Limit, Refusals

if TYPE_CHECKING:
    from kit.auth.token_store import Principal


@dataclass(frozen=True, slots=True)
class TelemetryBounds:
    """Of one token. 0: any number."""

    quarantined_per_hour: int = 0
    station_readings_per_minute: int = 0  # for each station that it names
    fleet_readings_per_minute: int = 0  # where it names none
    new_stations_per_hour: int = 0
    new_weeks_per_hour: int = 0


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
        self._novelty = Novelty()
        self._quarantine = QuarantineBudgets(lambda: bounds().quarantined_per_hour, monotonic_s, refusals)

    def check(self, principal: "Principal") -> None:
        """Raise Problem 429 where the token owes readings: a long body need not be decoded."""
        bound = self._readings_of(principal)
        if bound:
            wait_s = self._readings.wait_s(principal.token_id.int, READINGS.window_s / bound)
            if wait_s > 0:
                raise self._refusals.refuse(READINGS, bound, wait_s, principal.name)

    def spend(self, principal: "Principal", items: int) -> None:
        """Count the items of a request. Raises Problem 429."""
        bound = self._readings_of(principal)
        if bound:
            unit_s = READINGS.window_s / bound
            wait_s = self._readings.spend(principal.token_id.int, items * unit_s, unit_s)
            if wait_s > 0:
                raise self._refusals.refuse(READINGS, bound, wait_s, principal.name)

    def judge(self, principal: "Principal", admitted: Admitted) -> None:
        """Take what is new and what is refused in a request, if both are within their bounds. Raises Problem 429; then
        nothing is taken."""
        novelties = self._novelty.find(admitted, any_station=principal.stations is None)
        if novelties is not None:
            self._check_novelties(principal, novelties)
        refused = admitted.refused
        if refused:
            self._quarantine.spend(str(principal.token_id), len(refused), admitted.accepted, refused[0].detail)
        if novelties is not None:
            self._novelty.know(novelties)

    def _check_novelties(self, principal: "Principal", found: Novelties) -> None:
        bounds, key = self._bounds(), principal.token_id.int
        stations_s = self._cost_s(NEW_STATIONS, bounds.new_stations_per_hour, len(found.stations))
        weeks_s = self._cost_s(NEW_WEEKS, bounds.new_weeks_per_hour, len(found.weeks))
        wait_s = self._new_stations.wait_s(key, stations_s)
        if wait_s > 0:
            raise self._beyond(NEW_STATIONS, bounds.new_stations_per_hour, len(found.stations), wait_s, principal)
        wait_s = self._new_weeks.wait_s(key, weeks_s)
        if wait_s > 0:
            raise self._beyond(NEW_WEEKS, bounds.new_weeks_per_hour, len(found.weeks), wait_s, principal)
        self._new_stations.spend(key, stations_s, 0.0)
        self._new_weeks.spend(key, weeks_s, 0.0)

    def _beyond(self, limit: Limit, bound: int, count: int, wait_s: float, principal: "Principal") -> Exception:
        too_many = count > bound  # no waiting helps
        mend = f"this request has {count}; {limit.mend}" if too_many else ""
        return self._refusals.refuse(limit, bound, min(wait_s, limit.window_s), principal.name, mend)

    @staticmethod
    def _cost_s(limit: Limit, bound: int, count: int) -> float:
        return count * limit.window_s / bound if bound else 0.0

    def _readings_of(self, principal: "Principal") -> int:
        bounds, stations = self._bounds(), principal.stations
        if stations is None:
            return bounds.fleet_readings_per_minute
        return bounds.station_readings_per_minute * (len(stations) or 1)
