"""What a partition remembers between flushes: columns of numpy arrays, one row (slot) a connector."""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np

from streams.effects import Columns, StepParams
from streams.kernels.dedupe import WINDOW
from streams.kernels.runs import I64, MAX_I64, NULL, Bools, any_true, distinct, rows_where
from streams.kernels.session_energy import ENERGY_COLUMNS, SessionEnergy
from streams.kernels.tariff_usage import TariffUsage
from streams.kernels.windows import WINDOW_MS
from streams.state.columns import (
    COLUMNS,
    COMPONENT_COLUMNS,
    USAGE_COLUMNS,
    StateColumns,
    copy_used,
    zeros,
)
from streams.state.connector_index import ConnectorIndex
from streams.state.session_charges import SessionCharges
from streams.state.window_buffer import WindowBuffer
from streams.tariffs.compiled import CompiledTariffs

SLOTS_AT_FIRST: Final = 64
SILENCE_CHECK_MS: Final = 5_000  # between two looks for silent stations, which read a value of every connector
SESSION_KEY_BITS: Final = 48  # of the counter; the partition stands above it: 2**48 sessions a partition


@dataclass(slots=True)
class ArrivedFrames:
    """Which of a source's numbered frames have arrived: each counts once, and a hole shows.

    A hole may stay for ever (a log that was purged, a backup that was restored); it costs no more for what comes after.
    """

    floor: int = -1  # every frame up to this number has arrived
    # Arrived above a hole: first and last of runs, ascending.
    beyond: list[tuple[int, int]] = field(default_factory=list)
    items_total: int = 0
    items_received: int = 0

    def take(self, number: int, items: int, items_total: int) -> bool:
        """Record a frame's arrival. False: it had arrived before."""
        if number == self.floor + 1:
            self.floor = number
            if self.beyond and self.beyond[0][0] == number + 1:
                self.floor = self.beyond.pop(0)[1]
        elif self.beyond and self.beyond[-1][1] == number - 1:  # as it is while nothing more is lost
            self.beyond[-1] = self.beyond[-1][0], number
        elif number <= self.floor or not _add_to_runs(self.beyond, number):
            return False
        self.items_total = max(self.items_total, items_total)
        self.items_received += items
        return True

    def newest_beyond(self, count_max: int) -> list[int]:
        """The highest numbers that arrived above a hole, at most so many, ascending."""
        numbers: list[int] = []
        for first, last in reversed(self.beyond):
            numbers += range(last, max(first - 1, last - count_max + len(numbers)), -1)
        return numbers[::-1]


def runs_of(numbers: Iterable[int]) -> list[tuple[int, int]]:
    """First and last of each run of consecutive numbers."""
    runs: list[tuple[int, int]] = []
    for number in sorted(numbers):
        _add_to_runs(runs, number)
    return runs


def _add_to_runs(runs: list[tuple[int, int]], number: int) -> bool:
    """False: it is in one of them."""
    at = bisect_left(runs, (number + 1,))  # the first run that begins above it
    if at and number <= runs[at - 1][1]:
        return False
    follows = at > 0 and runs[at - 1][1] == number - 1
    precedes = at < len(runs) and runs[at][0] == number + 1
    first = runs[at - 1][0] if follows else number
    last = runs[at][1] if precedes else number
    runs[at - follows : at + precedes] = [(first, last)]
    return True


class StateChanges(NamedTuple):
    """What of the state a body of its binary form holds: what changed since the last one, or everything."""

    slots: I64
    entries: I64  # of the dedupe windows
    sources: Iterable[str]
    first_new: int  # the first slot that no earlier body has
    buffered: tuple[bool, Columns]  # WindowBuffer.take_changes
    pending: I64 | None  # None: unchanged


