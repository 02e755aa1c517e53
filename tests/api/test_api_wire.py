"""Small laws of the wire: formats chosen, moments read, cursors opaque, thousandths exact."""

import contextlib
import csv
import io
import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import msgspec
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.telemetry.history.renderings import ColumnTable, Kind, to_arrow, to_csv, to_rows
from api.telemetry.history.store import ReadingCursor, WindowCursor
from api.telemetry.store import QuarantineCursor, StationCursor
from kit.clock import format_rfc3339, to_ms
from kit.instants import EARLIEST, LATEST, floor_to, parse_instant
from kit.spreadsheets import as_text, text_of
from kit.web.errors import BadQuery, NotAcceptable
from kit.web.paging import decode_cursor, encode_cursor, from_micros, to_micros
from kit.web.parameters import choose
from schemas.reading import QUANTITIES

OFFERED = ("application/json", "text/csv", "application/vnd.apache.arrow.stream")
MOMENTS = st.datetimes(EARLIEST.replace(tzinfo=None), LATEST.replace(tzinfo=None) - timedelta(days=1)).map(
    lambda moment: moment.replace(tzinfo=UTC)
)


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        (None, OFFERED[0]),
        ("", OFFERED[0]),
        ("*/*", OFFERED[0]),
        ("text/csv", OFFERED[1]),
        ("TEXT/CSV; q=0.5", OFFERED[1]),
        ("text/*", OFFERED[1]),
        ("text/html, */*;q=0.1", OFFERED[0]),
        ("application/json;q=0.5, text/csv", OFFERED[1]),
        ("application/*;q=0.2, text/csv;q=0.1", OFFERED[0]),
        ("application/json;q=0, application/*", OFFERED[2]),
        (";;;q=x,,text/csv;q=nonsense, application/json", OFFERED[0]),
    ],
)
def test_the_best_of_the_offer_is_chosen(accept: str | None, chosen: str) -> None:
    assert choose(accept, OFFERED) == chosen


@pytest.mark.parametrize("accept", ["application/xml", "*/*;q=0", "text/csv;q=0", "nonsense", "q=1"])
def test_nothing_fitting_names_the_offer(accept: str) -> None:
    with pytest.raises(NotAcceptable, match="text/csv"):
        choose(accept, OFFERED)


@given(st.text())
def test_any_accept_header_is_answered_or_refused(accept: str) -> None:
    with contextlib.suppress(NotAcceptable):
        assert choose(accept, OFFERED) in OFFERED


@given(MOMENTS)
def test_a_moment_is_read_as_it_is_written(moment: datetime) -> None:
    millisecond = moment.replace(microsecond=moment.microsecond // 1000 * 1000)
    assert parse_instant(format_rfc3339(moment)) == millisecond
    if to_ms(moment) < 10**13:
        assert parse_instant(str(to_ms(moment))) == millisecond
    assert from_micros(to_micros(moment)) == moment


@given(st.text(max_size=40))
def test_any_text_is_a_moment_in_bounds_or_a_value_error(text: str) -> None:
    with contextlib.suppress(ValueError):
        assert EARLIEST <= parse_instant(text) < LATEST


@given(MOMENTS, st.sampled_from([timedelta(minutes=1), timedelta(minutes=15), timedelta(hours=1), timedelta(days=1)]))
def test_a_window_start_is_the_last_multiple_of_its_width(moment: datetime, width: timedelta) -> None:
    start = floor_to(moment, width)
    assert start <= moment < start + width
    assert (start - datetime(1970, 1, 1, tzinfo=UTC)) % width == timedelta(0)


INT64 = st.integers(-(2**63), 2**63 - 1)


@given(st.builds(ReadingCursor, st.integers(0, 10**15), st.integers(-1, 32_767), INT64, INT64, st.integers(-1, 32_767)))
def test_a_cursor_comes_back_and_only_as_its_own_kind(cursor: ReadingCursor) -> None:
    text = encode_cursor(cursor)
    assert decode_cursor(text, ReadingCursor) == cursor
    for other in (WindowCursor, QuarantineCursor):
        with pytest.raises(BadQuery):
            decode_cursor(text, other)


@pytest.mark.parametrize("character", ["\0", "\n", "\x7f"])
def test_a_cursor_with_a_character_that_no_key_has_is_a_bad_query(character: str) -> None:
    assert decode_cursor(encode_cursor(StationCursor("A B")), StationCursor).station_id == "A B"
    with pytest.raises(BadQuery, match="cursor is not one of this query"):
        decode_cursor(encode_cursor(StationCursor(f"A{character}B")), StationCursor)


@given(st.one_of(st.text(max_size=120), st.binary(max_size=60).map(lambda key: msgspec.msgpack.encode(key).hex())))
def test_any_text_is_a_cursor_or_a_bad_query(text: str) -> None:
    with contextlib.suppress(BadQuery):
        decode_cursor(text, ReadingCursor)


MILLI_MAX = int(max(highest for *_, highest in QUANTITIES.values()) * 1000)


@given(st.lists(st.none() | st.integers(-MILLI_MAX, MILLI_MAX), max_size=20))
def test_thousandths_are_exact_in_every_rendering(values: list[int | None]) -> None:
    table = ColumnTable({"x": Kind.THOUSANDTHS, "n": Kind.INTEGER}, [values, list(range(len(values)))])
    exact = [None if value is None else Decimal(value) / 1000 for value in values]
    as_json = msgspec.json.encode(to_rows(table))
    assert [row["x"] for row in json.loads(as_json, parse_float=Decimal)] == exact
    lines = csv.DictReader(io.StringIO(to_csv(table).decode()))
    assert [Decimal(line["x"]) if line["x"] else None for line in lines] == exact
    assert pa.ipc.open_stream(to_arrow(table)).read_all()["x"].to_pylist() == exact


@given(st.lists(st.none() | st.text() | st.sampled_from(["=1+1", "'=1", "-", "'"]), min_size=1, max_size=5))
def test_any_text_survives_csv(values: list[str | None]) -> None:
    table = ColumnTable({"t": Kind.TEXT, "n": Kind.INTEGER}, [values, list(range(len(values)))])
    lines = csv.DictReader(io.StringIO(to_csv(table).decode(), newline=""))
    cells = [line["t"] for line in lines]
    assert [text_of(cell) for cell in cells] == [value or "" for value in values]
    assert cells == [as_text(value or "") for value in values]
