"""Chargers and cars: typical values, and how fast a battery takes energy. Pure numpy."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ChargerType:
    """What all chargers of one kind have in common."""

    name: str
    power_w_max: float
    voltage_v: float  # AC: phase to neutral; DC: the pack at half charge
    phases: int  # 0: direct current
    rise_c_full: float  # how much warmer than the air a connector is under full load
    sessions_per_day: float  # of one connector
    stay_s_mean: float  # how long a car stands there
    share: float  # of all stations

    @property
    def is_dc(self) -> bool:
        """Direct current: the charger knows the car's state of charge."""
        return self.phases == 0


# Powers by IEC 61851 / IEC 62196 classes; shares and use as in public European fleets, rounded.
CHARGER_TYPES: Final = (
    ChargerType("AC 7.4 kW", 7_400, 230, 1, 12, 1.5, 5 * 3_600, 0.15),
    ChargerType("AC 11 kW", 11_000, 230, 3, 14, 2.0, 4 * 3_600, 0.25),
    ChargerType("AC 22 kW", 22_000, 230, 3, 18, 2.5, 3 * 3_600, 0.30),
    ChargerType("DC 50 kW", 50_000, 400, 0, 22, 7.0, 2_400, 0.12),
    ChargerType("DC 150 kW", 150_000, 400, 0, 28, 9.0, 1_800, 0.12),
    ChargerType("DC 350 kW", 350_000, 780, 0, 35, 10.0, 1_500, 0.06),
)

# Cars arriving at each hour of the day, relative to the mean of the day: the morning, and more so the late afternoon.
_MORNING: Final = (0.2, 0.1, 0.1, 0.1, 0.2, 0.4, 0.8, 1.4, 1.6, 1.3, 1.1, 1.2)
_AFTERNOON: Final = (1.3, 1.2, 1.1, 1.2, 1.5, 1.9, 1.9, 1.6, 1.3, 1.0, 0.7, 0.4)
_ARRIVALS_BY_HOUR: Final = np.array(_MORNING + _AFTERNOON)
ARRIVALS_BY_HOUR: Final = _ARRIVALS_BY_HOUR / _ARRIVALS_BY_HOUR.mean()

_DAY_MS: Final = 86_400_000
_HOUR_MS: Final = 3_600_000
_TRICKLE: Final = 0.03  # of full power, at a full battery


def arrivals_per_s(sessions_per_day: Floats, ts_ms: NDArray[np.int64]) -> Floats:
    """How many cars a second come to a free connector, by the hour of the day in UTC."""
    rates: Floats = sessions_per_day / 86_400 * ARRIVALS_BY_HOUR[ts_ms % _DAY_MS // _HOUR_MS]
    return rates


def curve(soc: Floats, knee: Floats) -> Floats:
    """Fraction of full power that a battery takes: constant up to the knee, then falling (CC/CV).

    soc and knee are fractions of 1, knee below 1; above it the current decays linearly down to a trickle at 1.
    """
    taper = 1 - (1 - _TRICKLE) * (soc - knee) / (1 - knee)
    return np.clip(taper, _TRICKLE, 1.0)


def pack_voltage_v(nominal_v: Floats, soc: Floats) -> Floats:
    """A pack's voltage: 12 % below nominal when empty, 8 % above when full."""
    return nominal_v * (0.88 + 0.20 * soc)


def air_c(ts_ms: NDArray[np.int64]) -> Floats:
    """Outside temperature: 14 °C on average, coolest at 3 h, warmest at 15 h UTC."""
    hour = ts_ms % _DAY_MS / _HOUR_MS
    return 14 - 6 * np.cos((hour - 3) * (2 * np.pi / 24))