class PartitionState(StateColumns):
    """The state of one partition. Columns have at least `slots` rows; kernels index them by slot."""

    energy: SessionEnergy  # the running energy of the segments of all slots: the columns themselves

    def __init__(self, partition: int) -> None:
        self.partition = partition
        self.connector_index = ConnectorIndex()
        self.session_name: list[str | None] = []  # the device's name of the open session, by slot
        self.station_newest_ms: I64 = np.full(SLOTS_AT_FIRST, NULL, np.int64)
        self.window_buffer = WindowBuffer()  # what readings add to windows that are not merged yet
        self.windows_merged_ms = 0  # when a step last merged windows, by its clock; not in the binary form
        self.pending: I64 = np.empty(0, np.int64)  # windows merged and not yet emitted: slot << 32 | minute
        self.stale: I64 = np.empty(0, np.int64)  # slots whose open session is ahead of its row, longest waiting first
        self.sources: dict[str, ArrivedFrames] = {}
        self.sessions_made = 0
        self.rows_written_ms = 0  # when a step last wrote rows of running sessions, by arrival; not in the binary form
        self.tariffs = CompiledTariffs()  # not in the binary form, for pricing has them
        self.tariffs_compiled = False  # whether those of all open sessions are; loading leaves that to a step
        self.tariffs_max = 0  # beyond so many, those without an open session are dropped; set with `tariffs_compiled`
        self.volume: I64 = np.zeros((0, 1), np.int64)  # TariffUsage.volume of the open sessions
        self.since_ms: I64 = np.zeros((0, 1), np.int64)
        # Of silence, by the clock of steps; not in the binary form, but for the column `silent_since_ms`.
        self.listening_since_ms: int | None = None  # since when steps are made here
        # No station falls silent earlier than the usual time after this.
        self.heard_oldest_ms = 0
        self.silence_checked_ms = 0
        self.silences_after: dict[str, int] = {}  # of stations of all partitions with an interval of their own, ms
        self.silences_asked_ms: int | None = None  # when the registry was asked for these
        self._silent_stations: set[int] | None = None
        # By number of the station, as many as have been asked for; not in the binary form.
        self.claimed: Bools = np.empty(0, np.bool_)  # whether it is registered
        self.claim_asked_ms: I64 = np.empty(0, np.int64)  # when that was asked
        self._touched: list[I64] = []
        self._touched_entries: list[I64] = []
        self._touched_sources: set[str] = set()
        self._saved_slots = 0
        self._saved_pending: I64 | None = None  # arrays of pending windows are replaced, never written to
        self._capacity = 0
        self._reserve(SLOTS_AT_FIRST)

    # -- slots ------------------------------------------------------------------------------------------------------

    @property
    def slots(self) -> int:
        """How many are taken."""
        return len(self.connector_index)

    def add_connectors(self, connectors: Sequence[tuple[str, int]], keys: Sequence[int]) -> None:
        """Make a slot for each (station_id, connector_id), which have these connector keys in the store."""
        first = self.slots
        self.connector_index.add(connectors)
        self.session_name += [None] * len(connectors)
        self._reserve(self.slots)
        self.connector_key[first : self.slots] = keys

    def _reserve(self, slots: int) -> None:
        """Room for so many, an eighth more than there was: what is free is memory that the process holds."""
        stations = len(self.connector_index.stations)
        if stations > len(self.station_newest_ms):
            grown = np.full(max(stations, len(self.station_newest_ms) * 9 // 8), NULL, np.int64)
            grown[: len(self.station_newest_ms)] = self.station_newest_ms
            self.station_newest_ms = grown
        if slots <= self._capacity:
            return
        self._capacity = max(slots, self._capacity * 9 // 8, SLOTS_AT_FIRST)
        for column in COLUMNS.values():  # one after the other: never all of them twice
            values = column.allocate(self._capacity)
            if (old := getattr(self, column.name, None)) is not None:
                copy_used(values, slice(len(old)), old)
            setattr(self, column.name, values)
        self.energy = SessionEnergy(*(getattr(self, name) for name in ENERGY_COLUMNS))
        self.widen(self.volume.shape[1])

    def widen(self, width: int) -> None:
        """Room for tariffs of so many components, for all slots."""
        shape = self._capacity, max(width, self.volume.shape[1])
        if self.volume.shape == shape:
            return
        for name in COMPONENT_COLUMNS:
            old, values = getattr(self, name), zeros(shape, np.int64)
            copy_used(values, (slice(old.shape[0]), slice(old.shape[1])), old)
            setattr(self, name, values)

    # -- what a step needs ------------------------------------------------------------------------------------------

    def charges(self, slots: I64) -> SessionCharges:
        """Copies of all that decides what the segments of these slots cost."""
        return self.charges_with(slots, self.energy.at(slots))

    def charges_with(self, slots: I64, energy: SessionEnergy) -> SessionCharges:
        """The same with this energy."""
        tariff_key = self.open_tariff[slots]
        if not any_true(tariff_key):  # no usage is recorded of sessions without a tariff
            return SessionCharges.fresh(self.tariffs, tariff_key, self.metered_from_ms[slots], energy)
        self.widen(self.tariffs.width)
        usage = TariffUsage(
            tariff=self.tariffs.places(tariff_key),
            start_ms=self.metered_from_ms[slots],  # not open_start_ms, which may be the next session's by now
            volume=self.volume[slots],
            since_ms=np.where(self.since_ms[slots] != 0, self.since_ms[slots], MAX_I64),
            **{name: getattr(self, name)[slots].astype(np.int64) for name in USAGE_COLUMNS},
        )
        last_current_ma, last_kind = self.last_current_ma[slots], self.last_kind[slots].astype(np.int64)
        register_power_mw, open_since_ms = self.register_power_mw[slots], self.open_since_ms[slots]
        return SessionCharges(energy, tariff_key, last_current_ma, last_kind, register_power_mw, open_since_ms, usage)

    def put_charges(self, slots: I64, charges: SessionCharges) -> None:
        """Write charges back to these slots, one each."""
        self.energy.put(slots, charges.energy)
        self.put_usage(slots, charges)

    def put_usage(self, slots: I64, charges: SessionCharges) -> None:
        """The same of all but the energy."""
        if not (any_true(charges.tariff_key) or any_true(self.open_tariff[slots])):
            return
        usage = charges.usage
        self.widen(usage.volume.shape[1])
        self.open_tariff[slots], self.metered_from_ms[slots] = charges.tariff_key, usage.start_ms
        self.last_current_ma[slots], self.last_kind[slots] = charges.last_current_ma, charges.last_kind
        self.register_power_mw[slots] = charges.register_power_mw
        self.open_since_ms[slots] = charges.open_since_ms
        for name in USAGE_COLUMNS:
            getattr(self, name)[slots] = getattr(usage, name)
        rows = rows_where(charges.tariff_key != 0)
        if len(rows):
            slots, width = slots[rows], usage.volume.shape[1]
            self.volume[slots] = self.since_ms[slots] = 0  # of an earlier session with a longer tariff
            since_ms = usage.since_ms[rows]
            self.volume[slots, :width] = usage.volume[rows]
            self.since_ms[slots, :width] = np.where(since_ms == MAX_I64, 0, since_ms)

    def silent_stations(self) -> set[int]:
        """The numbers of the stations that are silent, to be changed by the caller together with `silent_since_ms`."""
        if self._silent_stations is None:
            silent = rows_where(self.silent_since_ms[: self.slots])
            self._silent_stations = set(self.connector_index.station[silent].tolist())
        return self._silent_stations

    def silence_due_ms(self, after_ms: int) -> int:
        """Before this moment no station can fall silent, or the last look for such is too near."""
        return max(self.heard_oldest_ms + after_ms, self.silence_checked_ms + SILENCE_CHECK_MS)

    def new_session_key(self) -> int:
        """The next session key: above 0, unique for ever."""
        self.sessions_made += 1
        return (self.partition << SESSION_KEY_BITS) | self.sessions_made

    def source(self, name: str) -> ArrivedFrames:
        """The frames of a source, to be changed by the caller."""
        self._touched_sources.add(name)
        return self.sources.setdefault(name, ArrivedFrames())

    def next_due_ms(self, params: StepParams) -> int | None:
        """The wall-clock moment at which a step is due though nothing arrives; None: no such moment."""
        if len(self.stale) or self.window_buffer.rows:
            return 0
        moments = []
        if len(self.pending):
            oldest_end_ms = (int((self.pending & 0xFFFF_FFFF).min()) + 1) * WINDOW_MS
            moments.append(oldest_end_ms + params.wall_cap_ms)
        is_open = self.open_key[: self.slots] != 0
        if any_true(is_open):
            moments.append(int(self.arrival_ms[: self.slots][is_open].min()) + params.session_timeout_ms)
        if (params.silent_after_ms or self.silences_after) and self.slots:
            moments.append(self.silence_due_ms(params.silent_after_ms))
        return min(moments) if moments else None

    # -- what is to be saved ----------------------------------------------------------------------------------------

    def touch(self, slots: I64, window_entries: I64) -> None:
        """Record what changed, for the next patch."""
        self._touched.append(slots)
        self._touched_entries.append(window_entries)

    def take_changes(self) -> StateChanges:
        """What changed since the last call."""
        slots = distinct(np.concatenate([*self._touched, np.arange(self._saved_slots, self.slots)]), self.slots)
        entries = distinct(np.concatenate([slots[:0], *self._touched_entries]), self.slots * WINDOW)
        pending = None if self.pending is self._saved_pending else self.pending
        sources, first_new = self._touched_sources, self._saved_slots
        self._touched, self._touched_entries, self._touched_sources = [], [], set()
        self.mark_saved()
        return StateChanges(slots, entries, sources, first_new, self.window_buffer.take_changes(), pending)

    def everything(self) -> StateChanges:
        """All of the state."""
        entries, buffered = rows_where(self.window), (True, self.window_buffer.columns())
        return StateChanges(np.arange(self.slots), entries, self.sources, 0, buffered, self.pending)

    def mark_saved(self) -> None:
        """All slots and pending windows are in bodies of the binary form."""
        self._saved_slots, self._saved_pending = self.slots, self.pending
