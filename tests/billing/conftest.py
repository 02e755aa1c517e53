"""Fixtures of billing's tests."""

from collections.abc import AsyncIterator

import pytest

from tests.billing.books import Books, open_books, prepare
from tests.billing.serving import Service, served


@pytest.fixture
def billing_url(database_url: str) -> str:
    """A database with billing's tables and role."""
    prepare(database_url)
    return database_url


@pytest.fixture
async def books(billing_url: str) -> AsyncIterator[Books]:
    """Billing, listening on a bus in the process."""
    async with open_books(billing_url) as opened:
        yield opened


@pytest.fixture
async def service(books: Books) -> AsyncIterator[Service]:
    """Billing, listening and served."""
    async with served(books) as running:
        yield running
