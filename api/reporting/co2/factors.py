"""Which factor an hour's energy is multiplied by. Pure.

A version is a whole table, for the hours of some years (UTC). Of several for the same year the newest is in force.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

YEAR_MIN: Final = 2_000
YEAR_MAX: Final = 2_999
UNKNOWN: Final = ""  # the country of the fallback
_MWH_PER_KWH: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Factors:
    """A version: mg CO2e per kWh by country (ISO 3166-1 alpha-3) and year. UNKNOWN has one year at least."""

    version: int
    mg_per_kwh: Mapping[str, Mapping[int, int]]

    def of(self, country: str, year: int) -> int:
        """The factor of the last year up to that one, else of the first year after it; of a country that the table does
        not have, the fallback's."""
        by_year = self.mg_per_kwh.get(country) or self.mg_per_kwh[UNKNOWN]
        before = [one for one in by_year if one <= year]
        return by_year[max(before) if before else min(by_year)]


def year_of(hour: datetime) -> int:
    """Of an hour in UTC, among the years that versions can be for."""
    return min(max(hour.year, YEAR_MIN), YEAR_MAX)


def co2e_mg(energy_mwh: int, mg_per_kwh: int) -> int:
    """Rounded half up: of a connector's hour half a milligram is lost at the most."""
    return (2 * energy_mwh * mg_per_kwh + _MWH_PER_KWH) // (2 * _MWH_PER_KWH)
