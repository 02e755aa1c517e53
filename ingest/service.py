"""Composes ingestion (gateway, telemetry consumer, framer, ledger reporter) into one object to start and close."""

import secrets

from fastapi import APIRouter
from prometheus_client import CollectorRegistry

from ingest.admission import AdmissionRules
from ingest.framing import Framer
from ingest.gateway import Gateway, Limits, make_router
from ingest.ledger import LedgerReporter
from ingest.metrics import IngestMetrics
from ingest.settings import IngestSettings
from ingest.telemetry_consumer import TelemetryConsumer
from kit.auth.authenticator import Authenticator
from kit.clock import Clock
from kit.live.view import LiveView
from kit.log.partitioned_log import LogWriter
from kit.messaging.bus import Message

_MS_PER_DAY = 86_400_000


class Ingest:
    """One run of one gateway. Created inside a running event loop; does not close log, bus or live view."""

    def __init__(
        self,
        settings: IngestSettings,
        partitions: int,
        *,
        log: LogWriter,
        live: LiveView,
        authenticator: Authenticator,
        clock: Clock,
        registry: CollectorRegistry,
    ) -> None:
        self.source = secrets.token_hex(8)
        self._clock = clock
        self._limits = Limits(
            body_bytes_max=settings.body_bytes_max,
            inflated_bytes_max=settings.inflated_bytes_max,
            readings_max=settings.readings_per_request_max,
            age_ms_max=settings.age_days_effective * _MS_PER_DAY,
            future_ms_max=settings.future_s_max * 1_000,
        )
        metrics = IngestMetrics(registry)
        self._reporter = LedgerReporter(live, self.source)
        self._framer = Framer(
            log,
            source=self.source,
            partitions=partitions,
            linger_ms=settings.linger_ms,
            clock=clock,
            metrics=metrics,
            on_durable=self._reporter.note,
        )
        self._telemetry_consumer = TelemetryConsumer(self._framer, self._rules, metrics)
        self.router: APIRouter = make_router(
            Gateway(self._framer, authenticator, clock, self._limits, metrics), self._limits.body_bytes_max
        )

    def start(self) -> None:
        """Start accepting readings."""
        self._reporter.start()
        self._framer.start()

    async def receive(self, message: Message) -> None:
        """Accept a telemetry.generated.v1 event. See TelemetryConsumer.handle."""
        await self._telemetry_consumer.handle(message)

    async def close(self) -> None:
        """Accept nothing new; return when all that was accepted is durable or has failed."""
        await self._framer.close()
        await self._reporter.close()

    def _rules(self) -> AdmissionRules:
        limits = self._limits
        return AdmissionRules(self._clock.now_ms(), limits.age_ms_max, limits.future_ms_max, limits.readings_max)
