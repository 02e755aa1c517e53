"""Admits Arrow IPC streams: columns by the wire names in wire units, or READING_SCHEMA's own columns.

All checks are over whole columns. Only a row that fails one, or has something that no column of READING_SCHEMA has, is
interpreted alone, as the JSON object that it would be.
"""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ingest.admission.admitted import AdmissionRules, Admitted, RefusedItem
from ingest.admission.arrow_rows import LABELS, admit_row, rows_of, wire_rows_of_frame
from ingest.admission.columns import quantity, to_batch
from ingest.admission.event_time import UNREADABLE, epoch_ms_all, strings_ms
from ingest.admission.ipc import read_batch
from ingest.admission.items import Interpreted, Remarks
from ingest.admission.wire import (
    DETAILS,
    EPOCH_MS_MAX,
    FIELDS,
    IDENTITY,
    INTEGER_MAX,
    NAME_CODES,
    NUMBER_BOUNDS,
    REQUIRED,
    TEXT_CHARS_MAX,
    unknown_field,
)
from ingest.errors import MalformedBody
from schemas.reading import ENERGY_EXPORT, MILLI, PLAIN_READING_SCHEMA, QUANTITIES, READING_SCHEMA, with_all_columns

Mask = NDArray[np.bool_]

_COLUMN_OF: Final = {name: column for name, (column, *_) in QUANTITIES.items()} | {"energy_export_wh": ENERGY_EXPORT[0]}
_DIVISOR_OF_UNIT: Final = {"us": 1_000, "ns": 1_000_000}
_EXTRA: Final = "extra"
# A boolean is a bit in the body and a Python object in a row: 64 MB of booleans would be 4 GB and a minute. A reading
# keeps 32 unknown fields.
_UNKNOWN_COLUMNS_MAX: Final = 64
_ROWS_AT_ONCE: Final = 1_000  # as Python objects: up to ~100 columns, 1 MB of references


class _Checked(NamedTuple):
    """A column as in READING_SCHEMA; values of rows that are not `good` are undefined."""

    values: pa.Array
    good: Mask


def admit_arrow(body: bytes, rules: AdmissionRules) -> Admitted:
    """Raises MalformedBody (no Arrow stream, or columns that no reading has) and TooLarge (too many rows)."""
    batch = read_batch(body, rules) if body else None
    if batch is None:
        return Admitted(pa.RecordBatch.from_pylist([], PLAIN_READING_SCHEMA))
    return admit_batch(batch, rules)


def admit_batch(batch: pa.RecordBatch, rules: AdmissionRules) -> Admitted:
    """Its rows, which are validated as Arrow. Raises MalformedBody (columns that no reading has)."""
    if batch.num_rows == 0:
        return Admitted(pa.RecordBatch.from_pylist([], PLAIN_READING_SCHEMA))
    in_frame_form = "ts_ms" in batch.schema.names
    _check_names(batch.schema, in_frame_form, rules.strict)
    columns = {name: batch.column(name) for name in batch.schema.names}
    checked, loose = _frame_columns(columns) if in_frame_form else _wire_columns(columns, rules.strict)
    good = np.logical_and.reduce([column.good for column in checked.values()])
    ts_ms = checked["ts_ms"].values.to_numpy(zero_copy_only=False)
    good &= (ts_ms >= rules.oldest_ms) & (ts_ms <= rules.newest_ms)
    if rules.stations is not None:
        good &= _truth(pc.is_in(checked["station_id"].values, value_set=pa.array(sorted(rules.stations), pa.string())))
    for column in loose:
        good &= _truth(column.is_null())
    rows = _assemble({name: column.values for name, column in checked.items()}, good)
    odd = np.flatnonzero(~good)
    if not len(odd):
        return Admitted(rows)
    return _with_odd_rows(batch, rows, odd, in_frame_form, rules)


def _with_odd_rows(
    batch: pa.RecordBatch, rows: pa.RecordBatch, odd: NDArray[np.int64], in_frame_form: bool, rules: AdmissionRules
) -> Admitted:
    """`rows` are the others, which have been checked already."""
    accepted: list[tuple[int, Interpreted, int]] = []
    refused: list[RefusedItem] = []
    remarks = Remarks()
    for start in range(0, len(odd), _ROWS_AT_ONCE):
        part = odd[start : start + _ROWS_AT_ONCE]
        items = rows_of(batch.take(pa.array(part)))
        if in_frame_form:
            items = wire_rows_of_frame(items)
        for at, item in zip(part.tolist(), items, strict=True):
            found = admit_row(at, item, rules, in_frame_form)
            if isinstance(found, RefusedItem):
                refused.append(found)
            else:
                accepted.append((at, *found))
                remarks.record(at, found[0])
    if accepted:
        moments = np.array([ts_ms for _, _, ts_ms in accepted], np.int64)
        more = to_batch([interpreted.reading for _, interpreted, _ in accepted], moments, detailed=True)
        checked = np.setdiff1d(np.arange(batch.num_rows), odd, assume_unique=True)
        order = np.argsort(np.concatenate([checked, [at for at, _, _ in accepted]]), kind="stable")
        rows = pa.concat_batches([with_all_columns(rows), more]).take(pa.array(order))
    return Admitted(rows, refused, remarks=remarks)


