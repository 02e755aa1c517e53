"""Judges items of the quarantine by the rules of this moment. Pure.

An item is what a device sent, as it was received; a frame that a worker kept whole has many. Which of the two a row has
is said by its reason, never by its bytes, which anybody may have sent.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import pyarrow as pa

from ingest.admission import AdmissionRules, Admitted, RefusedItem, admit_batch, admit_items
from ingest.errors import MalformedBody
from schemas.frame import FrameError, FrameHeader, FrameKind, decode_header, split_frames
from schemas.frame_rows import UNREADABLE, WHOLE_FRAMES, read_rows


class Quarantined(NamedTuple):
    """A row of the quarantine."""

    id: int
    reason: str
    raw: bytes


class Refused(NamedTuple):
    """Why an item of a row is no reading by today's rules either."""

    id: int  # of the row
    reason: str
    detail: str


class Replayed(NamedTuple):
    """A row that is accepted again."""

    id: int
    counted: int  # what it counts for in `quarantined` of the ledger of readings


@dataclass(frozen=True, slots=True)
class Judgement:
    """What becomes of some rows: every one of them is in `replayed`, or in `refused` and not replayed.

    Of a frame that is replayed, `refused` has the items that are refused: they get rows of their own.
    """

    admitted: list[Admitted]
    replayed: list[Replayed]
    refused: list[Refused]

    @property
    def readings(self) -> int:
        """How many readings are accepted."""
        return sum(one.accepted for one in self.admitted)


def judge(rows: Sequence[Quarantined], rules: AdmissionRules) -> Judgement:
    """Rows in the order given."""
    judgement = Judgement([], [], [])
    items = [row for row in rows if row.reason not in WHOLE_FRAMES]
    if items:
        _judge_items(items, rules, judgement)
    for row in rows:
        if row.reason in WHOLE_FRAMES:
            _judge_frame(row, rules, judgement)
    return judgement


def _judge_items(rows: Sequence[Quarantined], rules: AdmissionRules, judgement: Judgement) -> None:
    admitted = admit_items([row.raw for row in rows], rules)
    again = {item.position for item in admitted.refused}
    judgement.refused.extend(Refused(rows[item.position].id, item.reason, item.detail) for item in admitted.refused)
    judgement.replayed.extend(Replayed(row.id, 1) for at, row in enumerate(rows) if at not in again)
    if admitted.accepted:
        judgement.admitted.append(replace(admitted, refused=[]))


def _judge_frame(row: Quarantined, rules: AdmissionRules, judgement: Judgement) -> None:
    """A frame is replayed as a whole where it can be read: each of its items is accepted once more, as a reading or as
    a refused item."""
    try:
        frames = [(header := decode_header(frame), read_rows(header, frame)) for frame in split_frames(row.raw)]
        admitted = [_admitted(header, batch, rules) for header, batch in frames]
    except (FrameError, MalformedBody) as error:
        judgement.refused.append(Refused(row.id, UNREADABLE, str(error)))
        return
    judgement.admitted.extend(admitted)
    judgement.refused.extend(Refused(row.id, item.reason, item.detail) for one in admitted for item in one.refused)
    judgement.replayed.append(Replayed(row.id, _counted(row.raw)))


def _counted(raw: bytes) -> int:
    """The items that the ledger counted for a frame: as its header said; none where a worker could not read that."""
    try:
        return decode_header(raw).items
    except FrameError:
        return 0


def _admitted(header: FrameHeader, batch: pa.RecordBatch, rules: AdmissionRules) -> Admitted:
    if header.kind == FrameKind.READINGS:
        admitted = admit_batch(batch, rules)
        if admitted.accepted + len(admitted.refused) != batch.num_rows:
            raise AssertionError("every row is accepted or refused")
        return admitted
    return _readmitted(batch.to_pylist(), rules)


def _readmitted(rows: list[dict[str, str | bytes]], rules: AdmissionRules) -> Admitted:
    """Refused items of a frame: what is refused again keeps what was known of it."""
    admitted = admit_items([bytes(row["raw"]) for row in rows], rules)  # type: ignore[arg-type]  # by REFUSED_SCHEMA
    return replace(admitted, refused=[_as_known(item, rows[item.position]) for item in admitted.refused])


def _as_known(item: RefusedItem, row: dict[str, str | bytes]) -> RefusedItem:
    station_id = row["station_id"]
    return item if item.station_id or not isinstance(station_id, str) else item._replace(station_id=station_id)
