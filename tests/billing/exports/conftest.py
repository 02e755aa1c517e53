"""Exports, served on billing that are filled by events or by SQL."""

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import psycopg
import pytest

from schemas.events import SessionAssigned
from tests.billing.exports.registry import register_whole
from tests.billing.making import START, session
from tests.billing.running import RunningBilling
from tests.billing.serving import Service

EXPORT = "/api/v1/billing/export"


@dataclass
class Office:
    """A running server of exports."""

    billing: RunningBilling
    client: httpx.AsyncClient
    tokens: dict[str, str]  # finance, operator, device, ann and bob

    async def ask(self, path: str, expected: int = 200, who: str = "finance", **params: Any) -> httpx.Response:
        """The answer, after a look at its status. `start` and `end` are asked for as from and to."""
        names = {"start": "from", "end": "to"}
        asked = {names.get(name, name): value for name, value in params.items()}
        headers = {"Authorization": f"Bearer {self.tokens[who]}"}
        answer = await self.client.get(path, params=asked, headers=headers)
        assert answer.status_code == expected, answer.text
        return answer


STATIONS = ("NL-0", "NL-1", "NL-2")


@pytest.fixture
def billing_url(billing_url: str) -> str:
    """Where STATIONS are registered, whole, with connector 1."""
    register_whole(billing_url, STATIONS)
    return billing_url


@pytest.fixture
async def office(service: Service) -> Office:
    """Served."""
    return Office(service.billing, service.client, service.tokens)


async def fill(billing: RunningBilling, count: int = 12) -> None:
    """Sessions of several stations and drivers; some corrected by late readings, some with texts that bite."""
    texts = ('=HYPERLINK("http://x")', "+1", "-1", "@a", 'quo"te, comma', "ann", "\uff1d1", "ü\u2028x")
    for number in range(count):
        start = START + timedelta(minutes=number)
        first = session(start=start, energy_mwh=1_000_000 * number + 7, station_id=f"NL-{number % 3}")
        if number % 4 != 3:
            driver = texts[number % len(texts)]
            await billing.deliver(
                SessionAssigned(
                    session_id=first.id, request_id=uuid4(), driver_id=driver, reservation_id=None, revision=1
                )
            )
        await billing.deliver(first)
        billing.clock.advance(60)
        if number % 5 == 0:
            late = session(
                first.id, revision=2, start=start, energy_mwh=1_000_000 * number + 99_000, station_id=first.station_id
            )
            await billing.deliver(late)


def add_many(billing: RunningBilling, count: int) -> None:
    """Invoices of one tariff and 1,000 stations, by SQL."""
    register_whole(billing.url, [f"NL-{number}" for number in range(1_000)])
    with psycopg.connect(billing.url) as connection:
        connection.execute((Path(__file__).parent / "many.sql").read_bytes(), {"many": count})
