"""Strategies for readings as devices might send them, good and bad, and a plain reference of admission for one item."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any

import pyarrow as pa
from hypothesis import strategies as st

from ingest.admission import AdmissionRules, Admitted, to_columns
from ingest.errors import IngestError
from schemas.reading import (
    DETAIL_QUANTITIES,
    DETAIL_TEXTS,
    ENERGY_EXPORT,
    QUANTITIES,
    SESSION_EVENT_NAMES,
    STATUS_NAMES,
    with_all_columns,
)

NOW_MS = 1_795_353_467_000  # 2026-11-22T13:17:47Z
DAY_MS = 86_400_000
RULES = AdmissionRules(now_ms=NOW_MS, age_ms_max=1_830 * DAY_MS, future_ms_max=DAY_MS, readings_max=1_000)
BOUND = AdmissionRules(NOW_MS, 1_830 * DAY_MS, DAY_MS, 1_000, frozenset({"CP1", "CP2"}))
STRICT, STRICT_BOUND = replace(RULES, strict=True), replace(BOUND, strict=True)

_ids = st.sampled_from(["CP1", "cp1", "Cp2", "DE*ABC*E1"]) | st.text(
    st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=36
)
_near_ms = st.integers(NOW_MS - 2_000 * DAY_MS, NOW_MS + 2 * DAY_MS)


def _rfc3339(ms: int, form: str) -> str:
    text = datetime.fromtimestamp(ms // 1_000, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return text + form.replace("F", f"{ms % 1_000:03d}")


_good_ts = _near_ms | st.builds(
    _rfc3339, _near_ms, st.sampled_from(["Z", ".FZ", ".F123Z", ".F999999+00:00", "+02:00", ".F-11:30", ".9Z", "+0530"])
)
_BOUNDS = {
    **{name: bounds for name, (_, _, *bounds) in QUANTITIES.items()},
    "energy_export_wh": ENERGY_EXPORT[2:],
    **DETAIL_QUANTITIES,
}
_numbers = {
    name: st.floats(low, high, allow_nan=False)
    | st.integers(int(low), int(high))
    | st.decimals(int(max(low, -1_000)), int(min(high, 100_000)), places=4).map(float)
    for name, (low, high) in _BOUNDS.items()
}
_counters = st.integers(0, 2**53 - 1)
_optional = {
    "session_id": st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=64),
    "boot": _counters,
    "seq": _counters,
    **{name: _numbers[name] for name in QUANTITIES},
    "status": st.sampled_from(sorted(STATUS_NAMES)),
    "session_event": st.sampled_from(sorted(SESSION_EVENT_NAMES)),
}
_details: dict[str, st.SearchStrategy[Any]] = {
    **{name: values for name, values in _numbers.items() if name not in QUANTITIES},
    **{name: st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=64) for name in DETAIL_TEXTS},
}
plain_items: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {"station_id": _ids, "connector_id": st.integers(0, 32_767), "ts": _good_ts},
    optional={name: values | st.none() for name, values in _optional.items()},
)
good_items: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {"station_id": _ids, "connector_id": st.integers(0, 32_767), "ts": _good_ts},
    optional={name: values | st.none() for name, values in (_optional | _details).items()},
)

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=80),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
_spoilt_values = anything | st.sampled_from(
    [
        *("2026-11-22T13:17:47", "2026-13-01T00:00:00Z", "1600-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "yesterday"),
        1_795_353_467,
        1.5,
        1e300,
        -1,
        2**53,
        2**63,
        2**64,
        10**30,
        "",
        "x" * 37,
        "x" * 65,
        "é",
        "a\0b",
        "charging",
        *("5000.0", " 12", "-1", "+7", "1e3", "NaN", "Infinity", "1,5", "0x10", "007", "1795353467000", "5."),
    ]
)
_names = st.sampled_from(
    [
        "station_id",
        "connector_id",
        "ts",
        *_optional,
        *_details,
        "energy_kwh",
        "stationId",
        "vendor mode",
        "é",
        "dropped",
    ]
)


@st.composite
def _spoilt(draw: st.DrawFn) -> dict[str, Any]:
    item = dict(draw(good_items))
    name = draw(_names)
    if draw(st.booleans()):
        item.pop(name, None)
    else:
        item[name] = draw(_spoilt_values)
    return item


items = good_items | _spoilt() | anything
batches: st.SearchStrategy[list[Any]] = st.lists(items, max_size=30)


def as_json(value: object) -> bytes:
    """As a device's JSON library writes it."""
    return json.dumps(value).encode()


