"""Events of parking bays' sensors among readings: accepted, refused and told of item by item."""

import json
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.admission import Admitted, admit_arrow, admit_json, admit_ndjson
from schemas.reading import PLAIN_READING_SCHEMA, READING_SCHEMA
from streams.engine.bays import MEASURED, event_in
from tests.ingest.wire_strategies import NOW_MS, RULES, STRICT, as_json, rows_of

EVENT: dict[str, Any] = {"station_id": "cp1", "ts": NOW_MS, "bay": "B7", "occupied": True}
READING: dict[str, Any] = {"station_id": "CP1", "connector_id": 1, "ts": NOW_MS, "energy_wh": 5.0, "status": "Charging"}


def ndjson(items: list[Any]) -> bytes:
    return b"\n".join(json.dumps(one).encode() for one in items)


def one_of(admitted: Admitted) -> dict[str, Any]:
    (row,) = rows_of(admitted)
    assert admitted.refused == []
    return row


@pytest.mark.parametrize("more", [{}, {"connector_id": 0}, {"connector_id": "0"}, {"connector_id": None}])
@pytest.mark.parametrize("occupied", [True, False, "true", " False "])
def test_an_event_is_a_reading_of_the_station_that_measures_nothing(more: dict[str, Any], occupied: Any) -> None:
    item = {**EVENT, **more, "occupied": occupied}
    row = one_of(admit_json(as_json([item]), RULES))
    assert row == one_of(admit_ndjson(ndjson([item]), RULES)) == one_of(admit_json(json.dumps(item).encode(), RULES))
    found = event_in(row["extra"])
    assert found == ("B7", str(occupied).strip().lower() == "true")
    assert row["extra"] == f'{{"bay":"B7","occupied":{str(found[1]).lower()}}}'
    assert (row["station_id"], row["connector_id"], row["ts_ms"], row["boot"], row["seq"]) == (
        "CP1",
        0,
        NOW_MS,
        None,
        None,
    )
    assert all(row[name] in (None, 0) for name in MEASURED)


def test_events_and_readings_are_accepted_in_one_request_and_faults_are_told_of_each() -> None:
    items = [READING, EVENT, {**EVENT, "bay": ""}, {**EVENT, "occupied": "perhaps"}, {**READING, "seq": 2}]
    for admit, body in ((admit_json, as_json(items)), (admit_ndjson, ndjson(items))):
        admitted = admit(body, RULES)
        assert [row["connector_id"] for row in rows_of(admitted)] == [1, 0, 1]
        assert [(one.position, one.reason) for one in admitted.refused] == [(2, "bay_invalid"), (3, "wrong_type")]


@pytest.mark.parametrize(
    ("change", "reason", "words"),
    [
        ({"bay": " B7"}, "bay_invalid", "without spaces at its ends"),
        ({"bay": "B" * 37}, "bay_invalid", "1 to 36"),
        ({"bay": "B\n7"}, "bay_invalid", "printable"),
        ({"bay": 7}, "wrong_type", "bay must be a string, this is an integer"),
        ({"occupied": 1}, "wrong_type", "occupied must be true or false, this is an integer"),
        ({"ts": None}, "missing_field", "a bay's event needs station_id, ts, bay and occupied"),
        ({"ts": "yesterday"}, "ts_invalid", "ts is no time"),
        ({"ts": NOW_MS + 10**9}, "ts_future", ""),
        ({"station_id": "\0"}, "station_id_invalid", ""),
    ],
)
def test_an_event_without_its_identity_is_refused(change: dict[str, Any], reason: str, words: str) -> None:
    (refused,) = admit_json(as_json([{**EVENT, **change}]), RULES).refused
    assert (refused.reason, words in refused.detail) == (reason, True)


