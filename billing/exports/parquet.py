"""Parquet from PostgreSQL's CSV: parsed and written a row group at a time."""

import asyncio
from io import BytesIO
from typing import Any, Final

import pyarrow as pa
from pyarrow import csv, parquet

from billing.exports.store import COLUMNS, Output

GROUP_BYTES: Final = 16 * 1024 * 1024  # of CSV: ~50,000 documents, ~30 MB of columns; small groups compress worse

_TYPES: Final[dict[str, Any]] = {
    "version": pa.int32(),
    **dict.fromkeys(("issued_at", "started_at", "ended_at"), pa.timestamp("us", tz="UTC")),
    **dict.fromkeys(("energy_kwh", "total_excl_vat", "total_vat", "total_incl_vat"), pa.decimal128(25, 6)),
    **dict.fromkeys(("payable_excl_vat", "payable", "set_off"), pa.decimal128(23, 4)),  # no currency has more digits
}
SCHEMA: Final = pa.schema([(name, _TYPES.get(name, pa.string())) for name in COLUMNS])
_PARSE: Final = csv.ParseOptions(newlines_in_values=True)
_CONVERT: Final = csv.ConvertOptions(
    column_types=SCHEMA, strings_can_be_null=True, quoted_strings_can_be_null=False, null_values=[""]
)


class ParquetFile:
    """A file being written; finished parts go to `output`."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._rows = bytearray()
        self._header_taken = False
        self._sink = _Sink()
        self._writer = parquet.ParquetWriter(self._sink, SCHEMA, compression="zstd")

    async def take(self, data: bytes) -> None:
        """CSV, whole rows at a time, the header first."""
        if not self._header_taken:
            self._header_taken = True
            data = data.partition(b"\n")[2]
        self._rows += data
        if len(self._rows) >= GROUP_BYTES:
            await self._write_group()

    async def close(self) -> None:
        """Write the rest and the footer."""
        if self._rows:
            await self._write_group()
        self._writer.close()
        await self._output(self._sink.taken())

    async def _write_group(self) -> None:
        rows, self._rows = bytes(self._rows), bytearray()
        await asyncio.to_thread(self._parse_and_write, rows)
        await self._output(self._sink.taken())

    def _parse_and_write(self, rows: bytes) -> None:
        table = csv.read_csv(
            pa.BufferReader(rows),
            read_options=csv.ReadOptions(column_names=SCHEMA.names, block_size=len(rows) + 1, use_threads=False),
            parse_options=_PARSE,
            convert_options=_CONVERT,
        )
        self._writer.write_table(table)


class _Sink(BytesIO):
    """The bytes written and not yet taken; positions count all of them."""

    def __init__(self) -> None:
        super().__init__()
        self._gone = 0

    def tell(self) -> int:
        """Bytes since the file's beginning."""
        return self._gone + super().tell()

    def taken(self) -> bytes:
        """Take the bytes written so far."""
        data = self.getvalue()
        self._gone += len(data)
        self.seek(0)
        self.truncate()
        return data
