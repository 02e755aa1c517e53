"""The operators' queries, put together: what a process that serves them mounts."""

from typing import Final

from fastapi import FastAPI

from api.telemetry.live_streams import LiveStreams
from api.telemetry.routes import TelemetryRoutes
from api.telemetry.service import TelemetryService
from api.telemetry.store import TelemetryStore
from kit.clock import Clock
from kit.database.postgres import Database, Grant
from kit.live.view import LiveView

ROLE: Final = "telemetry_reader"  # the one that streams/ makes with its tables
GRANT: Final = Grant(role=ROLE, schema="telemetry", write=False)


def mount_queries(app: FastAPI, database: Database, live: LiveView, clock: Clock) -> LiveStreams:
    """Add the queries of telemetry to `app`, whose `state.authenticator` says who asks. `database` works as ROLE.

    Close the streams that are returned before the HTTP server stops: it waits for them, and only that ends them.
    """
    streams = LiveStreams(live)
    app.include_router(TelemetryRoutes(TelemetryService(TelemetryStore(database), live, clock), streams).router())
    return streams
