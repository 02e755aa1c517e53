"""Laws of packed readings: they are the same readings, and whatever bytes come, nothing but PackedError."""

from contextlib import suppress

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.packed import MAGIC, NULL, NUMBERS, TEXTS, PackedError, pack, pack_columns, unpack
from schemas.reading import PLAIN_READING_SCHEMA, READING_SCHEMA
from tests.schemas.row_strategies import batches

PLAIN = {"station_id": "A", "connector_id": 1, "ts_ms": 1, "status": 0, "session_event": 0}
_edits = st.lists(st.tuples(st.integers(0, 10_000), st.binary(max_size=9), st.integers(0, 9)), min_size=1, max_size=4)


def edited(body: bytes, edits: list[tuple[int, bytes, int]]) -> bytes:
    """Some bytes replaced by others, perhaps more or fewer."""
    for at, new, length in edits:
        start = at % (len(body) + 1)
        body = body[:start] + new + body[start + length :]
    return body


@given(st.lists(batches(), max_size=6))
def test_many_bodies_are_read_at_once_as_what_they_are(parts: list[pa.RecordBatch]) -> None:
    read = unpack([pack(part) for part in parts], [part.num_rows for part in parts]).to_batch()
    read.validate(full=True)
    assert read.to_pylist() == [row for part in parts for row in part.to_pylist()]


def test_readings_without_the_optional_columns_have_null_there() -> None:
    batch = pa.RecordBatch.from_pylist([PLAIN], PLAIN_READING_SCHEMA)
    assert unpack([pack(batch)], [1]).to_batch().to_pylist() == [dict.fromkeys(READING_SCHEMA.names) | PLAIN]


@given(st.lists(batches(), min_size=1, max_size=3), st.integers(0, 2), _edits)
def test_broken_bodies_are_an_error_or_readings(
    parts: list[pa.RecordBatch], broken: int, edits: list[tuple[int, bytes, int]]
) -> None:
    bodies = [pack(part) for part in parts]
    place = broken % len(bodies)
    bodies[place] = edited(bodies[place], edits)
    try:
        read = unpack(bodies, [part.num_rows for part in parts]).to_batch()
    except PackedError:
        return
    read.validate(full=True)
    rows, first = read.to_pylist(), sum(part.num_rows for part in parts[:place])
    kept = rows[:first] + rows[first + parts[place].num_rows :]
    assert kept == [row for at, part in enumerate(parts) if at != place for row in part.to_pylist()]


@given(st.lists(st.binary(max_size=64).map(lambda rest: MAGIC + rest), max_size=3), st.lists(st.integers(-2, 3)))
def test_any_bytes_are_an_error_or_readings(bodies: list[bytes], counts: list[int]) -> None:
    counts = (counts + [1] * len(bodies))[: len(bodies)]
    with suppress(PackedError):
        unpack(bodies, counts).to_batch().validate(full=True)


@pytest.mark.parametrize("count", [-1, 0, 2, 10**15, 2**62, 2**64 - 1])
def test_another_number_of_rows_than_said_is_an_error(count: int) -> None:
    body = pack(pa.RecordBatch.from_pylist([PLAIN], READING_SCHEMA))
    with pytest.raises(PackedError):
        unpack([body], [count])


@pytest.mark.parametrize(
    ("name", "value"),
    [(name, NULL) for name in NUMBERS if not READING_SCHEMA.field(name).nullable]
    + [("connector_id", 2**15), ("status", -129), ("voltage_mv", 2**31), ("station_id", None)],
)
def test_what_a_column_cannot_be_is_an_error(name: str, value: int | None) -> None:
    row = dict.fromkeys(READING_SCHEMA.names) | PLAIN | {name: value}
    numbers = np.array([[NULL if row[column] is None else row[column]] for column in NUMBERS])
    (body,) = pack_columns(numbers, [[row[column]] for column in TEXTS], [1])
    with pytest.raises(PackedError):
        unpack([body.octets], [1])
