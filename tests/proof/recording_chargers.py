"""Simulated chargers that record what they send, to compare the stored readings with.

The devices are correct: each counts its readings, boots and registers rightly; faults happen between them and the
store. Some have no register and some omit it at times, so that every way of metering energy is tested; of some that
always say it, the meter leaps between two sessions, further than any connector delivers. Some feed energy back.
"""

import random
from dataclasses import dataclass

import msgspec

from schemas.reading import SESSION_EVENT_NAMES, STATUS_NAMES

Identity = tuple[str, int, int, int]
"""Station, connector, boot, seq."""
Content = tuple[int | str | None, ...]
"""Session id, ts_ms, the six quantities and exported energy in thousandths, status and session event as codes."""

_STEP_S = (4, 16)  # between two readings of a connector: four to fifteen to a window
_SESSION_READINGS = (12, 60)
_REBOOT_SHARE = 0.05  # of the sessions begin after a reboot
_WITHOUT_REGISTER_SHARE, _OMITTING_SHARE = 0.15, 0.15  # of the chargers
_OMIT_SHARE = 0.3  # of the readings of an omitting one
_LEAP_SHARE = 0.1  # of the sessions of one that never omits it begin after the meter leapt
LEAP_MWH = 10**9  # at least
_EXPORTING_SHARE = 0.1  # of the chargers
_POWER_MAX_MW = 150_000_000
_MS_PER_H = 3_600_000


@dataclass(frozen=True, slots=True)
class Reading:
    """One reading: its identity, its content, and its JSON."""

    identity: Identity
    content: Content
    wire: bytes


class RecordingCharger:
    """One connector, from `start_ms` on."""

    def __init__(self, station_id: str, connector_id: int, start_ms: int, rng: random.Random) -> None:
        self._station_id, self._connector_id = station_id, connector_id
        self._rng = rng
        self._ts_ms = start_ms + rng.randrange(60_000)
        self._boot, self._seq = 1, 0
        self._register_mwh = rng.randrange(10**9)
        kind = rng.random()
        self._has_register = kind >= _WITHOUT_REGISTER_SHARE
        self._omits_registers = self._has_register and kind < _WITHOUT_REGISTER_SHARE + _OMITTING_SHARE
        self._exports = rng.random() < _EXPORTING_SHARE
        self._export_mwh = rng.randrange(10**9)
        self._session, self._sessions, self._left = "", 0, 0

    def next(self) -> Reading:
        """The next reading: sessions one after the other, each followed by one reading of the free connector."""
        step_ms = self._rng.randrange(*_STEP_S) * 1_000 + self._rng.randrange(1_000)
        self._ts_ms += step_ms
        if self._left == 0:
            return self._begin()
        self._left -= 1
        if self._left == 0:
            return self._reading("Available", "", 0)
        power_mw = self._rng.randrange(_POWER_MAX_MW)
        self._register_mwh += power_mw * step_ms // _MS_PER_H
        self._export_mwh += self._rng.randrange(1_000)
        event = "Ended" if self._left == 1 else "Updated"
        return self._reading("Finishing" if self._left == 1 else "Charging", event, power_mw)

    def _begin(self) -> Reading:
        if self._rng.random() < _REBOOT_SHARE:
            self._boot, self._seq = self._boot + 1, 0
        if not self._omits_registers and self._rng.random() < _LEAP_SHARE:
            self._register_mwh += LEAP_MWH + self._rng.randrange(LEAP_MWH)
        self._sessions += 1
        self._session = f"{self._station_id}/{self._connector_id}/{self._sessions}"
        self._left = self._rng.randrange(*_SESSION_READINGS)
        return self._reading("Preparing", "Started", 0)

    def _reading(self, status: str, event: str, power_mw: int) -> Reading:
        omits_register = not self._has_register or (self._omits_registers and self._rng.random() < _OMIT_SHARE)
        name = self._session if event else None
        quantities = {
            "energy_wh": None if omits_register else self._register_mwh,
            "power_w": power_mw,
            "voltage_v": 380_000 + self._rng.randrange(40_000),
            "current_a": power_mw // 400,
            "temperature_c": 20_000 + self._rng.randrange(30_000),
            "soc_pct": self._rng.randrange(100_000) if event else None,
            "energy_export_wh": self._export_mwh if self._exports else None,
        }
        wire = {"station_id": self._station_id, "connector_id": self._connector_id, "boot": self._boot,
                "seq": self._seq, "ts": self._ts_ms, "status": status}  # fmt: skip
        wire |= {key: value / 1_000 for key, value in quantities.items() if value is not None}
        wire |= {"session_id": name, "session_event": event} if event else {}
        codes = int(STATUS_NAMES[status]), int(SESSION_EVENT_NAMES[event]) if event else 0
        identity = (self._station_id, self._connector_id, self._boot, self._seq)
        self._seq += 1
        return Reading(identity, (name, self._ts_ms, *quantities.values(), *codes), msgspec.json.encode(wire))
