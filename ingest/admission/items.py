"""Interprets one item as generously as is unambiguous: a field that cannot be costs that field and not the reading.

Numbers may be strings of digits, unknown fields are kept in `extra`. Only an item whose identity cannot be read is
refused. With `strict` the letter of the wire format holds instead, and the first fault refuses the item.
"""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from ingest.admission.bay_events import (
    APART,
    BAY_FIELDS,
    NOT_OF_BAY,
    OTHER_COLUMNS,
    event_fault,
    is_bay_event,
    names_bay,
    occupied_of,
    strict_fault,
)
from ingest.admission.extra import NAME_CHARS_MAX, Extra, TooDeep, compact, is_name, is_plain_number, quoted
from ingest.admission.fixed_point import thousandths
from ingest.admission.wire import (
    FIELDS,
    IDENTITY,
    INTEGER_MAX,
    KNOWN_FIELDS,
    NUMBER_BOUNDS,
    DetailedReading,
    Fault,
    WireReading,
    missing_fault,
    shape_fault,
    value_fault,
)
from schemas.reading import BAY, DETAIL_TEXTS, EXTRA_DROPPED, MAIN_METER, MILLI, OCCUPIED

DROPPED_LISTED_MAX: Final = 100  # entries of a response, ~60 B each
UNKNOWN_LISTED_MAX: Final = 100  # names of at most 64 characters
# Strings that are numbers: JSON's grammar, and also a sign, a point without digits on one side, leading zeros.
_NUMBER: Final = re.compile(r"[+-]?(?:\d{1,40}\.?\d{0,40}|\.\d{1,40})(?:[eE][+-]?\d{1,3})?", re.ASCII)
_INTEGER: Final = re.compile(r"[+-]?\d{1,20}", re.ASCII)
_EPOCH_MS: Final = re.compile(r"[12]\d{12}", re.ASCII)  # 2001 to 2065; with other lengths it may be another notation
_NOT_FINITE: Final = frozenset({"nan", "inf", "infinity", "+inf", "-inf", "+infinity", "-infinity"})
_TEXTS: Final = frozenset({"session_id", *DETAIL_TEXTS})  # OCPP 1.6 has integers for some of them
_TEXT_BITS_MAX: Final = 256  # 77 digits: longer than every text, and the conversion takes quadratic time
PHASE_POWERS: Final = ("power_l1_w", "power_l2_w", "power_l3_w")
_NUMERIC: Final = (float, int)  # a boolean is neither
_PLAIN: Final = frozenset(FIELDS)


class Interpreted(NamedTuple):
    """The reading of an item, and what its sender is told."""

    reading: WireReading
    dropped: list[tuple[str, str]]  # field, reason
    unknown: list[str]  # fields kept in `extra`


class DroppedField(NamedTuple):
    """A field that an accepted reading was sent with and does not have."""

    position: int  # of the item in the request, from 0
    field: str
    reason: str


@dataclass(slots=True)
class Remarks:
    """What the sender of accepted readings is told of them, in bounded lists."""

    dropped: list[DroppedField] = field(default_factory=list)
    dropped_omitted: int = 0  # not listed in `dropped`
    unknown_fields: dict[str, None] = field(default_factory=dict)  # names, kept in `extra`
    reasons: Counter[str] = field(default_factory=Counter)  # of all that were dropped

    def record(self, position: int, interpreted: Interpreted) -> None:
        """Record what is to be told of an accepted item."""
        for name, reason in interpreted.dropped:
            self.reasons[reason] += 1
            if len(self.dropped) < DROPPED_LISTED_MAX:
                self.dropped.append(DroppedField(position, _shown(name), reason))
            else:
                self.dropped_omitted += 1
        for name in interpreted.unknown:
            if len(self.unknown_fields) < UNKNOWN_LISTED_MAX:
                self.unknown_fields[name] = None


def _shown(name: str) -> str:
    """A field's name for a response: printable and bounded."""
    name = name[:NAME_CHARS_MAX]
    return name if name.isprintable() else ascii(name)[1:-1]


def letter_fault(fields: Mapping[str, Any]) -> Fault | None:
    """The first fault of an item by the letter of the wire format, as `shape_fault`."""
    return strict_fault(fields) if is_bay_event(fields) else shape_fault(fields)


