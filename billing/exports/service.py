"""Exports: one snapshot, its totals, and its documents as a stream of bytes. No HTTP and no SQL here."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from enum import StrEnum
from typing import Any, Final

from billing.exports.models import LeftOutDocument
from billing.exports.ocpi import Party
from billing.exports.ocpi_file import write_cdrs
from billing.exports.parquet import ParquetFile
from billing.exports.store import DocumentCursor, ExportFilter, Output, Snapshot, snapshot
from billing.exports.totals import Totals, totals_of
from kit.database.postgres import Database
from kit.errors import Overloaded
from kit.web.paging import decode_cursor, encode_cursor

EXPORTS_MAX: Final = 2  # at once: each holds one of the service's 8 connections, and a core of the database
# A client that exports one file after the other sees the end of one before its slot is free; an export that runs longer
# than these seconds is not about to end.
WAIT_S: Final = 5
CHUNKS_MAX: Final = 8  # between the database and a slow reader; ~100 kB each, of Parquet a row group of ~4 MB
CHUNK_BYTES: Final = 65_536  # what is shorter waits for more


class ExportFormat(StrEnum):
    """The format of a file."""

    CSV = "csv"
    JSONL = "jsonl"
    OCPI = "ocpi"
    PARQUET = "parquet"


class Export:
    """One export under way."""

    def __init__(self, source: Snapshot, totals: Totals, chunks: AsyncIterator[bytes]) -> None:
        self._source = source
        self.totals = totals
        self.chunks = chunks  # to be read once; raises Unavailable

    async def left_out(self, rows_max: int) -> list[LeftOutDocument]:
        """The first documents that are not in the file. To be asked before the chunks are read. Raises Unavailable."""
        rows = await self._source.left_out(None, rows_max) if self.totals.left_out else []
        return [_left_out(row) for row in rows]


class ExportService:
    """Exports of one database, a bounded number at once."""

    def __init__(self, database: Database, party: Party, wait_s: int = WAIT_S) -> None:
        """`wait_s`: how long an export waits for its turn."""
        self._database = database
        self._party = party
        self._wait_s = wait_s
        self._slots = asyncio.Semaphore(EXPORTS_MAX)

    @asynccontextmanager
    async def export(self, wanted: ExportFilter, format_: ExportFormat) -> AsyncIterator[Export]:
        """The export, for as long as the block. Raises Overloaded, Unavailable."""
        try:
            async with asyncio.timeout(self._wait_s):
                await self._slots.acquire()
        except TimeoutError:
            words = f"{EXPORTS_MAX} exports are under way; try again when one has ended"
            raise Overloaded(words, retry_after_s=30) from None
        try:
            async with snapshot(self._database, wanted) as source:
                of_cdrs = format_ is ExportFormat.OCPI
                totals = totals_of(await (source.cdr_totals() if of_cdrs else source.totals()))
                async with aclosing(_chunks(lambda output: self._write(source, format_, output))) as chunks:
                    yield Export(source, totals, chunks)
        finally:
            self._slots.release()

    async def left_out(
        self, wanted: ExportFilter, limit: int, cursor: str | None
    ) -> tuple[Sequence[LeftOutDocument], str | None]:
        """A page of documents that OCPI's CDRs leave out, and the next page's cursor. Raises BadQuery, Unavailable."""
        after = decode_cursor(cursor, DocumentCursor) if cursor else None
        async with snapshot(self._database, wanted) as source:
            rows = await source.left_out(after, limit + 1)
        page = rows[:limit]
        following = (
            encode_cursor(DocumentCursor(page[-1]["year"], page[-1]["sequence"], page[-1]["item"]))
            if len(rows) > limit
            else None
        )
        return [_left_out(row) for row in page], following

    async def _write(self, source: Snapshot, format_: ExportFormat, output: Output) -> None:
        if format_ is ExportFormat.CSV:
            await source.copy_csv(output, for_people=True)
        elif format_ is ExportFormat.JSONL:
            await source.copy_jsonl(output)
        elif format_ is ExportFormat.OCPI:
            await write_cdrs(source, self._party, output)
        else:
            file = ParquetFile(output)
            await source.copy_csv(file.take, for_people=False)
            await file.close()


def _left_out(row: Mapping[str, Any]) -> LeftOutDocument:
    return LeftOutDocument(**{name: row[name] for name in LeftOutDocument.model_fields})


async def _chunks(write: Callable[[Output], Awaitable[None]]) -> AsyncGenerator[bytes, None]:
    """The output of `write`, in chunks of some size, at most CHUNKS_MAX ahead of the reader."""
    queue: asyncio.Queue[bytes | Exception | None] = asyncio.Queue(CHUNKS_MAX)
    buffer = bytearray()

    async def put(data: bytes) -> None:
        if not buffer and len(data) >= CHUNK_BYTES:
            await queue.put(data)
            return
        buffer.extend(data)
        if len(buffer) >= CHUNK_BYTES:
            await queue.put(bytes(buffer))
            buffer.clear()

    async def run() -> None:
        try:
            await write(put)
            await queue.put(bytes(buffer))
        except Exception as error:
            await queue.put(error)
        else:
            await queue.put(None)

    writing = asyncio.create_task(run())
    try:
        while (chunk := await queue.get()) is not None:
            if isinstance(chunk, Exception):
                raise chunk
            if chunk:
                yield chunk
    finally:
        writing.cancel()
        await asyncio.wait((writing,))
