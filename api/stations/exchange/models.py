"""Imports of stations, as OpenAPI shows them."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Literal

from pydantic import Field

from api.stations.registry.models import StationDocument, StationsModel
from schemas.identifiers import new_station_id

STATIONS_MAX: Final = 10_000  # of one import; of ~1 kB each it fits the body, and its transaction takes seconds
BODY_BYTES_MAX: Final = 16 * 1024 * 1024


class ExchangeFormat(StrEnum):
    """The format of a file of stations."""

    CSV = "csv"
    OCPI = "ocpi"


@dataclass(frozen=True, slots=True)
class Wanted:
    """A station of a file: which facts it says, or why it is refused. `connectors` None: they stay as they are."""

    line: int  # of CSV; of OCPI the place in the list, from 1
    station_id: str
    document: StationDocument | None
    reason: str | None = None
    not_taken: tuple[str, ...] = ()  # fields that there is no room for


def upper_id(text: str) -> str:
    """A station's id as it is compared; other text as it is, for `check_id`: ß in upper case would be another's SS."""
    return text.upper() if text.isascii() else text


def check_id(name: str, station_id: str) -> None:
    """Raises ValueError where no station can be registered by that id. `name`: of the column or field it stands in."""
    try:
        new_station_id(station_id)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


class ImportedStation(StationsModel):
    """What an import makes of one station."""

    line: int = Field(description="its first line in the CSV file; in OCPI JSON its place in the list, from 1")
    station_id: str
    outcome: Literal["created", "changed", "unchanged", "refused"]
    changes: list[str] = Field(description="facts that are others than before; a connector may be new or removed")
    reason: str | None = Field(description="why it is refused, and what to write instead")
    not_taken: list[str] = Field(
        default=[], description="fields of the file that are not kept, like an extension of OCPI"
    )


class ImportResult(StationsModel):
    """What an import changes, or would change."""

    dry_run: bool
    written: bool = Field(description="false: stations are refused, and nothing is, or of a dry run would be, changed")
    created: int
    changed: int
    unchanged: int
    refused: int
    stations: list[ImportedStation] = Field(
        description="in the order of the file, without those unchanged and wholly kept"
    )
