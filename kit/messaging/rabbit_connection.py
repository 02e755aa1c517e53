"""A RabbitMQ connection that reconnects automatically: asyncio over pika.

`Rabbit` owns one connection. Its users register a `ConnectionListener`: `opened` is called with the connection after
every (re)connect, to declare what is needed and to open channels; `begin` once all of them have; `lost` when the
connection is lost. Any error of a channel ends the whole connection, so there is one way of failing and one way of
recovering. What pika does against that is in docs/faust-and-pika.md.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

from pika import SSLOptions, URLParameters
from pika.adapters.asyncio_connection import AsyncioConnection
from pika.channel import Channel as PikaChannel
from pika.exceptions import AMQPError

from kit.errors import ConfigError, Unavailable
from kit.observability.logs import get_logger
from kit.retry import reconnect_pauses_s
from kit.secrets.text import ca_file_of, is_from_file
from kit.secrets.urls import check_url, current_url, without_secrets, wrong_url
from kit.tls import client_context, refusal

CONNECT_TIMEOUT_S: Final = 10.0  # TCP, TLS and AMQP handshake; a broker on the other side of the world needs one second
RPC_TIMEOUT_S: Final = 10.0  # one declaration; a quorum queue is elected within one
HEARTBEAT_S: Final = 30  # a silent peer is noticed within 60 s; a dead process at once, by its closed socket
CLOSE_TIMEOUT_S: Final = 5.0  # for the broker's close-ok
RECEIVE_BYTES: Final = 256 * 1024  # one recv; pika's own 4 kB make a 100 kB frame 25 system calls and as many copies
SEND_BYTES: Final = 64 * 1024  # one send, at least, while there is as much: copying them costs a tenth of a system call

_SETTING: Final = "VOLTSTREAM_RABBITMQ_URL"

_log = get_logger(__name__)
logging.getLogger("pika").setLevel(logging.CRITICAL)  # it logs a failed attempt as seven errors; ours is one


T = TypeVar("T")


class ConnectionListener:
    """What a user of a connection does when its state changes. Override what is needed."""

    async def opened(self, connection: "Connection") -> None:
        """Declare and open what is needed. Raising Unavailable means: not usable, reconnect."""

    async def begin(self) -> None:
        """Begin to consume: everything is declared. Raises as `opened`. Whoever consumes before that lets those that
        are still to declare wait behind what is delivered; with a backlog for minutes."""

    def lost(self, error: Unavailable) -> None:
        """The connection is lost; nothing opened on it works any more."""

    def unblocked(self) -> None:
        """The broker, which had blocked the connection, reads from it again."""


class Channel:
    """One open channel."""

    def __init__(self, raw: PikaChannel, lost: "asyncio.Future[Unavailable]", declared: set[str]) -> None:
        """`declared`: on its connection, by `once`."""
        self.raw = raw
        self._lost = lost
        self._declared = declared

    @property
    def is_open(self) -> bool:
        """Whether it can still be written to."""
        return bool(self.raw.is_open) and not self._lost.done()

    async def call(self, method: Callable[..., Any], **arguments: Any) -> Any:
        """Call a pika channel method that answers by callback. Raises Unavailable, also on a refusal."""
        done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        try:
            method(callback=partial(_resolve, done), **arguments)
        except AMQPError as error:
            raise Unavailable(f"RabbitMQ: {error!r}") from error
        await asyncio.wait((done, self._lost), timeout=RPC_TIMEOUT_S, return_when=asyncio.FIRST_COMPLETED)
        if done.done():
            return done.result()
        if self._lost.done():
            raise self._lost.result()
        raise Unavailable(f"RabbitMQ did not answer {method.__name__} within {RPC_TIMEOUT_S} s")

    async def once(self, what: str, declare: "Callable[[Channel], Awaitable[None]]") -> None:
        """Declare what many share, unless it was on this connection."""
        if what not in self._declared:
            await declare(self)
            self._declared.add(what)

    async def declare_exchange(self, name: str, kind: str) -> None:
        """A durable exchange."""
        await self.call(self.raw.exchange_declare, exchange=name, exchange_type=kind, durable=True)

    async def declare_queue(self, name: str, arguments: Mapping[str, Any]) -> None:
        """A durable quorum queue with further x-arguments. Raises Unavailable where it exists with others."""
        await self.call(
            self.raw.queue_declare, queue=name, durable=True, arguments={"x-queue-type": "quorum", **arguments}
        )

    async def bind(self, queue: str, exchange: str, routing_key: str) -> None:
        """Bind a queue to an exchange."""
        await self.call(self.raw.queue_bind, queue=queue, exchange=exchange, routing_key=routing_key)

    async def unbind(self, queue: str, exchange: str) -> None:
        """Take back a binding without routing key, where there is one."""
        await self.call(self.raw.queue_unbind, queue=queue, exchange=exchange, routing_key="")

    async def bind_exchange(self, to: str, source: str) -> None:
        """Have `source`, a fanout, pass on all it gets to the exchange `to`."""
        await self.call(self.raw.exchange_bind, destination=to, source=source, routing_key="")


class Connection:
    """An open connection, until it is lost."""

    def __init__(self, raw: AsyncioConnection, lost: "asyncio.Future[Unavailable]") -> None:
        self.raw = raw
        self.lost = lost
        self._channels: list[PikaChannel] = []
        self._declared: set[str] = set()

    async def channel(self) -> Channel:
        """Open a channel. Its unexpected end ends the connection."""
        if self.lost.done():
            raise self.lost.result()
        opened: asyncio.Future[PikaChannel] = asyncio.get_running_loop().create_future()
        try:
            raw = self.raw.channel(on_open_callback=partial(_resolve, opened))
        except AMQPError as error:  # it is closed, and has not said so yet
            raise Unavailable(f"RabbitMQ: {error!r}") from error
        raw.add_on_close_callback(self._channel_closed)
        self._channels.append(raw)
        await asyncio.wait((opened, self.lost), timeout=RPC_TIMEOUT_S, return_when=asyncio.FIRST_COMPLETED)
        if self.lost.done():
            raise self.lost.result()
        if not opened.done():
            raise Unavailable(f"RabbitMQ opened no channel within {RPC_TIMEOUT_S} s")
        return Channel(raw, self.lost, self._declared)

    def fail(self, error: Unavailable) -> None:
        """Have this connection dropped and another made."""
        _resolve(self.lost, error)

    def _channel_closed(self, _channel: PikaChannel, reason: Exception) -> None:
        self.fail(Unavailable(f"RabbitMQ closed a channel: {reason}"))

    async def close(self) -> None:
        """Close and wait, bounded."""
        closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self.raw.is_closed:
            return
        self.raw.add_on_close_callback(lambda *_: _resolve(closed, None))
        # pika cancels the consumers before it closes a channel. A queue with a single active consumer then delivers to
        # the next consumer before the unanswered messages are back in their place: out of order.
        for channel in self._channels:
            channel._consumers.clear()
        if self.raw.is_open:
            self.raw.close()
        await asyncio.wait((closed,), timeout=CLOSE_TIMEOUT_S)


class Rabbit:
    """A connection that is made again whenever it is lost, with exponential backoff, until closed."""

    def __init__(self, url: str, *, name: str) -> None:
        """`name` shows in the broker's list of connections. Raises ConfigError for an invalid URL; of one from a file,
        Unavailable."""
        parameters = rabbit_parameters(url)
        self._url = url
        self.address = f"{parameters.host}:{parameters.port}"  # without the password: for logs
        self.name = name
        self.blocked = False  # the broker has a memory or disk alarm and reads nothing that is published
        self._listeners: list[ConnectionListener] = []
        self._ready = asyncio.Event()
        self._error = "not connected yet"
        self._connection: Connection | None = None
        self._task: asyncio.Task[None] | None = None

    def add(self, listener: ConnectionListener) -> None:
        """Register before `start`. Listeners are opened in the order of registration."""
        self._listeners.append(listener)

    def start(self) -> None:
        """Begin to connect."""
        self._task = asyncio.create_task(self._keep_up(), name=f"rabbit {self.name}")

    @property
    def ready(self) -> bool:
        """Whether it is connected and everything is declared."""
        return self._ready.is_set()

    async def wait_ready(self, timeout_s: float) -> None:
        """Wait until it is. Raises Unavailable with the last error."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._ready.wait()
        except TimeoutError:
            raise Unavailable(f"RabbitMQ at {self.address} is not ready after {timeout_s} s: {self._error}") from None

    async def close(self) -> None:
        """Disconnect. What is unconfirmed fails."""
        if self._task is None:
            return
        self._task.cancel()
        await asyncio.wait((self._task,))
        if not self._task.cancelled() and (error := self._task.exception()):
            raise error

    async def open(self, listener: ConnectionListener, timeout_s: float) -> None:
        """Register while running, and return once the listener has begun. Raises Unavailable: it is not registered."""
        self._listeners.append(listener)
        try:
            if self._connection is not None:
                await listener.opened(self._connection)
                await listener.begin()
            else:
                await self.wait_ready(timeout_s)
        except BaseException:
            self._listeners.remove(listener)
            raise

    async def _keep_up(self) -> None:
        pauses = reconnect_pauses_s()
        while True:
            try:
                connection = await self._connect()
                try:
                    for listener in self._listeners:  # may grow meanwhile
                        await listener.opened(connection)
                    self._connection = connection  # who is added from now on begins in `open`
                    await asyncio.gather(*(listener.begin() for listener in self._listeners))
                    pauses = reconnect_pauses_s()
                    self._ready.set()
                    _log.info("rabbitmq_connected", connection=self.name, address=self.address)
                    await asyncio.wait((connection.lost,))
                    error = connection.lost.result()
                finally:
                    await self._drop(connection)
            except Unavailable as unavailable:
                error = unavailable
            except Exception as fault:  # of any kind: without this task nothing is published or consumed any more
                _log.exception("rabbitmq_failed", connection=self.name, address=self.address)
                error = Unavailable(f"RabbitMQ at {self.address}: {fault!r}")
            self._error = str(error)
            _log.warning("rabbitmq_lost", connection=self.name, address=self.address, error=str(error))
            await asyncio.sleep(next(pauses))

    async def _drop(self, connection: Connection) -> None:
        self._ready.clear()
        self._connection = None
        self.blocked = False
        gone = connection.lost.result() if connection.lost.done() else Unavailable("the RabbitMQ connection is closed")
        _resolve(connection.lost, gone)
        for listener in list(self._listeners):
            listener.lost(gone)
        await connection.close()

    async def _connect(self) -> Connection:
        loop = asyncio.get_running_loop()
        lost: asyncio.Future[Unavailable] = loop.create_future()
        opened: asyncio.Future[None] = loop.create_future()

        def on_open(_: Any) -> None:
            opened.set_result(None)

        def on_closed(_: Any, reason: BaseException) -> None:
            said = without_secrets(_reason(reason), self._url)
            _resolve(lost, Unavailable(f"RabbitMQ at {self.address}: {said}"))

        own = is_from_file(self._url)
        parameters = await asyncio.to_thread(self._parameters) if own else self._parameters()
        raw = AsyncioConnection(parameters, on_open, on_closed, on_closed, custom_ioloop=loop)
        raw.add_on_connection_blocked_callback(lambda *_: self._set_blocked(True))
        raw.add_on_connection_unblocked_callback(lambda *_: self._set_blocked(False))
        try:
            await asyncio.wait((opened, lost), return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            if not raw.is_closed and not raw.is_closing:
                raw.close()
                await asyncio.wait((lost,), timeout=CLOSE_TIMEOUT_S)
            raise
        if lost.done():
            raise lost.result()
        _receive_more_at_once(raw)
        _send_more_at_once(raw)
        return Connection(raw, lost)

    def _parameters(self) -> URLParameters:
        """As the URL's file has it now. Raises Unavailable where that is no URL, and where the CAs' file is gone."""
        try:
            parameters = rabbit_parameters(current_url(self._url, _SETTING))
        except ConfigError as error:  # it was right when the process began
            raise Unavailable(str(error)) from None
        parameters.client_properties = {"connection_name": self.name}
        return parameters

    def _set_blocked(self, blocked: bool) -> None:
        self.blocked = blocked
        if blocked:
            _log.error("rabbitmq_blocked", reason="memory or disk alarm", connection=self.name)
        else:
            _log.info("rabbitmq_unblocked", connection=self.name)
            for listener in list(self._listeners):
                listener.unblocked()


def rabbit_parameters(url: str) -> URLParameters:
    """pika's parameters of a URL; of amqps:// the certificate is verified, chain and host name, unless its own
    `ssl_options` say otherwise. Raises ConfigError; of a URL from a file, Unavailable."""
    try:
        check_url(url)
        if urlsplit(url).scheme not in ("amqp", "amqps"):
            raise ValueError("begin it with amqp:// or amqps://, as in amqp://user:password@host:5672/")
        parameters = URLParameters(url)
        if parameters.ssl_options is not None and "ssl_options=" not in url:
            parameters.ssl_options = SSLOptions(client_context(ca_file_of(url)), parameters.host)
    except (ValueError, TypeError, SyntaxError, AttributeError, OSError) as error:  # pika evaluates options as Python
        raise wrong_url(url, error, _SETTING) from None
    parameters.heartbeat = HEARTBEAT_S
    parameters.socket_timeout = CONNECT_TIMEOUT_S
    parameters.stack_timeout = CONNECT_TIMEOUT_S
    parameters.connection_attempts = 1  # `_keep_up` tries again, with other pauses
    return parameters


def _reason(error: BaseException) -> str:
    """The innermost error: pika wraps the cause of a failed connect in errors whose text is empty."""
    if why := refusal(error):
        return why
    while inner := getattr(error, "exceptions", None) or ([error.exception] if hasattr(error, "exception") else None):
        error = inner[-1]
    return f"{type(error).__name__}: {error}" if str(error) else repr(error)


def _receive_more_at_once(raw: AsyncioConnection) -> None:
    """pika has no setting for it; without the attribute nothing breaks, it is only slower."""
    transport: Any = getattr(raw, "_transport", None)
    if transport is not None and hasattr(transport, "_MAX_RECV_BYTES"):
        transport._MAX_RECV_BYTES = RECEIVE_BYTES
    if _is_plaintext(transport):
        transport._MAX_CONSUME_BYTES = 1  # one recv, not another one to learn that there is no more


def _send_more_at_once(raw: AsyncioConnection) -> None:
    """pika sends every piece that it has buffered by itself, which are three of each message, and one of each
    acknowledgement. Nor has it a setting for this. Over TLS it stays so: there a send is repeated as it was."""
    transport: Any = getattr(raw, "_transport", None)
    if not _is_plaintext(transport):
        return
    pieces: deque[bytes] = transport._tx_buffers
    produce = transport._produce

    def produce_joined() -> None:
        if len(pieces) > 1:
            joined = _joined(pieces)
            pieces.clear()
            pieces.extend(joined)
        produce()

    transport._produce = produce_joined


def _is_plaintext(transport: object) -> bool:
    """Whether it is pika's transport without TLS, and still has what is replaced in it."""
    known = all(hasattr(transport, name) for name in ("_tx_buffers", "_produce"))
    return known and type(transport).__name__ == "_AsyncPlaintextTransport"


def _joined(pieces: Iterable[bytes]) -> list[bytes]:
    """The same bytes in pieces of SEND_BYTES or a little more."""
    joined: list[bytes] = []
    group: list[bytes] = []
    size = 0
    for piece in pieces:
        group.append(piece)
        size += len(piece)
        if size >= SEND_BYTES:
            joined.append(b"".join(group))
            group, size = [], 0
    return [*joined, b"".join(group)] if group else joined


def _resolve(future: "asyncio.Future[T]", result: T) -> None:
    if not future.done():
        future.set_result(result)
