"""The parts of the telemetry queries, opened for a process."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from api.telemetry.history.store import HistoryStore
from api.telemetry.ledger_probe import LedgerMetrics, LedgerProbe
from api.telemetry.live_streams import LiveStreams
from api.telemetry.release import Release
from api.telemetry.service import TelemetryService
from api.telemetry.settings import TelemetrySettings
from api.telemetry.store import TelemetryStore
from kit.lake.reader import LakeReader
from kit.service import Context


@dataclass(frozen=True, slots=True)
class TelemetryComponents:
    """The objects that handlers use."""

    service: TelemetryService
    release: Release
    streams: LiveStreams
    probe: LedgerProbe


@asynccontextmanager
async def open_telemetry(context: Context) -> AsyncIterator[TelemetryComponents]:
    """The queries on the service's own pool and the process's live view."""
    lake = LakeReader.at(context.group(TelemetrySettings).lake_url)
    store, histories = TelemetryStore(context.database), HistoryStore(context.database, lake)
    service = TelemetryService(store, histories, context.live, context.clock)
    probe = LedgerProbe(service, store, context.clock, LedgerMetrics(context.registry))
    config = context.config
    streams = LiveStreams(
        context.live,
        per_token_max=lambda: config.group(TelemetrySettings).streams_per_token_max,
        refusals=context.app.state.refusals,
    )
    try:
        yield TelemetryComponents(service, Release(store, context.clock), streams, probe)
    finally:
        await streams.close()
