"""Which stations a token may see, as one value that every store filters by.

The registry's view `stations.station_overview` says whose a station is now: a service whose role filters by
organisation declares that it reads it.
"""

from dataclasses import dataclass
from typing import Any, Final, Protocol


@dataclass(frozen=True, slots=True)
class StationFilter:
    """A filter of stations: those that are named, and of these those of the organisation; None excludes nothing."""

    stations: frozenset[str] | None = None  # upper case
    organisation: str | None = None  # as the registry has it now; stations of none are nobody's

    @property
    def is_limited(self) -> bool:
        """Whether it excludes any station."""
        return self.stations is not None or self.organisation is not None

    @property
    def values(self) -> tuple[list[str] | None, str | None]:
        """The two arguments of a statement that has `visible`."""
        return (None if self.stations is None else sorted(self.stations)), self.organisation


EVERY_STATION: Final = StationFilter()


class Queries(Protocol):
    """A pool or an open transaction, as far as one look at the registry needs it."""

    async def fetchval(self, query: str, *arguments: Any) -> Any:
        """The first column of the first row."""


def visible(column: str, first: int) -> str:
    """SQL: the station of that column passes the filter whose `values` are the parameters $first and $first + 1."""
    names, organisation = f"${first}::text[]", f"${first + 1}::text"
    return (
        f"(({names} IS NULL OR {column} = ANY ({names})) AND ({organisation} IS NULL OR {column} IN "  # noqa: S608  # our own names
        f'(SELECT registry.station_id COLLATE "C" FROM stations.station_overview AS registry '
        f"WHERE registry.organisation = {organisation})))"
    )


_SEES: Final = f"SELECT {visible('$1::text', 2)}"


async def sees(database: Queries, only: StationFilter, station_id: str) -> bool:
    """Whether the station passes the filter now. Raises Unavailable."""
    return not only.is_limited or bool(await database.fetchval(_SEES, station_id.upper(), *only.values))
