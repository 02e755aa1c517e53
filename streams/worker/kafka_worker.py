"""The worker of the distributed run: Faust as a member of the consumer group and as dispatcher, and nothing else of it.

A `PartitionWorker` for each assigned partition collects frames and flushes them, side by side with the others; Faust's
one agent only hands events to them. What Faust and aiokafka do against that, and what is done about each, is in
docs/faust-and-pika.md.
"""

import asyncio
import logging
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import faust
from faust.auth import Credentials
from faust.types import TP

from kit.errors import Unavailable
from kit.log.consumer_group import GroupObserver, GroupView
from kit.log.kafka import client_options
from kit.observability.logs import get_logger
from kit.retry import reconnect_pauses_s
from kit.secrets.text import current
from kit.secrets.urls import changed_since, without_secrets
from streams.worker.maintenance import maintain_regularly
from streams.worker.partition_worker import PartitionWorker
from streams.worker.processor import WorkerContext

STREAM_EVENTS_MAX: Final = 64  # handed over by Faust and not taken by a partition: 64 frames of 64 kB to 1 MB
COMMIT_INTERVAL_S: Final = 1.0  # of offsets to Kafka, which are only a hint where to begin
SESSION_TIMEOUT_S: Final = 10.0  # a worker that is silent for this long is gone
HEARTBEAT_S: Final = 3.0  # a third of it, as Kafka's manual advises
REBALANCE_S_MAX: Final = 20.0  # for a worker to release its partitions, twice RELEASE_S_MAX; then the others go on
# Faust does not poll while no partition is assigned, or while the store is away; neither may cost the membership.
POLL_PAUSE_S_MAX: Final = 1e9
LOOK_S: Final = 2.0  # between looks at the group, two small requests each
STRANDED_S_MAX: Final = 5.0  # a settled group that leaves a partition unassigned stays so
STOP_S_MAX: Final = 15.0  # for Faust to end; its consumer thread was seen not to
STEADY_S: Final = 60.0  # an app that ran for this long did not end for the reason that the one before it did
GROUP: Final = "voltstream-streams"

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class KafkaSource:
    """Where the frames are."""

    servers: str = field(repr=False)  # as kit/log/kafka_url.py has it, maybe with a password
    topic: str
    data_dir: Path  # Faust wants a folder, though nothing is kept in it
    group: str = GROUP


