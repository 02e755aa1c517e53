"""The readings of a pass over connectors' timelines: those of the step and, where one comes late, the stored ones since
a checkpoint (docs/adr/0014)."""

from dataclasses import InitVar, dataclass, field, fields
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from schemas.quality import Quality
from schemas.reading import SessionEvent, Status
from streams.engine.batch import NO_NAME, PLACEHOLDERS, SessionIds
from streams.engine.readings import StepReadings
from streams.kernels import sessions
from streams.kernels.runs import I64, NULL, Bools, Runs, all_true, any_true, previous_in_run, rises, runs_of
from streams.kernels.sessions import Signals
from streams.state.partition import PartitionState

OPENING: Final = (Status.CHARGING, Status.SUSPENDED_EV, Status.SUSPENDED_EVSE)
OCCUPYING: Final = (*OPENING, Status.PREPARING, Status.FINISHING)
FREEING: Final = (Status.AVAILABLE, Status.RESERVED, Status.UNAVAILABLE)
ARRIVAL_FLAGS: Final = np.int64(Quality.CLOCK_SKEW | Quality.LATE)  # the others describe the place in the timeline
NEW: Final = -1


@dataclass(slots=True)
class Timeline:
    """Readings sorted by slot, each connector's in the order of its timeline; int64, NULL where there is nothing."""

    slot: I64
    ts_ms: I64
    boot: I64
    seq: I64
    part: I64
    given: I64  # fingerprint of the session_id that the device gave; 0: none
    energy_mwh: I64
    power_mw: I64
    current_ma: I64
    status: I64
    session_event: I64
    energy_export_mwh: I64
    flags: I64  # at first those of the arrival
    fingerprint: I64
    row: I64  # of the step's readings; NEW - 1 - n: the n-th stored reading
    as_arrived: bool = False  # the step's readings and no others, in their order
    names_nothing: bool = True  # whether a session id may be one that names nothing
    known_runs: InitVar[Runs | None] = None
    runs: Runs = field(init=False)  # of the slots

    def __post_init__(self, known_runs: Runs | None) -> None:
        self.runs = runs_of(self.slot) if known_runs is None else known_runs

    def __len__(self) -> int:
        return len(self.slot)

    def where(self, chosen: Bools | I64) -> "Timeline":
        """The chosen rows, in that order (a copy)."""
        return Timeline(**{name: getattr(self, name)[chosen] for name in COLUMNS})

    @property
    def stored(self) -> Bools:
        """The rows that are stored already."""
        stored: Bools = self.row < 0
        return stored

    def signals(self, main_meter: Bools) -> Signals:
        """What they mean for sessions. `main_meter`: of each run."""
        signs = _SIGNS_OF_STATUS.take(self.status) | ((self.power_mw > 0) * np.uint8(sessions.DRAWING))
        if any_true(self.session_event):
            signs |= _SIGNS_OF_EVENT.take(self.session_event)
        if any_true(self.flags):
            signs |= ((self.flags & Quality.CLOCK_SKEW) != 0) * np.uint8(sessions.AHEAD)
        naming = self.given
        if self.names_nothing:
            placeholder = np.isin(self.given, PLACEHOLDERS) & (self.session_event != SessionEvent.STARTED)
            naming = np.where(placeholder, 0, self.given)
        return Signals(
            slot=self.slot,
            ts_ms=self.ts_ms,
            seq=self.seq,
            given=self.given,
            name=naming,
            signs=signs,
            register_mwh=self.energy_mwh,
            main_meter=main_meter,
        )


COLUMNS: Final = tuple(f.name for f in fields(Timeline) if f.init and f.name not in ("as_arrived", "names_nothing"))


def _signs_of_status() -> NDArray[np.uint8]:
    signs = np.zeros(len(Status), np.uint8)
    signs[list(OPENING)] |= sessions.OPENING
    signs[list(OCCUPYING)] |= sessions.OCCUPYING
    signs[list(FREEING)] |= sessions.FREEING
    return signs


_SIGNS_OF_STATUS: Final = _signs_of_status()
_SIGNS_OF_EVENT: Final = np.zeros(len(SessionEvent), np.uint8)
_SIGNS_OF_EVENT[SessionEvent.STARTED], _SIGNS_OF_EVENT[SessionEvent.ENDED] = sessions.STARTED, sessions.ENDED


def timeline_of(rows: StepReadings, *, names_nothing: bool) -> Timeline:
    """The step's readings, in order of arrival inside a connector."""
    columns: dict[str, Any] = {name: getattr(rows, name) for name in COLUMNS if name not in ("given", "row")}
    return Timeline(
        **columns,
        given=rows.name,
        row=np.arange(len(rows)),
        as_arrived=True,
        names_nothing=names_nothing,
        known_runs=rows.runs,
    )


def in_order(timeline: Timeline) -> Timeline:
    """Sorted, if it is not yet."""
    runs = timeline.runs
    if rises(timeline.ts_ms, runs):
        return timeline
    before = previous_in_run(timeline.ts_ms, runs, np.full(len(runs.start), NULL))
    seq = previous_in_run(timeline.seq, runs, np.full(len(runs.start), NULL))
    if all_true(_follows(timeline.ts_ms, timeline.seq, before, seq)):
        return timeline
    return _sorted(timeline)


def late_runs(timeline: Timeline, state: PartitionState) -> Bools:
    """(runs,) connectors with a reading that does not follow the newest before this step. `timeline` is in order."""
    runs = timeline.runs
    first = runs.start
    newest_ms, newest_seq = state.newest_ts_ms[runs.key], state.newest_seq[runs.key]
    return ~_follows(timeline.ts_ms[first], timeline.seq[first], newest_ms, newest_seq)


def _follows(ts_ms: I64, seq: I64, before_ms: I64, before_seq: I64) -> Bools:
    follows: Bools = (ts_ms > before_ms) | (
        (ts_ms == before_ms) & ((seq > before_seq) | ((seq == NULL) & (before_seq == NULL)))
    )
    return follows


class SessionNames:
    """The texts of session ids by row of a timeline: from the step's batch, or stored."""

    def __init__(self, rows: StepReadings, session_ids: SessionIds) -> None:
        self._rows, self._session_ids = rows, session_ids
        self.stored: list[str | None] = []  # of the stored readings

    def __getitem__(self, row: int) -> str | None:
        """By `Timeline.row`."""
        if row < 0:
            return self.stored[NEW - row - 1]
        code = int(self._rows.name_code[row])
        return None if code == NO_NAME else self._session_ids[code]


def concatenated(parts: list[Timeline]) -> Timeline:
    """All rows of these, in order of the timelines."""
    columns: dict[str, Any] = {name: np.concatenate([getattr(part, name) for part in parts]) for name in COLUMNS}
    whole = Timeline(**columns)
    return _sorted(whole)


def _sorted(timeline: Timeline) -> Timeline:
    order = np.lexsort((timeline.boot, timeline.part, timeline.seq, timeline.ts_ms, timeline.slot))
    return timeline.where(order)
