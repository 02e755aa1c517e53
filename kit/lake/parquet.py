"""Parquet files of a lake: rows sorted by a key, written and read in parts of bounded size."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final, Protocol

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from kit.lake.folder import LakeFolder

# A row group: what a reader of one key must read, and what a writer keeps in memory (64 Ki rows of 24 columns, 12 MB).
ROWS_PER_GROUP: Final = 65_536
_LEVEL: Final = 15  # of zstd: 6 % smaller than 3 on real readings; written once, and reading does not notice


class Encodings(Protocol):
    """How columns are encoded before they are compressed."""

    @property
    def dictionary(self) -> Sequence[str]:
        """Columns with few values."""

    @property
    def filtered(self) -> Sequence[str]:
        """Columns by which readers choose rows: those with statistics, of which each costs ~100 B a row group."""

    @property
    def by_column(self) -> Mapping[str, str]:
        """Encodings of others, as Parquet names them; of those left out, PLAIN."""


@contextmanager
def writing(folder: LakeFolder, path: str, schema: pa.Schema, encodings: Encodings) -> Iterator[pq.ParquetWriter]:
    """A writer of a new file, which is durable after the block. Raises LakeUnavailable."""
    with (
        folder.write(path) as stream,
        pq.ParquetWriter(
            stream,
            schema,
            compression="zstd",
            compression_level=_LEVEL,
            use_dictionary=list(encodings.dictionary),
            column_encoding=dict(encodings.by_column),
            write_statistics=list(encodings.filtered),
            store_schema=False,  # Parquet's own types say all; Arrow's would be a third of a small file
            data_page_version="2.0",
            version="2.6",
        ) as writer,
    ):
        yield writer


def read_parts(folder: LakeFolder, path: str, columns: Sequence[str]) -> Iterator[pa.Table]:
    """All rows of a file, a row group at a time. Raises LakeUnavailable."""
    with folder.open(path) as file, pq.ParquetFile(file) as parquet:
        for group in range(parquet.num_row_groups):
            yield parquet.read_row_group(group, columns=list(columns))


def read_rows(folder: LakeFolder, paths: Sequence[str], columns: Sequence[str], rows: ds.Expression) -> list[pa.Table]:
    """The rows of these files for which the expression is true, a table a file. Row groups whose statistics rule it
    out are not read. Raises LakeUnavailable."""
    tables = []
    for path in paths:
        with folder.open(path) as file:
            tables.append(pq.read_table(file, columns=list(columns), filters=rows, partitioning=None))
    return tables
