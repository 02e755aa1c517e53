"""Laws of decoding a flush at once: what is sound becomes the columns it would be alone, what is not costs itself."""

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.frame import FrameError, FrameHeader, FrameKind, decode_body, encode_frame
from schemas.packed import ROWS_MAX
from schemas.reading import PLAIN_READING_SCHEMA, READING_SCHEMA, REFUSED_SCHEMA
from streams.engine.batch import Frame, accept
from streams.state.partition import PartitionState
from streams.worker.decoding import read_frame, read_frames
from tests.schemas.row_strategies import batches
from tests.schemas.test_packed import PLAIN, edited

PARTITION = 0
SOUND_MS = 1_790_000_000_000
REFUSED = pa.RecordBatch.from_pylist([{"station_id": None, "reason": "r", "detail": "d", "raw": b"x"}], REFUSED_SCHEMA)
_edits = st.lists(st.tuples(st.integers(0, 10_000), st.binary(max_size=9), st.integers(0, 9)), max_size=2)


def many(batch: pa.RecordBatch) -> pa.RecordBatch:
    """So many of its rows that they are not packed."""
    rows = batch.to_pylist() * (ROWS_MAX + 1)
    return pa.RecordBatch.from_pylist(rows, READING_SCHEMA)


def plain(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Without the optional columns."""
    return many(batch).select(PLAIN_READING_SCHEMA.names)


_bodies = st.one_of(batches(), batches(), batches(2).map(many), batches(2).map(plain), st.just(REFUSED))


def encoded(bodies: list[pa.RecordBatch]) -> list[tuple[FrameHeader, bytes]]:
    frames = []
    total = 0
    for number, body in enumerate(bodies):
        total += body.num_rows
        kind = FrameKind.REFUSED if body is REFUSED else FrameKind.READINGS
        header = FrameHeader(kind, PARTITION, "s", number, body.num_rows, total, SOUND_MS + number)
        frames.append((header, encode_frame(header, body)))
    return frames


def one_by_one(frames: list[tuple[FrameHeader, bytes]]) -> list[Frame | FrameError]:
    found: list[Frame | FrameError] = []
    for header, frame in frames:
        try:
            found.append(read_frame(header, frame, PARTITION))
        except FrameError as error:
            found.append(error)
    return found


def contents(frames: list[Frame | FrameError]) -> tuple[object, ...]:
    """What the step gets of those that are frames."""
    state = PartitionState(PARTITION)
    batch = accept(state, [frame for frame in frames if not isinstance(frame, FrameError)]).batch
    names = [None if code < 0 else batch.session_ids[code] for code in batch.name_code.tolist()]
    columns = {name: values.tolist() for name, values in batch.columns.items()}
    return columns, names, batch.name.tolist(), batch.received_ms.tolist(), batch.extra, batch.connectors.new()


@given(st.lists(_bodies, max_size=7), st.integers(0, 6), _edits)
def test_a_flush_is_decoded_as_its_frames_are_alone(
    bodies: list[pa.RecordBatch], broken: int, edits: list[tuple[int, bytes, int]]
) -> None:
    frames = encoded(bodies)
    if frames and edits:
        place = broken % len(frames)
        header, frame = frames[place]
        start = 8 + int.from_bytes(frame[4:8], "little")  # behind the header, which is read before
        frames[place] = (header, frame[:start] + edited(frame[start:], edits))
    together, alone = read_frames(frames, PARTITION), one_by_one(frames)
    assert [isinstance(frame, FrameError) for frame in together] == [isinstance(frame, FrameError) for frame in alone]
    assert contents(together) == contents(alone)


@pytest.mark.parametrize("schema", [PLAIN_READING_SCHEMA, READING_SCHEMA, REFUSED_SCHEMA])
@pytest.mark.parametrize("end", [b"", b"\xff\xff\xff\xff\0\0\0\0"])
def test_a_body_that_ends_behind_its_schema_is_an_error(schema: pa.Schema, end: bytes) -> None:
    kind = FrameKind.REFUSED if schema is REFUSED_SCHEMA else FrameKind.READINGS
    header = FrameHeader(kind, PARTITION, "s", 0, 1, 1, SOUND_MS)
    body = schema.serialize().to_pybytes()
    whole = encode_frame(header, many(pa.RecordBatch.from_pylist([PLAIN], READING_SCHEMA)))
    frame = whole[: whole.index(READING_SCHEMA.serialize().to_pybytes())] + body + end
    with pytest.raises(FrameError):
        decode_body(frame)
    (found,) = read_frames([(header, frame)], PARTITION)
    assert isinstance(found, FrameError)


def test_frames_of_another_partition_are_errors() -> None:
    batch = pa.RecordBatch.from_pylist([PLAIN], READING_SCHEMA)
    frames = encoded([batch, batch])
    first, second = read_frames(frames, PARTITION + 1)
    assert isinstance(first, FrameError)
    assert isinstance(second, FrameError)
