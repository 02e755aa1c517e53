"""The declaration of the telemetry queries."""

from typing import Final

from api.telemetry.components import TelemetryComponents, open_telemetry
from api.telemetry.ledger_probe import EVERY_S
from api.telemetry.routes import router
from api.telemetry.settings import TelemetrySettings
from kit.service import Job, Service
from schemas.topics import TELEMETRY_GENERATED

SERVICE: Final = Service(
    name="telemetry",
    summary="operators' queries of telemetry: history, statuses, live view, ledger of readings, quarantine",
    open=open_telemetry,
    components=TelemetryComponents,
    router=router,
    schema="telemetry",  # the worker's, which owns its migrations
    writes=False,
    reads=("stations.station_overview", "telemetry.release_unclaimed(bigint[], uuid, text, text, bytea)"),
    publishes=(TELEMETRY_GENERATED,),
    jobs=(Job("look at the ledgers", lambda telemetry: telemetry.probe.look(), EVERY_S),),
    settings=TelemetrySettings,
    streaming_responses=lambda own: own.streams,
    backends=frozenset({"live"}),
)
