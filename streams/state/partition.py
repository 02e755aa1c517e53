"""What a partition remembers between flushes: columns of numpy arrays, one row (slot) a connector."""

from collections.abc import Iterable, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from streams.effects import StepParams
from streams.kernels.dedupe import WINDOW
from streams.kernels.energy import SessionEnergy
from streams.kernels.runs import FAR, I8, I16, I32, I64, NULL, U32, distinct
from streams.kernels.tariff_usage import TariffUsage
from streams.kernels.windows import WINDOW_MS
from streams.state.columns import CLOSED, COLUMNS, LANE_FIELDS, NARROW, SCALARS, WIDE, copy_used, zeros
from streams.state.directory import Directory
from streams.state.encoding import Changes, apply, encode
from streams.state.session_charges import SessionCharges
from streams.state.sources import Source
from streams.state.window_buffer import WindowBuffer
from streams.tariffs.compiled import CompiledTariffs

SLOTS_AT_FIRST: Final = 64
SESSION_KEY_BITS: Final = 48  # of the counter; the partition stands above it: 2**48 sessions a partition


class PartitionState:
    """The state of one partition. Columns are arrays of at least `slots` rows; kernels index them by slot."""

    boot: I64
    boot_max: I64
    boot_ts_ms: I64
    seq_max: I64
    ts_max_ms: I64
    bare_ts_max_ms: I64
    window: U32
    ts_window_ms: I64
    ts_window_hash: U32
    open_key: I64
    open_name: I64
    open_start_ms: I64
    open_last_ms: I64
    open_revision: I32
    open_occupied: I8
    open_flagged: I32
    closed_key: I64
    closed_name: I64
    closed_start_ms: I64
    closed_last_ms: I64
    closed_end_ms: I64
    closed_reason: I8
    closed_revision: I32
    connector_key: I32
    dirty: I8
    arrival_ms: I64
    live_ts_ms: I64
    live_status: I8
    live_flags: I16
    open_tariff: I64
    held_ma: I64
    held_kind: I8
    metered_from_ms: I64
    told_micros: I64
    told_ms: I64
    last_energy: I16
    last_time: I16
    flat: I16

    def __init__(self, partition: int) -> None:
        self.partition = partition
        self.directory = Directory()
        self.session_name: list[str | None] = []  # the device's name of the open session, by slot
        self.station_newest_ms: I64 = np.full(SLOTS_AT_FIRST, NULL, np.int64)
        self.held = WindowBuffer()  # what readings add to windows that are not merged yet
        self.windows_merged_ms = 0  # when a step last merged windows, by its clock; not in the binary form
        self.pending: I64 = np.empty(0, np.int64)  # windows merged and not yet emitted: slot << 32 | minute
        self.stale: I64 = np.empty(0, np.int64)  # slots whose open session is ahead of its row, longest waiting first
        self.sources: dict[str, Source] = {}
        self.sessions_made = 0
        self.rows_written_ms = 0  # when a step last wrote rows of running sessions, by arrival; not in the binary form
        self.tariffs = CompiledTariffs()  # compiled; not part of the binary form, for pricing has them
        self.tariffs_known = False  # whether those of all open sessions are compiled, which loading leaves to a step
        self.tariffs_max = 0  # beyond so many, those without an open session are forgotten; known with `tariffs_known`
        self.volume: I64 = np.zeros((0, 1), np.int64)  # (slots, width) Meters.volume of the open sessions
        self.since_ms: I64 = np.zeros((0, 1), np.int64)
        self._touched: list[I64] = []
        self._touched_entries: list[I64] = []
        self._touched_sources: set[str] = set()
        self._saved_slots = 0
        self._saved_pending: I64 | None = None  # arrays of pending windows are replaced, never written to
        self._capacity = 0
        self._reserve(SLOTS_AT_FIRST)

    @classmethod
    def fresh(cls, partition: int) -> "PartitionState":
        """The state of a partition that has seen nothing."""
        return cls(partition)

    # -- slots ------------------------------------------------------------------------------------------------------

    @property
    def slots(self) -> int:
        """How many are taken."""
        return len(self.directory)

    def add_connectors(self, connectors: Sequence[tuple[str, int]], keys: Sequence[int]) -> None:
        """Make a slot for each (station_id, connector_id), which have these connector keys in the store."""
        first = self.slots
        self.directory.add(connectors)
        self.session_name += [None] * len(connectors)
        self._reserve(self.slots)
        self.connector_key[first : self.slots] = keys

    def _allocate(self, name: str, capacity: int) -> NDArray[np.integer[Any]]:
        dtype = NARROW.get(name, np.int64)
        if start := SCALARS.get(name, 0):
            return np.full(capacity, start, dtype)
        width = WINDOW if name == "window" else WIDE.get(name, 1)
        return zeros((capacity, width) if name in CLOSED else capacity * width, dtype)

    def _reserve(self, slots: int) -> None:
        """Room for so many, an eighth more than there was: what is free is memory that the process holds."""
        stations = len(self.directory.stations)
        if stations > len(self.station_newest_ms):
            grown = np.full(max(stations, len(self.station_newest_ms) * 9 // 8), NULL, np.int64)
            grown[: len(self.station_newest_ms)] = self.station_newest_ms
            self.station_newest_ms = grown
        if slots <= self._capacity:
            return
        self._capacity = max(slots, self._capacity * 9 // 8, SLOTS_AT_FIRST)
        for name in (*COLUMNS, "window"):  # one after the other: never all of them twice
            column = self._allocate(name, self._capacity)
            if (held := getattr(self, name, None)) is not None:
                copy_used(column, slice(len(held)), held)
            setattr(self, name, column)
        self.widen(self.volume.shape[1])

    def widen(self, width: int) -> None:
        """Room for tariffs of so many components, for all slots."""
        shape = self._capacity, max(width, self.volume.shape[1])
        if self.volume.shape == shape:
            return
        held = self.volume, self.since_ms
        self.volume, self.since_ms = zeros(shape, np.int64), zeros(shape, np.int64)
        for column, old in zip((self.volume, self.since_ms), held, strict=True):
            copy_used(column, (slice(old.shape[0]), slice(old.shape[1])), old)

    # -- what a step needs ------------------------------------------------------------------------------------------

    def lanes(self, slots: I64) -> SessionEnergy:
        """Copies of the running energy of the open sessions of these slots."""
        return SessionEnergy(**{name: getattr(self, name)[slots].astype(np.int64, copy=False) for name in LANE_FIELDS})

    def put_lanes(self, slots: I64, lanes: SessionEnergy, rows: I64) -> None:
        """Write rows of `lanes` back to these slots."""
        for name in LANE_FIELDS:
            getattr(self, name)[slots] = getattr(lanes, name)[rows]

    def accounts(self, slots: I64) -> SessionCharges:
        """Copies of all that decides what the open sessions of these slots come to."""
        tariff_key = self.open_tariff[slots]
        if not tariff_key.any():  # nothing is kept of what nobody pays for
            return SessionCharges.fresh(self.tariffs, tariff_key, self.metered_from_ms[slots], self.lanes(slots))
        self.widen(self.tariffs.width)
        volume = self.volume[slots]
        meters = TariffUsage(
            tariff=self.tariffs.places(tariff_key),
            start_ms=self.metered_from_ms[slots],  # not open_start_ms, which may be the next session's by now
            last_energy=self.last_energy[slots].astype(np.int64),
            last_time=self.last_time[slots].astype(np.int64),
            flat=self.flat[slots].astype(np.int64),
            volume=volume,
            since_ms=np.where(self.since_ms[slots] != 0, self.since_ms[slots], FAR),
        )
        return SessionCharges(
            self.lanes(slots), tariff_key, self.held_ma[slots], self.held_kind[slots].astype(np.int64), meters
        )

    def put_accounts(self, slots: I64, accounts: SessionCharges, rows: I64) -> None:
        """Write rows of `accounts` back to these slots."""
        self.put_lanes(slots, accounts.lanes, rows)
        if not (accounts.tariff_key[rows].any() or self.open_tariff[slots].any()):
            return
        meters = accounts.meters
        self.widen(meters.volume.shape[1])
        self.open_tariff[slots], self.metered_from_ms[slots] = accounts.tariff_key[rows], meters.start_ms[rows]
        self.held_ma[slots], self.held_kind[slots] = accounts.held_ma[rows], accounts.held_kind[rows]
        for name in ("last_energy", "last_time", "flat"):
            getattr(self, name)[slots] = getattr(meters, name)[rows]
        priced = accounts.tariff_key[rows] != 0
        slots, rows = slots[priced], rows[priced]
        if len(slots):
            width = meters.volume.shape[1]
            self.volume[slots] = self.since_ms[slots] = 0  # of an earlier session with a longer tariff
            since_ms = meters.since_ms[rows]
            self.volume[slots, :width] = meters.volume[rows]
            self.since_ms[slots, :width] = np.where(since_ms == FAR, 0, since_ms)

    def new_session_key(self) -> int:
        """The next session key: above 0, unique for ever."""
        self.sessions_made += 1
        return (self.partition << SESSION_KEY_BITS) | self.sessions_made

    def source(self, name: str) -> Source:
        """Progress of a source, to be changed by the caller."""
        self._touched_sources.add(name)
        return self.sources.setdefault(name, Source())

    def touch(self, slots: I64, window_entries: I64) -> None:
        """Note what changed, for the next patch."""
        self._touched.append(slots)
        self._touched_entries.append(window_entries)

    def next_due_ms(self, params: StepParams) -> int | None:
        """The wall-clock moment at which a step is due though nothing arrives; None: no such moment."""
        if len(self.stale) or self.held.rows:
            return 0
        moments = []
        if len(self.pending):
            oldest_end_ms = (int((self.pending & 0xFFFF_FFFF).min()) + 1) * WINDOW_MS
            moments.append(oldest_end_ms + params.wall_cap_ms)
        is_open = self.open_key[: self.slots] != 0
        if is_open.any():
            moments.append(int(self.arrival_ms[: self.slots][is_open].min()) + params.session_timeout_ms)
        return min(moments) if moments else None

    # -- the binary form --------------------------------------------------------------------------------------------

    def take_patch(self) -> bytes:
        """What changed since the last take. Apply it after all before it."""
        slots = distinct(np.concatenate([*self._touched, np.arange(self._saved_slots, self.slots)]), self.slots)
        entries = distinct(np.concatenate([slots[:0], *self._touched_entries]), self.slots * WINDOW)
        pending = None if self.pending is self._saved_pending else self.pending
        changes = Changes(slots, entries, self._touched_sources, self._saved_slots, self.held.news(), pending)
        body = encode(self, changes)
        self._touched, self._touched_entries, self._touched_sources = [], [], set()
        self._saved_slots, self._saved_pending = self.slots, self.pending
        return body

    def snapshot(self) -> bytes:
        """A base: everything."""
        entries, held = np.flatnonzero(self.window), (True, self.held.columns())
        return encode(self, Changes(np.arange(self.slots), entries, self.sources, 0, held, self.pending))

    @classmethod
    def load(cls, partition: int, bodies: Iterable[bytes]) -> "PartitionState":
        """The state that wrote these: a base (or nothing), then patches in order. Raises ForeignState."""
        state = cls(partition)
        for body in bodies:
            apply(state, body)
        state._saved_slots, state._saved_pending = state.slots, state.pending
        return state
