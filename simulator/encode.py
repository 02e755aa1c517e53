"""Readings to bodies of requests: JSON and NDJSON without a Python object a reading, and Arrow IPC.

JSON lets blanks stand between its tokens, so every reading is written as a row of the same width into a matrix of
bytes: numbers stand right-aligned, strings are filled up behind their closing quote, a field that a reading does not
have is all blanks. One matrix operation a field writes it for all readings.
"""

from enum import StrEnum
from typing import Final

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from schemas.reading import MILLI, PLAIN_READING_SCHEMA, QUANTITIES, SESSION_EVENT_LABELS, STATUS_LABELS
from simulator.fleet.readings import NULL, MalformedKind, Readings

Bytes2D = NDArray[np.uint8]

BLANK: Final = ord(" ")
_QUOTE: Final = ord('"')
_CONNECTOR_BEYOND: Final = 99_999  # three times what admission takes


class Format(StrEnum):
    """Format of a request body."""

    JSON = "json"
    NDJSON = "ndjson"
    ARROW = "arrow"


CONTENT_TYPES: Final = {
    Format.JSON: "application/json",
    Format.NDJSON: "application/x-ndjson",
    Format.ARROW: "application/vnd.apache.arrow.stream",
}


def _digit_table(digits: int) -> Bytes2D:
    numbers = np.arange(10**digits)
    return np.stack([numbers // 10**place % 10 + ord("0") for place in reversed(range(digits))], 1).astype(np.uint8)


_GROUP: Final = 4  # digits looked up at once: a table of 40 kB stays in the first-level cache
_FOUR: Final = _digit_table(_GROUP)
_THREE: Final = _digit_table(3)
_POWERS: Final = 10 ** np.arange(1, 19, dtype=np.int64)


def zero_padded(values: NDArray[np.int64], width: int) -> Bytes2D:
    """ASCII digits of non-negative integers, shape (n, width); digits above `width` are cut off."""
    groups = -(-width // _GROUP)
    out = np.empty((len(values), groups * _GROUP), np.uint8)
    rest = values
    for group in reversed(range(groups)):
        rest, low = np.divmod(rest, 10**_GROUP)
        out[:, group * _GROUP : (group + 1) * _GROUP] = _FOUR[low]
    return out[:, groups * _GROUP - width :]


def right_aligned(values: NDArray[np.int64]) -> Bytes2D:
    """Decimal integers with blanks before them, as wide as the widest needs."""
    size = np.abs(values)
    digits = np.searchsorted(_POWERS, size, side="right") + 1
    negative = values < 0
    width = int((digits + negative).max())
    out = zero_padded(size, width)
    starts = width - digits
    out[np.arange(width) < starts[:, None]] = BLANK
    rows = np.flatnonzero(negative)
    out[rows, starts[rows] - 1] = ord("-")
    return out


def thousandths(values: NDArray[np.int64]) -> Bytes2D:
    """Integers of thousandths as decimals with three places: -1500 is `-1.500`."""
    size = np.abs(values)
    whole, fraction = np.divmod(size, MILLI)
    out = right_aligned(whole)
    negative = values < 0
    if negative.any():  # -0.5 has no whole part that could carry the sign
        digits = np.searchsorted(_POWERS, whole, side="right") + 1
        out = np.concatenate([np.full((len(values), 1), BLANK, np.uint8), out], 1)
        rows = np.flatnonzero(negative)
        out[rows, out.shape[1] - digits[rows] - 1] = ord("-")
    return np.concatenate([out, _constant(b".", len(values)), _THREE[fraction]], 1)


def quoted(texts: NDArray[np.bytes_]) -> Bytes2D:
    """ASCII texts without quotes, backslashes and control characters as JSON strings, blanks behind them."""
    count = len(texts)
    lengths = np.strings.str_len(texts)
    width = max(int(lengths.max()), 1)
    out = np.full((count, width + 2), BLANK, np.uint8)
    out[:, 0] = _QUOTE
    letters = np.ascontiguousarray(texts).view(np.uint8).reshape(count, -1)[:, :width]
    out[:, 1:-1] = np.where(letters == 0, BLANK, letters)
    out[np.arange(count), lengths + 1] = _QUOTE
    return out


def _constant(text: bytes, count: int) -> Bytes2D:
    return np.broadcast_to(np.frombuffer(text, np.uint8), (count, len(text)))


def _optional(name: str, given: NDArray[np.bool_], value: Bytes2D) -> Bytes2D:
    field = np.concatenate([_constant(f',"{name}":'.encode(), len(value)), value], 1)
    field[~given] = BLANK
    return field


def _label_table(name: str, labels: dict[int, str]) -> Bytes2D:
    texts = [f',"{name}":"{labels[code]}"' if code in labels else "" for code in range(max(labels) + 1)]
    width = max(map(len, texts))
    return np.frombuffer("".join(text.ljust(width) for text in texts).encode(), np.uint8).reshape(-1, width)


_LABELS: Final = {
    "status": _label_table("status", {int(code): name for code, name in STATUS_LABELS.items()}),
    "session_event": _label_table("session_event", {int(code): name for code, name in SESSION_EVENT_LABELS.items()}),
}


def json_rows(readings: Readings, separator: bytes = b",") -> Bytes2D:
    """Every reading as a JSON object in a row of bytes, `separator` last. There must be at least one."""
    count = len(readings)
    pieces = [
        _constant(b'{"station_id":', count),
        quoted(readings["station_id"]),
        _constant(b',"connector_id":', count),
        right_aligned(readings["connector_id"].astype(np.int64)),
        _constant(b',"ts":', count),
        right_aligned(readings["ts_ms"]),
    ]
    session = readings["session_id"]
    if (named := session != b"").any():
        pieces.append(_optional("session_id", named, quoted(session)))
    for name in ("boot", "seq"):
        values = readings[name]
        if (given := values != NULL).any():
            pieces.append(_optional(name, given, right_aligned(np.where(given, values, 0))))
    for name, (column, _, _, _) in QUANTITIES.items():
        values = readings[column]
        if (given := values != NULL).any():
            pieces.append(_optional(name, given, thousandths(np.where(given, values, 0))))
    for name, table in _LABELS.items():
        if readings[name].any():
            pieces.append(table[readings[name]])
    pieces.append(_constant(b"}" + separator, count))
    return _break(np.concatenate(pieces, 1), readings)


def _break(rows: Bytes2D, readings: Readings) -> Bytes2D:
    """Write malformed items over their rows, all of which grow where one does not fit."""
    broken = np.flatnonzero(readings["malformed"])
    if not len(broken):
        return rows
    texts = [_broken(readings[at]) for at in broken]
    room = rows.shape[1] - 1
    if (missing := max(map(len, texts)) - room) > 0:
        filler = np.full((len(rows), missing), BLANK, np.uint8)
        rows = np.concatenate([rows[:, :-1], filler, rows[:, -1:]], 1)
        room += missing
    for at, text in zip(broken, texts, strict=True):
        rows[at, :-1] = np.frombuffer(text.ljust(room), np.uint8)
    return rows


def _broken(reading: np.void) -> bytes:
    kind = MalformedKind(int(reading["malformed"]))
    if kind is MalformedKind.NOT_AN_OBJECT:
        return b'"NaN"'
    item: dict[str, object] = {
        "station_id": reading["station_id"].decode(),
        "connector_id": int(reading["connector_id"]),
        "ts": int(reading["ts_ms"]),
    }
    if kind is MalformedKind.MISSING_TS:
        del item["ts"]
    elif kind is MalformedKind.WRONG_TYPE:
        item["connector_id"] = "left"
    elif kind is MalformedKind.OUT_OF_RANGE:
        item["connector_id"] = _CONNECTOR_BEYOND
    elif kind is MalformedKind.NO_TIME:
        item["ts"] = "yesterday"
    else:
        item["ts"] = "2026-11-22T13:17:47"
    return msgspec.json.encode(item)


def to_arrow(readings: Readings) -> pa.RecordBatch:
    """PLAIN_READING_SCHEMA rows. Columns have types, so every malformed item is one with a connector out of range."""
    malformed = readings["malformed"] != MalformedKind.NO
    columns = []
    for field in PLAIN_READING_SCHEMA:
        values = readings[field.name]
        if pa.types.is_string(field.type):
            texts = pa.array(np.char.decode(values, "ascii"), pa.string())
            columns.append(pc.if_else(pa.array(values != b""), texts, None))
            continue
        if field.name == "connector_id":
            values = np.where(malformed, -1, values)
        missing = values == NULL if field.nullable else None
        narrow = values if missing is None else np.where(missing, 0, values)
        columns.append(pa.array(narrow.astype(field.type.to_pandas_dtype()), field.type, mask=missing))
    return pa.RecordBatch.from_arrays(columns, schema=PLAIN_READING_SCHEMA)


def encode(readings: Readings, form: Format) -> bytes:
    """The body of a request: an array, lines, or an Arrow IPC stream."""
    if form is Format.ARROW:
        batch = to_arrow(readings)
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, batch.schema) as writer:
            writer.write_batch(batch)
        return bytes(sink.getvalue())
    if not len(readings):
        return b"[]" if form is Format.JSON else b""
    if form is Format.NDJSON:
        return json_rows(readings, b"\n").tobytes()
    body = bytearray(b"[")
    body += json_rows(readings).data
    body[-1:] = b"]"
    return bytes(body)
