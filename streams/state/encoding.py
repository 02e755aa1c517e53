"""The binary form of a partition's state.

It is stored as a base and patches: a patch holds the slots that a step touched, a base holds all, both in one format
(MessagePack of raw little-endian arrays, zstd). Reading base and patches in order gives the state back, bit for bit.
Never pickle. The names in it are part of the format: a column that is renamed keeps the name it is `stored_as`.
"""

import sys
from collections.abc import Iterable
from typing import Any, Final

import msgspec
import numpy as np
import zstandard
from numpy.typing import NDArray

from streams.errors import ForeignState
from streams.kernels.runs import I64, distinct
from streams.kernels.session_energy import WHOLE_WH_MWH
from streams.kernels.windows import SUMS
from streams.state.columns import COLUMNS, COMPONENT_COLUMNS, Column, copy_used
from streams.state.partition import ArrivedFrames, PartitionState, StateChanges, runs_of
from streams.state.window_buffer import BUFFER_COLUMNS
from streams.tariffs.compiled import CompiledTariffs

FORMAT_VERSION: Final = 6
_SHORT_HOLD: Final = 5  # the reasons to hold a session had 7 bits
_BEFORE_TIMELINES: Final = 4  # sessions were found by name; several closed ones were kept
_WITHOUT_BUFFER: Final = 3  # windows were merged with every flush, and every patch had all stations and pending windows
_BODY_BYTES_MAX: Final = 2**31  # 1 kB a connector: two million connectors in one partition
# Of a source's frames above a hole, number by number, for the version before: four times what a bridge may bring twice.
# The runs say it all, and these are left out once no version reads them (docs/adr/0029).
_BEYOND_MAX: Final = 512
_POWER_MAX_MW: Final = 1_200_000_000  # by which sessions were judged before connectors had their own
_WINDOW: Final = COLUMNS["window"]  # stored by the entries that changed, of 64 a slot
_BY_SLOT: Final = [column for column in COLUMNS.values() if column is not _WINDOW]
_LIKE_OTHERS: Final = [column for column in _BY_SLOT if column.like]  # one value a slot; none is like one of these
_encoder: Final = msgspec.msgpack.Encoder()


def _pack(column: NDArray[Any]) -> bytes:
    return (column if sys.byteorder == "little" else column.byteswap()).tobytes()


def _at_start(column: Column) -> bytes:
    """What a new slot has, as it is stored."""
    return _pack(np.full(column.width, 0 if column.like else column.start, column.dtype))


_AT_START: Final = {column.name: _at_start(column) for column in _BY_SLOT}


def take_patch(state: PartitionState) -> bytes:
    """A patch: what changed since the last one. It is to be read after all before it."""
    return _encode(state, state.take_changes())


def snapshot(state: PartitionState) -> bytes:
    """A base: everything."""
    return _encode(state, state.everything())


def load_state(partition: int, bodies: Iterable[bytes]) -> PartitionState:
    """The state of which these were taken: a base (or nothing), then patches in order. Raises ForeignState."""
    state = PartitionState(partition)
    for body in bodies:
        _apply(state, body)
    state.mark_saved()
    return state


def _encode(state: PartitionState, changes: StateChanges) -> bytes:
    slots, entries = changes.slots, changes.entries
    priced = slots[state.open_tariff[slots] != 0]
    stations = distinct(state.connector_index.station[slots].astype(np.int64), len(state.connector_index.stations))
    emptied, buffered = changes.buffered
    return zstandard.ZstdCompressor(level=1).compress(
        _encoder.encode(
            {
                "version": FORMAT_VERSION,
                "slots": _pack(slots),
                "columns": _columns(state, slots),
                "priced": _pack(priced),
                "width": state.volume.shape[1],
                **{name: _pack(getattr(state, name)[priced]) for name in COMPONENT_COLUMNS},
                "entries": _pack(entries),
                "entry_values": _pack(state.window[entries]),
                "first_new": changes.first_new,
                "connectors": state.connector_index.connectors(changes.first_new),
                "session_names": [state.session_name[slot] for slot in slots.tolist()],
                "stations": _pack(stations),
                "station_newest_ms": _pack(state.station_newest_ms[stations]),
                "pending": None if changes.pending is None else _pack(changes.pending),
                "held_emptied": emptied,
                "held": {name: _pack(values) for name, values in buffered.items()},
                "stale": _pack(state.stale),
                "sources": {
                    name: (s.floor, s.newest_beyond(_BEYOND_MAX), s.items_total, s.items_received)
                    for name in changes.sources
                    for s in (state.sources[name],)
                },
                "sources_beyond": {name: runs for name in changes.sources if (runs := state.sources[name].beyond)},
                "sessions_made": state.sessions_made,
            }
        )
    )


