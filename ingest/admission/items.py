"""JSON and NDJSON bodies to readings, item by item where one of them is bad.

The fast path decodes a whole body into typed structs. Only when that fails is the body cut into items, and each one
decoded alone by the same decoder, so both paths let the same readings through.
"""

import re
from dataclasses import replace
from typing import Final

import msgspec
import numpy as np

from ingest.admission.admitted import Admitted, Refused, Rules, Structs, refuse
from ingest.admission.moment import epoch_ms_all, moment_fault
from ingest.admission.wire import Fault, WireReading, shape_fault, text_fault
from ingest.errors import Malformed, TooLarge

_one = msgspec.json.Decoder(WireReading)
_many = msgspec.json.Decoder(list[WireReading])
_raws = msgspec.json.Decoder(list[msgspec.Raw])
_any = msgspec.json.Decoder()

# What msgspec raises at hostile bytes: MsgspecError and UnicodeDecodeError are ValueErrors; too deep is RecursionError.
_UNDECODABLE: Final = (ValueError, RecursionError)
_POSITION: Final = re.compile(r"\(byte (\d+)\)")
_BLANKS: Final = b" \t\r\n"
# An array with more commas than this is not taken apart: 32 M numbers would be 2 GB of objects, this many are ~100 MB.
# A reading has up to 14 commas and one behind it, so 100,000 full readings are still below.
_COMMAS_MAX: Final = 1_500_000
_COMMAS_PER_READING: Final = 15


def admit_json(body: bytes, rules: Rules) -> Admitted:
    """One reading or an array of them. Raises Malformed (not JSON) and TooLarge (too many items)."""
    start = body[:64].lstrip(_BLANKS)[:1] or body.lstrip(_BLANKS)[:1]
    if not start:
        return Admitted(Structs([], np.empty(0, np.int64)))
    if start == b"{":
        admitted = _admit_object(body, rules)
        return replace(admitted, single=True) if admitted.refused else admitted
    if start != b"[":
        _any_or_malformed(body)
        raise Malformed("the body is neither a reading nor an array of readings; send an object or an array")
    try:
        readings = _many.decode(body)
    except _UNDECODABLE:
        return _admit_each(_items_of(body, rules), rules)
    _check_count(len(readings), rules)
    return _admit(readings, body, rules)


def admit_ndjson(body: bytes, rules: Rules) -> Admitted:
    """One reading a line; blank lines count for nothing. Raises TooLarge."""
    _check_count(body.count(b"\n"), rules)
    lines = [line for line in body.split(b"\n") if line.strip(_BLANKS)]
    decode = _one.decode
    try:
        readings = [decode(line) for line in lines]
    except _UNDECODABLE:
        return _admit_each(lines, rules)
    return _admit(readings, lines, rules)


def _admit_object(body: bytes, rules: Rules) -> Admitted:
    try:
        return _admit([_one.decode(body)], [body], rules)
    except _UNDECODABLE:
        _any_or_malformed(body)
        return _admit_each([body], rules)


def _any_or_malformed(body: bytes) -> None:
    try:
        msgspec.json.decode(body, type=msgspec.Raw)
    except _UNDECODABLE as error:
        raise _malformed(error, body) from None


def _items_of(body: bytes, rules: Rules) -> list[bytes]:
    if body.count(b",") > max(_COMMAS_MAX, rules.readings_max * _COMMAS_PER_READING):
        raise TooLarge(f"the body has far more items than {rules.readings_max} readings; send smaller batches")
    try:
        raws = _raws.decode(body)
    except _UNDECODABLE as error:
        raise _malformed(error, body) from None
    _check_count(len(raws), rules)
    return [bytes(raw).strip(_BLANKS) for raw in raws]


def _check_count(count: int, rules: Rules) -> None:
    if count > rules.readings_max:
        raise TooLarge(f"a request carries at most {rules.readings_max} readings; send them in smaller batches")


def _malformed(error: Exception, body: bytes) -> Malformed:
    if isinstance(error, RecursionError):
        return Malformed("the body is nested too deeply to be readings")
    match = _POSITION.search(str(error))
    position = int(match[1]) if match else len(body)
    position -= "trailing" in str(error)  # there msgspec names the byte behind
    what = "the body ends too early" if "truncated" in str(error) else "the body is not JSON"
    return Malformed(f"{what}, at byte {position}; send an object, an array of objects, or NDJSON", position)


def _admit(readings: list[WireReading], raws: bytes | list[bytes], rules: Rules) -> Admitted:
    """Check what decoding could not; `raws` is the items, or the array's body to find them in."""
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
    if clean:
        return Admitted(Structs(readings, ts_ms))
    if isinstance(raws, bytes):
        raws = _items_of(raws, rules)
    good: list[int] = []
    refused: list[Refused] = []
    for at, reading in enumerate(readings):
        fault = (
            text_fault("station_id", reading.station_id)
            or (text_fault("session_id", reading.session_id) if reading.session_id is not None else None)
            or moment_fault(reading.ts, int(ts_ms[at]), rules.oldest_ms, rules.newest_ms)
            or rules.binding_fault(reading.station_id)
        )
        if fault is None:
            good.append(at)
        else:
            refused.append(refuse(at, fault, raws[at], readable_station(reading.station_id)))
    return Admitted(Structs([readings[at] for at in good], ts_ms[good]), refused)


def _admit_each(items: list[bytes], rules: Rules) -> Admitted:
    """The slow path: each item decoded alone."""
    readings: list[WireReading] = []
    places: list[int] = []
    refused: list[Refused] = []
    for at, item in enumerate(items):
        try:
            readings.append(_one.decode(item))
            places.append(at)
        except _UNDECODABLE as error:
            refused.append(_refuse_item(at, item, error))
    rest = _admit(readings, [items[at] for at in places], rules)
    refused += [late._replace(place=places[late.place]) for late in rest.refused]
    refused.sort(key=lambda item: item.place)
    return Admitted(rest.rows, refused)


def _refuse_item(at: int, item: bytes, error: Exception) -> Refused:
    try:
        value = _any.decode(item)
    except _UNDECODABLE as unreadable:
        what = "it is nested too deeply" if isinstance(unreadable, RecursionError) else str(unreadable)[:200]
        return refuse(at, Fault("malformed", f"this item is not readable JSON: {what}"), item, None)
    # The typed decoder refused it; should our own words for that be missing, its message serves.
    fault = shape_fault(value) or Fault("malformed", f"this item is not a reading: {str(error)[:200]}")
    station = value.get("station_id") if isinstance(value, dict) else None
    return refuse(at, fault, item, readable_station(station))


def readable_station(value: object) -> str | None:
    """The station an item speaks of, upper case, where it is a possible one."""
    return value.upper() if isinstance(value, str) and text_fault("station_id", value) is None else None