@pytest.mark.parametrize("more", [{"connector_id": 1}, {"energy_wh": 5.0}, {"status": "Faulted"}, {"power_l1_w": 10.0}])
def test_from_what_measures_or_is_a_connectors_the_bay_is_dropped_and_the_reading_stays(more: dict[str, Any]) -> None:
    admitted = admit_json(as_json([{"connector_id": 0, **EVENT, **more}]), RULES)
    row = one_of(admitted)
    assert event_in(row["extra"]) is None
    assert json.loads(row["extra"])["dropped"] == {"bay": "B7", "occupied": True}
    assert admitted.remarks is not None
    assert {(one.field, one.reason) for one in admitted.remarks.dropped} == {
        ("bay", "bay_apart"),
        ("occupied", "bay_apart"),
    }
    assert row["energy_mwh"] == (5_000 if "energy_wh" in more else None)


def test_an_event_has_no_number_and_keeps_what_else_its_sensor_says() -> None:
    item = {**EVENT, "seq": 7, "boot": 1, "temperature_c": 20.5, "battery_pct": 90}
    admitted = admit_json(as_json([item]), RULES)
    row = one_of(admitted)
    assert (row["seq"], row["boot"], row["temperature_mc"]) == (None, None, None)
    assert json.loads(row["extra"]) == {
        "battery_pct": 90, "bay": "B7", "occupied": True, "dropped": {"seq": 7, "boot": 1, "temperature_c": 20.5},
    }  # fmt: skip
    assert admitted.remarks is not None
    assert [(one.field, one.reason) for one in admitted.remarks.dropped] == [
        ("boot", "not_of_bay"), ("seq", "not_of_bay"), ("temperature_c", "not_of_bay"),
    ]  # fmt: skip
    assert list(admitted.remarks.unknown_fields) == ["battery_pct"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({}, None),
        ({"connector_id": 0}, None),
        ({"seq": 7}, "not_of_bay"),
        ({"battery_pct": 9}, "unknown_field"),
        ({"occupied": "true"}, "wrong_type"),
        ({"connector_id": 1}, "unknown_field"),
        ({"bay": ""}, "bay_invalid"),
    ],
)
def test_strict_takes_an_event_by_the_letter_alone(change: dict[str, Any], reason: str | None) -> None:
    refused = admit_json(as_json([{**EVENT, **change}]), STRICT).refused
    assert [one.reason for one in refused] == ([] if reason is None else [reason])


@pytest.mark.parametrize("fields", [{"bay": "B7"}, {"occupied": True}, {"bay": "B7", "occupied": None}])
def test_one_of_the_two_fields_alone_is_an_unknown_field(fields: dict[str, Any]) -> None:
    admitted = admit_json(as_json([{**READING, **fields}]), RULES)
    assert admitted.remarks is not None
    assert set(admitted.remarks.unknown_fields) == {name for name, value in fields.items() if value is not None}
    (refused,) = admit_json(as_json([{"station_id": "CP1", "ts": NOW_MS, **fields}]), RULES).refused
    assert refused.reason == "missing_field"


@given(st.lists(st.sampled_from([READING, EVENT, {**EVENT, "bay": "B8", "occupied": False}]), min_size=1, max_size=6))
def test_an_arrow_body_has_events_too_and_what_was_admitted_is_admitted_again(items: list[dict[str, Any]]) -> None:
    expected = rows_of(admit_json(as_json(items), RULES))
    columns = ("station_id", "connector_id", "ts", "energy_wh", "status", "bay", "occupied")
    types = (pa.string(), pa.int64(), pa.int64(), pa.float64(), pa.string(), pa.string(), pa.bool_())
    arrays = [pa.array([item.get(name) for item in items], kind) for name, kind in zip(columns, types, strict=True)]
    sent = pa.record_batch(arrays, names=list(columns))
    stored = pa.RecordBatch.from_pylist(
        [{**dict.fromkeys(READING_SCHEMA.names), **row} for row in expected], READING_SCHEMA
    )
    for batch in (sent, stored):
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, batch.schema) as writer:
            writer.write_batch(batch)
        admitted = admit_arrow(sink.getvalue().to_pybytes(), RULES)
        assert admitted.refused == []
        assert rows_of(admitted) == expected


def test_readings_without_events_keep_the_columns_of_most() -> None:
    admitted = admit_json(as_json([READING, READING]), RULES)
    assert rows_of(admitted)
    assert set(rows_of(admitted)[0]) >= set(PLAIN_READING_SCHEMA.names)
    assert all(row.get("extra") is None for row in rows_of(admitted))
