"""Tariffs by version, parsed once: a fleet has few, and every event has its own copy."""

from collections import OrderedDict
from typing import Any, Final
from uuid import UUID

import msgspec
from pydantic import ValidationError

from billing.errors import BadEvent
from billing.invoicing import store
from kit.database.postgres import Database
from schemas.tariff import Tariff, exact_tariff

VERSIONS_MAX: Final = 1_000  # ~20 kB each, parsed: 20 MB. A demand rule makes a version of a station every few minutes

_encoder: Final = msgspec.json.Encoder(decimal_format="number")


def parse_tariff(document: str) -> Tariff:
    """The tariff of a stored document, its numbers exactly as written. Raises BadEvent."""
    try:
        return exact_tariff(document)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise BadEvent(f"tariff: {where}: {first['msg'].removeprefix('Value error, ')}") from error


class TariffRegistry:
    """The tariffs of charges as their first event had them; a version cannot change afterwards."""

    def __init__(self, database: Database) -> None:
        """`database` works as billing's role."""
        self._database = database
        self._known: OrderedDict[UUID, Tariff] = OrderedDict()

    async def tariff(self, version: UUID, document: dict[str, Any]) -> Tariff:
        """The tariff of that version; a new one is stored, so that CDRs can refer to it.

        `document`: as in an event, numbers as int, Decimal or text. Raises BadEvent, Unavailable.
        """
        known = self._known.get(version)
        if known is not None:
            self._known.move_to_end(version)
            return known
        text = _encoder.encode(document).decode()
        parse_tariff(text)  # before it is stored for good
        tariff = parse_tariff(await store.add_tariff(self._database, version, text))
        self._known[version] = tariff
        while len(self._known) > VERSIONS_MAX:
            self._known.popitem(last=False)
        return tariff
