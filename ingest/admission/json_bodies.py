"""Admits JSON and NDJSON bodies, item by item if one of them is bad.

The fast path decodes a whole body into typed structs. If that fails, the body is split into items, each decoded alone
by the same decoder, so that both paths accept the same readings.
"""

import re
from dataclasses import replace
from typing import Final

import msgspec
import numpy as np

from ingest.admission.admitted import AdmissionRules, Admitted, DecodedReadings, RefusedItem, refuse
from ingest.admission.event_time import epoch_ms_all, event_time_fault
from ingest.admission.wire import Fault, WireReading, shape_fault, text_fault
from ingest.errors import MalformedBody, TooLarge

_one = msgspec.json.Decoder(WireReading)
_many = msgspec.json.Decoder(list[WireReading])
_raws = msgspec.json.Decoder(list[msgspec.Raw])
_any = msgspec.json.Decoder()

# What msgspec raises on malformed input: MsgspecError and UnicodeDecodeError are ValueErrors; too deep is
# RecursionError.
_UNDECODABLE: Final = (ValueError, RecursionError)
_POSITION: Final = re.compile(r"\(byte (\d+)\)")
_BLANKS: Final = b" \t\r\n"
# An array with more commas is not split: 32 M numbers would be 2 GB of objects, this many are ~100 MB. A reading has up
# to 14 commas and one behind it, so 100,000 full readings are still below.
_COMMAS_MAX: Final = 1_500_000
_COMMAS_PER_READING: Final = 15


def admit_json(body: bytes, rules: AdmissionRules) -> Admitted:
    """One reading or an array of them. Raises MalformedBody (not JSON) and TooLarge (too many items)."""
    start = body[:64].lstrip(_BLANKS)[:1] or body.lstrip(_BLANKS)[:1]
    if not start:
        return Admitted(DecodedReadings([], np.empty(0, np.int64)))
    if start == b"{":
        admitted = _admit_object(body, rules)
        return replace(admitted, single=True) if admitted.refused else admitted
    if start != b"[":
        _raise_unless_json(body)
        raise MalformedBody("the body is neither a reading nor an array of readings; send an object or an array")
    try:
        readings = _many.decode(body)
    except _UNDECODABLE:
        return _admit_each(_items_of(body, rules), rules)
    rules.check_count(len(readings))
    return _admit(readings, body, rules)


def admit_ndjson(body: bytes, rules: AdmissionRules) -> Admitted:
    """One reading per line; blank lines are ignored. Raises TooLarge."""
    rules.check_count(body.count(b"\n"))
    lines = [line for line in body.split(b"\n") if line.strip(_BLANKS)]
    decode = _one.decode
    try:
        readings = [decode(line) for line in lines]
    except _UNDECODABLE:
        return _admit_each(lines, rules)
    return _admit(readings, lines, rules)


def _admit_object(body: bytes, rules: AdmissionRules) -> Admitted:
    try:
        return _admit([_one.decode(body)], [body], rules)
    except _UNDECODABLE:
        _raise_unless_json(body)
        return _admit_each([body], rules)


def _raise_unless_json(body: bytes) -> None:
    try:
        msgspec.json.decode(body, type=msgspec.Raw)
    except _UNDECODABLE as error:
        raise _malformed_body(error, body) from None


def _items_of(body: bytes, rules: AdmissionRules) -> list[bytes]:
    if body.count(b",") > max(_COMMAS_MAX, rules.readings_max * _COMMAS_PER_READING):
        raise TooLarge(f"the body has far more items than {rules.readings_max} readings; send smaller batches")
    try:
        raws = _raws.decode(body)
    except _UNDECODABLE as error:
        raise _malformed_body(error, body) from None
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


def _admit(readings: list[WireReading], raws: bytes | list[bytes], rules: AdmissionRules) -> Admitted:
    """Check what decoding could not; `raws` are the items, or the array's body that has them."""
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
        return Admitted(DecodedReadings(readings, ts_ms))
    if isinstance(raws, bytes):
        raws = _items_of(raws, rules)
    good: list[int] = []
    refused: list[RefusedItem] = []
    for at, reading in enumerate(readings):
        fault = (
            text_fault("station_id", reading.station_id)
            or (text_fault("session_id", reading.session_id) if reading.session_id is not None else None)
            or event_time_fault(reading.ts, int(ts_ms[at]), rules.oldest_ms, rules.newest_ms)
            or rules.binding_fault(reading.station_id)
        )
        if fault is None:
            good.append(at)
        else:
            refused.append(refuse(at, fault, raws[at], station_id_of(reading.station_id)))
    return Admitted(DecodedReadings([readings[at] for at in good], ts_ms[good]), refused)


def _admit_each(items: list[bytes], rules: AdmissionRules) -> Admitted:
    """The slow path: each item decoded alone."""
    readings: list[WireReading] = []
    places: list[int] = []
    refused: list[RefusedItem] = []
    for at, item in enumerate(items):
        try:
            readings.append(_one.decode(item))
            places.append(at)
        except _UNDECODABLE as error:
            refused.append(_refuse_item(at, item, error))
    rest = _admit(readings, [items[at] for at in places], rules)
    refused += [late._replace(position=places[late.position]) for late in rest.refused]
    refused.sort(key=lambda item: item.position)
    return Admitted(rest.rows, refused)


def _refuse_item(at: int, item: bytes, error: Exception) -> RefusedItem:
    try:
        value = _any.decode(item)
    except _UNDECODABLE as unreadable:
        what = "it is nested too deeply" if isinstance(unreadable, RecursionError) else str(unreadable)[:200]
        return refuse(at, Fault("malformed", f"this item is not readable JSON: {what}"), item, None)
    # The typed decoder refused it; its message is the fallback if shape_fault finds nothing.
    fault = shape_fault(value) or Fault("malformed", f"this item is not a reading: {str(error)[:200]}")
    station = value.get("station_id") if isinstance(value, dict) else None
    return refuse(at, fault, item, station_id_of(station))


def station_id_of(value: object) -> str | None:
    """The item's station id in upper case; None if it is not a valid one."""
    return value.upper() if isinstance(value, str) and text_fault("station_id", value) is None else None
