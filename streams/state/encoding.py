"""The binary form of a partition's state.

It is stored as a base and patches: a patch holds the slots that a step touched, a base holds all, both in one format
(MessagePack of raw little-endian arrays, zstd). Reading base and patches in order gives the state back, bit for bit.
Never pickle.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec
import numpy as np
import zstandard
from numpy.typing import NDArray

from streams.effects import Columns
from streams.errors import ForeignState
from streams.kernels.runs import I64, distinct
from streams.state.columns import COLUMNS, NARROW, SCALARS, WIDE, copy_used
from streams.state.sources import Source
from streams.state.window_buffer import HELD_COLUMNS
from streams.tariffs.compiled import CompiledTariffs

if TYPE_CHECKING:
    from streams.state.partition import PartitionState

FORMAT_VERSION: Final = 4
_WITHOUT_HELD: Final = 3  # windows were merged with every flush, and every patch had all stations and pending windows
_BODY_BYTES_MAX: Final = 2**31  # 1 kB a connector: two million connectors in one partition
_encoder: Final = msgspec.msgpack.Encoder()


class Changes(NamedTuple):
    """What a body has of the state, beside a few numbers: what changed, or everything."""

    slots: I64
    entries: I64  # of the dedupe windows
    sources: Iterable[str]
    first_new: int  # the first slot that no earlier body has
    held: tuple[bool, Columns]  # Held.news
    pending: I64 | None  # None: as before


def encode(state: "PartitionState", changes: Changes) -> bytes:
    """The body that says so."""
    slots, entries = changes.slots, changes.entries
    priced = slots[state.open_tariff[slots] != 0]
    stations = distinct(state.directory.station[slots].astype(np.int64), len(state.directory.stations))
    emptied, held = changes.held
    return zstandard.ZstdCompressor(level=1).compress(
        _encoder.encode(
            {
                "version": FORMAT_VERSION,
                "slots": _pack(slots),
                "columns": _columns(state, slots),
                "priced": _pack(priced),
                "width": state.volume.shape[1],
                "volume": _pack(state.volume[priced]),
                "since_ms": _pack(state.since_ms[priced]),
                "entries": _pack(entries),
                "entry_values": _pack(state.window[entries]),
                "first_new": changes.first_new,
                "connectors": state.directory.connectors(changes.first_new),
                "session_names": [state.session_name[slot] for slot in slots.tolist()],
                "stations": _pack(stations),
                "station_newest_ms": _pack(state.station_newest_ms[stations]),
                "pending": None if changes.pending is None else _pack(changes.pending),
                "held_emptied": emptied,
                "held": {name: _pack(column) for name, column in held.items()},
                "stale": _pack(state.stale),
                "sources": {
                    name: (s.floor, sorted(s.beyond), s.items_total, s.items_received)
                    for name in changes.sources
                    for s in (state.sources[name],)
                },
                "sessions_made": state.sessions_made,
            }
        )
    )


def _columns(state: "PartitionState", slots: I64) -> dict[str, bytes]:
    """Those that are not what a new slot starts with, in all of these."""
    columns = {}
    for name in COLUMNS:
        values = getattr(state, name).reshape(-1, WIDE.get(name, 1))[slots]
        if (values != SCALARS.get(name, 0)).any():
            columns[name] = _pack(values)
    return columns


def apply(state: "PartitionState", body: bytes) -> None:
    """Put what the body says into the state. Raises ForeignState."""
    try:
        patch: dict[str, Any] = msgspec.msgpack.decode(zstandard.decompress(body, max_output_size=_BODY_BYTES_MAX))
    except (zstandard.ZstdError, msgspec.DecodeError) as error:
        raise ForeignState(f"partition {state.partition}: state body unreadable: {error}") from error
    if patch.get("version") == _WITHOUT_HELD:
        stations = np.arange(len(patch["station_newest_ms"]) // 8)
        patch |= {"stations": _pack(stations), "held_emptied": False, "held": {}}
    elif patch.get("version") != FORMAT_VERSION:
        raise ForeignState(
            f"partition {state.partition}: its state has format {patch.get('version')}, this version reads "
            f"{FORMAT_VERSION}: run the version that wrote it, or begin with an empty database (or data folder)"
        )
    connectors = [(station_id, connector_id) for station_id, connector_id in patch["connectors"]]
    state.add_connectors(connectors, [0] * len(connectors))
    slots = _unpack(patch["slots"])
    for name in COLUMNS:
        column = getattr(state, name).reshape(-1, WIDE.get(name, 1))
        if name in patch["columns"]:
            copy_used(column, slots, _unpack(patch["columns"][name], name).reshape(-1, column.shape[1]))
        elif (column[slots] != SCALARS.get(name, 0)).any():
            column[slots] = SCALARS.get(name, 0)
    state.widen(patch["width"])
    state.tariffs = CompiledTariffs(state.volume.shape[1])
    priced = _unpack(patch["priced"])
    if len(priced):
        for name in ("volume", "since_ms"):
            column = getattr(state, name)
            column[priced] = 0
            column[priced, : patch["width"]] = _unpack(patch[name]).reshape(-1, patch["width"])
    state.window[_unpack(patch["entries"])] = _unpack(patch["entry_values"], "window")
    for slot, session_name in zip(slots.tolist(), patch["session_names"], strict=True):
        state.session_name[slot] = session_name
    state.station_newest_ms[_unpack(patch["stations"])] = _unpack(patch["station_newest_ms"])
    if patch["pending"] is not None:
        state.pending = _unpack(patch["pending"])
    if patch["held"]:
        held = {name: _unpack_as(patch["held"][name], dtype) for name, dtype in HELD_COLUMNS.items()}
        state.held.hear(patch["held_emptied"], held)
    state.stale = _unpack(patch["stale"])
    for name, (floor, beyond, items_total, items_received) in patch["sources"].items():
        state.sources[name] = Source(floor, set(beyond), items_total, items_received)
    state.sessions_made = patch["sessions_made"]


def _pack(column: NDArray[Any]) -> bytes:
    return np.ascontiguousarray(column, column.dtype.newbyteorder("<")).tobytes()


def _unpack(packed: bytes, name: str = "") -> NDArray[Any]:
    """An int64 array, or one of the type of the column of that name."""
    return _unpack_as(packed, NARROW.get(name, np.int64))


def _unpack_as(packed: bytes, kind: type[object]) -> NDArray[Any]:
    dtype = np.dtype(kind)
    return np.frombuffer(packed, dtype.newbyteorder("<")).astype(dtype)