def interpret(
    fields: Mapping[str, Any], raw_of: Callable[[str], str], recorded: Mapping[str, str] | None = None
) -> Interpreted | Fault:
    """The reading of a decoded item; the range of `ts` is not checked.

    `raw_of(name)` is the JSON text of a field's value. Fields with the value null count as not sent. `recorded`: the
    item is the record of a reading, so that its power is net of exported power already, and the values of these fields
    (compact JSON) were dropped then.
    """
    event = is_bay_event(fields)
    fault = event_fault(fields) if event else missing_fault(fields)
    if fault is not None:
        return fault
    values: dict[str, Any] = {"connector_id": MAIN_METER} if event else {}
    details: dict[str, Any] = {}
    impossible = _misplaced(fields, event=event)
    unknown: list[str] = []
    for name, value in fields.items():
        if value is None or name in impossible or (event and name in BAY_FIELDS):
            continue
        if name not in KNOWN_FIELDS:
            unknown.append(name)
            continue
        if type(value) in _NUMERIC and name in NUMBER_BOUNDS:  # most fields: checked without a call
            lowest, highest = NUMBER_BOUNDS[name]
            if lowest <= value <= highest:
                (values if name in _PLAIN else details)[name] = value
                continue
        typed = _in_its_type(name, value)
        fault = value_fault(name, typed)
        if fault is None:
            (values if name in _PLAIN else details)[name] = typed
        elif name in IDENTITY:
            return fault
        else:
            impossible[name] = fault.reason
    if not (details or impossible or unknown or recorded or event):
        return Interpreted(WireReading(**values), [], [])
    export_wh = details.pop("energy_export_wh", None)
    values["energy_export_mwh"] = None if export_wh is None else thousandths(export_wh)
    if recorded is None:
        total_w = values.get("power_w")
        if total_w is None:
            total_w = power_of_phases_w([details[name] for name in PHASE_POWERS if name in details])
        values["power_w"] = net_power_w(total_w, details.get("power_export_w"))
    extra = Extra()
    if event:
        extra.add(BAY, quoted(fields[BAY]))
        extra.add(OCCUPIED, "true" if occupied_of(fields[OCCUPIED]) else "false")
    for name, value in details.items():
        extra.add(name, _detail_text(name, value, fields[name], raw_of))
    for name, text in (recorded or {}).items():
        extra.add_dropped(name, text)
    dropped = _keep_impossible(impossible, fields, raw_of, extra)
    kept = _keep_unknown(unknown, fields, raw_of, extra, dropped)
    return Interpreted(DetailedReading(**values, extra=extra.text()), dropped, kept)


def _misplaced(fields: Mapping[str, Any], *, event: bool) -> dict[str, str]:
    """Fields that the item cannot have because it is a bay's event, or because it is none, and why."""
    if event:
        return {name: NOT_OF_BAY for name in OTHER_COLUMNS if fields.get(name) is not None}
    return dict.fromkeys(sorted(BAY_FIELDS), APART) if names_bay(fields) else {}


def _keep_impossible(
    impossible: Mapping[str, str], fields: Mapping[str, Any], raw_of: Callable[[str], str], extra: Extra
) -> list[tuple[str, str]]:
    for name in impossible:
        text, _ = _kept(name, fields[name], raw_of)
        if text is not None:
            extra.add_dropped(name, text)
    return list(impossible.items())


def _keep_unknown(
    names: list[str],
    fields: Mapping[str, Any],
    raw_of: Callable[[str], str],
    extra: Extra,
    dropped: list[tuple[str, str]],
) -> list[str]:
    """The names that were kept; the others are added to `dropped`."""
    kept = []
    for name in names:
        if not is_name(name):
            dropped.append((name, "name_invalid"))
        elif name == EXTRA_DROPPED:
            dropped.append((name, "name_reserved"))
        else:
            text, reason = _kept(name, fields[name], raw_of)
            if text is None:
                dropped.append((name, reason))
            elif extra.add_unknown(name, text):
                kept.append(name)
            else:
                dropped.append((name, "too_large"))
    return kept


def net_power_w(power_w: float | None, export_w: float | None) -> float | None:
    """Power less exported power, exact in mW. A negative power is that already; an export of 0 alone says nothing."""
    power_mw = thousandths(power_w or 0.0)
    return (power_mw - thousandths(export_w)) / MILLI if export_w and power_mw >= 0 else power_w


def power_of_phases_w(phases_w: Sequence[float]) -> float | None:
    """The power of a connector that says it per phase only: their sum, exact in mW; None where no power can be that."""
    if not phases_w:
        return None
    lowest, highest = NUMBER_BOUNDS["power_w"]
    total_w = sum(map(thousandths, phases_w)) / MILLI
    return total_w if lowest <= total_w <= highest else None


def _in_its_type(name: str, value: Any) -> Any:
    """The value in the type of its field, where it is written in another one and there is no doubt."""
    if isinstance(value, str):
        if name in NUMBER_BOUNDS:
            return _number_of(value)
        if name in INTEGER_MAX:
            digits = value.strip(" ")
            return int(digits) if _INTEGER.fullmatch(digits) else value
        if name == "ts" and _EPOCH_MS.fullmatch(value):
            return int(value)
    elif name in _TEXTS and isinstance(value, int) and not isinstance(value, bool):
        return str(value) if value.bit_length() < _TEXT_BITS_MAX else value
    return value


def _number_of(text: str) -> Any:
    digits = text.strip(" ")
    if _NUMBER.fullmatch(digits) or digits.lower() in _NOT_FINITE:
        return float(digits)
    return text


def _detail_text(name: str, value: Any, sent: Any, raw_of: Callable[[str], str]) -> str:
    """A valid detail as compact JSON, numbers with the digits that were sent."""
    if isinstance(value, str):
        return quoted(value)
    digits = sent.strip(" ") if isinstance(sent, str) else raw_of(name)
    return digits if is_plain_number(digits) else repr(value)


def _kept(name: str, value: Any, raw_of: Callable[[str], str]) -> tuple[str | None, str]:
    """Compact JSON of a value, or None and the reason why it cannot be kept."""
    try:
        return compact(value, "" if isinstance(value, str) else raw_of(name)), "too_large"
    except TooDeep:
        return None, "too_deep"
