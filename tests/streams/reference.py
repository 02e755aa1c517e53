"""The rules once more (docs/adr/0014), in plain Python over everything ever seen: what the kernels are compared with.

Written for being read: no arrays, no bounds, no batches, and no order of arrival: one pass over the readings in order
of time. A reading is a dict with the frame's column names, None where the device sent nothing; `received_ms` is the
frame's.
"""

import json
from dataclasses import dataclass, field
from typing import Any

from schemas.quality import Quality
from schemas.reading import SessionEvent, Status
from schemas.session import EndReason, HoldReason
from streams.effects import StepParams
from streams.kernels.dedupe import WINDOW

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
    "energy_export_mwh",
    "extra",
)
PLACEHOLDERS = {"", "0", "-1", "null", "NULL", "none", "None", "unknown", "undefined"}
UJ_PER_MWH = 3_600_000
HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
Order = tuple[int, int, int]
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
    all: dict[tuple[Any, ...], list[tuple[Any, ...]]] = field(default_factory=dict)  # identity -> payloads, for ever

    def verdict(self, r: Reading) -> str:
        verdict = self._bare(r) if r["seq"] is None else self._numbered(r)
        if verdict in ("unknown", "fresh"):
            self.ts_max = r["ts_ms"] if self.ts_max is None else max(self.ts_max, r["ts_ms"])
        seen = self.all.setdefault(self._identity(r), [])
        if verdict == "unknown":
            verdict = "duplicate" if payload(r) in seen else "fresh" if r["seq"] is None or not seen else "conflict"
        if verdict == "fresh":
            assert r["seq"] is None or not seen, "judged new, but its identity is taken"
            r["part"] = len(seen) if r["seq"] is None else 0
            seen.append(payload(r))
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
    explicit: bool
    end_ms: int | None = None  # explicit
    reason: int = EndReason.OPEN
    occupied: bool = False
    delivered: bool = False
    first_register: int | None = None
    proven: bool = False
    hold: int = 0
    superseded_by: Reading | None = None
    ahead: bool = False  # its first reading was stamped ahead
    start_ahead: bool = False  # likewise its start
    on_time: bool = False  # its newest reading was not
    members: list[Reading] = field(default_factory=list)
    meter: "Meter | None" = None


