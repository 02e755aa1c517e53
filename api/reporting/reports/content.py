"""The content of reports in the document store: tables in parts of columns, under the report's id and attempt."""

from collections.abc import AsyncIterator, Sequence
from typing import Any, Final
from uuid import UUID

from api.reporting.tables import Table, Values, parts
from kit.documents.store import DocumentStore

COLLECTION: Final = "reports"
PART_ROWS: Final = 500  # of 4 kB at the most, where a note has 500 characters of any script: below a document's 2 MiB
_PARTS_AT_ONCE: Final = 4


class ReportContent:
    """Tables by report. What an attempt that crashed left behind is overwritten, or goes with the report."""

    def __init__(self, documents: DocumentStore) -> None:
        self.documents = documents

    async def put(self, report_id: UUID, attempt: int, tables: Sequence[Table]) -> None:
        """Store all tables. Raises Unavailable."""
        for table in tables:
            for number, columns in enumerate(parts(table, PART_ROWS)):
                key = f"{_prefix(report_id, attempt, table.shape.name)}{number:05d}"
                await self.documents.put(COLLECTION, {key: {"columns": columns}})

    async def parts(self, report_id: UUID, attempt: int, table: str) -> AsyncIterator[list[Values]]:
        """The table's columns in parts. Raises Unavailable."""
        prefix, after = _prefix(report_id, attempt, table), ""
        while page := await self.documents.scan(COLLECTION, prefix, after, _PARTS_AT_ONCE):
            for key, document in page:
                columns: Any = document["columns"]
                yield columns
                after = key

    async def delete_before(self, report_id: UUID, attempt: int) -> None:
        """Delete what earlier attempts left behind. Raises Unavailable."""
        after = ""
        while page := await self.documents.scan(COLLECTION, f"{report_id}/", after, 1):
            ((after, _),) = page
            earlier = int(after.split("/")[1])
            if earlier < attempt:  # a later one is not ours to delete
                await self.documents.delete(COLLECTION, f"{report_id}/{earlier}/")

    async def delete(self, report_id: UUID) -> None:
        """Delete what there is of any attempt. Raises Unavailable."""
        await self.documents.delete(COLLECTION, f"{report_id}/")


def _prefix(report_id: UUID, attempt: int, table: str) -> str:
    return f"{report_id}/{attempt}/{table}/"
