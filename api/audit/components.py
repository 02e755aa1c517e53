"""The parts of the audit service, opened for a process."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from api.audit.sealing import Retention, Sealer
from api.audit.service import AuditService
from api.audit.settings import AuditSettings
from api.audit.store import AuditStore
from kit.service import Context


@dataclass(frozen=True, slots=True)
class Audit:
    """The objects that handlers and jobs use."""

    service: AuditService
    sealer: Sealer
    retention: Retention


@asynccontextmanager
async def open_audit(context: Context) -> AsyncIterator[Audit]:
    """Open the components on the service's own connection pool."""
    store, config = AuditStore(context.database), context.config
    yield Audit(
        AuditService(store),
        Sealer(store, context.clock),
        Retention(store, lambda: config.group(AuditSettings)),
    )
