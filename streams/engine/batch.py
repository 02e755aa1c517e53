"""Frames into columns: what the kernels work on."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa

from schemas.frame import FrameHeader, FrameKind
from schemas.reading import QUANTITIES, READING_SCHEMA
from streams.engine.lookup import Lookup
from streams.kernels.hashing import name_hash
from streams.kernels.runs import I64, NULL
from streams.state.partition import PartitionState

Frame = tuple[FrameHeader, pa.RecordBatch]

NO_NAME: Final = -1
QUANTITY_COLUMNS: Final = tuple(column for column, _, _, _ in QUANTITIES.values())
_CONNECTORS_DENSE_MAX: Final = 1_000_000  # entries of the table station x connector: 8 MB


class Names:
    """The distinct session_ids of a batch. Hardly any is asked for: that of a session which opens, mostly."""

    def __init__(self, texts: pa.StringArray) -> None:
        self._texts = texts

    def __getitem__(self, code: int) -> str:
        name: str = self._texts[code].as_py()
        return name


@dataclass(slots=True)
class Batch:
    """Readings of several frames in order of arrival. int64 columns, NULL where the device said nothing."""

    slot: I64
    name: I64  # fingerprint of session_id; 0: none
    received_ms: I64
    columns: dict[str, I64]  # boot, seq, ts_ms, the quantities, status, session_event
    name_code: I64  # index into `names`; NO_NAME: none
    names: Names

    def __len__(self) -> int:
        return len(self.slot)


def batch_of(state: PartitionState, frames: Sequence[Frame], lookup: Lookup) -> Batch:
    """Columns of all rows of these READINGS frames. Connectors seen for the first time get slots."""
    table = pa.Table.from_batches([batch for _, batch in frames], READING_SCHEMA).combine_chunks()
    counts = [batch.num_rows for _, batch in frames]
    received_ms = np.repeat(np.array([header.received_ms for header, _ in frames], np.int64), counts)
    columns = {name: _numbers(table.column(name)) for name in ("boot", "seq", "ts_ms", *QUANTITY_COLUMNS)}
    columns |= {name: _numbers(table.column(name)) for name in ("status", "session_event")}
    codes, dictionary = _dictionary(table.column("session_id"))
    name = np.append(_fingerprints(dictionary), 0)[codes]  # NO_NAME takes the last
    slot = _slots(state, table.column("station_id"), _numbers(table.column("connector_id")), lookup)
    return Batch(slot, name, received_ms, columns, codes, Names(dictionary))


def is_readings(frame: Frame) -> bool:
    """Whether the frame holds readings (and not refused items)."""
    return frame[0].kind == FrameKind.READINGS


def _numbers(column: pa.ChunkedArray) -> I64:
    if column.null_count == len(column):
        return np.full(len(column), NULL, np.int64)
    wide = column if pa.types.is_int64(column.type) else column.cast(pa.int64())
    numbers: I64 = (wide.fill_null(NULL) if wide.null_count else wide).to_numpy()
    return numbers


def _dictionary(column: pa.ChunkedArray) -> tuple[I64, pa.StringArray]:
    """Codes (NO_NAME for null) and the distinct values."""
    if column.null_count == len(column):
        return np.full(len(column), NO_NAME, np.int64), pa.array([], pa.string())
    encoded = column.combine_chunks().dictionary_encode()
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.unify_dictionaries().combine_chunks()
    codes: I64 = encoded.indices.fill_null(NO_NAME).to_numpy(zero_copy_only=False).astype(np.int64)
    return codes, encoded.dictionary


def _fingerprints(names: pa.StringArray) -> I64:
    """What the state remembers of sessions' names."""
    if not len(names):
        return np.empty(0, np.int64)
    _, offsets, octets = names.buffers()
    offset = np.frombuffer(offsets, np.int32, len(names) + 1, names.offset * 4).astype(np.int64)
    return name_hash(offset, np.frombuffer(octets or b"", np.uint8))


def _slots(state: PartitionState, station_id: pa.ChunkedArray, connector_id: I64, lookup: Lookup) -> I64:
    """The slot of each row. Makes slots for connectors never seen."""
    station, dictionary = _dictionary(station_id)
    stations = dictionary.to_pylist()
    width = int(connector_id.max(initial=0)) + 1
    pair = station * width + connector_id
    if len(stations) * width <= _CONNECTORS_DENSE_MAX:
        present = np.zeros(len(stations) * width, np.bool_)
        present[pair] = True
        distinct = np.flatnonzero(present)
    else:
        distinct = np.unique(pair)
    at, number = np.divmod(distinct, width)
    slots = state.directory.find(stations, at, number)
    if (slots < 0).any():
        unknown = zip(at[slots < 0].tolist(), number[slots < 0].tolist(), strict=True)
        new = [(stations[a], n) for a, n in unknown]
        state.add_connectors(new, lookup.connector_keys(state.partition, new))
        slots = state.directory.find(stations, at, number)
    if len(stations) * width <= _CONNECTORS_DENSE_MAX:
        table = np.empty(len(present), np.int64)
        table[distinct] = slots
        by_row: I64 = table[pair]
    else:
        by_row = slots[np.searchsorted(distinct, pair)]
    return by_row
