"""The declaration of the audit service. The schema is of every process that takes requests: kit/audit."""

from typing import Final

from api.audit.components import Audit, open_audit
from api.audit.routes import router
from api.audit.settings import AuditSettings
from kit.audit.entry import COUNT_TELEMETRY, RECORD, RECORD_BATCH
from kit.service import Contract, Job, Service

SEAL_EVERY_S: Final = 10.0


async def _seal(audit: Audit) -> None:
    await audit.sealer.run()


async def _forget(audit: Audit) -> None:
    await audit.retention.run()


SERVICE: Final = Service(
    name="audit",
    summary="who did what: entries, the chain that seals them, and how long they are kept",
    open=open_audit,
    components=Audit,
    router=router,
    schema="audit",
    by_functions=True,
    contracts=(
        Contract(RECORD, "adds entries, in the transaction of what they are about; every service may"),
        Contract(RECORD_BATCH, "adds entries of a process's requests; a batch that is sent again, once"),
        Contract(COUNT_TELEMETRY, "adds the requests with readings of a minute, by token"),
    ),
    jobs=(Job("entries into blocks", _seal, SEAL_EVERY_S), Job("entries past retention", _forget)),
    settings=AuditSettings,
)
