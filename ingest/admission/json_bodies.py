"""Admits JSON and NDJSON bodies, item by item if one of them is not plain.

The fast path decodes a whole body into typed structs. If that fails, the body is split into items, each decoded alone
by the same decoder, and what that does not take is interpreted field by field (`items`). So all paths accept the same
readings.
"""

import math
import re
from dataclasses import replace
from typing import Any, Final

import msgspec
import numpy as np

from ingest.admission.admitted import (
    AdmissionRules,
    Admitted,
    DecodedReadings,
    RefusedItem,
    reading_fault,
    refuse,
    station_id_of,
)
from ingest.admission.detailed import decode_detailed
from ingest.admission.event_time import epoch_ms, epoch_ms_all
from ingest.admission.items import Interpreted, Remarks, interpret, letter_fault
from ingest.admission.splitting import split
from ingest.admission.wire import (
    FIELDS,
    DetailedReading,
    Fault,
    WireReading,
    not_an_object,
    text_fault,
)
from ingest.errors import MalformedBody

_one = msgspec.json.Decoder(WireReading)
_many = msgspec.json.Decoder(list[WireReading])
_raws = msgspec.json.Decoder(list[msgspec.Raw])
_raw_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])
_any = msgspec.json.Decoder()

# What msgspec raises on malformed input: MsgspecError and UnicodeDecodeError are ValueErrors; too deep is
# RecursionError.
_UNDECODABLE: Final = (ValueError, RecursionError)
_POSITION: Final = re.compile(r"\(byte (\d+)\)")
_BLANKS: Final = b" \t\r\n"
_BOM: Final = b"\xef\xbb\xbf"
# An array with more commas is split one by one: 32 M numbers would be 2 GB of objects, this many are ~100 MB. A
# reading without details has up to 14 commas and one behind it, so 100,000 of them are still below.
_COMMAS_MAX: Final = 1_500_000
_PLAIN: Final = frozenset(FIELDS)


def admit_json(body: bytes, rules: AdmissionRules) -> Admitted:
    """One reading or an array of them. Raises MalformedBody (not JSON) and TooLarge (too many items)."""
    start = body[:64].lstrip(_BLANKS)[:1] or body.lstrip(_BLANKS)[:1]
    if not start:
        raise MalformedBody("the body is empty; send a reading or an array of readings")
    if start == b"{":
        admitted = _admit_object(body, rules)
        return replace(admitted, single=True) if admitted.refused else admitted
    if start != b"[":
        if body.startswith(_BOM):
            return admit_json(_without_bom(body), rules)
        _raise_unless_json(body)
        raise MalformedBody("the body is neither a reading nor an array of readings; send an object or an array")
    try:
        readings = _many.decode(body)
    except _UNDECODABLE:
        return _admit_detailed(body, rules) or admit_items(_items_of(body, rules), rules)
    rules.check_count(len(readings))
    return _admit_plain(readings, rules) or admit_items(_items_of(body, rules), rules)


def admit_ndjson(body: bytes, rules: AdmissionRules) -> Admitted:
    """One reading per line; blank lines are ignored. Raises TooLarge."""
    rules.check_count(body.count(b"\n"))
    lines = [line for line in _without_bom(body).split(b"\n") if line.strip(_BLANKS)]
    decode = _one.decode
    try:
        readings = [decode(line) for line in lines]
    except _UNDECODABLE:
        return admit_items(lines, rules)
    return _admit_plain(readings, rules) or admit_items(lines, rules)


def admit_items(items: list[bytes], rules: AdmissionRules) -> Admitted:
    """The slow path: each item decoded alone, whatever the others are."""
    read = [_read(at, item, rules.strict) for at, item in enumerate(items)]
    moments = epoch_ms_all([found.reading.ts for found in read if isinstance(found, Interpreted)]).tolist()
    readings: list[WireReading] = []
    kept_ms: list[int] = []
    refused: list[RefusedItem] = []
    remarks = Remarks()
    later = iter(moments)
    for at, found in enumerate(read):
        if isinstance(found, RefusedItem):
            refused.append(found)
            continue
        reading, ts_ms = found.reading, next(later)
        fault = reading_fault(reading, ts_ms, rules)
        if fault is None:
            readings.append(reading)
            kept_ms.append(ts_ms)
            remarks.record(at, found)
        else:
            refused.append(refuse(at, fault, items[at], station_id_of(reading.station_id)))
    detailed = any(isinstance(reading, DetailedReading) for reading in readings)
    return Admitted(DecodedReadings(readings, np.array(kept_ms, np.int64), detailed), refused, remarks=remarks)


def _without_bom(body: bytes) -> bytes:
    """The body with blanks in place of a byte order mark, so that positions stay."""
    return b"   " + body[len(_BOM) :] if body.startswith(_BOM) else body


def _admit_detailed(body: bytes, rules: AdmissionRules) -> Admitted | None:
    """An array of readings with details at once; None if one of them has to be looked at alone."""
    if body.count(b"{") > rules.readings_max:  # each has one; more would be ~400 B each before they were counted
        return None
    readings = decode_detailed(body)
    if readings is None:
        return None
    admitted = _admit_plain(readings, rules)
    return admitted and replace(admitted, rows=admitted.rows._replace(detailed=True))


