"""Laws of encoding: what was meant is what a JSON reader and the gateway's own admission read."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.admission import AdmissionRules, admit_arrow, admit_json, admit_ndjson
from schemas.reading import QUANTITIES, SESSION_EVENT_LABELS, STATUS_LABELS
from simulator.encode import Format, encode, right_aligned, thousandths, zero_padded
from simulator.fleet.readings import NULL, READING_DTYPE, MalformedKind, Readings
from tests.simulator.fleets import START_MS, admitted_columns, bursts, rows_of

RULES = AdmissionRules(now_ms=START_MS, age_ms_max=10**11, future_ms_max=10**11, readings_max=100_000)


@given(st.lists(st.integers(-(10**15), 10**15), min_size=1))
def test_numbers_read_back(values: list[int]) -> None:
    array = np.array(values, np.int64)
    assert [int(row.tobytes()) for row in right_aligned(array)] == values
    for row, value in zip(thousandths(array), values, strict=True):
        text = row.tobytes().decode().strip()
        assert json.loads(text) == value / 1_000
        assert text == f"{'-' * (value < 0)}{abs(value) // 1_000}.{abs(value) % 1_000:03d}"


@given(st.lists(st.integers(0, 10**12 - 1), min_size=1), st.integers(12, 17))
def test_zero_padded_numbers_have_their_width(values: list[int], width: int) -> None:
    assert [row.tobytes().decode() for row in zero_padded(np.array(values), width)] == [
        f"{v:0{width}d}" for v in values
    ]


ids = st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_*", min_size=1, max_size=36)


@st.composite
def readings(draw: st.DrawFn) -> Readings:
    rows = np.zeros(draw(st.integers(1, 8)), READING_DTYPE)
    for row in rows:
        row["station_id"] = draw(ids).encode()
        row["connector_id"] = draw(st.integers(0, 32_767))
        row["session_id"] = draw(st.just("") | ids).encode()
        row["ts_ms"] = START_MS + draw(st.integers(-(10**9), 10**9))
        for name in ("boot", "seq"):
            row[name] = draw(st.just(NULL) | st.integers(0, 2**53 - 1))
        for column, _, low, high in QUANTITIES.values():
            row[column] = draw(st.just(NULL) | st.integers(int(low * 1_000), int(high * 1_000)))
        row["status"] = draw(st.integers(0, 9))
        row["session_event"] = draw(st.integers(0, 3))
    return rows


@given(readings())
def test_json_says_what_was_meant_and_leaves_out_what_is_null(rows: Readings) -> None:
    items = json.loads(encode(rows, Format.JSON))
    assert items == [json.loads(line) for line in encode(rows, Format.NDJSON).splitlines()]
    for item, row in zip(items, rows, strict=True):
        expected = {"station_id": row["station_id"].decode(), "connector_id": row["connector_id"], "ts": row["ts_ms"]}
        if row["session_id"]:
            expected["session_id"] = row["session_id"].decode()
        expected |= {name: row[name] for name in ("boot", "seq") if row[name] != NULL}
        expected |= {name: row[c] / 1_000 for name, (c, *_) in QUANTITIES.items() if row[c] != NULL}
        if row["status"]:
            expected["status"] = STATUS_LABELS[row["status"]]
        if row["session_event"]:
            expected["session_event"] = SESSION_EVENT_LABELS[row["session_event"]]
        assert item == expected


@given(readings())
def test_every_format_is_admitted_as_the_same_columns(rows: Readings) -> None:
    admitted = [
        admit_json(encode(rows, Format.JSON), RULES),
        admit_ndjson(encode(rows, Format.NDJSON), RULES),
        admit_arrow(encode(rows, Format.ARROW), RULES),
    ]
    assert [answer.refused for answer in admitted] == [[], [], []]
    tables = [admitted_columns(answer) for answer in admitted]
    assert tables[0].to_pylist() == tables[1].to_pylist() == tables[2].to_pylist()
    assert [row["ts_ms"] for row in tables[0].to_pylist()] == rows["ts_ms"].tolist()


@pytest.mark.parametrize("form", list(Format))
def test_malformed_items_are_refused_and_no_neighbour_is(seed: int, form: Format) -> None:
    rows = rows_of(bursts(seed, hours=0.2)).copy()
    kinds = [kind for kind in MalformedKind if kind]
    broken = np.arange(3, 3 + 5 * len(kinds), 5)
    rows["malformed"][broken] = kinds
    admit = {Format.JSON: admit_json, Format.NDJSON: admit_ndjson, Format.ARROW: admit_arrow}[form]
    answer = admit(encode(rows, form), RULES)
    assert [refused.position for refused in answer.refused] == broken.tolist()
    assert answer.accepted == len(rows) - len(kinds)
    if form is not Format.ARROW:
        assert len({refused.reason for refused in answer.refused}) == len(kinds)


def test_nothing_to_send_is_an_empty_body() -> None:
    none = np.empty(0, READING_DTYPE)
    assert encode(none, Format.JSON) == b"[]"
    assert encode(none, Format.NDJSON) == b""
    assert admit_arrow(encode(none, Format.ARROW), RULES).accepted == 0
