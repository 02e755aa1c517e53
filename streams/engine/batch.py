"""Frames into columns: what the kernels work on."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa

from schemas.frame import FrameHeader, FrameKind
from schemas.reading import QUANTITIES, READING_SCHEMA
from streams.kernels.hashing import name_hash
from streams.kernels.runs import I64, NULL
from streams.state.connector_index import ConnectorIndex
from streams.state.partition import PartitionState

Frame = tuple[FrameHeader, pa.RecordBatch]

NO_NAME: Final = -1
QUANTITY_COLUMNS: Final = tuple(column for column, _, _, _ in QUANTITIES.values())
_CONNECTORS_DENSE_MAX: Final = 1_000_000  # entries of the table station x connector: 8 MB


class SessionIds:
    """The distinct session_ids of a batch. Few are ever needed: mostly those of sessions that open."""

    def __init__(self, texts: pa.StringArray) -> None:
        self._texts = texts

    def __getitem__(self, code: int) -> str:
        name: str = self._texts[code].as_py()
        return name


class BatchConnectors:
    """The distinct connectors of a batch, and which of them each row is of."""

    def __init__(self, station_id: pa.ChunkedArray, connector_id: I64, index: ConnectorIndex) -> None:
        codes, dictionary = _dictionary(station_id)
        self._stations: list[str] = dictionary.to_pylist()
        width = int(connector_id.max(initial=0)) + 1
        self._pair = codes * width + connector_id  # of each row
        self._pairs_max = len(self._stations) * width
        if self._pairs_max <= _CONNECTORS_DENSE_MAX:
            present = np.zeros(self._pairs_max, np.bool_)
            present[self._pair] = True
            self._distinct = np.flatnonzero(present)
        else:
            self._distinct = np.unique(self._pair)
        self._station, self._number = np.divmod(self._distinct, width)
        self._slots = index.find(self._stations, self._station, self._number)

    def new(self) -> list[tuple[str, int]]:
        """(station_id, connector_id) of those that the index did not have."""
        new = self._slots < 0
        numbered = zip(self._station[new].tolist(), self._number[new].tolist(), strict=True)
        return [(self._stations[station], number) for station, number in numbered]

    def slots(self, index: ConnectorIndex) -> I64:
        """The slot of each row. Raises ValueError where a connector has none."""
        if (self._slots < 0).any():
            self._slots = index.find(self._stations, self._station, self._number)
            if (self._slots < 0).any():
                raise ValueError("new connectors are to be registered before the step")
        if self._pairs_max <= _CONNECTORS_DENSE_MAX:
            slot_of_pair = np.empty(self._pairs_max, np.int64)
            slot_of_pair[self._distinct] = self._slots
            by_row: I64 = slot_of_pair[self._pair]
        else:
            by_row = self._slots[np.searchsorted(self._distinct, self._pair)]
        return by_row


@dataclass(slots=True)
class Batch:
    """Readings of several frames in order of arrival. int64 columns, NULL where the device sent nothing."""

    connectors: BatchConnectors
    name: I64  # fingerprint of session_id; 0: none
    received_ms: I64
    columns: dict[str, I64]  # boot, seq, ts_ms, the quantities, status, session_event
    name_code: I64  # index into `session_ids`; NO_NAME: none
    session_ids: SessionIds
    extra: list[str | None] | None  # JSON of what has no column; None: no reading has any
    names_nothing: bool  # whether a session_id is one that names nothing
    exports: bool  # whether a reading has a register of exported energy


@dataclass(slots=True)
class Arrivals:
    """The frames of a flush that had not arrived before."""

    frames: list[Frame]
    batch: Batch  # the readings in them
    new_connectors: list[tuple[str, int]]  # of the batch: without a slot
    idle: bool  # no frame was delivered, not even a repeated one


def accept(state: PartitionState, frames: Sequence[Frame]) -> Arrivals:
    """Record the arrival of these frames, in this order, and read their columns."""
    arrived = [frame for frame in frames if _arrived(state, frame)]
    readings = [frame for frame in arrived if frame[0].kind == FrameKind.READINGS]
    batch = _batch_of(readings, state.connector_index)
    return Arrivals(arrived, batch, batch.connectors.new(), idle=not frames)


def _arrived(state: PartitionState, frame: Frame) -> bool:
    header = frame[0]
    return state.source(header.source).take(header.number, header.items, header.items_total)


def _batch_of(frames: Sequence[Frame], index: ConnectorIndex) -> Batch:
    """Columns of all rows of these READINGS frames."""
    table = pa.Table.from_batches([batch for _, batch in frames], READING_SCHEMA).combine_chunks()
    counts = [batch.num_rows for _, batch in frames]
    received_ms = np.repeat(np.array([header.received_ms for header, _ in frames], np.int64), counts)
    columns = {name: _numbers(table.column(name)) for name in ("boot", "seq", "ts_ms", *QUANTITY_COLUMNS)}
    columns |= {name: _numbers(table.column(name)) for name in ("status", "session_event", "energy_export_mwh")}
    codes, dictionary = _dictionary(table.column("session_id"))
    fingerprints = _fingerprints(dictionary)
    name = np.append(fingerprints, 0)[codes]  # NO_NAME takes the last
    connectors = BatchConnectors(table.column("station_id"), _numbers(table.column("connector_id")), index)
    extra = table.column("extra")
    extras = None if extra.null_count == len(extra) else extra.to_pylist()
    names_nothing = bool(np.isin(fingerprints, PLACEHOLDERS).any())
    exports = table.column("energy_export_mwh").null_count < len(table)
    return Batch(connectors, name, received_ms, columns, codes, SessionIds(dictionary), extras, names_nothing, exports)


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


def fingerprint_of(name: str) -> int:
    """The fingerprint of one name of a session."""
    return int(_fingerprints(pa.array([name], pa.string()))[0])


def _fingerprints(names: pa.StringArray) -> I64:
    """The fingerprints of sessions' names, which the state keeps."""
    if not len(names):
        return np.empty(0, np.int64)
    _, offsets, octets = names.buffers()
    offset = np.frombuffer(offsets, np.int32, len(names) + 1, names.offset * 4).astype(np.int64)
    return name_hash(offset, np.frombuffer(octets or b"", np.uint8))


# Session ids that name nothing, on readings without Started.
PLACEHOLDERS: Final = np.array(
    sorted(map(fingerprint_of, ("", "0", "-1", "null", "NULL", "none", "None", "unknown", "undefined"))), np.int64
)
