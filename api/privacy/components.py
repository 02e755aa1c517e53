"""The parts of the privacy service, opened for a process."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from api.privacy.service import PrivacyService
from kit.service import Context

# The schemas of the services that hold data of drivers, by service.
SCHEMAS: Final = {
    "privacy": "privacy",
    "sessions": "sessions",
    "reservations": "reservations",
    "notifications": "notifications",
    "relay": "events",
    "billing": "billing",
}


@dataclass(frozen=True, slots=True)
class Privacy:
    """The objects that handlers use."""

    service: PrivacyService


@asynccontextmanager
async def open_privacy(context: Context) -> AsyncIterator[Privacy]:
    """Open the components on the service's own connection pool."""
    yield Privacy(PrivacyService(context.database, SCHEMAS, context.personal_data(), context.config, context.clock))
