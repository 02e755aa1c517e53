"""Admits Arrow IPC streams: columns by the wire names in wire units, or READING_SCHEMA's own columns.

All checks are over whole columns; only a row that fails one is examined alone, for its error text.
"""

import math
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ingest.admission.admitted import AdmissionRules, Admitted, RefusedItem, refuse
from ingest.admission.columns import quantity
from ingest.admission.event_time import UNREADABLE, epoch_ms_all, event_time_fault, strings_ms
from ingest.admission.ipc import read_batch
from ingest.admission.json_bodies import station_id_of
from ingest.admission.wire import (
    EPOCH_MS_MAX,
    FIELDS,
    INTEGER_MAX,
    NAME_CODES,
    TEXT_CHARS_MAX,
    Fault,
    shape_fault,
    text_fault,
    unknown_field,
)
from ingest.errors import MalformedBody
from schemas.reading import MILLI, QUANTITIES, READING_SCHEMA, SESSION_EVENT_LABELS, STATUS_LABELS

Mask = NDArray[np.bool_]

_LABELS: Final[Mapping[str, Mapping[Any, str]]] = {"status": STATUS_LABELS, "session_event": SESSION_EVENT_LABELS}
_REQUIRED: Final = frozenset({"station_id", "connector_id", "ts", "ts_ms"})
_DIVISOR_OF_UNIT: Final = {"us": 1_000, "ns": 1_000_000}


class _Checked(NamedTuple):
    """A column as in READING_SCHEMA; values of rows that are not `good` are undefined."""

    values: pa.Array
    good: Mask


def admit_arrow(body: bytes, rules: AdmissionRules) -> Admitted:
    """Raises MalformedBody (no Arrow stream, or columns that no reading has) and TooLarge (too many rows)."""
    batch = read_batch(body, rules) if body else None
    if batch is None or batch.num_rows == 0:
        return Admitted(pa.RecordBatch.from_pylist([], READING_SCHEMA))
    in_frame_form = "ts_ms" in batch.schema.names
    _check_names(batch.schema, frozenset(READING_SCHEMA.names if in_frame_form else FIELDS))
    columns = {name: batch.column(name) for name in batch.schema.names}
    checked = _frame_columns(columns) if in_frame_form else _wire_columns(columns)
    good = np.logical_and.reduce([column.good for column in checked.values()])
    ts_ms = checked["ts_ms"].values.to_numpy(zero_copy_only=False)
    good &= (ts_ms >= rules.oldest_ms) & (ts_ms <= rules.newest_ms)
    if rules.stations is not None:
        good &= _truth(pc.is_in(checked["station_id"].values, value_set=pa.array(sorted(rules.stations), pa.string())))
    refused = [
        _refuse_row(int(at), _row_of_frame(batch, int(at)) if in_frame_form else _row(batch, int(at)), rules)
        for at in np.flatnonzero(~good)
    ]
    return Admitted(_assemble({name: column.values for name, column in checked.items()}, good), refused)


def _check_names(schema: pa.Schema, known: frozenset[str]) -> None:
    for name in schema.names:
        if name not in known:
            raise MalformedBody(unknown_field(name).detail)
    if len(set(schema.names)) != len(schema.names):
        raise MalformedBody("a column is there twice; name each column once")
    missing = sorted(known & _REQUIRED - set(schema.names))
    if missing:
        raise MalformedBody(
            f"column {missing[0]} is missing; every reading needs {', '.join(sorted(known & _REQUIRED))}"
        )


def _wire_columns(columns: Mapping[str, pa.Array]) -> dict[str, _Checked]:
    checked = {}
    for name, column in columns.items():
        if pa.types.is_null(column.type) and name not in _REQUIRED:
            continue
        if name in TEXT_CHARS_MAX:
            checked[name] = _text(name, column)
        elif name in INTEGER_MAX:
            checked[name] = _integer(name, column, pa.types.is_integer, "integers", 0, INTEGER_MAX[name])
        elif name in QUANTITIES:
            checked[QUANTITIES[name][0]] = _quantity(name, column)
        elif name in NAME_CODES:
            checked[name] = _name(name, column)
        else:
            checked["ts_ms"] = _moment(column)
    return checked


def _frame_columns(columns: Mapping[str, pa.Array]) -> dict[str, _Checked]:
    bounds = {column: (low * MILLI, high * MILLI) for column, _, low, high in QUANTITIES.values()}
    bounds |= {name: (0, highest) for name, highest in INTEGER_MAX.items()}
    bounds |= {name: (0, max(labels)) for name, labels in _LABELS.items()}
    bounds["ts_ms"] = (-EPOCH_MS_MAX, EPOCH_MS_MAX)
    checked = {}
    for name, column in columns.items():
        if name in TEXT_CHARS_MAX:
            checked[name] = _text(name, column)
        else:
            dtype = READING_SCHEMA.field(name).type
            checked[name] = _integer(name, column, dtype.equals, str(dtype), *bounds[name])
            if name in _LABELS:
                checked[name] = _Checked(checked[name].values, checked[name].good & _truth(column.is_valid()))
    return checked


def _text(name: str, column: pa.Array) -> _Checked:
    _check_type(name, _is_text(column.type), "strings")
    lengths = _numbers(pc.binary_length(column))
    good = (lengths >= 1) & (lengths <= TEXT_CHARS_MAX[name]) & _truth(pc.ascii_is_printable(column))
    values = column.cast(pa.string())
    if name == "station_id":
        return _Checked(pc.ascii_upper(values), good)
    return _Checked(values, good | _truth(column.is_null()))