def _columns(state: PartitionState, slots: I64) -> dict[str, bytes]:
    """Those that are not what a new slot starts with, in all of these; of those like another one the differences."""
    columns = {}
    for column in _BY_SLOT:
        values = getattr(state, column.name)
        values = values.take(slots) if column.width == 1 else values.reshape(-1, column.width).take(slots, axis=0)
        if column.like:
            values = values - getattr(state, column.like).take(slots)
        packed = _pack(values)
        if packed != _AT_START[column.name] * len(slots):  # the octets: the cheapest comparison of few values
            columns[column.stored_as] = packed
    return columns


def _apply(state: PartitionState, body: bytes) -> None:
    """Put what the body holds into the state. Raises ForeignState."""
    patch = _decoded(state.partition, body)
    connectors = [(station_id, connector_id) for station_id, connector_id in patch["connectors"]]
    state.add_connectors(connectors, [0] * len(connectors))
    slots = _unpack(patch["slots"])
    for column in _BY_SLOT:
        target = getattr(state, column.name).reshape(-1, column.width)
        if column.stored_as in patch["columns"]:
            values = _unpack(patch["columns"][column.stored_as], column.dtype)
            copy_used(target, slots, values.reshape(-1, column.width))
        elif (target[slots] != 0 if column.like else target[slots] != column.start).any():
            target[slots] = 0 if column.like else column.start
    for column in _LIKE_OTHERS:
        getattr(state, column.name)[slots] += getattr(state, column.like)[slots]
    state.widen(patch["width"])
    state.tariffs = CompiledTariffs(state.volume.shape[1])
    priced = _unpack(patch["priced"])
    if len(priced):
        for name in COMPONENT_COLUMNS:
            target = getattr(state, name)
            target[priced] = 0
            target[priced, : patch["width"]] = _unpack(patch[name]).reshape(-1, patch["width"])
    state.window[_unpack(patch["entries"])] = _unpack(patch["entry_values"], _WINDOW.dtype)
    for slot, session_name in zip(slots.tolist(), patch["session_names"], strict=True):
        state.session_name[slot] = session_name
    state.station_newest_ms[_unpack(patch["stations"])] = _unpack(patch["station_newest_ms"])
    if patch["pending"] is not None:
        state.pending = _unpack(patch["pending"])
    if patch["held"]:
        buffered = {name: _unpack(packed, BUFFER_COLUMNS.get(name, np.int64)) for name, packed in patch["held"].items()}
        state.window_buffer.apply_changes(patch["held_emptied"], buffered)
    state.stale = _unpack(patch["stale"])
    runs_by_source = patch.get("sources_beyond", {})  # the version before wrote numbers only
    for name, (floor, numbers, items_total, items_received) in patch["sources"].items():
        beyond = [(first, last) for first, last in runs_by_source[name]] if name in runs_by_source else runs_of(numbers)
        state.sources[name] = ArrivedFrames(floor, beyond, items_total, items_received)
    state.sessions_made = patch["sessions_made"]


