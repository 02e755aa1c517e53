"""The parts of the replay, opened for a process."""

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from prometheus_client import CollectorRegistry

from ingest.admission import AdmissionRules
from ingest.framing import Framer
from ingest.ledger import LedgerReporter
from ingest.metrics import IngestMetrics
from ingest.reingest.service import ReplayMetrics, ReplayService
from ingest.request_limits import limits_of
from ingest.settings import IngestSettings
from kit.database.postgres import Database
from kit.service import Context

SCHEMA: Final = "reingest"


@dataclass(frozen=True, slots=True)
class Reingest:
    """The objects that handlers use."""

    database: Database
    service: ReplayService


@asynccontextmanager
async def open_reingest(context: Context) -> AsyncIterator[Reingest]:
    """Accept items again within the block, as a source of frames of its own; at its end all that was accepted is
    durable or has failed."""
    config, clock = context.config, context.clock
    source = secrets.token_hex(8)
    reporter = LedgerReporter(context.live, source)
    framer = Framer(
        context.writer,
        source=source,
        partitions=context.settings.partitions,
        linger_ms=0,  # whoever asks has collected already
        clock=clock,
        metrics=IngestMetrics(CollectorRegistry()),  # those of the process are the gateway's
        on_durable=reporter.note,
    )

    def rules(stations: frozenset[str] | None) -> AdmissionRules:
        limits = limits_of(config.group(IngestSettings))
        return AdmissionRules(clock.now_ms(), limits.age_ms_max, limits.future_ms_max, limits.readings_max, stations)

    reporter.start()
    framer.start()
    try:
        yield Reingest(context.database, ReplayService(framer, rules, ReplayMetrics(context.registry)))
    finally:
        await framer.close()
        await reporter.close()
