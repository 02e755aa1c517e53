"""Strategies for readings as devices might send them, good and bad, and a plain reference of admission for one item."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any

import pyarrow as pa
from hypothesis import strategies as st

from ingest.admission import AdmissionRules, Admitted, to_columns
from ingest.errors import IngestError
from schemas.reading import QUANTITIES, SESSION_EVENT_NAMES, STATUS_NAMES

NOW_MS = 1_795_353_467_000  # 2026-11-22T13:17:47Z
DAY_MS = 86_400_000
RULES = AdmissionRules(now_ms=NOW_MS, age_ms_max=1_830 * DAY_MS, future_ms_max=DAY_MS, readings_max=1_000)
BOUND = AdmissionRules(NOW_MS, 1_830 * DAY_MS, DAY_MS, 1_000, frozenset({"CP1", "CP2"}))

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
_quantities = {
    name: st.floats(low, high, allow_nan=False)
    | st.integers(int(low), int(high))
    | st.decimals(max(low, -1_000), min(high, 100_000), places=4).map(float)
    for name, (_, _, low, high) in QUANTITIES.items()
}
_counters = st.integers(0, 2**53 - 1)
_optional = {
    "session_id": st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=64),
    "boot": _counters,
    "seq": _counters,
    **_quantities,
    "status": st.sampled_from(sorted(STATUS_NAMES)),
    "session_event": st.sampled_from(sorted(SESSION_EVENT_NAMES)),
}
good_items: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {"station_id": _ids, "connector_id": st.integers(0, 32_767), "ts": _good_ts},
    optional={name: values | st.none() for name, values in _optional.items()},
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
    ]
)
_names = st.sampled_from(["station_id", "connector_id", "ts", *_optional, "energy_kwh", "stationId"])


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
    return rows


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


def expected_row(item: Any, rules: AdmissionRules) -> dict[str, Any] | None:
    """The item as a row of READING_SCHEMA, or None if it must be refused. Slow and independent of the product."""
    known = {"station_id", "connector_id", "ts", *_optional}
    if not isinstance(item, dict) or not set(item) <= known:
        return None
    item = {name: value for name, value in item.items() if value is not None}
    row: dict[str, Any] = {
        "station_id": _text(item.get("station_id"), 36),
        "connector_id": _whole(item.get("connector_id"), 32_767),
        "ts_ms": _moment(item.get("ts"), rules),
    }
    for name, value in item.items():
        if name == "session_id":
            row[name] = _text(value, 64)
        elif name in ("boot", "seq"):
            row[name] = _whole(value, 2**53 - 1)
        elif name in QUANTITIES:
            row[QUANTITIES[name][0]] = _milli(value, *QUANTITIES[name][2:])
        elif name in ("status", "session_event"):
            names: dict[str, int] = dict(STATUS_NAMES if name == "status" else SESSION_EVENT_NAMES)
            row[name] = names.get(value) if isinstance(value, str) else None
    if any(value is None for value in row.values()):
        return None
    row["station_id"] = row["station_id"].upper()
    if rules.stations is not None and row["station_id"] not in rules.stations:
        return None
    return row


def _text(value: Any, longest: int) -> str | None:
    fits = isinstance(value, str) and 1 <= len(value) <= longest and all(" " <= sign <= "~" for sign in value)
    return value if fits else None


def _whole(value: Any, highest: int) -> int | None:
    return value if type(value) is int and 0 <= value <= highest else None


def _milli(value: Any, lowest: float, highest: float) -> int | None:
    if type(value) not in (int, float) or not lowest <= value <= highest:
        return None
    return int(Decimal(repr(float(value))).quantize(Decimal("0.001"), ROUND_HALF_EVEN) * 1_000)


def _moment(value: Any, rules: AdmissionRules) -> int | None:
    if type(value) is int:
        ms = value
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
