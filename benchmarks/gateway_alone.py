"""The gateway without a broker, as a process: `python -m benchmarks.gateway_alone`.

It is the whole gateway, on the in-process log, whose reader acknowledges at once. Prints {"url"} when it is ready, and
ends on SIGTERM.
"""

import asyncio
import json
import signal
import uuid
from collections.abc import Iterable
from typing import Final

import uvloop
from prometheus_client import CollectorRegistry

from ingest.declaration import Ingest
from ingest.settings import IngestSettings
from kit.auth.authenticator import Authenticator
from kit.auth.token_store import Principal, hash_of
from kit.clock import SystemClock
from kit.live.view import InProcessLive
from kit.log.partitioned_log import InProcessLog
from kit.memory_tuning import reduce_gc_frequency
from kit.observability.logs import setup_logging
from kit.settings import group_of
from kit.web.app import make_app, serve
from voltstream.settings import load_settings

TOKEN: Final = "vsd_" + "b" * 43
_RECORDS_MAX: Final = 1_000


class SingleTokenStore:
    """Stands in for the database's tokens: TOKEN is a device's, for all stations."""

    async def find(self, token_hash: bytes) -> Principal | None:
        """Return the principal of TOKEN."""
        return Principal("device", uuid.UUID(int=1), None) if token_hash == hash_of(TOKEN) else None

    def gone(self, token_hashes: Iterable[bytes]) -> set[bytes]:
        """None."""
        return set()

    async def record_use(self, token_ids: Iterable[object]) -> None:
        """Nobody asks when they were used."""


async def acknowledge(log: InProcessLog, partition: int) -> None:
    """Read the log and acknowledge every record at once."""
    log.start(partition, 0)
    while True:
        records = await log.read(partition, _RECORDS_MAX, timeout_s=60)
        if records:
            log.ack(partition, records[-1][0] + 1)


async def main() -> None:
    """Serve until SIGTERM."""
    settings, clock, registry = load_settings(), SystemClock(), CollectorRegistry()
    # Every turn of a load has a fleet of its own.
    limits = group_of(settings, IngestSettings).model_copy(update={"new_stations_per_hour_max": 0})
    app = make_app("benchmark", "0", registry=registry, clock=clock)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    app.state.authenticator = Authenticator(SingleTokenStore(), clock)  # type: ignore[arg-type]  # has the methods that it calls
    log = InProcessLog(records_max=settings.buffer_frames_max)
    tasks = [asyncio.create_task(acknowledge(log, partition)) for partition in range(settings.partitions)]
    ingest = Ingest(
        lambda: limits,
        settings.partitions,
        log=log,
        live=InProcessLive(),
        authenticator=app.state.authenticator,
        clock=clock,
        registry=registry,
        refusals=app.state.refusals,
    )
    app.include_router(ingest.router)
    ingest.start()
    async with serve(app, "127.0.0.1", 0) as server:
        reduce_gc_frequency()  # as every process of the product
        print(json.dumps({"url": server.url}), flush=True)
        await stop.wait()
    for task in tasks:
        task.cancel()


if __name__ == "__main__":
    setup_logging("benchmark", "warning")
    uvloop.run(main())
