"""A published version of a tariff, as pricing returns it."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

import msgspec

from schemas.tariff import Tariff


@dataclass(frozen=True, slots=True)
class TariffVersion:
    """A published version of a tariff."""

    key: int  # above 0
    id: UUID
    time_zone: str
    document: dict[str, Any]  # as published
    tariff: Tariff

    @classmethod
    def of(cls, key: int, id: UUID, time_zone: str, document: str) -> "TariffVersion":
        """`document` as JSON. Raises ValueError (pydantic's ValidationError) where it is not a tariff."""
        return cls(key, id, time_zone, msgspec.json.decode(document), Tariff.model_validate_json(document))
