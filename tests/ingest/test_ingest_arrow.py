"""Laws of Arrow admission: rows are admitted as the same rows in JSON, and a small body never takes much memory."""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.admission import admit_arrow, admit_json
from ingest.admission.wire import FIELDS
from ingest.errors import MalformedBody, TooLarge
from schemas.reading import QUANTITIES, READING_SCHEMA
from tests.ingest.wire_strategies import BOUND, NOW_MS, RULES, as_json, columns_of, request_error, rows_of

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
}
_usual = {"station_id": "CP1", "connector_id": 1, "ts": "2026-11-22T13:17:47Z"}
_rows = st.lists(
    st.fixed_dictionaries({}, optional={name: value | st.none() for name, value in _values.items()}).map(
        lambda changes: _usual | changes
    ),
    max_size=20,
)


def stream(table: pa.Table | pa.RecordBatch, **options: Any) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write(table)
    return bytes(sink.getvalue().to_pybytes())


def wire_table(rows: Sequence[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema=pa.schema(list(_WIRE_TYPES.items())))


@given(rows=_rows)
def test_rows_are_admitted_as_in_json(rows: list[dict[str, Any]]) -> None:
    arrow = admit_arrow(stream(wire_table(rows)), BOUND)
    plain = admit_json(as_json(rows), BOUND)
    assert rows_of(arrow) == rows_of(plain)
    ordered = [{name: row[name] for name in FIELDS if row.get(name) is not None} for row in rows]
    in_order = admit_json(as_json(ordered), BOUND)
    assert [(item.position, item.station_id) for item in arrow.refused] == [
        (item.position, item.station_id) for item in plain.refused
    ]
    assert {(item.position, item.reason) for item in arrow.refused if item.reason in ("missing_field", "ts_naive")} <= {
        (item.position, item.reason) for item in in_order.refused
    }
    assert all(item.raw and item.detail.isprintable() for item in arrow.refused)


@given(rows=_rows)
def test_admitted_rows_sent_as_a_frames_own_columns_come_out_the_same(rows: list[dict[str, Any]]) -> None:
    first = columns_of(admit_arrow(stream(wire_table(rows)), RULES))
    again = admit_arrow(stream(first), RULES)
    assert again.refused == []
    assert columns_of(again).equals(first)


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
            "ts": pa.array([NOW_MS, NOW_MS, 2**64 - 1, NOW_MS // 1_000, NOW_MS], pa.uint64()),
            "power_w": [1.0, 1.0, 1.0, float("nan"), float("inf")],
        }
    )
    admitted = admit_arrow(stream(table), RULES)
    assert admitted.accepted == 1
    reasons = [(item.position, item.reason) for item in admitted.refused]
    assert reasons == [(1, "missing_field"), (2, "out_of_range"), (3, "not_finite"), (4, "missing_field")]


def test_frame_columns_out_of_bounds_are_refused_alone() -> None:
    rows = [{"station_id": "A", "connector_id": 1, "ts_ms": NOW_MS, "status": 0, "session_event": 0}] * 4
    changes: list[dict[str, Any]] = [{"soc_mpct": 100_001}, {"status": 99}, {"ts_ms": 0}, {}]
    batch = pa.RecordBatch.from_pylist(
        [row | change for row, change in zip(rows, changes, strict=True)], READING_SCHEMA
    )
    admitted = admit_arrow(stream(batch), RULES)
    assert [item.reason for item in admitted.refused] == ["absurd", "status_unknown", "ts_ancient"]
    assert admitted.accepted == 1


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
