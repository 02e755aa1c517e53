"""The request and the response of a replay."""

from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, model_validator

from kit.instants import Instant
from kit.web.paging import CURSOR_CHARS_MAX, Cursor, Int64, encode_cursor
from schemas.identifiers import PRINTABLE, StationId

ITEMS_MAX: Final = 1_000  # of one request: ~0.1 s of one core; 4 M readings where all are full frames of 4,096
REFUSED_LISTED_MAX: Final = 1_000  # ~200 B each
_ID_MAX: Final = 2**63 - 1


class ReplayCursor(Cursor, frozen=True, tag="rq"):
    """Where a replay is: behind this item, of those up to the last that was there when it began."""

    above: Int64
    up_to: Int64


ItemId = Annotated[int, Field(ge=1, le=_ID_MAX)]


class ReplayRequest(BaseModel):
    """Which items; several conditions hold together."""

    model_config = ConfigDict(
        extra="forbid",
        populate_by_name=True,
        json_schema_extra={"examples": [{"reason": "ts_future", "from": "2026-03-29T00:00:00Z", "dry_run": True}]},
    )

    ids: list[ItemId] | None = Field(default=None, min_length=1, max_length=ITEMS_MAX, description="these items")
    reason: str | None = Field(
        default=None, min_length=1, max_length=64, pattern=PRINTABLE, description="refused for this reason"
    )
    station_id: StationId | None = Field(default=None, description="of this station, where it could be read")
    start: Instant | None = Field(default=None, alias="from", description="received since then, inclusive")
    end: Instant | None = Field(default=None, alias="to", description="received before then")
    cursor: str | None = Field(
        default=None, max_length=CURSOR_CHARS_MAX, description="`next` of the last answer: go on where it ended"
    )
    limit: int = Field(default=ITEMS_MAX, ge=1, le=ITEMS_MAX, description="items of this request")
    dry_run: bool = Field(default=False, description="only say what would become of them")

    @model_validator(mode="after")
    def _says_which(self) -> "ReplayRequest":
        if all(value is None for value in (self.ids, self.reason, self.station_id, self.start, self.end)):
            raise ValueError("say which: ids, reason, station_id, from or to; all there are: from 1970-01-01T00:00:00Z")
        if self.start is not None and self.end is not None and self.start >= self.end:
            raise ValueError("from must be before to")
        return self


class RefusedAgain(BaseModel):
    """An item that today's rules refuse, too."""

    id: int
    reason: str
    detail: str


class ReplayAnswer(BaseModel):
    """What became of the items of one request."""

    dry_run: bool
    replayed: int = Field(description="items that were taken again, durably")
    readings: int = Field(description="readings of them; frames that were kept whole have many")
    refused: list[RefusedAgain] = Field(
        description="the first 1,000 that are refused again, and why. An item stays where it is; one of a frame that "
        "was replayed is in quarantine by itself now"
    )
    refused_omitted: int = Field(description="those that are not listed")
    not_waiting: list[int] = Field(
        description="of `ids`, those that are not there, were replayed before, or are in another replay's hands"
    )
    next: str | None = Field(
        description="where more may wait: the same request with `cursor` of this value goes on. It ends with the items "
        "that were there at the first request"
    )


EXAMPLE: Final = {
    "dry_run": False,
    "replayed": 998,
    "readings": 998,
    "refused": [
        {
            "id": 17,
            "reason": "ts_future",
            "detail": "ts is after 2026-03-30T09:00:00.000Z, the newest taken; check the device's clock",
        }
    ],
    "refused_omitted": 0,
    "not_waiting": [],
    "next": encode_cursor(ReplayCursor(2112, 4096)),
}
