"""Laws of records with several frames."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.frame import JOINED_MAGIC, MAGIC, FrameError, join_frames, split_frames

_frames = st.lists(st.binary(max_size=40).map(lambda rest: MAGIC + rest), min_size=1, max_size=6)


@given(_frames)
def test_a_record_has_the_frames_that_were_joined(frames: list[bytes]) -> None:
    assert split_frames(join_frames(frames)) == frames


@given(st.binary(max_size=60))
def test_what_is_no_joined_frames_is_one_frame(record: bytes) -> None:
    if not record.startswith(JOINED_MAGIC):
        assert split_frames(record) == [record]


@given(st.binary(max_size=60).map(lambda rest: JOINED_MAGIC + rest))
def test_any_bytes_are_an_error_or_all_of_them_frames(record: bytes) -> None:
    try:
        frames = split_frames(record)
    except FrameError:
        return
    assert frames
    assert record.endswith(b"".join(frames))


@given(_frames.filter(lambda frames: len(frames) > 1), st.data())
def test_a_cut_record_is_an_error(frames: list[bytes], data: st.DataObject) -> None:
    record = join_frames(frames)
    with pytest.raises(FrameError):
        split_frames(record[: data.draw(st.integers(len(JOINED_MAGIC), len(record) - 1))])
