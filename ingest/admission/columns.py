"""Converts admitted readings to the columns of a frame."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ingest.admission.admitted import Admitted
from ingest.admission.fixed_point import thousandths_all
from ingest.admission.wire import DetailedReading, WireReading
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

_DTYPES: Final = {name: dtype for name, (_, dtype, *_) in QUANTITIES.items()} | {"energy_export_wh": ENERGY_EXPORT[1]}


def to_batch(readings: Sequence[WireReading], ts_ms: NDArray[np.int64], detailed: bool = False) -> pa.RecordBatch:
    """PLAIN_READING_SCHEMA rows of checked readings, in their order; `ts_ms` has the event time of each.

    `detailed`: some of them are DetailedReadings, so that the rows have READING_SCHEMA.
    """
    rows = readings  # one comprehension a column is the fastest of what was measured: 10 ns a value
    return pa.RecordBatch.from_arrays(
        [
            pa.array([row.station_id.upper() for row in rows], pa.string()),
            pa.array([row.connector_id for row in rows], pa.int16()),
            pa.array([row.session_id for row in rows], pa.string()),
            pa.array([row.boot for row in rows], pa.int64()),
            pa.array([row.seq for row in rows], pa.int64()),
            pa.array(ts_ms),
            quantity("energy_wh", pa.array([row.energy_wh for row in rows], pa.float64())),
            quantity("power_w", pa.array([row.power_w for row in rows], pa.float64())),
            quantity("voltage_v", pa.array([row.voltage_v for row in rows], pa.float64())),
            quantity("current_a", pa.array([row.current_a for row in rows], pa.float64())),
            quantity("temperature_c", pa.array([row.temperature_c for row in rows], pa.float64())),
            quantity("soc_pct", pa.array([row.soc_pct for row in rows], pa.float64())),
            _codes([row.status for row in rows], STATUS_CODES),
            _codes([row.session_event for row in rows], SESSION_EVENT_CODES),
            *(_optional_columns(rows) if detailed else ()),
        ],
        schema=READING_SCHEMA if detailed else PLAIN_READING_SCHEMA,
    )


def _optional_columns(rows: Sequence[WireReading]) -> list[pa.Array]:
    export_mwh = [row.energy_export_mwh if isinstance(row, DetailedReading) else None for row in rows]
    extra = [row.extra if isinstance(row, DetailedReading) else None for row in rows]
    return [pa.array(export_mwh, pa.int64()), pa.array(extra, pa.string())]


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


def _codes(names: Sequence[str | None], codes: Mapping[str | None, int]) -> pa.Array:
    return pa.array(np.fromiter(map(codes.__getitem__, names), np.int8, len(names)))
