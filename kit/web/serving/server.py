"""An HTTP server inside a running event loop: uvicorn without its signal handlers and its loop."""

import asyncio
import contextlib
import errno
import socket
from collections.abc import AsyncIterator, Generator, Sequence
from typing import Final, cast

import uvicorn
from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from kit.errors import ConfigError
from kit.web.serving.bounded_protocol import BoundedProtocol
from kit.web.serving.connections import ConnectionBounds, ConnectionLimits, ConnectionMetrics
from kit.web.serving.draining import make_no_more_connections
from kit.web.serving.protocol import protocol_of
from kit.web.serving.proxies import TrustedProxies

# Requests under way get this long at a stop: the longest a route waits is a broker's confirm (10 s by default).
_GRACE_S: Final = 12
# Chargers post every few seconds to a minute and should find their connection still open.
_KEEP_ALIVE_S: Final = 75
_BACKLOG: Final = 2_048  # connections that wait for accept, as uvicorn has it
_LOOK_S: Final = 0.05  # between looks at the connections of a server that was drained
_LIMITS: Final = ConnectionLimits()
_NO_PROXIES: Final = TrustedProxies()
# Of every response: it is what it says it is, and no page of others shows it in a frame. What else a page may do is
# said by a policy of its own (`kit.web.docs_pages`, NO_CONTENT): of two a browser enforces both.
_HEADERS: Final = (
    ("content-security-policy", "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; object-src 'none'"),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "no-referrer"),
)


class RunningServer:
    """A server that accepts requests."""

    def __init__(
        self, server: "_Server", tasks: Sequence[asyncio.Task[None]], host: str, port: int, bounds: ConnectionBounds
    ) -> None:
        """`tasks`: the server's, which ends with it, and those beside it."""
        self._server = server
        self.bounds = bounds  # of its connections
        self._tasks = tasks
        self.host = host
        self.port = port  # the actual one, also for port 0

    @property
    def url(self) -> str:
        """`http://127.0.0.1:8080`; the address of every interface is shown as the loopback address."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104  # compared, not bound
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

    async def wait(self) -> None:
        """Wait until the server has stopped, or what watches its connections. Raises the error that stopped it."""
        done, _ = await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
        done.pop().result()

    async def drain(self, drain_s: float) -> None:
        """Let clients go on to other servers, so that `stop` fails no request of theirs: for so long answer as ever,
        but each response is the last of its connection; then let nobody connect. 0 s: return at once.

        A proxy must know within `drain_s` that this server is not ready, or go on to another where it cannot connect,
        and must not keep idle connections for as long: between the end of one and its next request there is no order.
        """
        await self._server.drain(drain_s)

    async def stop(self) -> None:
        """Accept no new requests, finish those under way (12 s at most), end the others. A second call does nothing.

        Of a server that was drained, connections may bring a request until they were silent for as long as that was.
        """
        self._server.should_exit = True
        await self._tasks[0]
        for connection in list(self._server.server_state.connections):
            cast(BoundedProtocol, connection).transport.abort()  # uvicorn leaves those that its time was too short for
        await asyncio.sleep(0)  # asyncio closes their sockets in its next turn


@contextlib.asynccontextmanager
async def serve(
    app: FastAPI,
    host: str,
    port: int,
    limits: ConnectionLimits = _LIMITS,
    hosts: Sequence[str] = (),
    proxies: TrustedProxies = _NO_PROXIES,
) -> AsyncIterator[RunningServer]:
    """Serve `app` within the block, its lifespan included, to so many connections at once; port 0 takes a free one.
    `hosts`: the names by which clients may address it; none: by any. `proxies`: who may say where a request is from.

    Raises ConfigError where the address cannot be listened on, InvalidRouteRules, and what the app's lifespan raises.
    """
    listener = _listen(host, port)
    try:
        async with app.router.lifespan_context(app):
            bounds = ConnectionBounds(limits.resolved(), _metrics_of(app))
            server = _Server(config_of(app, bounds, hosts, proxies))
            sweeping = asyncio.create_task(bounds.run(), name=f"http-{port} bounds")
            task = asyncio.create_task(server.serve(sockets=[listener]), name=f"http-{port}")
            ready = asyncio.create_task(server.accepting.wait())
            await asyncio.wait((task, ready), return_when=asyncio.FIRST_COMPLETED)
            ready.cancel()
            running = RunningServer(server, (task, sweeping), host, listener.getsockname()[1], bounds)
            try:
                yield running
            finally:
                await running.stop()
                sweeping.cancel()
                await asyncio.wait((sweeping,))
    finally:
        listener.close()


def config_of(
    app: FastAPI, bounds: ConnectionBounds, hosts: Sequence[str] = (), proxies: TrustedProxies = _NO_PROXIES
) -> uvicorn.Config:
    """How uvicorn serves `app`, whose routes are complete, within these bounds. Raises InvalidRouteRules."""
    app.middleware_stack = app.middleware_stack or app.build_middleware_stack()  # finds routes without rules
    return uvicorn.Config(
        app,
        http=protocol_of(app, bounds, hosts, proxies),
        proxy_headers=False,  # uvicorn's own believes whoever is on this machine
        ws="none",
        lifespan="off",  # `serve` enters it: uvicorn would swallow its error and exit the process
        log_config=None,
        access_log=False,
        server_header=False,
        headers=list(_HEADERS),
        backlog=_BACKLOG,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=_GRACE_S,
    )


def _metrics_of(app: FastAPI) -> ConnectionMetrics:
    """Where make_app has made the app, those that its /metrics shows."""
    made: ConnectionMetrics | None = getattr(app.state, "connection_metrics", None)
    return made or ConnectionMetrics(CollectorRegistry())


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._protocol = cast(type[BoundedProtocol], config.http)  # see config_of
        self.accepting = asyncio.Event()
        self._listeners: list[socket.socket] = []
        self._drain_s = 0.0

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        self._listeners = sockets or []
        self.accepting.set()

    async def drain(self, drain_s: float) -> None:
        """See RunningServer."""
        if not drain_s:
            return
        self._protocol.begin_drain()
        for connection in self._connections():
            connection.drain()
        await asyncio.sleep(drain_s)
        await make_no_more_connections(self._listeners)
        for server in self.servers:
            server.close()
        self._drain_s = drain_s

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """See uvicorn: it closes connections without a request at once."""
        within_s = asyncio.get_running_loop().time() + self._drain_s
        while (now_s := asyncio.get_running_loop().time()) < within_s:
            if all(connection.silent_s(now_s) >= self._drain_s for connection in self._connections()):
                break
            await asyncio.sleep(_LOOK_S)
        await super().shutdown(sockets)

    def _connections(self) -> list[BoundedProtocol]:
        return [one for one in self.server_state.connections if isinstance(one, BoundedProtocol)]

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Signals are handled by the process, which may run more than this server."""
        yield


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except socket.gaierror as error:
        raise ConfigError(f"VOLTSTREAM_HOST={host}: is no address of this machine ({error.strerror})") from None
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        listener.close()
        raise _cannot_listen(host, port, error) from None
    listener.setblocking(False)
    return listener


def _cannot_listen(host: str, port: int, error: OSError) -> ConfigError:
    if error.errno == errno.EADDRINUSE:
        return ConfigError(f"VOLTSTREAM_PORT={port}: another program listens there; choose another port, or 0 for any")
    if error.errno == errno.EACCES:
        return ConfigError(f"VOLTSTREAM_PORT={port}: ports below 1024 are the system's; choose one above")
    return ConfigError(f"VOLTSTREAM_HOST={host}: cannot be listened on ({error.strerror})")
