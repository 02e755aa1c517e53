"""Frames into columns: what the kernels work on."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import pyarrow as pa

from schemas.frame import FrameHeader, FrameKind
from schemas.packed import NUMBERS, TEXTS, PackedReadings
from schemas.reading import QUANTITIES, READING_SCHEMA
from streams.kernels.hashing import name_hash
from streams.kernels.runs import I64, NULL, any_true
from streams.state.connector_index import ConnectorIndex
from streams.state.partition import PartitionState


class PackedRows(NamedTuple):
    """The rows of one frame among packed readings."""

    whole: PackedReadings
    start: int
    end: int


Frame = tuple[FrameHeader, pa.RecordBatch | PackedRows]

NO_NAME: Final = -1
QUANTITY_COLUMNS: Final = tuple(column for column, _, _, _ in QUANTITIES.values())
_NO_NUMBERS: Final = np.empty(0, np.int64)
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
    numbers, texts = _columns(frames)
    received_ms = np.array([header.received_ms for header, _ in frames], np.int64)
    counts = [header.items for header, _ in frames]
    codes, dictionary = _dictionary(texts["session_id"])
    fingerprints = _fingerprints(dictionary)
    name = np.append(fingerprints, 0)[codes]  # NO_NAME takes the last
    connectors = BatchConnectors(texts["station_id"], numbers.pop("connector_id"), index)
    extra = texts["extra"]
    extras = None if extra.null_count == len(extra) else extra.to_pylist()
    names_nothing = not _PLACEHOLDERS.isdisjoint(fingerprints.tolist())
    return Batch(
        connectors,
        name,
        np.repeat(received_ms, counts),
        numbers,
        codes,
        SessionIds(dictionary),
        extras,
        names_nothing,
        exports=any_true(numbers["energy_export_mwh"] != NULL),
    )


def _columns(frames: Sequence[Frame]) -> tuple[dict[str, I64], dict[str, pa.ChunkedArray]]:
    """All rows of these frames, in their order: the columns of integers, and those of texts."""
    pieces: list[list[pa.RecordBatch] | PackedRows] = []
    for _, rows in frames:
        last = pieces[-1] if pieces else None
        if isinstance(rows, PackedRows):
            if isinstance(last, PackedRows) and last.whole is rows.whole and last.end == rows.start:
                pieces[-1] = PackedRows(rows.whole, last.start, rows.end)
            else:
                pieces.append(rows)
        elif isinstance(last, list):
            last.append(rows)
        else:
            pieces.append([rows])
    if len(pieces) == 1:
        return _columns_of_piece(pieces[0])
    parts = [_columns_of_piece(piece) for piece in pieces]
    numbers = {name: np.concatenate([_NO_NUMBERS, *(part[0][name] for part in parts)]) for name in NUMBERS}
    chunks = {name: [chunk for part in parts for chunk in part[1][name].chunks] for name in TEXTS}
    return numbers, {name: pa.chunked_array(chunks[name], pa.string()) for name in TEXTS}


def _columns_of_piece(piece: list[pa.RecordBatch] | PackedRows) -> tuple[dict[str, I64], dict[str, pa.ChunkedArray]]:
    if isinstance(piece, PackedRows):
        whole, at = piece.whole, slice(piece.start, piece.end)
        texts = {name: pa.chunked_array([whole.texts[name][at]], pa.string()) for name in TEXTS}
        return {name: whole.numbers[name][at] for name in NUMBERS}, texts
    table = pa.Table.from_batches(piece, READING_SCHEMA).combine_chunks()
    return {name: _numbers(table.column(name)) for name in NUMBERS}, {name: table.column(name) for name in TEXTS}


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
    indices = encoded.indices
    codes: I64 = (indices.fill_null(NO_NAME) if indices.null_count else indices).to_numpy().astype(np.int64)
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
_PLACEHOLDERS: Final = frozenset(PLACEHOLDERS.tolist())
