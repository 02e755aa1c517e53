"""Laws of Arrow admission: rows are admitted as the same rows in JSON, and a small body never takes much memory."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.admission import AdmissionRules, Admitted, Remarks, admit_arrow, admit_json
from ingest.errors import MalformedBody, TooLarge
from schemas.reading import DETAIL_QUANTITIES, ENERGY_EXPORT, PLAIN_READING_SCHEMA, QUANTITIES, READING_SCHEMA
from tests.ingest.wire_strategies import (
    BOUND,
    NOW_MS,
    RULES,
    STRICT,
    STRICT_BOUND,
    as_json,
    columns_of,
    request_error,
    rows_of,
)

_WIRE_TYPES = {
    "station_id": pa.string(),
    "connector_id": pa.int32(),
    "ts": pa.string(),
    "session_id": pa.large_string(),
    "boot": pa.uint64(),
    "seq": pa.int64(),
    **dict.fromkeys(QUANTITIES, pa.float64()),
    "status": pa.string(),
    "session_event": pa.string(),
    "energy_export_wh": pa.float64(),
    **dict.fromkeys(DETAIL_QUANTITIES, pa.float64()),
    "id_tag": pa.string(),
    "firmware": pa.string(),  # unknown
    "fan_rpm": pa.float64(),
    "door_open": pa.bool_(),
}
_text = st.sampled_from(["CP1", "cp2", "CP9", "", "x" * 36, "x" * 37, "x" * 65, "é", "a\0", "~ !", "\x7f"])
_values: dict[str, st.SearchStrategy[Any]] = {
    "station_id": _text,
    "connector_id": st.integers(-2, 40_000),
    "ts": st.sampled_from(
        ["2026-11-22T13:17:47Z", "2026-11-22T15:17:47.1239+02:00", "2026-11-22T13:17:47", "1990-01-01T00:00:00Z", "no"]
    ),
    "session_id": _text,
    "boot": st.integers(0, 2**64 - 1) | st.integers(0, 9),
    "seq": st.integers(-1, 2**53),
    **{name: st.floats(low * 1.01 - 1, high * 1.01) for name, (_, _, low, high) in QUANTITIES.items()},
    "status": st.sampled_from(["Charging", "Faulted", "charging", ""]),
    "session_event": st.sampled_from(["Started", "Ended", "x"]),
    **{
        name: st.floats(low * 1.01 - 1, high * 1.01)
        for name, (low, high) in (DETAIL_QUANTITIES | {"energy_export_wh": ENERGY_EXPORT[2:]}).items()
    },
    "id_tag": _text,
    "firmware": st.text(max_size=9),
    "fan_rpm": st.floats(allow_nan=False, allow_infinity=False),
    "door_open": st.booleans(),
}
_KNOWN = {name: value for name, value in _values.items() if name not in ("firmware", "fan_rpm", "door_open")}
_usual = {"station_id": "CP1", "connector_id": 1, "ts": "2026-11-22T13:17:47Z"}


def _changed(values: dict[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[list[dict[str, Any]]]:
    changes = st.fixed_dictionaries({}, optional={name: value | st.none() for name, value in values.items()})
    return st.lists(changes.map(lambda change: _usual | change), max_size=20)


def stream(table: pa.Table | pa.RecordBatch, **options: Any) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write(table)
    return bytes(sink.getvalue().to_pybytes())


def wire_table(rows: Sequence[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema=pa.schema(list(_WIRE_TYPES.items())))


@given(rows=_changed(_values))
def test_rows_are_admitted_as_in_json(rows: list[dict[str, Any]]) -> None:
    arrow = admit_arrow(stream(wire_table(rows)), BOUND)
    plain = admit_json(as_json(rows), BOUND)
    assert rows_of(arrow) == rows_of(plain)
    assert told(arrow) == told(plain)
    assert_refused_alike(rows, arrow, plain, BOUND)


@given(rows=_changed(_KNOWN))
def test_rows_are_refused_as_in_json_where_the_letter_counts(rows: list[dict[str, Any]]) -> None:
    table = wire_table(rows).drop_columns(["firmware", "fan_rpm", "door_open"])
    arrow, plain = admit_arrow(stream(table), STRICT_BOUND), admit_json(as_json(rows), STRICT_BOUND)
    assert rows_of(arrow) == rows_of(plain)
    assert_refused_alike(rows, arrow, plain, STRICT_BOUND)


def told(admitted: Admitted) -> tuple[list[tuple[object, ...]], int, set[str]]:
    """What the sender is told of fields, without their order: columns and members stand in different ones."""
    remarks = admitted.remarks or Remarks()
    # Where not all are listed, which ones are depends on the order.
    listed = sorted(remarks.dropped) if not remarks.dropped_omitted else []
    return [tuple(entry) for entry in listed], remarks.dropped_omitted, set(remarks.unknown_fields)


def assert_refused_alike(rows: list[dict[str, Any]], arrow: Admitted, plain: Admitted, rules: AdmissionRules) -> None:
    ordered = [{name: row[name] for name in _WIRE_TYPES if row.get(name) is not None} for row in rows]
    in_order = admit_json(as_json(ordered), rules)
    assert [(item.position, item.station_id) for item in arrow.refused] == [
        (item.position, item.station_id) for item in plain.refused
    ]
    assert {(item.position, item.reason) for item in arrow.refused if item.reason in ("missing_field", "ts_naive")} <= {
        (item.position, item.reason) for item in in_order.refused
    }
    assert all(item.raw and item.detail.isprintable() for item in arrow.refused)


@given(rows=_changed(_values))
def test_admitted_rows_sent_as_a_frames_own_columns_come_out_the_same(rows: list[dict[str, Any]]) -> None:
    first = columns_of(admit_arrow(stream(wire_table(rows)), RULES))
    again = admit_arrow(stream(first), RULES)
    assert again.refused == []
    assert columns_of(again).equals(first)


_NUMBERS = {name: values for name, values in _values.items() if name in QUANTITIES or name in ("seq", "boot")}


@given(rows=_changed(_NUMBERS))
def test_numbers_in_columns_of_strings_are_those_numbers(rows: list[dict[str, Any]]) -> None:
    texts = wire_table(rows)
    for name in ("connector_id", *_NUMBERS):
        column = [None if row.get(name) is None else repr(row[name]) for row in rows]
        texts = texts.set_column(texts.schema.get_field_index(name), name, pa.array(column, pa.string()))
    found, right = admit_arrow(stream(texts), RULES), admit_json(as_json(rows), RULES)
    assert [row | {"extra": None} for row in rows_of(found)] == [row | {"extra": None} for row in rows_of(right)]
    assert told(found) == told(right)


@pytest.mark.parametrize("name", ["soc_pct", "status", "id_tag", "voltage_l1_v", "energy_export_wh", "fan"])
@pytest.mark.parametrize(
    ("values", "kind", "kept"),
    [
        ([1], pa.timestamp("ms", "Nowhere/At_All"), '"1970-01-01 00:00:00.001Z"'),
        ([2**62], pa.timestamp("ns"), '"2116-02-20 23:53:38.427387904"'),
        ([2**62], pa.timestamp("s", "UTC"), '"<value out of range: 4611686018427387904>Z"'),
        ([True], pa.bool_(), "true"),
        ([float("inf")], pa.float32(), '"Infinity"'),
    ],
)
def test_a_value_of_another_type_is_kept(name: str, values: list[Any], kind: pa.DataType, kept: str) -> None:
    (row,) = rows_of(admit_arrow(stream(pa.table(_base | {name: pa.array(values, kind)})), RULES))
    assert row["extra"] in (f'{{"{name}":{kept}}}', f'{{"dropped":{{"{name}":{kept}}}}}')


def test_so_many_unknown_columns_that_rows_would_fill_the_memory_refuse_the_body() -> None:
    for kind in (pa.bool_(), pa.null()):
        unknown = {f"c{at}": pa.nulls(1, kind) for at in range(64)}
        assert admit_arrow(stream(pa.table(_base | unknown)), RULES).accepted == 1
        with pytest.raises(MalformedBody, match="65 columns are unknown"):
            admit_arrow(stream(pa.table(_base | unknown | {"one_more": pa.nulls(1, kind)})), RULES)


def test_more_odd_rows_than_are_handled_at_once_keep_their_order() -> None:
    count = 2_500
    rules = replace(RULES, readings_max=count)
    columns = {
        **{name: values * count for name, values in _base.items()},
        "seq": pa.array([-1 if at % 7 == 0 else at for at in range(count)], pa.int64()),
        "fan_rpm": pa.array([at if at % 3 else None for at in range(count)], pa.int64()),
    }
    admitted = admit_arrow(stream(pa.table(columns)), rules)
    assert [row["seq"] for row in rows_of(admitted)] == [at for at in range(count) if at % 7]
    assert [item.position for item in admitted.refused] == list(range(0, count, 7))
    assert all((row["extra"] is None) == (row["seq"] % 3 == 0) for row in rows_of(admitted))


def test_plain_rows_have_the_plain_columns() -> None:
    admitted = admit_arrow(stream(wire_table([_usual]).drop_columns(["energy_export_wh"])), RULES)
    assert isinstance(admitted.rows, pa.RecordBatch)
    assert admitted.rows.schema == PLAIN_READING_SCHEMA


def test_extra_of_a_frame_is_checked_as_fields_are() -> None:
    row = {"station_id": "A", "connector_id": 1, "ts_ms": NOW_MS, "status": 0, "session_event": 0, "power_mw": 1}
    extras = [
        '{"power_factor": 0.50, "power_export_w":5,"b":{"z":1,"a":2.0}}',
        '{"power_factor":7,"dropped":{"soc_pct":65535,"nonsense":1}}',
        '{"dropped":{"soc_pct":[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]}}',
        '{"dropped":3}',
        "[1]",
        "{",
    ]
    batch = pa.RecordBatch.from_pylist([row | {"extra": extra} for extra in extras], READING_SCHEMA)
    admitted = admit_arrow(stream(batch), RULES)
    assert [found["extra"] for found in rows_of(admitted)] == [
        '{"b":{"a":2.0,"z":1},"power_export_w":5,"power_factor":0.50}',
        '{"dropped":{"power_factor":7,"soc_pct":65535}}',
        None,
        '{"extra":"{\\"dropped\\":3}"}',
        '{"extra":"[1]"}',
        '{"extra":"{"}',
    ]
    assert {found["power_mw"] for found in rows_of(admitted)} == {1}
    again = admit_arrow(stream(columns_of(admitted)), RULES)
    assert rows_of(again)[:3] == rows_of(admitted)[:3]


def test_every_type_of_time_is_read() -> None:
    moments = {
        pa.timestamp("s", "UTC"): NOW_MS // 1_000,
        pa.timestamp("ms", "Europe/Berlin"): NOW_MS,
        pa.timestamp("us", "UTC"): NOW_MS * 1_000 + 999,
        pa.timestamp("ns", "UTC"): NOW_MS * 1_000_000 + 999_999,
        pa.int64(): NOW_MS,
        pa.uint64(): NOW_MS,
    }
    for kind, value in moments.items():
        table = pa.table({"station_id": ["A"], "connector_id": [1], "ts": pa.array([value], kind)})
        assert [row["ts_ms"] for row in rows_of(admit_arrow(stream(table), RULES))] == [NOW_MS]


def test_rows_that_are_no_readings_are_refused_alone() -> None:
    table = pa.table(
        {
            "station_id": ["CP1", None, "CP1", "CP1", "CP1"],
            "connector_id": pa.array([1, 1, 1, 1, None], pa.uint8()),
            "ts": pa.array([NOW_MS, NOW_MS, 2**64 - 1, NOW_MS, NOW_MS], pa.uint64()),
            "power_w": [1.0, 1.0, 1.0, float("nan"), float("inf")],
        }
    )
    admitted = admit_arrow(stream(table), STRICT)
    assert admitted.accepted == 1
    reasons = [(item.position, item.reason) for item in admitted.refused]
    assert reasons == [(1, "missing_field"), (2, "out_of_range"), (3, "not_finite"), (4, "missing_field")]
    tolerant = admit_arrow(stream(table), RULES)
    assert [item.position for item in tolerant.refused] == [1, 2, 4]
    assert told(tolerant)[0] == [(3, "power_w", "not_finite")]
    assert rows_of(tolerant)[1]["extra"] == '{"dropped":{"power_w":"NaN"}}'


def test_frame_columns_out_of_bounds_are_refused_alone() -> None:
    rows = [{"station_id": "A", "connector_id": 1, "ts_ms": NOW_MS, "status": 0, "session_event": 0}] * 4
    changes: list[dict[str, Any]] = [{"soc_mpct": 100_001}, {"status": 99}, {"ts_ms": 0}, {}]
    batch = pa.RecordBatch.from_pylist(
        [row | change for row, change in zip(rows, changes, strict=True)], READING_SCHEMA
    )
    admitted = admit_arrow(stream(batch), STRICT)
    assert [item.reason for item in admitted.refused] == ["absurd", "status_unknown", "ts_ancient"]
    assert admitted.accepted == 1
    tolerant = admit_arrow(stream(batch), RULES)
    assert [item.reason for item in tolerant.refused] == ["ts_ancient"]
    assert told(tolerant)[0] == [(0, "soc_pct", "absurd"), (1, "status", "status_unknown")]


_base: dict[str, list[Any]] = {"station_id": ["A"], "connector_id": [1], "ts": [NOW_MS]}


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"energy_kwh": [1.0]}, "energy_wh in watt-hours"),
        ({"status": pa.array(["Charging"]).dictionary_encode()}, "dictionary"),
        ({"soc_pct": [[1.0]]}, "list"),
        ({"soc_pct": ["1"]}, "numbers"),
        ({"status": [1]}, "strings"),
        ({"ts": pa.array([NOW_MS], pa.timestamp("ms"))}, "time zone"),
        ({"ts": pa.nulls(1)}, "ts"),
        ({"station_id": pa.array(["A"], pa.string_view())}, "string_view"),
    ],
)
def test_unknown_columns_refuse_the_body_with_the_remedy(columns: dict[str, Any], words: str) -> None:
    with pytest.raises(MalformedBody, match=words):
        admit_arrow(stream(pa.table(_base | columns)), STRICT)


@pytest.mark.parametrize(
    "columns", [{"station_id": [1]}, {"connector_id": [1.0]}, {"seq": [1.5]}, {"ts": [1.5]}, {"soc_pct": [[1.0]]}]
)
def test_an_identity_of_another_type_refuses_the_body(columns: dict[str, Any]) -> None:
    with pytest.raises(MalformedBody):
        admit_arrow(stream(pa.table(_base | columns)), RULES)


def test_a_missing_column_refuses_the_body() -> None:
    with pytest.raises(MalformedBody, match="connector_id is missing"):
        admit_arrow(stream(pa.table({"station_id": ["A"], "ts": [NOW_MS]})), RULES)


@pytest.mark.parametrize("compression", ["lz4", "zstd"])
def test_compressed_buffers_are_refused(compression: str) -> None:
    with pytest.raises(MalformedBody, match="Content-Encoding: zstd"):
        admit_arrow(stream(pa.table(_base), compression=compression), RULES)


def test_the_file_format_and_other_bytes_are_refused() -> None:
    for body, words in ((b"ARROW1\0\0", "stream format"), (b"\xff" * 100, "not an Arrow stream"), (b"{}", "not an")):
        with pytest.raises(MalformedBody, match=words):
            admit_arrow(body, RULES)


def test_what_follows_the_end_of_a_stream_is_refused_and_not_left_out() -> None:
    one = stream(pa.table(_base))
    assert admit_arrow(one, RULES).accepted == 1
    for more in (one, b"junk", bytes(8), b"\0"):
        with pytest.raises(MalformedBody, match="one stream a request"):
            admit_arrow(one + more, RULES)
    assert admit_arrow(one[:-8], RULES).accepted == 1  # the end-of-stream mark is optional


def test_too_many_rows_are_too_large() -> None:
    table = pa.table({name: values * 1_001 for name, values in _base.items()})
    with pytest.raises(TooLarge):
        admit_arrow(stream(table), RULES)


def test_a_stream_that_begins_with_rows_is_refused_and_does_not_crash() -> None:
    body = stream(pa.table(_base))
    messages = pa.ipc.MessageReader.open_stream(body)
    messages.read_next_message()
    with pytest.raises(MalformedBody, match="begin with its schema"):
        admit_arrow(messages.read_next_message().serialize().to_pybytes(), RULES)


@given(data=st.data())
def test_a_damaged_stream_never_crashes(data: st.DataObject) -> None:
    body = bytearray(stream(wire_table([_usual, _usual | {"session_id": "S"}])))
    for _ in range(data.draw(st.integers(1, 5))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    assert request_error(admit_arrow, bytes(body[: data.draw(st.integers(1, len(body)))]), RULES).isprintable()