def _admit_object(body: bytes, rules: AdmissionRules) -> Admitted:
    try:
        reading = _one.decode(body)
    except _UNDECODABLE:
        _raise_unless_json(body)
        return admit_items([body], rules)
    return _admit_one(reading, rules) or admit_items([body], rules)


def _raise_unless_json(body: bytes) -> None:
    try:
        msgspec.json.decode(body, type=msgspec.Raw)
    except _UNDECODABLE as error:
        raise _malformed_body(error, body) from None


def _items_of(body: bytes, rules: AdmissionRules) -> list[bytes]:
    """The items of an array, damaged ones too."""
    if body.count(b",") > _COMMAS_MAX:
        return split(body, rules.readings_max)
    try:
        raws = _raws.decode(body)
    except _UNDECODABLE:
        return split(body, rules.readings_max)
    rules.check_count(len(raws))
    return [bytes(raw).strip(_BLANKS) for raw in raws]


def _malformed_body(error: Exception, body: bytes) -> MalformedBody:
    if isinstance(error, RecursionError):
        return MalformedBody("the body is nested too deeply to be readings")
    match = _POSITION.search(str(error))
    position = int(match[1]) if match else len(body)
    position -= "trailing" in str(error)  # there msgspec gives the byte after it
    what = "the body ends too early" if "truncated" in str(error) else "the body is not JSON"
    return MalformedBody(f"{what}, at byte {position}; send an object, an array of objects, or NDJSON", position)


def _admit_plain(readings: list[WireReading], rules: AdmissionRules) -> Admitted | None:
    """Check what decoding could not, of all at once; None if one of them fails."""
    ts_ms = epoch_ms_all([reading.ts for reading in readings])
    ids = [reading.station_id for reading in readings]
    sessions = [reading.session_id for reading in readings]
    joined = "".join(ids) + "".join(filter(None, sessions))
    clean = (
        joined.isascii()
        and joined.isprintable()
        and (rules.stations is None or rules.stations.issuperset({station.upper() for station in ids}))
        and bool(((ts_ms >= rules.oldest_ms) & (ts_ms <= rules.newest_ms)).all())
    )
    return Admitted(DecodedReadings(readings, ts_ms)) if clean else None


def _admit_one(reading: WireReading, rules: AdmissionRules) -> Admitted | None:
    """`_admit_plain` of one, without what arrays cost at least."""
    ts_ms = epoch_ms(reading.ts)
    text = reading.station_id + (reading.session_id or "")
    clean = (
        rules.oldest_ms <= ts_ms <= rules.newest_ms
        and text.isascii()
        and text.isprintable()
        and (rules.stations is None or reading.station_id.upper() in rules.stations)
    )
    return Admitted(DecodedReadings([reading], np.array((ts_ms,), np.int64))) if clean else None


def _read(at: int, item: bytes, strict: bool) -> Interpreted | RefusedItem:
    """The item as a reading, its station and moment unchecked."""
    try:
        reading = _one.decode(item)
    except _UNDECODABLE as error:
        return _read_fields(at, item, strict, str(error))
    session_is_good = reading.session_id is None or text_fault("session_id", reading.session_id) is None
    if session_is_good and (strict or not (isinstance(reading.ts, str) and reading.ts.isdigit())):
        return Interpreted(reading, [], [])
    return _read_fields(at, item, strict)


def _read_fields(at: int, item: bytes, strict: bool, error: str = "") -> Interpreted | RefusedItem:
    """Field by field. `error` is why the typed decoder refused it."""
    try:
        fields: Any = _decoded(item)
    except _UNDECODABLE as unreadable:
        return refuse(at, Fault("malformed", f"this item is not readable JSON: {_damage(unreadable)}"), item, None)
    fault = None if isinstance(fields, dict) else not_an_object(fields)
    if strict and fault is None:
        fault = letter_fault(fields)
        if fault is None and error and fields.keys() <= _PLAIN:  # one of its fields is there twice
            fault = Fault("malformed", f"this item is not a reading: {error[:200]}")
    if fault is None:
        found = interpret(fields, _RawFields(item))
        if isinstance(found, Interpreted):
            return found
        fault = found
    station = fields.get("station_id") if isinstance(fields, dict) else None
    return refuse(at, fault, item, station_id_of(station))


def _decoded(item: bytes) -> Any:
    """The item's JSON. A field whose number no float holds (1e400), or that has one inside, is infinite. Raises
    _UNDECODABLE."""
    try:
        return _any.decode(item)
    except msgspec.ValidationError:  # it is JSON
        item.decode()
        return {name: _field(raw) for name, raw in _raw_fields.decode(item).items()}


def _field(raw: msgspec.Raw) -> Any:
    try:
        return _any.decode(raw)
    except msgspec.ValidationError:
        return math.inf


class _RawFields:
    """The JSON text of an item's fields, split when the first is asked for."""

    __slots__ = ("_item", "_raws")

    def __init__(self, item: bytes) -> None:
        self._item = item
        self._raws: dict[str, msgspec.Raw] | None = None

    def __call__(self, name: str) -> str:
        if self._raws is None:
            self._raws = _raw_fields.decode(self._item)
        return bytes(self._raws[name]).decode()


def _damage(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if "truncated" in str(error):  # msgspec says so of both
        return "it ends too early, or half of a surrogate pair stands alone"
    return str(error)[:200]