class KafkaWorker:
    """A member of the consumer group, until stopped; joins again whenever Kafka or the group forces it to."""

    def __init__(self, source: KafkaSource, context: WorkerContext) -> None:
        self._source = source
        self._context = context
        self._assigned: dict[int, PartitionWorker] = {}
        self._stopping = asyncio.Event()
        self._failed: asyncio.Future[None] | None = None
        self._client_id = ""
        self._joined = False
        self._view: GroupView | None = None  # None: not known, or changing

    @property
    def partitions(self) -> list[int]:
        """Those assigned now."""
        return sorted(self._assigned)

    def check_ready(self) -> None:
        """Raises Unavailable where this worker has no partition, or its group leaves one unassigned."""
        fault = self._group_fault()
        if fault is not None:
            raise Unavailable(fault)
        if not self._assigned:
            raise Unavailable("no partition is assigned: Kafka is away, or there are more workers than partitions")

    async def run(self) -> None:
        """Work until `stop`."""
        upkeep = asyncio.create_task(maintain_regularly(self._context))
        try:
            while not self._stopping.is_set():
                for pause_s in reconnect_pauses_s():
                    steady = await self._run_app()
                    await self._pause(pause_s)
                    if steady or self._stopping.is_set():
                        break
        finally:
            upkeep.cancel()
            await asyncio.gather(upkeep, return_exceptions=True)

    def stop(self) -> None:
        """Leave the group; `run` returns when that is done."""
        self._stopping.set()

    async def _run_app(self) -> bool:
        """Run one Faust app until it ends. Whether it ran for long: then the pauses begin small again."""
        loop = asyncio.get_running_loop()
        failed = self._failed = loop.create_future()
        failed.add_done_callback(_mark_seen)
        self._client_id, self._joined, self._view = f"{self._source.group}-{uuid4().hex[:12]}", False, None
        try:
            used = current(self._source.servers)
            app = self._app = make_app(self._source, self._client_id)
        except Unavailable as error:
            _log.warning("worker_restarts", error=str(error))
            return False
        app.agent(app.topic(self._source.topic, **_RAW), concurrency=1)(self._dispatch)
        # Faust's stubs want a receiver that takes anything by position.
        app.on_partitions_assigned.connect(self._on_assigned, weak=False)  # type: ignore[arg-type]  # as above
        app.on_partitions_revoked.connect(self._on_revoked, weak=False)  # type: ignore[arg-type]  # as above
        watch = loop.create_task(self._watch_group(used))
        ends: list[asyncio.Future[Any]] = [loop.create_task(self._stopping.wait()), failed, watch]
        started_s = self._context.clock.monotonic_s()
        try:
            app.finalize()
            await app.start()
            ends.append(loop.create_task(app.wait_until_stopped()))
            done, _ = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            for end in done:
                end.result()
            if not self._stopping.is_set():
                raise Unavailable(f"Kafka: {app.crash_reason!r}")
        except Exception as error:
            said = without_secrets(f"{type(error).__name__}: {error}", self._source.servers)
            _log.warning("worker_restarts", error=said)
        finally:
            for end in ends:
                end.cancel()
            await asyncio.wait((watch,))
            await self._end(app)
        return self._context.clock.monotonic_s() - started_s > STEADY_S

    async def _end(self, app: faust.App) -> None:
        await self._release(set(self._assigned))
        try:
            async with asyncio.timeout(STOP_S_MAX):
                await app.stop()
        except Exception as error:  # it is given up either way; the group notices by the missing heartbeats
            _log.warning("faust_did_not_stop", error=f"{type(error).__name__}: {error}")

    async def _pause(self, pause_s: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(pause_s):
                await self._stopping.wait()

    async def _dispatch(self, stream: Any) -> None:
        """The agent. Never raises: Faust would go on with the next event, and commit past this one."""
        async for event in stream.noack().events():
            partition_worker = self._assigned.get(event.message.partition)
            if partition_worker is None:
                continue  # of an assignment that is over
            try:
                await partition_worker.take(stream, event)
            except Exception as error:
                if self._failed is not None and not self._failed.done():
                    self._failed.set_exception(error)

    async def _on_assigned(self, _app: Any, assigned: set[TP], **_: Any) -> None:
        await self._release(set(self._assigned))
        for tp in sorted(assigned):
            if tp.topic == self._source.topic and self._failed is not None:
                self._assigned[tp.partition] = PartitionWorker(tp, self._context, self._app, self._failed)
        self._joined, self._view = True, None
        _log.info("partitions_assigned", partitions=self.partitions)

    async def _on_revoked(self, _app: Any, revoked: set[TP], **_: Any) -> None:
        self._view = None
        await self._release({tp.partition for tp in revoked if tp.topic == self._source.topic})

    async def _release(self, partitions: set[int]) -> None:
        released = [self._assigned.pop(partition) for partition in partitions if partition in self._assigned]
        await asyncio.gather(*(partition_worker.close() for partition_worker in released))

    # -- the group as a whole ---------------------------------------------------------------------------------------

    async def _watch_group(self, used: str) -> None:
        """Look at the group until cancelled. Raises Unavailable where only a new app helps: the leader assigns what its
        own metadata show, even if they are empty, a consumer that has left joins again only after a poll, and Faust
        keeps the login that it was made with: that of `used`, Kafka's URL at that time."""
        observer = GroupObserver(self._source.servers, self._source.group, self._source.topic)
        stranded_at_s: float | None = None
        try:
            while True:
                await asyncio.sleep(LOOK_S)
                if changed_since(self._source.servers, used):
                    raise Unavailable("Kafka's URL has changed")
                self._view = await self._look(observer)
                stranded = self._stranded()
                now_s = self._context.clock.monotonic_s()
                if stranded is None:
                    stranded_at_s = None
                elif stranded_at_s is None:
                    stranded_at_s = now_s
                elif now_s - stranded_at_s >= STRANDED_S_MAX:
                    raise Unavailable(stranded)
        finally:
            await observer.close()

    async def _look(self, observer: GroupObserver) -> GroupView | None:
        try:
            return await observer.look()
        except Unavailable as error:
            _log.debug("group_not_seen", error=str(error))
        except Exception:  # a fault of looking is none of the work
            _log.exception("group_not_seen")
        return None

    def _stranded(self) -> str | None:
        """The fault that a new app may end; None before this app has joined, and while the group is changing."""
        view = self._view
        if view is None or not self._joined:
            return None
        if view.unassigned:
            return f"partitions {view.unassigned} of {self._source.topic} are assigned to no worker"
        if view.member(self._client_id) is None:
            return f"Kafka does not know this worker as a member of the group {self._source.group}"
        return None

    def _group_fault(self) -> str | None:
        """What is wrong with the group as it was last seen."""
        view = self._view
        if view is None:
            return None
        if not view.partitions:
            return f"Kafka does not know the topic {self._source.topic}"
        stranded = self._stranded()
        workers, partitions = len(view.members), len(view.partitions)
        if stranded is None and self._joined and not self._assigned and workers <= partitions:
            return f"no partition is assigned, though {workers} workers share {partitions} partitions"
        return stranded


_RAW: Final[dict[str, Any]] = {
    "key_serializer": "raw",
    "value_serializer": "raw",
    "key_type": bytes,
    "value_type": bytes,
}


def make_app(source: KafkaSource, client_id: str) -> faust.App:
    """Faust without anything that this worker does not use."""
    for name in ("faust", "mode"):  # at info they log the start and stop of each of their thirty services
        logging.getLogger(name).setLevel(logging.WARNING)
    folder = source.data_dir / "faust"
    folder.mkdir(parents=True, exist_ok=True)
    options = client_options(source.servers)
    return faust.App(
        source.group,
        broker=";".join(f"aiokafka://{server}" for server in options["bootstrap_servers"]),
        broker_credentials=_credentials(options),
        broker_client_id=client_id,
        store="memory://",
        datadir=folder,
        autodiscover=False,
        web_enabled=False,
        topic_allow_declare=False,
        topic_disable_leader=True,
        table_standby_replicas=0,
        stream_wait_empty=False,
        stream_buffer_maxsize=STREAM_EVENTS_MAX,
        consumer_auto_offset_reset="earliest",
        broker_commit_interval=COMMIT_INTERVAL_S,
        broker_session_timeout=SESSION_TIMEOUT_S,
        broker_heartbeat_interval=HEARTBEAT_S,
        broker_rebalance_timeout=REBALANCE_S_MAX,
        broker_max_poll_interval=POLL_PAUSE_S_MAX,
    )


def _credentials(options: Mapping[str, Any]) -> Credentials | None:
    """TLS and the login of aiokafka's options, as Faust has them."""
    if "ssl_context" not in options:
        return None
    if "sasl_mechanism" not in options:
        return faust.SSLCredentials(options["ssl_context"])
    return faust.SASLCredentials(
        username=options["sasl_plain_username"],
        password=options["sasl_plain_password"],
        mechanism=options["sasl_mechanism"],
        ssl_context=options["ssl_context"],
    )


def _mark_seen(future: "asyncio.Future[None]") -> None:
    """A worker that stops does not look at it any more."""
    if not future.cancelled():
        future.exception()