class Membership:
    """Cuts one connector's readings, in order, into sessions."""

    def __init__(self, timeout_ms: int) -> None:
        self.timeout_ms = timeout_ms
        self.open: Session | None = None
        self.sessions: list[Session] = []  # proven, not open any more
        self.orphan: Reading | None = None  # an Ended without a session
        self.newest_ms: int | None = None
        self.foreign: set[int] = set()  # ids of readings
        self.ahead = False  # whether the reading was stamped ahead of its arrival

    def add(self, r: Reading, *, ahead: bool = False) -> None:
        self.ahead = ahead
        if self.open and r["ts_ms"] - (self.newest_ms or 0) >= self.timeout_ms:
            self.close(EndReason.TIMEOUT)
        self.newest_ms = r["ts_ms"]
        if r["connector_id"] == 0:
            return
        if r["session_event"] == SessionEvent.STARTED:
            self._start(r)
        elif r["session_event"] == SessionEvent.ENDED:
            self._end(r)
        else:
            self._sample(r)

    def _start(self, r: Reading) -> None:
        name, now = r["session_id"], self.open
        if now:
            again = name is not None and name == now.session_id
            unclaimed = not now.explicit and not now.delivered and (name is None or now.session_id is None)
            if again or unclaimed:
                now.explicit = True
                now.session_id = name if name is not None else now.session_id
                self._join(r)
                return
            self._supersede(r)
        elif self.sessions and self.ahead and name is not None:
            last = self.sessions[-1]
            ended = last.end_ms is not None and last.on_time and r["ts_ms"] - last.last_ms <= DAY_MS
            if ended and name == last.session_id:
                last.hold |= HoldReason.CLOCK_AHEAD
        backwards = self._clock_went_back(r)
        self._begin(r, explicit=True)
        if backwards and self.open:
            self.open.hold |= HoldReason.ENDED_BEFORE_START
            self.close(EndReason.ENDED, r["ts_ms"])

    def _clock_went_back(self, r: Reading) -> bool:
        end = self.orphan
        if end is None or r["ts_ms"] - end["ts_ms"] > DAY_MS:
            return False
        mine, its = r["session_id"], naming(end)
        if r["seq"] is not None and end["seq"] is not None:
            return bool(r["seq"] < end["seq"] and (mine == its or mine is None or its is None))
        return r["seq"] is None and end["seq"] is None and its is not None and mine == its

    def _end(self, r: Reading) -> None:
        if self.open:
            self._join(r, may_free=False)
            self.close(EndReason.ENDED, r["ts_ms"])
            return
        last = self.sessions[-1] if self.sessions else None
        again = last is not None and last.end_ms is not None and naming(r) in (None, last.session_id)
        if not again:
            self.orphan = r

    def _sample(self, r: Reading) -> None:
        name = naming(r)
        if self.open and name is not None and name != self.open.session_id:
            if self.open.session_id is None:
                self.open.session_id = name
            elif not self.open.explicit:
                self._supersede(r)
        if self.open:
            self._join(r)
        elif self._may_begin(r):
            self._begin(r, explicit=False)

    def _may_begin(self, r: Reading) -> bool:
        last = self.sessions[-1] if self.sessions else None
        ended = last is not None and last.end_ms is not None
        trailing = ended and last is not None and r["ts_ms"] - last.last_ms < 60_000
        opening, drawing = r["status"] in OPENING, (r["power_mw"] or 0) > 0
        name = naming(r)
        if name is None:
            return opening and not trailing
        if r["status"] in FREEING:
            return False
        if ended and last is not None and name == last.session_id:
            return (opening or drawing) and not trailing
        return True

    def _begin(self, r: Reading, *, explicit: bool) -> None:
        name = r["session_id"] if explicit else naming(r)
        self.open = Session(r["ts_ms"], r["ts_ms"], name, explicit, ahead=self.ahead)
        self.orphan = None
        self._join(r)

    def _join(self, r: Reading, *, may_free: bool = True) -> None:
        now = self.open
        assert now is not None
        now.members.append(r)
        now.last_ms, now.on_time = r["ts_ms"], not self.ahead
        if self.ahead and r["session_event"] == SessionEvent.STARTED:
            now.start_ahead = True
            if not now.ahead:
                now.hold |= HoldReason.CLOCK_AHEAD
        elif now.start_ahead and now.on_time:
            now.hold |= HoldReason.CLOCK_AHEAD
        if r["session_id"] not in (None, now.session_id):
            self.foreign.add(id(r))
        if r["energy_mwh"] is not None:
            now.first_register = r["energy_mwh"] if now.first_register is None else now.first_register
            now.delivered |= r["energy_mwh"] > now.first_register
        drawing = (r["power_mw"] or 0) > 0
        now.proven |= now.explicit or r["status"] in OPENING or drawing or now.delivered
        later = now.explicit and r["ts_ms"] > now.start_ms
        if may_free and r["status"] in FREEING and (now.occupied or later):
            self.close(EndReason.FREED, r["ts_ms"])
        now.occupied |= r["status"] in OCCUPYING or drawing

    def _supersede(self, r: Reading) -> None:
        assert self.open is not None
        self.open.superseded_by = r
        self.close(EndReason.SUPERSEDED)

    def close(self, reason: int, end_ms: int | None = None) -> None:
        assert self.open is not None
        self.open.end_ms, self.open.reason = end_ms, reason
        if self.open.proven:
            self.sessions.append(self.open)
        self.open = None


def fault_codes(r: Reading) -> tuple[str | None, str | None]:
    codes = json.loads(r["extra"] or "{}")
    error_code, vendor_error_code = codes.get("error_code"), codes.get("vendor_error_code")
    return None if error_code == "NoError" else error_code or None, vendor_error_code or None


def naming(r: Reading) -> str | None:
    return None if r["session_id"] in PLACEHOLDERS and r["session_event"] != SessionEvent.STARTED else r["session_id"]


