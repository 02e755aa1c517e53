"""Converts admitted readings to the columns of a frame."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain
from operator import attrgetter
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ingest.admission.admitted import Admitted
from ingest.admission.fixed_point import thousandths_all
from ingest.admission.wire import DetailedReading, WireReading
from schemas.packed import NULL, NUMBERS, TEXTS
from schemas.reading import (
    ENERGY_EXPORT,
    PLAIN_READING_SCHEMA,
    QUANTITIES,
    READING_SCHEMA,
    SESSION_EVENT_NAMES,
    STATUS_NAMES,
)

STATUS_CODES: Final[Mapping[str | None, int]] = {None: 0} | dict(STATUS_NAMES.items())
SESSION_EVENT_CODES: Final[Mapping[str | None, int]] = {None: 0} | dict(SESSION_EVENT_NAMES.items())

_NUMBERS: Final = ("connector_id", "boot", "seq", *QUANTITIES)
_COLUMN_OF: Final = {name: column for name, (column, *_) in QUANTITIES.items()}
_PLACE: Final = {name: NUMBERS.index(_COLUMN_OF.get(name, name)) for name in _NUMBERS} | {
    name: place for place, name in enumerate(NUMBERS)
}
_INTEGERS: Final = 3  # of these, before the quantities
_numbers_of: Final = attrgetter(*_NUMBERS)
_NUMBER_TYPES: Final = [
    (dtype, dtype.to_pandas_dtype())
    for dtype in (pa.int16(), pa.int64(), pa.int64(), *(dtype for _, dtype, *_ in QUANTITIES.values()))
]
_DTYPES: Final = {name: dtype for name, (_, dtype, *_) in QUANTITIES.items()} | {"energy_export_wh": ENERGY_EXPORT[1]}


def to_batch(readings: Sequence[WireReading], ts_ms: NDArray[np.int64], detailed: bool = False) -> pa.RecordBatch:
    """PLAIN_READING_SCHEMA rows of checked readings, in their order; `ts_ms` has the event time of each.

    `detailed`: some of them are DetailedReadings, so that the rows have READING_SCHEMA.
    """
    rows = readings
    connector_id, boot, seq, *quantities = _numbers(rows)
    return pa.RecordBatch.from_arrays(
        [
            pa.array([row.station_id.upper() for row in rows], pa.string()),
            connector_id,
            pa.array([row.session_id for row in rows], pa.string()),
            boot,
            seq,
            pa.array(ts_ms),
            *quantities,
            pa.array(_codes([row.status for row in rows], STATUS_CODES)),
            pa.array(_codes([row.session_event for row in rows], SESSION_EVENT_CODES)),
            *(_optional_columns(rows) if detailed else ()),
        ],
        schema=READING_SCHEMA if detailed else PLAIN_READING_SCHEMA,
    )


def to_numbers(
    readings: Sequence[WireReading], ts_ms: NDArray[np.int64], detailed: bool = False
) -> tuple[NDArray[np.int64], list[list[str | None]]]:
    """The same rows for schemas.packed.pack_columns: integers (columns, rows), and the columns of texts."""
    numbers = np.full((len(NUMBERS), len(readings)), NULL, np.int64)
    whole, null = _whole(readings)
    for name, column, absent in zip(_NUMBERS, whole, null, strict=True):
        np.copyto(numbers[_PLACE[name]], column, where=~absent)
    numbers[_PLACE["ts_ms"]] = ts_ms
    numbers[_PLACE["status"]] = _codes([row.status for row in readings], STATUS_CODES)
    numbers[_PLACE["session_event"]] = _codes([row.session_event for row in readings], SESSION_EVENT_CODES)
    extra: list[str | None] = [None] * len(readings)
    if detailed:
        export_mwh, extra = _optional(readings)
        numbers[_PLACE[ENERGY_EXPORT[0]]] = [NULL if mwh is None else mwh for mwh in export_mwh]
    texts: dict[str, list[str | None]] = {
        "station_id": [row.station_id.upper() for row in readings],
        "session_id": [row.session_id for row in readings],
        "extra": extra,
    }
    return numbers, [texts[name] for name in TEXTS]


def _whole(rows: Sequence[WireReading]) -> tuple[list[NDArray[np.int64]], NDArray[np.bool_]]:
    """The columns of _NUMBERS as integers, and where they are null. As floats in between, which is exact: integers are
    at most SEQ_MAX, and no number of a reading is NaN."""
    count = len(rows)
    flat = chain.from_iterable(map(_numbers_of, rows))
    values = np.fromiter(flat, np.float64, count * len(_NUMBERS)).reshape(count, len(_NUMBERS)).T.copy()
    null = np.isnan(values)
    values[null] = 0.0
    return [*values[:_INTEGERS].astype(np.int64), *thousandths_all(values[_INTEGERS:])], null


def _numbers(rows: Sequence[WireReading]) -> list[pa.Array]:
    """The columns of _NUMBERS, converted together: a column alone costs 8 us however few rows it has."""
    count = len(rows)
    whole, null = _whole(rows)
    null_counts = null.sum(axis=1).tolist() if null.any() else [0] * len(_NUMBERS)
    validity = np.packbits(~null, axis=1, bitorder="little")
    columns = []
    for column, bits, nulls, (dtype, narrow) in zip(whole, validity, null_counts, _NUMBER_TYPES, strict=True):
        if nulls and nulls == count:
            columns.append(pa.nulls(count, dtype))
            continue
        buffers = [pa.py_buffer(bits) if nulls else None, pa.py_buffer(column.astype(narrow, copy=False))]
        columns.append(pa.Array.from_buffers(dtype, count, buffers, nulls))
    return columns


def _optional_columns(rows: Sequence[WireReading]) -> list[pa.Array]:
    export_mwh, extra = _optional(rows)
    return [pa.array(export_mwh, pa.int64()), pa.array(extra, pa.string())]


def _optional(rows: Sequence[WireReading]) -> tuple[list[int | None], list[str | None]]:
    export_mwh = [row.energy_export_mwh if isinstance(row, DetailedReading) else None for row in rows]
    return export_mwh, [row.extra if isinstance(row, DetailedReading) else None for row in rows]


def to_columns(admitted: Admitted) -> Admitted:
    """The same with its rows as columns, for a request so large that sharing a conversion saves nothing."""
    if isinstance(admitted.rows, pa.RecordBatch):
        return admitted
    return replace(admitted, rows=to_batch(*admitted.rows))


def quantity(name: str, values: pa.DoubleArray) -> pa.Array:
    """Wire values (finite, in bounds, or null) as integers of thousandths, in the type of the quantity's column."""
    dtype = _DTYPES[name]
    count = len(values)
    if values.null_count == count:
        return pa.nulls(count, dtype)
    validity, _ = values.buffers()
    whole = thousandths_all(
        np.nan_to_num(values.to_numpy(zero_copy_only=False)) if values.null_count else values.to_numpy()
    )
    narrow = whole.astype(dtype.to_pandas_dtype(), copy=False)
    return pa.Array.from_buffers(dtype, count, [validity, pa.py_buffer(narrow)], values.null_count)


def _codes(names: Sequence[str | None], codes: Mapping[str | None, int]) -> NDArray[np.int8]:
    return np.fromiter(map(codes.__getitem__, names), np.int8, len(names))
