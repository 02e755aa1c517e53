"""The rules once more, in plain Python over everything ever seen: what the kernels are compared with.

Written for being read: no arrays, no bounds, no batches. A reading is a dict with the frame's column names, None where
the device sent nothing; `received_ms` is the frame's.
"""

from dataclasses import dataclass, field
from typing import Any

from schemas.quality import Quality
from schemas.reading import SessionEvent, Status
from schemas.session import EndReason
from streams.effects import StepParams
from streams.kernels.dedupe import WINDOW
from streams.kernels.energy import HOLD_MS_MAX, REGISTER_SLACK_MWH, UJ_PER_MWH
from streams.kernels.sessions import CLOSED_KEPT

Reading = dict[str, Any]
PAYLOAD = (
    "ts_ms",
    "energy_mwh",
    "power_mw",
    "voltage_mv",
    "current_ma",
    "temperature_mc",
    "soc_mpct",
    "status",
    "session_event",
    "session_id",
)
OPENING = {Status.CHARGING, Status.SUSPENDED_EV, Status.SUSPENDED_EVSE}
OCCUPYING = OPENING | {Status.PREPARING, Status.FINISHING}
FREEING = {Status.AVAILABLE, Status.RESERVED, Status.UNAVAILABLE}


def payload(reading: Reading) -> tuple[Any, ...]:
    return tuple(reading[name] for name in PAYLOAD)


@dataclass
class Judge:
    """Duplicate detection of one connector."""

    boot: int | None = None
    boot_max: int | None = None
    boot_ts: int | None = None
    seq_max: int | None = None
    ts_max: int | None = None
    bare_ts_max: int | None = None
    seen: dict[int, tuple[Any, ...]] = field(default_factory=dict)  # of this boot: seq -> payload
    all: dict[tuple[Any, ...], tuple[Any, ...]] = field(default_factory=dict)  # identity -> payload, for ever

    def verdict(self, r: Reading) -> str:
        verdict = self._bare(r) if r["seq"] is None else self._numbered(r)
        if verdict in ("unknown", "fresh"):
            self.ts_max = r["ts_ms"] if self.ts_max is None else max(self.ts_max, r["ts_ms"])
        if verdict == "unknown":
            seen = self.all.get(self._identity(r))
            verdict = "fresh" if seen is None else "duplicate" if seen == payload(r) else "conflict"
        if verdict == "fresh":
            assert self._identity(r) not in self.all, "judged new, but its identity is taken"
            self.all[self._identity(r)] = payload(r)
        return verdict

    @staticmethod
    def _identity(r: Reading) -> tuple[Any, ...]:
        if r["seq"] is None:
            return ("bare", r["ts_ms"])
        return (r["boot"], r["seq"]) if r["boot"] is not None else (None, r["seq"], r["ts_ms"])

    def _bare(self, r: Reading) -> str:
        if self.bare_ts_max is None or r["ts_ms"] > self.bare_ts_max:
            self.bare_ts_max = r["ts_ms"]
            return "fresh"
        return "unknown"

    def _numbered(self, r: Reading) -> str:
        if self.seq_max is None:
            return self._begin(r, None)
        newer = self.ts_max is None or r["ts_ms"] > self.ts_max
        if r["boot"] is not None and (self.boot_max is None or r["boot"] > self.boot_max):
            return self._begin(r, None)
        if r["boot"] is None and newer and (self.boot is not None or r["seq"] < self.seq_max):
            return self._begin(r, r["ts_ms"])
        if r["boot"] != self.boot or (self.boot_ts is not None and r["ts_ms"] < self.boot_ts):
            return "unknown"
        if r["seq"] <= self.seq_max - WINDOW:
            return "unknown"
        if r["seq"] in self.seen:
            if self.seen[r["seq"]] == payload(r):
                return "duplicate"
            return "unknown" if r["boot"] is None else "conflict"
        self.seen[r["seq"]] = payload(r)
        self.seq_max = max(self.seq_max, r["seq"])
        return "fresh"

    def _begin(self, r: Reading, boot_ts: int | None) -> str:
        self.boot, self.boot_ts, self.seq_max, self.seen = r["boot"], boot_ts, r["seq"], {r["seq"]: payload(r)}
        if r["boot"] is not None:
            self.boot_max = r["boot"] if self.boot_max is None else max(self.boot_max, r["boot"])
        return "fresh"