class Meter:
    """Energy of one segment. `base`: the connector's last accepted register before it, and its moment."""

    def __init__(
        self,
        power_max_mw: int,
        base: tuple[int, int] | None = None,
        series: int | None = None,
        *,
        session: bool = True,
        before_uj: int = 0,
    ) -> None:
        """`before_uj`: integrated in the connector's session before, if no register was accepted since."""
        self.before_uj = before_uj
        self.begin_ms: int | None = None
        self.powered = False
        self.late_mwh = self.unsure_uj = 0
        self.power_max_mw, self.base, self.series, self.session = power_max_mw, base, series, session
        self.first: int | None = None
        self.earlier: tuple[int, int] | None = None  # the last accepted register of an earlier moment than base
        self.candidate: tuple[int, int] | None = None
        self.old: tuple[int, int, int, int] | None = None  # register, moment, counted and rejected at the reset
        self.at_ms: int | None = None
        self.power_mw: int | None = None  # holds
        self.power_ms: int | None = None
        self.peak_mw = 0
        self.counted_mwh = self.head_uj = self.tail_uj = self.candidate_tail_uj = self.power_uj = 0
        self.gap_ms = self.power_gap_ms = 0
        self.export_mwh = 0
        self.export_last: tuple[int, int] | None = None  # the last accepted register, and its moment
        self.export_candidate: tuple[int, int] | None = None
        self.hold = 0

    def plausible(self, rise_mwh: int, dt_ms: int, peak_mw: int) -> bool:
        dt_ms = min(dt_ms, 7 * DAY_MS)
        if not 0 <= rise_mwh <= dt_ms * self.power_max_mw // UJ_PER_MWH + 100_000:
            return False
        if peak_mw > 0 and dt_ms <= 15 * 60_000:
            return rise_mwh <= dt_ms * peak_mw // UJ_PER_MWH * 4 + 1_000_000
        return True

    def add(self, r: Reading) -> tuple[Quality, int, int, int]:
        """Flags; what the register accounts for in the session, outside and rejected, mWh."""
        ts = r["ts_ms"]
        self.begin_ms = ts if self.begin_ms is None else self.begin_ms
        flags = Quality(0)
        self.powered = self.power_ms is not None  # before this reading
        if self.power_ms is not None:
            self.gap_ms = max(self.gap_ms, ts - self.power_ms)
            if (self.power_mw or 0) > 0:
                self.power_gap_ms = max(self.power_gap_ms, ts - self.power_ms)
            if r["power_mw"] is not None and r["power_mw"] <= self.power_max_mw:
                self.unsure_uj += self.unsure(r["power_mw"], ts - self.power_ms)
        if self.at_ms is not None:
            area = max(self.power_mw or 0, 0) * min(ts - self.at_ms, DAY_MS)
            self.tail_uj, self.power_uj = self.tail_uj + area, self.power_uj + area
        self.at_ms = ts
        if r["power_mw"] is not None and r["power_mw"] > self.power_max_mw:
            flags |= Quality.IMPLAUSIBLE_POWER
            self.hold |= HoldReason.POWER_IMPLAUSIBLE
        elif r["power_mw"] is not None:
            self.power_mw, self.power_ms = r["power_mw"], ts
            self.peak_mw = max(self.peak_mw, r["power_mw"])
        if (export := r["energy_export_mwh"]) is not None:
            flags |= self._export(export, ts)
        if r["energy_mwh"] is None:
            return flags, 0, 0, 0
        more, *accounted = self._register(r["energy_mwh"], ts)
        return (flags | more, *accounted)  # type: ignore[return-value]

    def _export(self, register: int, ts: int) -> Quality:
        base, base_ts = self.export_last or (register, ts)
        if base - 1_000 < register < base and register % 1_000 == 0:
            register = base
        if not self.plausible(register - base, ts - base_ts, 0):
            candidate, candidate_ts = self.export_candidate or (register, ts)
            elsewhere = candidate > base or candidate * 2 < base
            reset = elsewhere and register > candidate
            if not (reset and self.plausible(register - candidate, ts - candidate_ts, 0)):
                self.export_candidate = register, ts
                return Quality.EXPORT_IMPLAUSIBLE
            if candidate > base > 0:
                self.hold |= HoldReason.REGISTER_LEAPT
            base = candidate
        self.export_mwh += register - base
        self.export_last, self.export_candidate = (register, ts), None
        return Quality(0)

    def _register(self, register: int, ts: int) -> tuple[Quality, int, int, int]:
        if self.base is None:
            if self.session and not self.powered and self.begin_ms is not None and ts > self.begin_ms:
                self.late_mwh = 100_001
            self._accept(register, ts, earlier=None)
            return Quality(0), 0, 0, 0
        base, base_ts = self.base
        if base - 1_000 < register < base and register % 1_000 == 0:
            register = base  # written in whole Wh: the meter has not fallen
        since, since_ts = (self.earlier or self.base) if ts == base_ts else self.base
        own = 0 if ts == base_ts else self.peak_mw
        if register >= base and self.plausible(register - since, ts - since_ts, own):
            mine = self.session and self.first is not None
            if self.first is None and self.session and self.begin_ms is not None and ts > self.begin_ms:
                most = min(ts - self.begin_ms, 7 * DAY_MS) * self.power_max_mw // UJ_PER_MWH + 100_000
                self.late_mwh = min(register - base, most)
            self.counted_mwh += register - base if mine or not self.session else 0
            self._accept(register, ts, earlier=self.earlier if ts == base_ts else self.base)
            return Quality(0), *self._owned(register - base, mine), 0
        if self.session and self.first is None and register == self.series:
            self._accept(register, ts, earlier=self.earlier if ts == base_ts else None)
            return Quality(0), 0, 0, 0
        if self.old is not None and self.plausible(register - self.old[0], ts - self.old[1], 0):
            old, old_ts, counted, rejected = self.old
            missing = counted + register - old - self.counted_mwh
            if missing < 0 and self.session:
                self.hold |= HoldReason.REGISTERS_MIXED
            self.counted_mwh += max(missing, 0)
            self.old = None
            self._accept(register, ts, earlier=self.earlier if ts == base_ts else (old, old_ts))
            return Quality.METER_RESET, *self._owned(max(missing, 0), self.session), -rejected
        if self.candidate is not None:
            candidate, candidate_ts = self.candidate
            elsewhere = candidate > base or candidate * 2 < base
            if (
                elsewhere
                and register > candidate
                and self.plausible(register - candidate, ts - candidate_ts, self.peak_mw)
            ):
                leap = max(candidate - base, 0) if base != 0 else 0
                if leap and self.session and self.first is not None:
                    self.hold |= HoldReason.REGISTER_LEAPT
                self.old = (base, base_ts, self.counted_mwh, leap)
                self.counted_mwh += register - candidate
                if base == 0 and self.first == 0:
                    self.first = candidate
                self._accept(register, ts, earlier=self.earlier if ts == base_ts else self.candidate, reset=candidate)
                return Quality.METER_RESET, *self._owned(register - candidate, self.session), leap
        self.candidate, self.candidate_tail_uj = (register, ts), self.tail_uj
        doubt = Quality.METER_ROLLBACK if register < base else Quality.IMPLAUSIBLE_POWER
        return Quality.PLACEHOLDER_ZERO if register == 0 else doubt, 0, 0, 0

    @staticmethod
    def _owned(rise_mwh: int, mine: bool) -> tuple[int, int]:
        return (rise_mwh, 0) if mine else (0, rise_mwh)

    def _accept(self, register: int, ts: int, *, earlier: tuple[int, int] | None, reset: int | None = None) -> None:
        if self.first is None:
            self.first = register if reset is None else reset
            self.head_uj += self.tail_uj if reset is None else self.candidate_tail_uj
        self.base, self.earlier, self.candidate = (register, ts), earlier, None
        self.tail_uj, self.peak_mw = 0, max(self.power_mw or 0, 0)

    @property
    def energy_uj(self) -> int:
        return self.counted_mwh * UJ_PER_MWH + self.head_uj + self.tail_uj

    def unsure(self, power_mw: int, gap_ms: int) -> int:
        """What need not have been of the energy of the power that held, until this power came."""
        if gap_ms <= 20 * 60_000:
            return 0
        held = max(self.power_mw or 0, 0)
        least = min(held, max(power_mw, 0)) if gap_ms <= HOUR_MS else 0
        return min(gap_ms, 7 * DAY_MS) * (held - least)

    def decides(self, r: Reading, ended_ms: int) -> int | None:
        """The register of a reading after the session, if it shows what the meter rose by at its end."""
        register = r["energy_mwh"]
        if register is None or self.base is None or r["ts_ms"] - ended_ms > DAY_MS:
            return None
        base, base_ts = self.base
        if base - 1_000 < register < base and register % 1_000 == 0:
            register = base
        return register if self.plausible(register - base, r["ts_ms"] - base_ts, 0) else None

    def _missing(self, end: "End", nothing_mwh: int) -> bool:
        """Whether more may be the session's than was said of it."""
        if self.base is None or self.energy_uj // UJ_PER_MWH > 100_000 or self.export_mwh:
            return False
        since = self.base[1] if self.first is not None else self.begin_ms or 0
        end_ms = max(self.at_ms or 0, end.next_ms or 0)
        nothing = self.energy_uj == 0
        of_its_end = end.later is not None and end.later[0] == end.next_ms
        if nothing and not of_its_end:
            said = since if self.power_ms is None else max(since, self.power_ms)
            if end.reason == EndReason.TIMEOUT or end_ms - said > 120_000:
                return True
        if end.later is None:
            return False
        later_ms, register = end.later
        most = self.most(end_ms - since)
        if of_its_end or end.reason == EndReason.TIMEOUT:  # it may have gone on until then
            most = self.most(later_ms - since) + 100_000
        elif end_ms == since:  # its own register closed it
            return False
        powered = self.tail_uj + (self.before_uj if self.first is None else 0)
        rest = min(register - self.base[0], most) - 3 * (powered // UJ_PER_MWH)
        return rest > (max(nothing_mwh, 999) if of_its_end and nothing else 100_000)

    def most(self, dt_ms: int) -> int:
        """What the connector delivers in this time."""
        return min(dt_ms, 7 * DAY_MS) * self.power_max_mw // UJ_PER_MWH

    def reasons(self, end: "End", nothing_mwh: int = 0) -> int:
        """Why a session that ends so is held. `nothing_mwh`: what the operator calls nothing delivered."""
        hold = self.hold & ~HoldReason.POWER_IMPLAUSIBLE
        explained = (self.head_uj + self.before_uj) // UJ_PER_MWH
        if self.late_mwh - 3 * explained > max(100_000, min(1_000_000, self.energy_uj // UJ_PER_MWH)):
            hold |= HoldReason.REGISTER_LATE
        if self.candidate is not None or self.export_candidate is not None:
            hold |= HoldReason.REGISTER_UNCONFIRMED
        if self._missing(end, nothing_mwh):
            hold |= HoldReason.REGISTER_MISSING
        if self.first is None:
            hold |= self.hold & HoldReason.POWER_IMPLAUSIBLE
            return hold | (HoldReason.SILENT if self.power_gap_ms >= HOUR_MS else 0)
        gap = max(self.gap_ms, (self.at_ms or 0) - self.power_ms) if self.power_ms is not None else None
        low, high = sorted((self.counted_mwh + self.head_uj // UJ_PER_MWH, self.power_uj // UJ_PER_MWH))
        if gap is not None and gap <= 20 * 60_000 and high > 3 * low + 1_000_000:
            hold |= HoldReason.REGISTER_AGAINST_POWER
        registered = self.counted_mwh + self.head_uj // UJ_PER_MWH
        if self.power_ms is not None:
            sure = self.power_uj - self.unsure_uj - self.unsure(0, (self.at_ms or 0) - self.power_ms)
            if sure // UJ_PER_MWH > 3 * registered + 1_000_000:
                hold |= HoldReason.REGISTER_AGAINST_POWER
        return hold


@dataclass
class End:
    """How a session ended."""

    reason: int
    next_ms: int | None = None  # of the reading that superseded it
    later: tuple[int, int] | None = None  # the first register since that shows what the meter rose by, and its moment


@dataclass
class Found:
    """What the pass finds of one reading."""

    reading: Reading
    session: Session | None
    flags: Quality
    in_session_mwh: int
    outside_mwh: int
    rejected_mwh: int


def _place(r: Reading) -> tuple[int, ...]:
    """The order of the timeline."""
    low = -(2**63)
    return tuple(low if r[name] is None else r[name] for name in ("ts_ms", "seq", "part", "boot"))


class Connector:
    """One connector: its readings, and the pass over them."""

    def __init__(self, params: StepParams, rated_mw: int = 0) -> None:
        self.params = params
        self.rated_mw = rated_mw
        self.judge = Judge()
        self.readings: list[tuple[Reading, Quality]] = []  # and the flags of its arrival
        self.arrival_ms = 0
        self.timed_out = False

    def statuses(self) -> list[tuple[int, int, int, str | None, str | None]]:
        """The status intervals in order: since, place among those of the moment, status, and the two fault codes."""
        intervals: list[tuple[int, int, int, str | None, str | None]] = []
        for r, _ in sorted(self.readings, key=lambda one: _place(one[0])):
            statement = (int(r["status"]), *fault_codes(r))
            if r["status"] != Status.NONE and (not intervals or intervals[-1][2:] != statement):
                place = sum(since_ms == r["ts_ms"] for since_ms, *_ in intervals)
                intervals.append((r["ts_ms"], place, *statement))
        return intervals

    def timeline(self) -> tuple[list[Session], list[Found]]:
        """All sessions in order, and every reading in order."""
        readings = sorted(self.readings, key=lambda one: _place(one[0]))
        membership = Membership(self.params.session_timeout_ms)
        for r, arrival in readings:
            membership.add(r, ahead=bool(arrival & Quality.CLOCK_SKEW))
        if self.timed_out and membership.open:
            membership.close(EndReason.TIMEOUT)
        sessions = membership.sessions
        if membership.open and membership.open.proven:
            sessions = [*sessions, membership.open]
        session_of = {id(r): session for session in sessions for r in session.members}
        found: list[Found] = []
        current: Session | None = None
        meter = Meter(self.params.power_max_mw, session=False)
        for index, (r, arrival) in enumerate(readings):
            session = session_of.get(id(r))
            if index and session is not current:
                series = meter.first if meter.session and meter.first is not None else meter.series
                power = meter.power_max_mw if session is None else self.rated_mw or self.params.power_max_mw
                billed = meter.before_uj if meter.first is None else 0
                if meter.session:
                    billed = meter.head_uj + meter.tail_uj
                meter = Meter(power, meter.base, series, session=session is not None, before_uj=billed)
            elif not index and session is not None:
                meter = Meter(self.rated_mw or self.params.power_max_mw)
            current = session
            if session is not None:
                session.meter = meter
            flags, own, outside, rejected = meter.add(r)
            flags |= arrival
            if session is None:
                stirring = (r["power_mw"] or 0) > 0 or r["session_event"] == SessionEvent.ENDED or naming(r) is not None
                flags |= Quality.OUTSIDE_SESSION if stirring or outside else Quality(0)
            else:
                flags |= Quality.FOREIGN_ID if id(r) in membership.foreign else Quality(0)
                if r["energy_mwh"] is None and r["power_mw"] is not None:
                    flags |= Quality.ESTIMATED
            found.append(Found(r, session, flags, own, outside, rejected))
        return sessions, found

    def reasons(self, session: Session, sessions: list[Session]) -> int:
        """Why one of these sessions of the connector is held."""
        if session.reason == EndReason.OPEN:
            return 0
        assert session.meter is not None
        after = sessions.index(session) + 1
        following = sessions[after].members if after < len(sessions) else []
        readings = sorted((r for r, _ in self.readings), key=_place)
        places = {id(r): place for place, r in enumerate(readings)}
        stop = places[id(following[-1])] + 1 if following else len(readings)
        by = session.superseded_by
        end = End(session.reason, None if by is None else by["ts_ms"])
        for r in readings[places[id(session.members[-1])] + 1 : stop]:
            register = session.meter.decides(r, session.last_ms)
            if register is not None:
                end.later = r["ts_ms"], register
                break
        return int(session.hold | session.meter.reasons(end, self.params.void_mwh))


class Reference:
    """A partition."""

    def __init__(self, params: StepParams, rated_mw: dict[tuple[str, int], int] | None = None) -> None:
        self.params = params
        self.rated_mw = rated_mw or {}
        self.connectors: dict[tuple[str, int], Connector] = {}
        self.newest: dict[str, int] = {}
        self.counts = {"stored": 0, "duplicate": 0, "quarantined": 0}

    def add(self, r: Reading) -> None:
        place = r["station_id"], r["connector_id"]
        connector = self.connectors.setdefault(place, Connector(self.params, self.rated_mw.get(place, 0)))
        r = dict(r)
        verdict = connector.judge.verdict(r)
        self.counts[{"fresh": "stored", "duplicate": "duplicate", "conflict": "quarantined"}[verdict]] += 1
        if verdict != "fresh":
            return
        flags = Quality(0)
        newest = self.newest.get(r["station_id"])
        if newest is not None and r["ts_ms"] < newest - self.params.lateness_ms:
            flags |= Quality.LATE
        if r["ts_ms"] > r["received_ms"] + self.params.skew_tolerance_ms:
            flags |= Quality.CLOCK_SKEW
        else:
            self.newest[r["station_id"]] = max(newest or 0, r["ts_ms"])
        connector.arrival_ms = max(connector.arrival_ms, r["received_ms"])
        connector.readings.append((r, flags))

    def tick(self, now_ms: int) -> None:
        """Time has passed and nothing came."""
        for connector in self.connectors.values():
            connector.timed_out = now_ms - connector.arrival_ms >= self.params.session_timeout_ms
