"""What a fleet is made from, and the true figures of its sessions."""

from dataclasses import dataclass
from typing import Final

from schemas.reading import CONNECTOR_ID_MAX, STATION_ID_CHARS_MAX

PERIOD_US_MIN: Final = 1  # a million readings a second


@dataclass(frozen=True, slots=True)
class FleetSpec:
    """Everything that decides the readings of a fleet, but for requests."""

    seed: int
    start_ms: int  # Unix epoch, of the first reading; boot counts are its seconds, so that a later run is a later boot
    stations: int = 100
    connectors: int = 2  # of each station
    rate: float = 20.0  # readings a second of simulated time, of the whole fleet
    prefix: str = "SIM"
    busy: float = 0.4  # share of connectors that a car comes to at once
    brief: float = 0.0  # share of those cars that leave within minutes, so that sessions end soon after the start
    spike_probability: float = 0.001  # of a charging reading: a short surge of up to twice the power

    def __post_init__(self) -> None:
        if self.stations < 1 or not 1 <= self.connectors <= CONNECTOR_ID_MAX:
            raise ValueError(f"a fleet has at least one station, and 1 to {CONNECTOR_ID_MAX} connectors at each")
        if not 0 < self.rate <= 1_000_000 / PERIOD_US_MIN:
            raise ValueError("rate must be above 0 and at most 1,000,000 readings a second")
        widest = station_name(self.prefix, self.stations - 1)
        if len(widest) > STATION_ID_CHARS_MAX or not widest.isascii() or not widest.replace("-", "").isalnum():
            raise ValueError(f"prefix must be letters, digits and dashes, {STATION_ID_CHARS_MAX - 7} at most")


@dataclass(frozen=True, slots=True)
class SessionTruth:
    """The true figures of a session, which only the simulator knows."""

    station_id: str
    connector_id: int
    session_id: str
    started_ms: int  # of its first reading
    ended_ms: int  # of its reading that says Ended
    energy_uj: int  # exact
    register_first_mwh: int
    register_last_mwh: int
    readings: int


def station_name(prefix: str, number: int) -> str:
    """The id of a station, such as `SIM-000042`."""
    return f"{prefix}-{number:06d}"
