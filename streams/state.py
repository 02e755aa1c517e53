"""What a partition remembers between flushes: columns of numpy arrays, one row (slot) a connector, and its binary form.

The state is stored as a base and patches: a patch holds the slots that a step touched, a base holds all, both in one
format (MessagePack of raw little-endian arrays, zstd). Reading base and patches in order gives the state back, bit for
bit. Never pickle.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Final

import msgspec
import numpy as np
import zstandard
from numpy.typing import NDArray

from streams.accounts import Accounts
from streams.directory import Directory
from streams.effects import StepParams
from streams.errors import ForeignState
from streams.kernels.book import NONE
from streams.kernels.dedupe import TS_WINDOW, WINDOW
from streams.kernels.energy import Lanes
from streams.kernels.meters import Meters
from streams.kernels.runs import FAR, I8, I16, I32, I64, NULL, U32, distinct
from streams.kernels.sessions import CLOSED_KEPT
from streams.kernels.stretches import CHARGING
from streams.kernels.windows import WINDOW_MS
from streams.tariffs import Tariffs

FORMAT_VERSION: Final = 3
SLOTS_AT_FIRST: Final = 64
SESSION_KEY_BITS: Final = 48  # of the counter; the partition stands above it: 2**48 sessions a partition

# Columns with one value a slot and what a new slot starts with. Together with the windows: 700 bytes a slot.
LIVE_QUANTITIES: Final = ("energy_mwh", "power_mw", "voltage_mv", "current_ma", "temperature_mc", "soc_mpct")
_LANE_FIELDS: Final = tuple(f.name for f in fields(Lanes))
_LANES_FROM_0: Final = ("counted_mwh", "head_uj", "tail_uj", "readings", "dirty")
_SCALARS: Final[dict[str, int]] = {
    "connector_key": 0,
    **dict.fromkeys(("boot", "boot_max", "boot_ts_ms", "ts_max_ms", "bare_ts_max_ms"), NULL),
    "seq_max": -1,
    **dict.fromkeys(
        ("open_key", "open_name", "open_start_ms", "open_last_ms", "open_revision", "open_occupied", "open_flagged"), 0
    ),
    "arrival_ms": 0,
    "live_ts_ms": NULL,
    "live_status": 0,
    "live_flags": 0,
    **dict.fromkeys((f"live_{name}" for name in LIVE_QUANTITIES), NULL),
    **{name: 0 if name in _LANES_FROM_0 else NULL for name in _LANE_FIELDS},
    "open_tariff": 0,  # pricing's version, pinned as the session opened; 0: none
    "held_ma": NULL,
    "held_kind": CHARGING,
    **dict.fromkeys(("last_energy", "last_time", "flat"), NONE),
    "metered_from_ms": 0,
    "told_ms": 0,  # when, by arrival
    "told_micros": 0,  # incl. VAT, as told last
}
_CLOSED: Final = tuple(
    f"closed_{name}" for name in ("key", "name", "start_ms", "last_ms", "end_ms", "reason", "revision")
)
_WIDE: Final[dict[str, int]] = {  # column -> values a slot, which start at 0
    **dict.fromkeys(_CLOSED, CLOSED_KEPT),
    "ts_window_ms": TS_WINDOW,
    "ts_window_hash": TS_WINDOW,
}
_COLUMNS: Final = (*_SCALARS, *_WIDE)
# int64 but for these.
_NARROW: Final[dict[str, type[np.integer[Any]]]] = {
    **dict.fromkeys(("connector_key", "open_revision", "open_flagged", "closed_revision", "readings"), np.int32),
    "live_flags": np.int16,
    **dict.fromkeys(("open_occupied", "live_status", "closed_reason", "dirty", "held_kind"), np.int8),
    **dict.fromkeys(("last_energy", "last_time", "flat"), np.int16),
    **dict.fromkeys(("window", "ts_window_hash"), np.uint32),
}


@dataclass(slots=True)
class Source:
    """What has arrived of one source's numbered frames."""

    floor: int = -1  # every frame up to this number has arrived
    beyond: set[int] = field(default_factory=set)  # arrived above a hole
    items_total: int = 0
    items_received: int = 0

    def take(self, number: int, items: int, items_total: int) -> bool:
        """Note a frame's arrival. False: it was here before."""
        if number <= self.floor or number in self.beyond:
            return False
        self.beyond.add(number)
        while self.floor + 1 in self.beyond:
            self.floor += 1
            self.beyond.remove(self.floor)
        self.items_total = max(self.items_total, items_total)
        self.items_received += items
        return True


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
        self.pending: I64 = np.empty(0, np.int64)  # windows not yet emitted: slot << 32 | minute
        self.stale: I64 = np.empty(0, np.int64)  # slots whose open session is ahead of its row, longest waiting first
        self.sources: dict[str, Source] = {}
        self.sessions_made = 0
        self.tariffs = Tariffs()  # compiled; not part of the binary form, for pricing has them
        self.tariffs_known = False  # whether those of all open sessions are compiled, which loading leaves to a step
        self.tariffs_max = 0  # beyond so many, those without an open session are forgotten; known with `tariffs_known`
        self.volume: I64 = np.zeros((0, 1), np.int64)  # (slots, width) Meters.volume of the open sessions
        self.since_ms: I64 = np.zeros((0, 1), np.int64)
        self._touched: list[I64] = []
        self._touched_entries: list[I64] = []
        self._touched_sources: set[str] = set()
        self._saved_slots = 0
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
        dtype = _NARROW.get(name, np.int64)
        if start := _SCALARS.get(name, 0):
            return np.full(capacity, start, dtype)
        width = WINDOW if name == "window" else _WIDE.get(name, 1)
        return np.zeros((capacity, width) if name in _CLOSED else capacity * width, dtype)

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
        for name in (*_COLUMNS, "window"):  # one after the other: never all of them twice
            column = self._allocate(name, self._capacity)
            if (held := getattr(self, name, None)) is not None:
                _copy_used(column, slice(len(held)), held)
            setattr(self, name, column)
        self._widen(self.volume.shape[1])

    def _widen(self, width: int) -> None:
        """Room for tariffs of so many components, for all slots."""
        shape = self._capacity, max(width, self.volume.shape[1])
        if self.volume.shape == shape:
            return
        held = self.volume, self.since_ms
        self.volume, self.since_ms = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        for column, old in zip((self.volume, self.since_ms), held, strict=True):
            _copy_used(column, (slice(old.shape[0]), slice(old.shape[1])), old)

    # -- what a step needs ------------------------------------------------------------------------------------------

    def lanes(self, slots: I64) -> Lanes:
        """Copies of the running energy of the open sessions of these slots."""
        return Lanes(**{name: getattr(self, name)[slots].astype(np.int64, copy=False) for name in _LANE_FIELDS})

    def put_lanes(self, slots: I64, lanes: Lanes, rows: I64) -> None:
        """Write rows of `lanes` back to these slots."""
        for name in _LANE_FIELDS:
            getattr(self, name)[slots] = getattr(lanes, name)[rows]

    def accounts(self, slots: I64) -> Accounts:
        """Copies of all that decides what the open sessions of these slots come to."""
        tariff_key = self.open_tariff[slots]
        if not tariff_key.any():  # nothing is kept of what nobody pays for
            return Accounts.fresh(self.tariffs, tariff_key, self.metered_from_ms[slots], self.lanes(slots))
        self._widen(self.tariffs.width)
        volume = self.volume[slots]
        meters = Meters(
            tariff=self.tariffs.places(tariff_key),
            start_ms=self.metered_from_ms[slots],  # not open_start_ms, which may be the next session's by now
            last_energy=self.last_energy[slots].astype(np.int64),
            last_time=self.last_time[slots].astype(np.int64),
            flat=self.flat[slots].astype(np.int64),
            volume=volume,
            since_ms=np.where(self.since_ms[slots] != 0, self.since_ms[slots], FAR),
        )
        return Accounts(
            self.lanes(slots), tariff_key, self.held_ma[slots], self.held_kind[slots].astype(np.int64), meters
        )

    def put_accounts(self, slots: I64, accounts: Accounts, rows: I64) -> None:
        """Write rows of `accounts` back to these slots."""
        self.put_lanes(slots, accounts.lanes, rows)
        if not (accounts.tariff_key[rows].any() or self.open_tariff[slots].any()):
            return
        meters = accounts.meters
        self._widen(meters.volume.shape[1])
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
        if len(self.stale):
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
        body = self._encode(slots, entries, self._touched_sources, self._saved_slots)
        self._touched, self._touched_entries, self._touched_sources = [], [], set()
        self._saved_slots = self.slots
        return body

    def snapshot(self) -> bytes:
        """A base: everything."""
        return self._encode(np.arange(self.slots), np.flatnonzero(self.window), set(self.sources), 0)

    @classmethod
    def load(cls, partition: int, bodies: Iterable[bytes]) -> "PartitionState":
        """The state that wrote these: a base (or nothing), then patches in order. Raises ForeignState."""
        state = cls(partition)
        for body in bodies:
            state._apply(body)
        state._saved_slots = state.slots
        return state

    def _encode(self, slots: I64, entries: I64, sources: Iterable[str], first_new: int) -> bytes:
        columns = {name: _pack(getattr(self, name)[slots]) for name in (*_SCALARS, *_CLOSED)}
        for name in ("ts_window_ms", "ts_window_hash"):
            columns[name] = _pack(getattr(self, name).reshape(-1, TS_WINDOW)[slots])
        priced = slots[self.open_tariff[slots] != 0]
        return zstandard.ZstdCompressor(level=1).compress(
            _encoder.encode(
                {
                    "version": FORMAT_VERSION,
                    "slots": _pack(slots),
                    "columns": columns,
                    "priced": _pack(priced),
                    "width": self.volume.shape[1],
                    "volume": _pack(self.volume[priced]),
                    "since_ms": _pack(self.since_ms[priced]),
                    "entries": _pack(entries),
                    "entry_values": _pack(self.window[entries]),
                    "first_new": first_new,
                    "connectors": self.directory.connectors(first_new),
                    "session_names": [self.session_name[slot] for slot in slots.tolist()],
                    "station_newest_ms": _pack(self.station_newest_ms[: len(self.directory.stations)]),
                    "pending": _pack(self.pending),
                    "stale": _pack(self.stale),
                    "sources": {
                        name: (s.floor, sorted(s.beyond), s.items_total, s.items_received)
                        for name in sources
                        for s in (self.sources[name],)
                    },
                    "sessions_made": self.sessions_made,
                }
            )
        )

    def _apply(self, body: bytes) -> None:
        try:
            patch: dict[str, Any] = msgspec.msgpack.decode(zstandard.decompress(body, max_output_size=_BODY_BYTES_MAX))
        except (zstandard.ZstdError, msgspec.DecodeError) as error:
            raise ForeignState(f"partition {self.partition}: state body unreadable: {error}") from error
        if patch.get("version") != FORMAT_VERSION:
            raise ForeignState(
                f"partition {self.partition}: its state has format {patch.get('version')}, this version reads "
                f"{FORMAT_VERSION}: run the version that wrote it, or begin with an empty database (or data folder)"
            )
        connectors = [(station_id, connector_id) for station_id, connector_id in patch["connectors"]]
        self.add_connectors(connectors, [0] * len(connectors))
        slots = _unpack(patch["slots"])
        for name, packed in patch["columns"].items():
            column = getattr(self, name).reshape(-1, _WIDE.get(name, 1))
            _copy_used(column, slots, _unpack(packed, name).reshape(-1, column.shape[1]))
        self._widen(patch["width"])
        self.tariffs = Tariffs(self.volume.shape[1])
        priced = _unpack(patch["priced"])
        if len(priced):
            for name in ("volume", "since_ms"):
                column = getattr(self, name)
                column[priced] = 0
                column[priced, : patch["width"]] = _unpack(patch[name]).reshape(-1, patch["width"])
        self.window[_unpack(patch["entries"])] = _unpack(patch["entry_values"], "window")
        for slot, session_name in zip(slots.tolist(), patch["session_names"], strict=True):
            self.session_name[slot] = session_name
        newest = _unpack(patch["station_newest_ms"])
        self.station_newest_ms[: len(newest)] = newest
        self.pending = _unpack(patch["pending"])
        self.stale = _unpack(patch["stale"])
        for name, (floor, beyond, items_total, items_received) in patch["sources"].items():
            self.sources[name] = Source(floor, set(beyond), items_total, items_received)
        self.sessions_made = patch["sessions_made"]


_BODY_BYTES_MAX: Final = 2**31  # 1 kB a connector: two million connectors in one partition
_encoder = msgspec.msgpack.Encoder()


def _pack(column: NDArray[np.integer[Any]]) -> bytes:
    return np.ascontiguousarray(column, column.dtype.newbyteorder("<")).tobytes()


def _unpack(packed: bytes, name: str = "") -> NDArray[Any]:
    """An int64 array, or one of the type of the column of that name."""
    dtype = np.dtype(_NARROW.get(name, np.int64))
    return np.frombuffer(packed, dtype.newbyteorder("<")).astype(dtype)


def _copy_used(column: NDArray[Any], at: I64 | slice | tuple[slice, slice], values: NDArray[Any]) -> None:
    """Write rows of a column. Where all of it is 0 before and after it is not touched: then it takes no memory yet."""
    if values.any() or column.any():
        column[at] = values
