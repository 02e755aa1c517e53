"""Reading a lake from an async process. Which files there are its owner says, in a contract (docs/adr/0022)."""

import asyncio
from collections.abc import Collection, Sequence
from functools import reduce
from operator import or_
from typing import Final

import pyarrow as pa
import pyarrow.dataset as ds

from kit.lake.folder import LakeFolder, LakeUnavailable
from kit.lake.parquet import read_rows

_ONE_BY_ONE_MAX: Final = 16  # values that are compared one by one, which statistics of row groups rule out


class LakeReader:
    """Reads rows of a lake's files in threads."""

    def __init__(self, folder: LakeFolder | None) -> None:
        """None: there is no lake, so no file of one can be read."""
        self._folder = folder

    @classmethod
    def at(cls, url: str) -> "LakeReader":
        """Of the lake at this folder or URL; empty: of none. Raises ConfigError."""
        return cls(LakeFolder.at(url) if url else None)

    async def rows(self, paths: Collection[str], columns: Sequence[str], chosen: ds.Expression) -> pa.Table | None:
        """The rows of these files for which the expression is true, in no particular order; None: there are no files.

        Raises LakeUnavailable.
        """
        if not paths:
            return None
        if self._folder is None:
            raise LakeUnavailable(
                f"{len(paths)} files of the lake are needed, and this process has none: set VOLTSTREAM_LAKE_URL"
            )
        tables = await asyncio.to_thread(read_rows, self._folder, sorted(paths), columns, chosen)
        return pa.concat_tables(tables)


def among(name: str, values: Collection[int]) -> ds.Expression:
    """Whether a column of integers has one of these values, at least one."""
    if len(values) <= _ONE_BY_ONE_MAX:
        return reduce(or_, [ds.field(name) == value for value in values])
    return (ds.field(name) >= min(values)) & (ds.field(name) <= max(values)) & ds.field(name).isin(list(values))