def columns_of(admitted: Admitted) -> pa.RecordBatch:
    """What was admitted, as READING_SCHEMA rows."""
    rows = to_columns(admitted).rows
    assert isinstance(rows, pa.RecordBatch)
    return with_all_columns(rows)


def rows_of(admitted: Admitted) -> list[dict[str, Any]]:
    """The same as dicts."""
    rows: list[dict[str, Any]] = columns_of(admitted).to_pylist()
    return rows


def request_error(admit: Callable[[bytes, AdmissionRules], Admitted], body: bytes, rules: AdmissionRules) -> str:
    """The error text of a request that is refused as a whole; empty if it is admitted item by item."""
    try:
        to_columns(admit(body, rules))
    except IngestError as error:
        return str(error)
    return ""


def expected_strict(item: Any, rules: AdmissionRules) -> dict[str, Any] | None:
    """The columns of an item that keeps to the letter of the wire format, without `extra`; None if it does not."""
    if not isinstance(item, dict) or not set(item) <= {"station_id", "connector_id", "ts", *_optional, *_details}:
        return None
    found = expected(item, rules)
    if found is None or found.dropped or found.unknown:
        return None
    texts = {"station_id", "ts", "session_id", "status", "session_event", *DETAIL_TEXTS}
    given = {name: value for name, value in item.items() if value is not None}
    if any(isinstance(value, str) != (name in texts) for name, value in given.items() if name != "ts"):
        return None
    if re.fullmatch(r"\d+", str(item["ts"])) and isinstance(item["ts"], str):
        return None
    return found.row


@dataclass
class Expected:
    """What becomes of an accepted item."""

    row: dict[str, Any]  # the columns but `extra`
    extra: dict[str, Any] = field(default_factory=dict)  # numbers as Decimal
    dropped: set[str] = field(default_factory=set)
    unknown: set[str] = field(default_factory=set)


def expected(item: Any, rules: AdmissionRules) -> Expected | None:
    """The item as a row of READING_SCHEMA, or None if it must be refused. Slow and independent of the product."""
    if not isinstance(item, dict):
        return None
    item = {name: value for name, value in item.items() if value is not None}
    row: dict[str, Any] = {
        "station_id": _text(item.get("station_id"), 36),
        "connector_id": _whole(item.get("connector_id"), 32_767),
        "ts_ms": _moment(item.get("ts"), rules),
    }
    row |= {name: _whole(item[name], 2**53 - 1) for name in ("boot", "seq") if name in item}
    if any(value is None for value in row.values()):
        return None
    row["station_id"] = row["station_id"].upper()
    if rules.stations is not None and row["station_id"] not in rules.stations:
        return None
    found = Expected(row)
    for name, value in item.items():
        if name in ("station_id", "connector_id", "ts", "boot", "seq"):
            continue
        if name in _optional or name in _details:
            _place(found, name, value)
        elif 1 <= len(name) <= 64 and name.isprintable() and name != "dropped":
            found.unknown.add(name)
            found.extra[name] = _stored(value)
        else:
            found.dropped.add(name)
    lost = {name: _stored(item[name]) for name in found.dropped if name in _optional or name in _details}
    if lost:
        found.extra["dropped"] = lost
    phases = [_thousandths(found.extra[name]) for name in (f"power_l{n}_w" for n in (1, 2, 3)) if name in found.extra]
    if phases and "power_mw" not in row and abs(sum(phases)) <= 10**10:
        row["power_mw"] = sum(phases)
    export = _number(item.get("power_export_w"), *DETAIL_QUANTITIES["power_export_w"])
    if export and row.get("power_mw", 0) >= 0:
        row["power_mw"] = row.get("power_mw", 0) - _thousandths(export)
    return found


