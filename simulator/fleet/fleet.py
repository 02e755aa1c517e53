"""A seeded fleet of charging stations. The same spec and requests make the same readings, byte for byte.

Physics is sample-and-hold in whole numbers: from one reading to the next a connector delivers exactly the power that
the earlier one gave, and its register grows by exactly that. So the true energy of a session is known to the
microjoule, equals the integral of its power readings, and equals the register's difference to the milliwatt-hour.
"""

from collections import deque
from collections.abc import Iterator, Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from schemas.reading import SessionEvent, Status
from simulator.fleet.charger import CHARGER_TYPES, ChargerType, air_c, arrivals_per_s, curve, pack_voltage_v
from simulator.fleet.readings import NULL, READING_DTYPE, UJ_PER_MWH, Burst, Readings
from simulator.fleet.requests import OPEN, ConnectorRequests
from simulator.fleet.spec import PERIOD_US_MIN, FleetSpec, SessionTruth, station_name

TRUTH_SESSIONS_MAX: Final = 1_000_000  # ~250 B each: 250 MB, 45 days of a fleet of 10,000 connectors; oldest go first
LIVE_BURST_MS: Final = 100  # a step of a large fleet leaves in parts this long, so that live readings are not old
PAST_BURST_MS: Final = 60_000  # of past days, which are not live: larger parts cost less
_REGISTER_WH_MAX: Final = 50_000_000  # registers start anywhere up to 50 MWh: a few busy years, and higher the later
_REGISTER_SINCE_MS: Final = 1_735_689_600_000  # 2025-01-01: from here on registers of a later start are higher
_MARGIN: Final = 1.1  # over full power: surges
_BRIEF_MS: Final = (40_000, 100_000)  # of charging, after a minute of preparing at most: over within three minutes
_HANDSHAKE_MS: Final = (2_000, 8_000)  # of a requested session: the driver stands there with the cable in hand
_NEVER_MS: Final = np.iinfo(np.int64).max

_AVAILABLE, _PREPARING, _CHARGING = Status.AVAILABLE, Status.PREPARING, Status.CHARGING
_SUSPENDED, _FINISHING = Status.SUSPENDED_EV, Status.FINISHING
_OPEN: Final = tuple(sorted(OPEN))


def charger_types(spec: FleetSpec) -> list[ChargerType]:
    """The type of each station of the fleet that the spec makes."""
    return [CHARGER_TYPES[kind] for kind in _draw_kinds(np.random.default_rng(spec.seed), spec.stations)]


def _draw_kinds(rng: np.random.Generator, stations: int) -> NDArray[np.int64]:
    """Of each station the place of its type; the first that a fleet's generator draws."""
    return rng.choice(len(CHARGER_TYPES), stations, p=[kind.share for kind in CHARGER_TYPES])


