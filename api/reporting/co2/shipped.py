"""The factors that ship with the service, and how rows of a request are stored."""

from collections.abc import Iterable
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Final

from api.reporting.co2.factors import UNKNOWN
from api.reporting.co2.models import NewFactors
from api.reporting.co2.store import Co2Store, FactorRow
from kit.messaging.outbox import Transaction

SHIPPED: Final = Path(__file__).parent / "ember_2025.json"  # a request to publish them, as an operator's
SHIPPED_BY: Final = "voltstream"
MG_PER_G: Final = 1_000


@cache
def shipped() -> NewFactors:
    """The factors that are in force until an operator publishes others: version 1."""
    return NewFactors.model_validate_json(SHIPPED.read_bytes())


def rows_of(new: NewFactors) -> Iterable[FactorRow]:
    """Its rows as they are stored: in whole mg."""
    for own in new.fallback:
        yield FactorRow(UNKNOWN, own.year, int(own.co2e_g_per_kwh * MG_PER_G))
    for one in new.factors:
        yield FactorRow(one.country, one.year, int(one.co2e_g_per_kwh * MG_PER_G))


async def add_shipped(store: Co2Store, connection: Transaction, now: datetime) -> None:
    """Store version 1, where there is none."""
    await store.add(connection, 1, shipped(), rows_of(shipped()), (now, SHIPPED_BY))