def _place(found: Expected, name: str, value: Any) -> None:
    """A known field: its column, its detail, or dropped."""
    column: str | None = name
    result: Any
    if name == "session_id":
        result = _text(str(value) if type(value) is int else value, 64)
    elif name in DETAIL_TEXTS:
        text = str(value) if type(value) is int else value
        fits = isinstance(text, str) and len(text) <= 64 and text.isprintable()
        column, result = None, text if fits else None
    elif name in ("status", "session_event"):
        names: dict[str, int] = dict(STATUS_NAMES if name == "status" else SESSION_EVENT_NAMES)
        result = names.get(value) if isinstance(value, str) else None
    elif name in DETAIL_QUANTITIES:
        column, result = None, _number(value, *DETAIL_QUANTITIES[name])
    else:
        column, *_ = QUANTITIES.get(name, ENERGY_EXPORT)
        number = _number(value, *_BOUNDS[name])
        result = None if number is None else _thousandths(number)
    if result is None:
        found.dropped.add(name)
    elif column is None:
        found.extra[name] = result
    else:
        found.row[column] = result


def _number(value: Any, lowest: float, highest: float) -> Decimal | None:
    """The number of a JSON number or of a string of digits, as its 64-bit float names it."""
    if isinstance(value, str):
        digits = re.fullmatch(r" *[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)? *", value, re.IGNORECASE | re.ASCII)
        value = float(value) if digits else None
    if type(value) not in (int, float) or not lowest <= value <= highest:
        return None
    return Decimal(repr(float(value)))


def _thousandths(number: Decimal) -> int:
    return int(number.quantize(Decimal("0.001"), ROUND_HALF_EVEN) * 1_000)


def _stored(value: Any) -> Any:
    """A value as `extra` has it: without NUL, and numbers that no decimal type holds as strings."""
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int | float):
        number = Decimal(json.dumps(value))
        return json.dumps(value) if number and abs(number.adjusted()) >= 100 else number
    if isinstance(value, str):
        return value.replace("\0", "\ufffd")
    if isinstance(value, list):
        return [_stored(item) for item in value]
    return {name.replace("\0", "\ufffd"): _stored(item) for name, item in value.items()}


def extra_of(row: dict[str, Any]) -> dict[str, Any]:
    """The members of a row's `extra`, numbers as Decimal; none without."""
    if row["extra"] is None:
        return {}
    members: dict[str, Any] = json.loads(row["extra"], parse_float=Decimal, parse_int=Decimal)
    return members


def _text(value: Any, longest: int) -> str | None:
    fits = isinstance(value, str) and 1 <= len(value) <= longest and all(" " <= sign <= "~" for sign in value)
    return value if fits else None


def _whole(value: Any, highest: int) -> int | None:
    if isinstance(value, str) and re.fullmatch(r" *[+-]?[0-9]{1,20} *", value):
        value = int(value)
    return value if type(value) is int and 0 <= value <= highest else None


def _moment(value: Any, rules: AdmissionRules) -> int | None:
    if type(value) is int:
        ms = value
    elif isinstance(value, str) and re.fullmatch(r"[12][0-9]{12}", value):
        ms = int(value)
    elif isinstance(value, str):
        try:
            at = datetime.fromisoformat(value)
        except ValueError:
            return None
        if at.tzinfo is None:
            return None
        elapsed = at - datetime(1970, 1, 1, tzinfo=UTC)
        ms = (elapsed.days * 86_400 + elapsed.seconds) * 1_000 + elapsed.microseconds // 1_000
    else:
        return None
    return ms if rules.now_ms - rules.age_ms_max <= ms <= rules.now_ms + rules.future_ms_max else None
