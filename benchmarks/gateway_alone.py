"""The gateway's server with a part left out, as a process: `python -m benchmarks.partial_gateway log|nothing`.

log: the whole gateway on the in-process log, whose reader acknowledges at once.
nothing: the same app factory, middleware and server; the route answers 202 and reads nothing.
Prints {"url"} when it is ready, and ends on SIGTERM.
"""

import asyncio
import json
import signal
import sys
import uuid
from collections.abc import Iterable
from typing import Final

import uvloop
from prometheus_client import CollectorRegistry
from starlette.types import Receive, Scope, Send

from ingest.admission import RefusedItem
from ingest.declaration import Ingest
from ingest.gateway import make_router
from ingest.settings import IngestSettings
from kit.auth.authenticator import Authenticator
from kit.auth.token_store import Principal, hash_of
from kit.clock import SystemClock
from kit.live.view import InProcessLive
from kit.log.partitioned_log import InProcessLog
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

    async def revoked(self, token_ids: Iterable[object]) -> set[object]:
        """None."""
        return set()


class EmptyHandler:
    """Stands in for the gateway: answers 202 and reads nothing."""

    async def handle(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        """Answer 202 at once."""
        await send_accepted(send, 0, [])


async def send_accepted(send: Send, accepted: int, _refused: list[RefusedItem]) -> None:
    """The gateway's response, byte for byte."""
    body = b'{"accepted":%d,"quarantined":[]}' % accepted
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 202, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def acknowledge(log: InProcessLog, partition: int) -> None:
    """Read the log and acknowledge every record at once."""
    log.start(partition, 0)
    while True:
        records = await log.read(partition, _RECORDS_MAX, timeout_s=60)
        if records:
            log.ack(partition, records[-1][0] + 1)


async def main(kind: str) -> None:
    """Serve until SIGTERM."""
    settings, clock, registry = load_settings(), SystemClock(), CollectorRegistry()
    limits = group_of(settings, IngestSettings)
    app = make_app("benchmark", "0", registry=registry, clock=clock)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    app.state.authenticator = Authenticator(SingleTokenStore(), clock)  # type: ignore[arg-type]  # has the methods that it calls
    tasks: list[asyncio.Task[None]] = []
    if kind == "nothing":
        app.include_router(make_router(EmptyHandler(), limits.body_bytes_max))  # type: ignore[arg-type]  # has `handle`, all that is called
    else:
        log = InProcessLog(records_max=settings.buffer_frames_max)
        tasks = [asyncio.create_task(acknowledge(log, partition)) for partition in range(settings.partitions)]
        ingest = Ingest(
            limits,
            settings.partitions,
            log=log,
            live=InProcessLive(),
            authenticator=app.state.authenticator,
            clock=clock,
            registry=registry,
        )
        app.include_router(ingest.router)
        ingest.start()
    async with serve(app, "127.0.0.1", 0) as server:
        print(json.dumps({"url": server.url}), flush=True)
        await stop.wait()
    for task in tasks:
        task.cancel()


if __name__ == "__main__":
    setup_logging("benchmark", "warning")
    uvloop.run(main(sys.argv[1]))