class Fleet:
    """Stations x connectors, stepped all at once. `slot` = station * connectors + connector - 1."""

    def __init__(self, spec: FleetSpec, registers_mwh: Mapping[tuple[str, int], int] | None = None) -> None:
        """`registers_mwh`: where the meters of an earlier run of these stations stand, by station and connector; a
        charger keeps its meter through a restart. Others start anywhere."""
        self.spec = spec
        self.truth: deque[SessionTruth] = deque(maxlen=TRUTH_SESSIONS_MAX)  # ended sessions, in order of their end
        self._rng = np.random.default_rng(spec.seed)
        self.size = size = spec.stations * spec.connectors
        self._period_us = max(PERIOD_US_MIN, round(1_000_000 / spec.rate))
        self._made = 0  # readings so far
        self._boot = spec.start_ms // 1_000

        kinds = np.repeat(_draw_kinds(self._rng, spec.stations), spec.connectors)
        self._power_w_max = np.array([kind.power_w_max for kind in CHARGER_TYPES])[kinds]
        self._voltage_v = np.array([kind.voltage_v for kind in CHARGER_TYPES])[kinds]
        self._phases = np.array([kind.phases for kind in CHARGER_TYPES])[kinds]
        self._rise_c = np.array([kind.rise_c_full for kind in CHARGER_TYPES])[kinds]
        self._per_day = np.array([kind.sessions_per_day for kind in CHARGER_TYPES])[kinds]
        self._stay_s = np.array([kind.stay_s_mean for kind in CHARGER_TYPES])[kinds]
        self._is_dc = self._phases == 0

        names = [station_name(spec.prefix, number).encode() for number in range(spec.stations)]
        self._station = np.repeat(np.array(names), spec.connectors)
        self._connector = np.tile(np.arange(1, spec.connectors + 1), spec.stations)
        self._comes_at_once = self._rng.random(size) < spec.busy
        self._brief = np.zeros(size, np.bool_)  # whether its first car leaves within minutes
        if spec.brief > 0:  # else nothing is drawn: readings without such cars stay the same
            self._brief = self._comes_at_once & (self._rng.random(size) < spec.brief)
        # What chargers at full power could have delivered by now: so the registers of a fleet that is started again are
        # above those of its earlier run, and no restart looks like a meter rollback.
        hours = max(0, spec.start_ms - _REGISTER_SINCE_MS) / 3_600_000
        first_wh = self._rng.integers(0, _REGISTER_WH_MAX, size) + np.ceil(self._power_w_max * _MARGIN * hours)
        self._register_first_mwh = first_wh.astype(np.int64) * 1_000
        for place, register_mwh in (registers_mwh or {}).items():
            if (slot := self._slot(*place)) is not None:
                self._register_first_mwh[slot] = register_mwh
        self._delivered_uj = np.zeros(size, np.int64)  # since the start

        self._status = np.full(size, _AVAILABLE, np.int8)
        self._until_ms = np.zeros(size, np.int64)  # end of the present state, where time ends it
        self._leave_ms = np.zeros(size, np.int64)  # when the car is fetched, full or not
        self._last_ms = np.full(size, NULL)
        self._power_mw = np.zeros(size, np.int64)  # held until the next reading
        self._soc = np.zeros(size)
        self._soc_target = np.ones(size)
        self._capacity_uj = np.ones(size)
        self._car_w_max = np.zeros(size)
        self._knee = np.full(size, 0.8)
        self._session = np.zeros(size, READING_DTYPE["session_id"])
        self._session_number = np.zeros(size, np.int64)
        self._session_from_uj = np.zeros(size, np.int64)  # delivered before it
        self._session_from_ms = np.zeros(size, np.int64)
        self._session_readings = np.zeros(size, np.int64)
        self._until_full = np.zeros(size, np.bool_)  # a requested session: ends when full, or when a stop is requested
        self._requests = ConnectorRequests()

    def registers_mwh(self) -> dict[tuple[str, int], int]:
        """Where the meters stand now, by station and connector."""
        places = zip((name.decode() for name in self._station), self._connector.tolist(), strict=True)
        return dict(zip(places, (self._register_first_mwh + self._delivered_uj // UJ_PER_MWH).tolist(), strict=True))

    def request_start(self, station_id: str, connector_id: int, session_id: str) -> bool:
        """Have a car plugged in at the next step, whose session has that id and lasts until it is stopped or full.

        False where this fleet has no such connector, or it is in use.
        """
        slot = self._slot(station_id, connector_id)
        return slot is not None and self._requests.start(slot, Status(self._status[slot]), session_id.encode())

    def request_stop(self, station_id: str, connector_id: int, session_id: str | None) -> bool:
        """End that session at the next step; None: whichever runs there. False where there is no such session."""
        slot = self._slot(station_id, connector_id)
        if slot is None:
            return False
        named = None if session_id is None else session_id.encode()
        return self._requests.stop(slot, Status(self._status[slot]), self._session[slot].item(), named)

    def _slot(self, station_id: str, connector_id: int) -> int | None:
        digits = station_id.rpartition("-")[2]
        number = int(digits) if digits.isascii() and digits.isdecimal() else self.spec.stations
        known = number < self.spec.stations and station_id == station_name(self.spec.prefix, number)
        if not known or not 1 <= connector_id <= self.spec.connectors:
            return None
        return number * self.spec.connectors + connector_id - 1

    def stream(self, until_ms: int | None = None, *, burst_ms: int = LIVE_BURST_MS) -> Iterator[Burst]:
        """Bursts of at most `burst_ms`, in order of time, of readings with ts below `until_ms`, or without end.

        The fleet goes on from where an earlier stream ended, but for the rest of the step that `until_ms` cut.
        """
        while until_ms is None or self._ts_ms(np.array([self._made]))[0] < until_ms:
            rows = self.step()
            if until_ms is not None:
                rows = rows[rows["ts_ms"] < until_ms]
            ts_ms = rows["ts_ms"]
            edges = np.searchsorted(ts_ms, np.arange(ts_ms[0] + burst_ms, ts_ms[-1] + 1, burst_ms))
            for part in np.split(rows, np.unique(edges)):
                yield Burst(int(part["ts_ms"][-1]), part)

    def step(self) -> Readings:
        """The next reading of every connector, in order of slot and of time."""
        ts_ms = self._ts_ms(self._made + np.arange(self.size))
        self._deliver(ts_ms)
        event, ended = self._change_state(ts_ms)
        self._draw_power()
        rows = self._read(ts_ms, event)
        self._note(ts_ms, rows, ended)
        self._made += self.size
        return rows

    def _ts_ms(self, number: NDArray[np.int64]) -> NDArray[np.int64]:
        return self.spec.start_ms + number * self._period_us // 1_000

    def _deliver(self, ts_ms: NDArray[np.int64]) -> None:
        elapsed_ms = np.where(self._last_ms == NULL, 0, ts_ms - self._last_ms)
        self._elapsed_s = elapsed_ms / 1_000
        delivered_uj = self._power_mw * elapsed_ms
        self._delivered_uj += delivered_uj
        self._soc = np.minimum(self._soc + delivered_uj / self._capacity_uj, 1.0)
        self._last_ms = ts_ms

    def _change_state(self, ts_ms: NDArray[np.int64]) -> tuple[NDArray[np.int8], NDArray[np.int64]]:
        """At most one change of state each. Returns session_event, and the slots whose session ends."""
        before = self._status.copy()
        starts, stops = self._requests.take()
        asked, stopped = self._mask(list(starts)), self._mask(stops)
        chance = 1 - np.exp(-arrivals_per_s(self._per_day, ts_ms) * self._elapsed_s)
        comes = asked | (before == _AVAILABLE) & ((self._rng.random(self.size) < chance) | self._comes_at_once)
        self._comes_at_once[:] = False
        due = ts_ms >= self._until_ms
        begins = (before == _PREPARING) & due & ~stopped
        full = (before == _CHARGING) & (self._soc >= self._soc_target)
        fetched = ((before == _CHARGING) | (before == _SUSPENDED)) & (ts_ms >= self._leave_ms)
        fetched |= stopped | (full & self._until_full)
        full &= ~fetched
        free = (before == _FINISHING) & due & ~asked

        self._plug_in(np.flatnonzero(comes), ts_ms)
        self._plug_in_requested(starts, ts_ms)
        self._status[begins] = _CHARGING
        self._status[full] = _SUSPENDED
        self._status[fetched] = _FINISHING
        self._until_ms[fetched] = ts_ms[fetched] + self._rng.integers(20_000, 90_000, int(fetched.sum()))
        self._status[free] = _AVAILABLE

        event = np.where(np.isin(before, _OPEN), SessionEvent.UPDATED, SessionEvent.NONE)
        event[comes] = SessionEvent.STARTED
        event[fetched] = SessionEvent.ENDED
        return event.astype(np.int8), np.flatnonzero(fetched)

    def _plug_in(self, slots: NDArray[np.int64], ts_ms: NDArray[np.int64]) -> None:
        count, rng = len(slots), self._rng
        if not count:
            return
        self._status[slots] = _PREPARING
        self._until_full[slots] = False
        self._until_ms[slots] = ts_ms[slots] + rng.integers(5_000, 60_000, count)
        stay_s = np.clip(rng.gamma(3.0, self._stay_s[slots] / 3), 300, 86_400)
        self._leave_ms[slots] = self._until_ms[slots] + (stay_s * 1_000).astype(np.int64)
        brief = slots[self._brief[slots]]
        self._leave_ms[brief] = self._until_ms[brief] + rng.integers(*_BRIEF_MS, len(brief))
        self._brief[brief] = False
        self._soc[slots] = np.clip(rng.normal(0.35, 0.15, count), 0.05, 0.85)
        self._soc_target[slots] = np.clip(rng.normal(0.88, 0.08, count), 0.6, 1.0)
        capacity_wh = np.clip(rng.normal(64_000, 15_000, count), 25_000, 110_000)
        self._capacity_uj[slots] = capacity_wh * 1_000 * UJ_PER_MWH
        onboard_w = np.where(self._is_dc[slots], capacity_wh * rng.uniform(1.2, 3.0, count), 11_000.0)
        self._car_w_max[slots] = np.minimum(self._power_w_max[slots], onboard_w)
        self._knee[slots] = np.where(self._is_dc[slots], rng.uniform(0.5, 0.8, count), 0.96)
        self._session_number[slots] += 1
        self._session[slots] = [
            f"{self._station[slot].decode()}-{self._connector[slot]}-{self._boot}-{self._session_number[slot]}".encode()
            for slot in slots
        ]
        self._session_from_uj[slots] = self._delivered_uj[slots]
        self._session_from_ms[slots] = ts_ms[slots]
        self._session_readings[slots] = 0

    def _plug_in_requested(self, starts: dict[int, bytes], ts_ms: NDArray[np.int64]) -> None:
        """What is different where a car was asked for: its session's id and length. Draws nothing without requests."""
        if not starts:
            return
        slots = np.fromiter(starts, np.int64, len(starts))
        self._until_ms[slots] = ts_ms[slots] + self._rng.integers(*_HANDSHAKE_MS, len(slots))
        self._leave_ms[slots] = _NEVER_MS
        self._session[slots] = list(starts.values())
        self._until_full[slots] = True

    def _mask(self, slots: list[int]) -> NDArray[np.bool_]:
        mask = np.zeros(self.size, np.bool_)
        mask[np.array(slots, np.int64)] = True
        return mask

    def _draw_power(self) -> None:
        wanted_w = self._car_w_max * curve(self._soc, self._knee) * (1 + 0.01 * self._rng.standard_normal(self.size))
        surge = self._rng.random(self.size) < self.spec.spike_probability
        wanted_w = np.where(surge, wanted_w * self._rng.uniform(1.2, 2.0, self.size), wanted_w)
        charging = self._status == _CHARGING
        self._power_mw = np.where(charging, np.rint(np.maximum(wanted_w, 0) * 1_000), 0).astype(np.int64)

    def _read(self, ts_ms: NDArray[np.int64], event: NDArray[np.int8]) -> Readings:
        noise = self._rng.standard_normal((3, self.size))
        power_w = self._power_mw / 1_000
        pack_v = np.where(power_w > 0, pack_voltage_v(self._voltage_v, self._soc), 0)
        voltage_v = np.where(self._is_dc, pack_v, self._voltage_v) * (1 + 0.005 * noise[0])
        current_a = power_w / np.maximum(voltage_v, 1) / np.maximum(self._phases, 1)
        warm_c = air_c(ts_ms) + self._rise_c * power_w / self._power_w_max + 0.3 * noise[1]
        connected = event != SessionEvent.NONE

        rows = np.zeros(self.size, READING_DTYPE)
        rows["station_id"] = self._station
        rows["connector_id"] = self._connector
        rows["session_id"] = np.where(connected, self._session, b"")
        rows["boot"] = self._boot
        rows["seq"] = self._made // self.size
        rows["ts_ms"] = ts_ms
        rows["energy_mwh"] = self._register_first_mwh + self._delivered_uj // UJ_PER_MWH
        rows["power_mw"] = self._power_mw
        rows["voltage_mv"] = np.rint(voltage_v * 1_000)
        rows["current_ma"] = np.rint(current_a * 1_000)
        rows["temperature_mc"] = np.rint(np.clip(warm_c, -40, 120) * 1_000)
        rows["soc_mpct"] = np.where(self._is_dc & connected, np.rint(self._soc * 100_000), NULL)
        rows["status"] = self._status
        rows["session_event"] = event
        rows["slot"] = np.arange(self.size)
        self._session_readings += connected
        return rows

    def _note(self, ts_ms: NDArray[np.int64], rows: Readings, ended: NDArray[np.int64]) -> None:
        for slot in ended.tolist():
            first_uj = int(self._session_from_uj[slot])
            self.truth.append(
                SessionTruth(
                    station_id=self._station[slot].decode(),
                    connector_id=int(self._connector[slot]),
                    session_id=self._session[slot].decode(),
                    started_ms=int(self._session_from_ms[slot]),
                    ended_ms=int(ts_ms[slot]),
                    energy_uj=int(self._delivered_uj[slot]) - first_uj,
                    register_first_mwh=int(self._register_first_mwh[slot]) + first_uj // UJ_PER_MWH,
                    register_last_mwh=int(rows["energy_mwh"][slot]),
                    readings=int(self._session_readings[slot]),
                )
            )