def _decoded(partition: int, body: bytes) -> dict[str, Any]:
    """The body in the present format. Raises ForeignState."""
    try:
        patch: dict[str, Any] = msgspec.msgpack.decode(zstandard.decompress(body, max_output_size=_BODY_BYTES_MAX))
    except (zstandard.ZstdError, ValueError, RecursionError) as error:
        raise ForeignState(f"partition {partition}: state body unreadable: {error}") from error
    if patch.get("version") == _WITHOUT_BUFFER:
        stations = np.arange(len(patch["station_newest_ms"]) // 8)
        patch |= {"stations": _pack(stations), "held_emptied": False, "held": {}, "version": _BEFORE_TIMELINES}
    if patch.get("version") == _BEFORE_TIMELINES:
        patch = _with_timelines(patch)
    if patch.get("version") == _SHORT_HOLD:
        patch = _with_long_hold(patch)
    if "awaited_since_ms" in patch.get("columns", {}):
        patch = _with_bases_of_awaited(patch)
    if patch.get("version") != FORMAT_VERSION:
        raise ForeignState(
            f"partition {partition}: its state has format {patch.get('version')}, this version reads "
            f"{FORMAT_VERSION}: run the version that wrote it, or begin with an empty database (or data folder)"
        )
    return patch


def _with_timelines(patch: dict[str, Any]) -> dict[str, Any]:
    """A body of format 4 in the present one: positions, the segment under way, and the last closed session of each
    connector."""
    old, rows = patch["columns"], len(_unpack(patch["slots"]))
    columns = dict(old)

    def of(name: str) -> NDArray[Any]:
        return _unpack(old[name]) if name in old else np.full(rows, COLUMNS[name].start)

    columns["newest_ts_ms"] = _pack(of("ts_max_ms"))
    columns["segment_key"] = _pack(of("open_key"))
    columns["open_explicit"] = _pack((of("open_key") != 0).astype(np.int8))
    columns["power_max_mw"] = _pack(np.full(rows, _POWER_MAX_MW))
    for name in ("key", "name", "start_ms", "last_ms", "reason", "revision"):
        if (kept := f"closed_{name}") in old:
            column = COLUMNS[f"past_{name}"]
            columns[column.name] = _pack(_unpack(old[kept], column.dtype).reshape(rows, -1)[:, 0])
    for column in _LIKE_OTHERS:
        values = _unpack(columns[column.stored_as]) if column.stored_as in columns else np.full(rows, column.start)
        other = COLUMNS[column.like]
        base = _unpack(columns[other.stored_as]) if other.stored_as in columns else np.full(rows, other.start)
        columns[column.stored_as] = _pack(values - base)
    held = patch["held"]
    if held:
        readings = len(_unpack(held["slot"], np.int32))
        held = held | {name: _pack(np.zeros(readings, np.int64)) for name in SUMS}
        held["weight"] = _pack(np.ones(readings, np.int8))
    return patch | {"columns": columns, "held": held, "version": _SHORT_HOLD}


def _with_long_hold(patch: dict[str, Any]) -> dict[str, Any]:
    """A body of format 5 in the present one."""
    columns, hold = patch["columns"], COLUMNS["hold"]
    if "hold" in columns:
        columns[hold.stored_as] = _pack(_unpack(columns.pop("hold"), np.int8).astype(hold.dtype))
    return patch | {"version": FORMAT_VERSION}


def _with_bases_of_awaited(patch: dict[str, Any]) -> dict[str, Any]:
    """A body from when the lowest register that a session may wait for was kept, but not the highest: any that the
    connector can have delivered in a week makes the step look."""
    columns, rows = patch["columns"], len(_unpack(patch["slots"]))
    lowest_mwh = _unpack(columns["awaited_mwh"]) if "awaited_mwh" in columns else np.zeros(rows, np.int64)
    bases = {"awaited_base_mwh": lowest_mwh + WHOLE_WH_MWH - 1, "awaited_power_max_mw": np.full(rows, _POWER_MAX_MW)}
    return patch | {"columns": columns | {name: _pack(values) for name, values in bases.items()}}


def _unpack(packed: bytes, kind: type[object] = np.int64) -> NDArray[Any]:
    dtype = np.dtype(kind)
    return np.frombuffer(packed, dtype.newbyteorder("<")).astype(dtype)
