"""The use case of held charges. No HTTP and no SQL here."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from billing.currency import format_micros
from billing.documents import NOT_INVOICED, CdrStatus
from billing.held_charges.models import HeldCharge
from billing.held_charges.store import HeldChargeCursor, HeldChargeStore
from kit.web.paging import decode_cursor, encode_cursor, to_micros

_SAME: Final = (
    *("cdr_id", "status", "kind", "session_id", "reservation_id", "driver_id", "station_id", "started_at", "ended_at"),
    *("version", "revision", "tariff_version", "currency"),
)
_MICROS: Final = ("total_excl", "total_incl", "stream_excl", "stream_incl")


class HeldChargeService:
    """Charges that are not invoiced until a person or a later revision settles them."""

    def __init__(self, store: HeldChargeStore) -> None:
        self._store = store

    async def list_held_charges(
        self, status: str | None, limit: int, cursor: str | None
    ) -> tuple[Sequence[HeldCharge], str | None]:
        """A page, newest first, and the next page's cursor. Raises BadQuery."""
        after = decode_cursor(cursor, HeldChargeCursor) if cursor else None
        statuses = NOT_INVOICED if status is None else (CdrStatus(status),)
        found = await self._store.list_held_charges(statuses, after, limit + 1)
        page = found[:limit]
        last = HeldChargeCursor(to_micros(page[-1]["created_at"]), page[-1]["cdr_id"]) if len(found) > limit else None
        return [_charge(row) for row in page], None if last is None else encode_cursor(last)


def _charge(row: Mapping[str, Any]) -> HeldCharge:
    values = {name: row[name] for name in _SAME}
    for name in _MICROS:
        micros = row[f"{name}_micros"]
        values[f"{name}_vat"] = None if micros is None else format_micros(micros)
    return HeldCharge(noted_at=row["created_at"], **values)
