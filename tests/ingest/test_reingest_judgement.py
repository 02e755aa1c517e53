"""Laws of what becomes of a row of the quarantine by the rules of the moment."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from ingest.admission import admit_items, to_columns
from ingest.reingest.judgement import Quarantined, Refused, judge
from schemas.frame_rows import FAILED, UNREADABLE, WHOLE_FRAMES
from schemas.reading import with_all_columns
from tests.ingest.quarantine_strategies import frame_of, quarantines, refused_frame_of
from tests.ingest.wire_strategies import BOUND, DAY_MS, NOW_MS, RULES, as_json, good_items

AHEAD = {"station_id": "CP1", "connector_id": 1, "ts": NOW_MS + 2 * DAY_MS, "seq": 7}
LATER = replace(RULES, now_ms=NOW_MS + 3 * DAY_MS)


@given(rows=quarantines())
def test_each_row_is_replayed_or_refused_with_a_reason_and_each_item_is_somewhere(rows: list[Quarantined]) -> None:
    judgement = judge(rows, RULES)
    replayed = [row.id for row in judgement.replayed]
    assert len(set(replayed)) == len(replayed)
    frames = {row.id for row in rows if row.reason in WHOLE_FRAMES}
    refused = {one.id for one in judgement.refused}
    assert {row.id for row in rows} == set(replayed) | refused
    assert set(replayed) & refused <= frames, "an item has one fate; a frame has items of both"
    assert all(one.reason and one.detail for one in judgement.refused)
    kept = sum(len(admitted.refused) for admitted in judgement.admitted)
    assert judgement.readings + kept == sum(row.counted for row in judgement.replayed)


@given(rows=quarantines())
def test_items_are_judged_as_the_gateway_judges_them(rows: list[Quarantined]) -> None:
    items = [row for row in rows if row.reason not in WHOLE_FRAMES]
    expected = admit_items([row.raw for row in items], RULES)
    judgement = judge(items, RULES)
    assert judgement.readings == expected.accepted
    assert [one.reason for one in judgement.refused] == [item.reason for item in expected.refused]


@given(sent=st.lists(good_items, min_size=1, max_size=5))
def test_a_frame_that_can_be_read_now_has_the_readings_that_it_was_made_of(sent: list[dict[str, object]]) -> None:
    first = to_columns(admit_items([as_json(item) for item in sent], RULES)).rows
    judgement = judge([Quarantined(1, FAILED, frame_of(sent))], RULES)
    (admitted,) = judgement.admitted
    assert admitted.refused == []
    rows = to_columns(admitted).rows
    assert with_all_columns(rows).to_pylist() == with_all_columns(first).to_pylist()


def test_what_was_ahead_of_the_clock_is_a_reading_once_the_clock_has_passed_it() -> None:
    rows = [Quarantined(4, "ts_future", as_json(AHEAD))]
    assert [one.reason for one in judge(rows, RULES).refused] == ["ts_future"]
    later = judge(rows, LATER)
    assert (later.readings, later.refused) == (1, [])


def test_a_token_of_some_stations_vouches_for_those_only() -> None:
    foreign = as_json(AHEAD | {"station_id": "CP3", "ts": NOW_MS})
    rows = [Quarantined(1, "station_forbidden", foreign), Quarantined(2, FAILED, frame_of([AHEAD | {"ts": NOW_MS}]))]
    assert judge(rows, RULES).readings == 2
    bound = judge(rows, BOUND)
    assert (bound.readings, [one.id for one in bound.refused]) == (1, [1])


def test_bytes_of_a_frame_that_a_device_sent_are_no_frame() -> None:
    judgement = judge([Quarantined(1, "malformed", frame_of([AHEAD | {"ts": NOW_MS}]))], RULES)
    assert (judgement.readings, judgement.refused[0].reason) == (0, "malformed")


def test_items_of_a_frame_that_are_refused_again_are_kept_with_it() -> None:
    good, bad = as_json(AHEAD | {"ts": NOW_MS}), b"{"
    judgement = judge([Quarantined(1, FAILED, refused_frame_of([good, bad]))], RULES)
    (admitted,) = judgement.admitted
    assert (admitted.accepted, [item.raw for item in admitted.refused]) == (1, [bad])
    assert [(row.id, row.counted) for row in judgement.replayed] == [(1, 2)]


def test_a_frame_that_is_still_unreadable_says_why() -> None:
    judgement = judge([Quarantined(1, UNREADABLE, b"VF1\0????")], RULES)
    assert judgement.replayed == []
    assert isinstance(judgement.refused[0], Refused)
    assert "frame" in judgement.refused[0].detail