@dataclass(eq=False)
class Session:
    start_ms: int
    last_ms: int
    session_id: str | None
    end_ms: int | None = None  # explicit
    reason: int = EndReason.OPEN
    occupied: bool = False
    members: list[Reading] = field(default_factory=list)

    def inside(self) -> list[Reading]:
        chosen = [r for r in self.members if self.end_ms is None or r["ts_ms"] <= self.end_ms]
        low = -(2**63)
        return sorted(
            chosen,
            key=lambda r: tuple(low if r[n] is None else r[n] for n in ("ts_ms", "seq", "energy_mwh", "power_mw")),
        )


class Meter:
    """Energy of readings in order."""

    def __init__(self, power_max_mw: int) -> None:
        self.power_max_mw = power_max_mw
        self.at: tuple[int, int] | None = None
        self.last_power_mw: int | None = None
        self.base: tuple[int, int] | None = None  # last good register, its ts
        self.candidate: tuple[int, int] | None = None
        self.first: int | None = None
        self.counted_mwh = self.head_uj = self.tail_uj = 0

    def plausible(self, rise_mwh: int, dt_ms: int) -> bool:
        ceiling = min(max(dt_ms, 0), 7 * 86_400_000) * self.power_max_mw // UJ_PER_MWH + REGISTER_SLACK_MWH
        return 0 <= rise_mwh <= ceiling

    def add(self, r: Reading) -> tuple[bool, Quality]:
        """False: out of order, not counted."""
        at = (r["ts_ms"], -(2**63) if r["seq"] is None else r["seq"])
        if self.at is not None and at <= self.at:
            return False, Quality(0)
        if self.at is not None and self.last_power_mw is not None:
            self.tail_uj += max(self.last_power_mw, 0) * min(at[0] - self.at[0], HOLD_MS_MAX)
        self.at = at
        if r["power_mw"] is not None and r["power_mw"] <= self.power_max_mw:
            self.last_power_mw = r["power_mw"]
        return True, Quality(0) if r["energy_mwh"] is None else self._register(r["energy_mwh"], r["ts_ms"])

    def _register(self, register: int, ts: int) -> Quality:
        if self.base is None:
            self.head_uj, self.tail_uj, self.first = self.head_uj + self.tail_uj, 0, register
            self.base = (register, ts)
            return Quality(0)
        base, base_ts = self.base
        if self.plausible(register - base, ts - base_ts):
            self.counted_mwh += register - base
            self.base, self.candidate, self.tail_uj = (register, ts), None, 0
            return Quality(0)
        if self.candidate is not None:
            candidate, candidate_ts = self.candidate
            restarted = candidate > base or candidate * 2 < base
            if restarted and register > candidate and self.plausible(register - candidate, ts - candidate_ts):
                self.counted_mwh += register - candidate
                self.base, self.candidate, self.tail_uj = (register, ts), None, 0
                return Quality.METER_RESET
        self.candidate = (register, ts)
        if register == 0:
            return Quality.PLACEHOLDER_ZERO
        return Quality.METER_ROLLBACK if register < base else Quality.IMPLAUSIBLE_POWER

    @property
    def energy_uj(self) -> int:
        return self.counted_mwh * UJ_PER_MWH + self.head_uj + self.tail_uj