def _integer(name: str, column: pa.Array, is_type: Any, words: str, lowest: float, highest: float) -> _Checked:
    _check_type(name, is_type(column.type), words)
    # Unsigned values beyond 63 bits wrap to negative ones here, which no bound admits (ts is checked by _moment).
    values = column.cast(pa.int64(), safe=False)
    numbers = _numbers(values)
    good = (numbers >= lowest) & (numbers <= highest)
    return _Checked(values, good & _truth(column.is_valid()) if name in _REQUIRED else good | _truth(column.is_null()))


def _quantity(name: str, column: pa.Array) -> _Checked:
    kind = column.type
    _check_type(name, pa.types.is_floating(kind) or pa.types.is_integer(kind), "numbers")
    values = column.cast(pa.float64(), safe=False)
    _, _, lowest, highest = QUANTITIES[name]
    numbers = _numbers(values)
    good = (numbers >= lowest) & (numbers <= highest)  # NaN is not
    if not good.all():
        values = pc.if_else(pa.array(good), values, pa.scalar(0.0))
    return _Checked(quantity(name, pa.concat_arrays([values])), good | _truth(column.is_null()))


def _name(name: str, column: pa.Array) -> _Checked:
    _check_type(name, _is_text(column.type), "strings")
    codes = pc.index_in(column.cast(pa.string()), value_set=pa.array(NAME_CODES[name], pa.string()))
    good = _truth(codes.is_valid()) | _truth(column.is_null())
    return _Checked(pc.add(pc.fill_null(codes, -1), 1), good)


def _moment(column: pa.Array) -> _Checked:
    kind = column.type
    if pa.types.is_timestamp(kind):
        _check_type("ts", kind.tz is not None, "timestamps with a time zone")
        numbers = _numbers(column.view(pa.int64()))
        if kind.unit == "s":
            numbers = np.where(np.abs(numbers) < EPOCH_MS_MAX // MILLI, numbers * MILLI, UNREADABLE)
        numbers = numbers // _DIVISOR_OF_UNIT.get(kind.unit, 1)
    elif _is_text(kind):
        texts = pc.fill_null(column.cast(pa.string()), "")
        try:
            numbers = strings_ms(texts)
        except pa.ArrowInvalid:
            numbers = epoch_ms_all(texts.to_pylist())
    else:
        whole = _integer(
            "ts", column, pa.types.is_integer, "timestamps, strings or epoch ms", -EPOCH_MS_MAX, EPOCH_MS_MAX
        )
        return whole if kind != pa.uint64() else _Checked(whole.values, whole.good & (_numbers(whole.values) >= 0))
    return _Checked(pa.array(numbers), _truth(column.is_valid()) & (numbers != UNREADABLE))


def _assemble(columns: Mapping[str, pa.Array], good: Mask) -> pa.RecordBatch:
    """READING_SCHEMA rows of the good ones; a column that was not sent is null, or NONE."""
    count = len(good)
    arrays = []
    keep = None if good.all() else pa.array(good)
    for field in READING_SCHEMA:
        column = columns.get(field.name)
        if column is None:
            column = pa.nulls(count, field.type) if field.nullable else pa.array(np.zeros(count, np.int8))
        column = column if keep is None else column.filter(keep)
        arrays.append(column.cast(field.type))
    return pa.RecordBatch.from_arrays(arrays, schema=READING_SCHEMA)


def _refuse_row(at: int, row: dict[str, Any], rules: AdmissionRules) -> RefusedItem:
    raw = msgspec.json.encode({name: _showable(value) for name, value in row.items()})
    station = station_id_of(row.get("station_id"))
    return refuse(at, _row_fault(row, rules) or Fault("malformed", "this row is not a reading"), raw, station)


def _row_fault(row: dict[str, Any], rules: AdmissionRules) -> Fault | None:
    fault = shape_fault(row)
    if fault is not None:
        return fault
    station, moment = row["station_id"], row["ts"]
    return (
        text_fault("station_id", station)
        or (text_fault("session_id", row["session_id"]) if "session_id" in row else None)
        or event_time_fault(moment, int(epoch_ms_all([moment])[0]), rules.oldest_ms, rules.newest_ms)
        or rules.binding_fault(station)
    )


def _row(batch: pa.RecordBatch, at: int) -> dict[str, Any]:
    """One row as its JSON object would be, without nulls."""
    row = {}
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        value = column[at]
        if not value.is_valid:
            continue
        if pa.types.is_timestamp(column.type):
            scale = MILLI if column.type.unit == "s" else 1
            row[name] = value.value * scale // _DIVISOR_OF_UNIT.get(column.type.unit, 1)
        else:
            row[name] = value.as_py()
    return row


def _row_of_frame(batch: pa.RecordBatch, at: int) -> dict[str, Any]:
    """The same of a row in frame form: names and units of the wire."""
    row = _row(batch, at)
    if "ts_ms" in row:
        row["ts"] = row.pop("ts_ms")
    for name, (column, _, _, _) in QUANTITIES.items():
        if column in row:
            row[name] = row.pop(column) / MILLI
    for name, labels in _LABELS.items():
        if name in batch.schema.names:
            code = row.pop(name, "null")
            if code != 0:
                row[name] = labels.get(code, str(code))
    return row


def _showable(value: Any) -> Any:
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _check_type(name: str, fits: bool, words: str) -> None:
    if not fits:
        raise MalformedBody(f"column {name} has a type that is not read; send {words}")


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _truth(mask: pa.BooleanArray) -> Mask:
    found: Mask = mask.fill_null(False).to_numpy(zero_copy_only=False)
    return found


def _numbers(column: pa.Array) -> NDArray[Any]:
    filled: NDArray[Any] = column.fill_null(0).to_numpy(zero_copy_only=False)
    return filled