def _check_names(schema: pa.Schema, in_frame_form: bool, strict: bool) -> None:
    known = READING_SCHEMA.names if in_frame_form else (*FIELDS, *DETAILS)
    for name in schema.names if strict else ():
        if name not in known:
            raise MalformedBody(unknown_field(name).detail)
    if len(set(schema.names)) != len(schema.names):
        raise MalformedBody("a column is there twice; name each column once")
    needed = sorted({*REQUIRED, "ts_ms"}.intersection(known))
    unknown = set(schema.names).difference(known)
    if len(unknown) > _UNKNOWN_COLUMNS_MAX:
        raise MalformedBody(
            f"{len(unknown)} columns are unknown here, more than {_UNKNOWN_COLUMNS_MAX}; leave them out"
        )
    missing = [name for name in needed if name not in schema.names]
    if missing:
        raise MalformedBody(f"column {missing[0]} is missing; every reading needs {', '.join(needed)}")


def _wire_columns(columns: Mapping[str, pa.Array], strict: bool) -> tuple[dict[str, _Checked], list[pa.Array]]:
    """The checked columns, and those whose values are interpreted row by row."""
    checked: dict[str, _Checked] = {}
    loose: list[pa.Array] = []
    for name, column in columns.items():
        if pa.types.is_null(column.type) and name not in REQUIRED:
            continue
        if name not in FIELDS and name not in _COLUMN_OF:
            loose.append(column)
            continue
        try:
            checked[_COLUMN_OF.get(name, "ts_ms" if name == "ts" else name)] = _wire_column(name, column)
        except MalformedBody:
            if strict or (name in IDENTITY and not (name in INTEGER_MAX and _is_text(column.type))):
                raise
            loose.append(column)
    count = len(columns["ts"])
    checked.setdefault("connector_id", _Checked(pa.nulls(count, pa.int64()), np.zeros(count, np.bool_)))
    return checked, loose


def _wire_column(name: str, column: pa.Array) -> _Checked:
    """Raises MalformedBody if the column has another type than its field."""
    if name in TEXT_CHARS_MAX:
        return _text(name, column)
    if name in INTEGER_MAX:
        return _integer(name, column, pa.types.is_integer, "integers", 0, INTEGER_MAX[name])
    if name in _COLUMN_OF:
        return _quantity(name, column)
    if name in NAME_CODES:
        return _name(name, column)
    return _moment(column)


def _frame_columns(columns: Mapping[str, pa.Array]) -> tuple[dict[str, _Checked], list[pa.Array]]:
    """As `_wire_columns`."""
    bounds = {column: tuple(bound * MILLI for bound in NUMBER_BOUNDS[name]) for name, column in _COLUMN_OF.items()}
    bounds |= {name: (0, highest) for name, highest in INTEGER_MAX.items()}
    bounds |= {name: (0, max(labels)) for name, labels in LABELS.items()}
    bounds["ts_ms"] = (-EPOCH_MS_MAX, EPOCH_MS_MAX)
    checked: dict[str, _Checked] = {}
    loose: list[pa.Array] = []
    for name, column in columns.items():
        if name in TEXT_CHARS_MAX:
            checked[name] = _text(name, column)
        elif name in bounds:
            dtype = READING_SCHEMA.field(name).type
            checked[name] = _integer(name, column, dtype.equals, str(dtype), *bounds[name])
            if name in LABELS:
                checked[name] = _Checked(checked[name].values, checked[name].good & _truth(column.is_valid()))
        else:
            if name == _EXTRA:
                _check_type(name, _is_text(column.type) or pa.types.is_null(column.type), "strings")
            loose.append(column)
    return checked, loose


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
    if name in REQUIRED or name == "ts_ms":
        return _Checked(values, good & _truth(column.is_valid()))
    return _Checked(values, good | _truth(column.is_null()))


def _quantity(name: str, column: pa.Array) -> _Checked:
    kind = column.type
    _check_type(name, pa.types.is_floating(kind) or pa.types.is_integer(kind), "numbers")
    values = column.cast(pa.float64(), safe=False)
    lowest, highest = NUMBER_BOUNDS[name]
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
    """Rows of the good ones, with the optional columns if one was sent; a column that was not is null, or NONE."""
    count = len(good)
    arrays = []
    keep = None if good.all() else pa.array(good)
    schema = READING_SCHEMA if ENERGY_EXPORT[0] in columns else PLAIN_READING_SCHEMA
    for field in schema:
        column = columns.get(field.name)
        if column is None:
            column = pa.nulls(count, field.type) if field.nullable else pa.array(np.zeros(count, np.int8))
        column = column if keep is None else column.filter(keep)
        arrays.append(column.cast(field.type))
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


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
