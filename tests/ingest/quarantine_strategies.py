"""Arbitrary rows of the quarantine: what devices sent, and frames that a worker kept whole."""

from typing import Any

import pyarrow as pa
from hypothesis import strategies as st

from ingest.admission import Admitted, admit_json, to_columns
from ingest.reingest.judgement import Quarantined
from schemas.frame import FrameHeader, FrameKind, encode_frame
from schemas.frame_rows import FAILED, UNREADABLE
from schemas.reading import REFUSED_SCHEMA
from tests.ingest.wire_strategies import NOW_MS, RULES, as_json, good_items, items

SOURCE = "0123456789abcdef"


def header_of(kind: FrameKind, count: int) -> FrameHeader:
    """Of the first frame of a source."""
    return FrameHeader(int(kind), 0, SOURCE, 0, count, count, NOW_MS)


def frame_of(sent: list[dict[str, Any]]) -> bytes:
    """A frame of the readings among them."""
    admitted: Admitted = to_columns(admit_json(as_json(sent), RULES))
    assert isinstance(admitted.rows, pa.RecordBatch)
    return encode_frame(header_of(FrameKind.READINGS, admitted.accepted), admitted.rows)


def refused_frame_of(raws: list[bytes]) -> bytes:
    """A frame of items that a gateway refused."""
    rows = {"station_id": [None] * len(raws), "reason": ["x"] * len(raws), "detail": ["y"] * len(raws), "raw": raws}
    return encode_frame(header_of(FrameKind.REFUSED, len(raws)), pa.RecordBatch.from_pydict(rows, REFUSED_SCHEMA))


@st.composite
def _torn(draw: st.DrawFn) -> bytes:
    frame = frame_of(draw(st.lists(good_items, min_size=1, max_size=3)))
    at = draw(st.integers(0, len(frame) - 1))
    return frame[:at] + draw(st.binary(max_size=3))


_one_item = items.map(as_json) | st.binary(max_size=60)
_contents = st.one_of(
    st.tuples(st.sampled_from(["ts_future", "malformed"]), _one_item),
    st.tuples(st.just("ts_future"), st.just(frame_of([{"station_id": "CP9", "connector_id": 1, "ts": NOW_MS}]))),
    st.tuples(st.just(FAILED), st.lists(good_items, max_size=4).map(frame_of)),
    st.tuples(st.just(FAILED), st.lists(_one_item, max_size=4).map(refused_frame_of)),
    st.tuples(st.just(UNREADABLE), _torn() | st.binary(max_size=40)),
)


@st.composite
def quarantines(draw: st.DrawFn, rows_max: int = 6) -> list[Quarantined]:
    """Some rows, by id."""
    contents = draw(st.lists(_contents, max_size=rows_max))
    return [Quarantined(number, reason, raw) for number, (reason, raw) in enumerate(contents, 1)]
