"""Rows of an Arrow body that are interpreted alone, each as the JSON object that it would be."""

import contextlib
import json
import math
from collections.abc import Mapping
from typing import Any, Final

import msgspec
import pyarrow as pa

from ingest.admission.admitted import AdmissionRules, RefusedItem, reading_fault, refuse, station_id_of
from ingest.admission.event_time import epoch_ms
from ingest.admission.extra import TooDeep, compact
from ingest.admission.items import Interpreted, interpret, letter_fault
from ingest.admission.wire import KNOWN_FIELDS
from schemas.reading import ENERGY_EXPORT, EXTRA_DROPPED, MILLI, QUANTITIES, SESSION_EVENT_LABELS, STATUS_LABELS

LABELS: Final[Mapping[str, Mapping[Any, str]]] = {"status": STATUS_LABELS, "session_event": SESSION_EVENT_LABELS}
_WIRE_NAME_OF: Final = {column: name for name, (column, *_) in QUANTITIES.items()} | {
    ENERGY_EXPORT[0]: "energy_export_wh"
}
_MS_PER_UNIT: Final = {"s": MILLI}
_UNITS_PER_MS: Final = {"us": 1_000, "ns": 1_000_000}
_any = msgspec.json.Decoder()
_raw_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])

Row = dict[str, Any]


def rows_of(batch: pa.RecordBatch) -> list[Row]:
    """The rows as their JSON objects would be, without nulls; `ts` in milliseconds, other timestamps as texts."""
    columns = [_values(name, column) for name, column in zip(batch.schema.names, batch.columns, strict=True)]
    return [
        {name: value for name, value in zip(batch.schema.names, values, strict=True) if value is not None}
        for values in zip(*columns, strict=True)
    ]


def wire_rows_of_frame(rows: list[Row]) -> list[Row]:
    """Rows in frame form with the names and units of the wire; `extra` stays as it is."""
    return [_wire_row(row) for row in rows]


def admit_row(at: int, row: Row, rules: AdmissionRules, in_frame_form: bool) -> tuple[Interpreted, int] | RefusedItem:
    """The reading of a row with its event time in Unix epoch ms. `in_frame_form`: it may have `extra`."""
    fields, raws, recorded = _opened(row) if in_frame_form else (row, {}, None)

    def raw_of(name: str) -> str:
        return bytes(raws[name]).decode() if name in raws else json.dumps(fields[name])

    fault = letter_fault(fields) if rules.strict else None
    found = fault or interpret(fields, raw_of, recorded)
    if isinstance(found, Interpreted):
        ts_ms = epoch_ms(found.reading.ts)
        fault = reading_fault(found.reading, ts_ms, rules)
        if fault is None:
            return found, ts_ms
        found = fault
    raw = msgspec.json.encode({name: _showable(value) for name, value in row.items()})
    return refuse(at, found, raw, station_id_of(row.get("station_id")))


def _opened(row: Row) -> tuple[Row, Mapping[str, msgspec.Raw], Mapping[str, str]]:
    """A row's fields with those in its `extra`, the JSON texts of these, and of the values dropped before."""
    text = row.get("extra")
    if text is None:
        return row, {}, {}
    try:
        members, raws = _any.decode(text), _raw_fields.decode(text)
        dropped = members.pop(EXTRA_DROPPED, {})
        recorded = _recorded(dropped, _raw_fields.decode(raws[EXTRA_DROPPED])) if dropped else {}
    except (ValueError, RecursionError):
        return row, {}, {}  # no JSON object: it is an unknown field like any other
    return members | {name: value for name, value in row.items() if name != "extra"}, raws, recorded


def _recorded(values: Row, raws: Mapping[str, msgspec.Raw]) -> dict[str, str]:
    texts = {}
    for name in KNOWN_FIELDS.intersection(values):
        with contextlib.suppress(TooDeep):
            texts[name] = compact(values[name], bytes(raws[name]).decode())
    return {name: text for name, text in texts.items() if text is not None}


def _values(name: str, column: pa.Array) -> list[Any]:
    if not pa.types.is_timestamp(column.type):
        values: list[Any] = column.to_pylist()
    elif name == "ts":
        unit = column.type.unit
        scale, divisor = _MS_PER_UNIT.get(unit, 1), _UNITS_PER_MS.get(unit, 1)
        values = [None if value is None else value * scale // divisor for value in column.view(pa.int64()).to_pylist()]
    else:
        # Without its zone, which may be none that this machine knows: the numbers are UTC in any case.
        texts = column.view(pa.timestamp(column.type.unit)).cast(pa.string()).to_pylist()
        zone = "Z" if column.type.tz is not None else ""
        values = [None if text is None else text + zone for text in texts]
    return values


def _wire_row(row: Row) -> Row:
    wire = {}
    for name, value in row.items():
        if name == "ts_ms":
            wire["ts"] = value
        elif name in _WIRE_NAME_OF:
            wire[_WIRE_NAME_OF[name]] = value / MILLI
        elif name not in LABELS:
            wire[name] = value
    for name, labels in LABELS.items():
        code = row.get(name, 0)
        if code != 0:
            wire[name] = labels.get(code, str(code))
    return wire


def _showable(value: Any) -> Any:
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