class Connector:
    """One connector: sessions and flags, reading by reading."""

    def __init__(self, params: StepParams) -> None:
        self.params = params
        self.judge = Judge()
        self.open: Session | None = None
        self.sessions: list[Session] = []  # not open any more
        self.near: list[Session] = []  # the youngest of them, youngest first
        self.meter = Meter(params.power_max_mw)  # judges registers in order of arrival
        self.arrival_ms: int | None = None

    def place(self, r: Reading) -> tuple[Session | None, Quality]:
        silent = self.arrival_ms is not None and r["received_ms"] - self.arrival_ms >= self.params.session_timeout_ms
        if silent and self.open:
            self.close(None, EndReason.TIMEOUT)
        self.arrival_ms = max(self.arrival_ms or 0, r["received_ms"])
        flags = Quality(0)
        if r["power_mw"] is not None and r["power_mw"] > self.params.power_max_mw:
            flags |= Quality.IMPLAUSIBLE_POWER
        session, past = self._find(r)
        if session is None:
            drawing = r["power_mw"] is not None and r["power_mw"] > 0
            outside = drawing or r["session_event"] == SessionEvent.ENDED or r["session_id"] is not None
            return None, flags | (Quality.OUTSIDE_SESSION if outside else Quality(0))
        if r["energy_mwh"] is None and r["power_mw"] is not None:
            flags |= Quality.ESTIMATED
        session.members.append(r)
        in_order = r["ts_ms"] >= session.last_ms
        session.start_ms, session.last_ms = min(session.start_ms, r["ts_ms"]), max(session.last_ms, r["ts_ms"])
        if past:
            if r["session_event"] == SessionEvent.ENDED and session.end_ms is None:
                session.end_ms, session.reason = r["ts_ms"], EndReason.ENDED
            return session, flags
        flags |= self.meter.add(r)[1]
        if r["session_event"] == SessionEvent.ENDED:
            self.close(r["ts_ms"], EndReason.ENDED)
        elif r["status"] in FREEING and in_order and session.occupied:
            self.close(r["ts_ms"], EndReason.FREED)
        session.occupied |= r["status"] in OCCUPYING
        return session, flags

    def _find(self, r: Reading) -> tuple[Session | None, bool]:
        """The session and whether it is a past one."""
        name, ts = r["session_id"], r["ts_ms"]
        if name is not None and not (self.open and self.open.session_id == name):
            past = next((s for s in self.sessions if s.session_id == name), None)
            if past is not None:
                if past not in self.near:
                    self._keep(past)
                if past.end_ms is not None and ts > past.end_ms:
                    return None, False
                if past.reason != EndReason.TIMEOUT or self.open or ts < past.last_ms or self._younger(past.start_ms):
                    return past, True
                self.sessions.remove(past)
                self.near = [s for s in self.near if s is not past]
                self.open, past.reason, past.occupied = past, EndReason.OPEN, False
                self.meter = Meter(self.params.power_max_mw)
            elif self.open and self.open.session_id is None and ts >= self.open.start_ms:
                self.open.session_id = name
            else:
                return self._begin(name, ts)
        elif name is None and not (self.open and ts >= self.open.start_ms):
            ends = [(s, min(s.last_ms, s.last_ms if s.end_ms is None else s.end_ms)) for s in self.near]
            past = next((s for s, end in ends if s.start_ms <= ts <= end), None)
            if past is not None:
                return past, True
            begins = r["session_event"] == SessionEvent.STARTED or r["status"] in OPENING
            if self.open or not begins or any(ts <= s.last_ms for s in self.near):
                return None, False
            return self._begin(None, ts)
        return self.open, False

    def _keep(self, session: Session) -> None:
        """Unnamed readings can fall into the youngest past sessions only."""
        self.near = sorted([session, *self.near], key=lambda s: -s.start_ms)[:CLOSED_KEPT]

    def _younger(self, ts: int) -> bool:
        return (self.open is not None and self.open.start_ms > ts) or any(s.start_ms > ts for s in self.near)

    def _begin(self, name: str | None, ts: int) -> tuple[Session, bool]:
        session = Session(ts, ts, name)
        if self._younger(ts):
            session.reason = EndReason.SUPERSEDED
            self.sessions.append(session)
            self._keep(session)
            return session, True
        if self.open:
            self.close(None, EndReason.SUPERSEDED)
        self.open, self.meter = session, Meter(self.params.power_max_mw)
        return session, False

    def close(self, end_ms: int | None, reason: EndReason) -> None:
        assert self.open is not None
        self.open.end_ms, self.open.reason = end_ms, reason
        self.sessions.append(self.open)
        self._keep(self.open)
        self.open = None


class Reference:
    """A partition."""

    def __init__(self, params: StepParams) -> None:
        self.params = params
        self.connectors: dict[tuple[str, int], Connector] = {}
        self.newest: dict[str, int] = {}
        self.stored: list[tuple[Reading, Session | None, Quality]] = []
        self.counts = {"stored": 0, "duplicate": 0, "quarantined": 0}

    def add(self, r: Reading) -> None:
        connector = self.connectors.setdefault((r["station_id"], r["connector_id"]), Connector(self.params))
        verdict = connector.judge.verdict(r)
        self.counts[{"fresh": "stored", "duplicate": "duplicate", "conflict": "quarantined"}[verdict]] += 1
        if verdict != "fresh":
            return
        session, flags = connector.place(r)
        newest = self.newest.get(r["station_id"])
        if newest is not None and r["ts_ms"] < newest - self.params.lateness_ms:
            flags |= Quality.LATE
        if r["ts_ms"] > r["received_ms"] + self.params.skew_tolerance_ms:
            flags |= Quality.CLOCK_SKEW
        else:
            self.newest[r["station_id"]] = max(newest or 0, r["ts_ms"])
        self.stored.append((r, session, flags))

    def tick(self, now_ms: int) -> None:
        """Time passes and nothing comes."""
        for connector in self.connectors.values():
            if connector.open and now_ms - (connector.arrival_ms or 0) >= self.params.session_timeout_ms:
                connector.close(None, EndReason.TIMEOUT)

    def energy_uj(self, session: Session) -> int:
        meter = Meter(self.params.power_max_mw)
        for r in session.inside():
            meter.add(r)
        return meter.energy_uj
