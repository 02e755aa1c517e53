"""The binary form of a partition's state.

It is stored as a base and patches: a patch holds the slots that a step touched, a base holds all, both in one format
(MessagePack of raw little-endian arrays, zstd). Reading base and patches in order gives the state back, bit for bit.
Never pickle.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

import msgspec
import numpy as np
import zstandard
from numpy.typing import NDArray

from streams.errors import ForeignState
from streams.kernels.dedupe import TS_WINDOW
from streams.kernels.runs import I64
from streams.sources import Source
from streams.state_columns import CLOSED, NARROW, SCALARS, WIDE, copy_used
from streams.tariffs import Tariffs

if TYPE_CHECKING:
    from streams.state import PartitionState

FORMAT_VERSION: Final = 3
_BODY_BYTES_MAX: Final = 2**31  # 1 kB a connector: two million connectors in one partition
_encoder: Final = msgspec.msgpack.Encoder()


def encode(state: "PartitionState", slots: I64, entries: I64, sources: Iterable[str], first_new: int) -> bytes:
    """The body of these slots and entries of the dedupe windows; of all else what there is."""
    columns = {name: _pack(getattr(state, name)[slots]) for name in (*SCALARS, *CLOSED)}
    for name in ("ts_window_ms", "ts_window_hash"):
        columns[name] = _pack(getattr(state, name).reshape(-1, TS_WINDOW)[slots])
    priced = slots[state.open_tariff[slots] != 0]
    return zstandard.ZstdCompressor(level=1).compress(
        _encoder.encode(
            {
                "version": FORMAT_VERSION,
                "slots": _pack(slots),
                "columns": columns,
                "priced": _pack(priced),
                "width": state.volume.shape[1],
                "volume": _pack(state.volume[priced]),
                "since_ms": _pack(state.since_ms[priced]),
                "entries": _pack(entries),
                "entry_values": _pack(state.window[entries]),
                "first_new": first_new,
                "connectors": state.directory.connectors(first_new),
                "session_names": [state.session_name[slot] for slot in slots.tolist()],
                "station_newest_ms": _pack(state.station_newest_ms[: len(state.directory.stations)]),
                "pending": _pack(state.pending),
                "stale": _pack(state.stale),
                "sources": {
                    name: (s.floor, sorted(s.beyond), s.items_total, s.items_received)
                    for name in sources
                    for s in (state.sources[name],)
                },
                "sessions_made": state.sessions_made,
            }
        )
    )


def apply(state: "PartitionState", body: bytes) -> None:
    """Put what the body says into the state. Raises ForeignState."""
    try:
        patch: dict[str, Any] = msgspec.msgpack.decode(zstandard.decompress(body, max_output_size=_BODY_BYTES_MAX))
    except (zstandard.ZstdError, msgspec.DecodeError) as error:
        raise ForeignState(f"partition {state.partition}: state body unreadable: {error}") from error
    if patch.get("version") != FORMAT_VERSION:
        raise ForeignState(
            f"partition {state.partition}: its state has format {patch.get('version')}, this version reads "
            f"{FORMAT_VERSION}: run the version that wrote it, or begin with an empty database (or data folder)"
        )
    connectors = [(station_id, connector_id) for station_id, connector_id in patch["connectors"]]
    state.add_connectors(connectors, [0] * len(connectors))
    slots = _unpack(patch["slots"])
    for name, packed in patch["columns"].items():
        column = getattr(state, name).reshape(-1, WIDE.get(name, 1))
        copy_used(column, slots, _unpack(packed, name).reshape(-1, column.shape[1]))
    state.widen(patch["width"])
    state.tariffs = Tariffs(state.volume.shape[1])
    priced = _unpack(patch["priced"])
    if len(priced):
        for name in ("volume", "since_ms"):
            column = getattr(state, name)
            column[priced] = 0
            column[priced, : patch["width"]] = _unpack(patch[name]).reshape(-1, patch["width"])
    state.window[_unpack(patch["entries"])] = _unpack(patch["entry_values"], "window")
    for slot, session_name in zip(slots.tolist(), patch["session_names"], strict=True):
        state.session_name[slot] = session_name
    newest = _unpack(patch["station_newest_ms"])
    state.station_newest_ms[: len(newest)] = newest
    state.pending = _unpack(patch["pending"])
    state.stale = _unpack(patch["stale"])
    for name, (floor, beyond, items_total, items_received) in patch["sources"].items():
        state.sources[name] = Source(floor, set(beyond), items_total, items_received)
    state.sessions_made = patch["sessions_made"]


def _pack(column: NDArray[np.integer[Any]]) -> bytes:
    return np.ascontiguousarray(column, column.dtype.newbyteorder("<")).tobytes()


def _unpack(packed: bytes, name: str = "") -> NDArray[Any]:
    """An int64 array, or one of the type of the column of that name."""
    dtype = np.dtype(NARROW.get(name, np.int64))
    return np.frombuffer(packed, dtype.newbyteorder("<")).astype(dtype)
