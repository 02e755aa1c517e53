"""Entries as auditors read them. No HTTP and no SQL here."""

from typing import Any

import msgspec

from api.audit.models import AuditEntry
from api.audit.store import AuditStore, EntryCursor, EntryFilter
from kit.web.paging import decode_cursor, encode_cursor, to_micros


class AuditService:
    """The use cases, one method each."""

    def __init__(self, store: AuditStore) -> None:
        self._store = store

    async def page(self, wanted: EntryFilter, limit: int, cursor: str | None) -> tuple[list[AuditEntry], str | None]:
        """A page of entries, newest first, and the next page's cursor. Raises BadQuery."""
        after = decode_cursor(cursor, EntryCursor) if cursor else None
        rows = await self._store.entries(wanted, after, limit + 1)
        page = [_entry(dict(row)) for row in rows[:limit]]
        following = EntryCursor(to_micros(page[-1].at), page[-1].id) if len(rows) > limit else None
        return page, encode_cursor(following) if following is not None else None


def _entry(row: dict[str, Any]) -> AuditEntry:
    for name in ("before", "after"):
        row[name] = None if row[name] is None else msgspec.json.decode(row[name])
    return AuditEntry(**row)
