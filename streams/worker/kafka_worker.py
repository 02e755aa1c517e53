"""The worker of the distributed run: Faust as a member of the consumer group and as dispatcher, and nothing else of it.

A lane a partition collects frames and flushes them, side by side with the others; Faust's one agent only hands events
to the lanes. Known traps of faust-streaming 0.15.3, and what is done about each:

- Tables, windows, `take` and transactions lose or double-count: none is used. The state is in the store.
- Whatever is raised inside the agent kills it: nothing is. What a lane cannot mend ends the app, and a new one starts.
- Offsets may be committed past a message under way unless there is one agent and acks come in order: both is so.
- A seek at assignment is overwritten: offsets below the store's `next` are dropped instead.
- Events of a former assignment may still arrive after a rebalance: an offset beyond `next` makes the lane read again.
- What is read again after a seek may be dropped, where an event from beyond was just being handed over: the lane seeks
  anew until what is missing has come, whether or not another event comes.
"""

import asyncio
import logging
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import faust
from faust.types import TP

from kit.errors import KitError, Unavailable
from kit.observability.logs import get_logger
from kit.retry import reconnect_pauses_s
from streams.errors import Gap, LogReplaced, StreamsError
from streams.worker.maintenance import maintain_regularly
from streams.worker.processor import Processor, Worker

IDLE_S: Final = 0.5  # how often a lane without work looks whether time has brought any
REREAD_S: Final = 5.0  # a seek that has brought nothing after this long was lost: seek again
STREAM_EVENTS_MAX: Final = 64  # handed over and not taken by a lane: 64 frames of 64 kB to 1 MB
COMMIT_INTERVAL_S: Final = 1.0  # of offsets to Kafka, which are only a hint where to begin
SESSION_TIMEOUT_S: Final = 10.0  # a worker that is silent for this long is gone
HEARTBEAT_S: Final = 3.0  # a third of it, as Kafka's manual advises
REBALANCE_S_MAX: Final = 20.0  # for a worker to let go of its partitions, twice RELEASE_S_MAX; then the others go on
STOP_S_MAX: Final = 15.0  # for Faust to end; its consumer thread was seen not to
STEADY_S: Final = 60.0  # an app that ran for this long did not end for the reason that the one before it did
GROUP: Final = "voltstream-streams"

_log = get_logger(__name__)
Event = Any  # faust.types.EventT of bytes; faust's stubs know no raw values


@dataclass(frozen=True, slots=True)
class KafkaSource:
    """Where the frames are."""

    servers: str  # host:port[,host:port]
    topic: str
    data_dir: Path  # Faust wants a folder, though nothing is kept in it
    group: str = GROUP


class PartitionWorker:
    """One assigned partition: a processor, and the events whose frames it holds."""

    def __init__(self, tp: TP, worker: Worker, app: faust.App, failed: "asyncio.Future[None]") -> None:
        self._tp = tp
        self._worker = worker
        self._app = app
        self._failed = failed
        self._processor = Processor(tp.partition, worker)
        self._events: deque[tuple[Any, Event]] = deque()  # with the stream that wants the ack
        self._ready = asyncio.Event()
        self._changed = asyncio.Event()  # something was offered
        self._room = asyncio.Event()
        self._gap: Gap | None = None  # the log is to be read again, and what is missing has not come yet
        self._reread_at_s = -float("inf")
        self._closed = False
        self._task = asyncio.create_task(self._guarded(), name=f"lane {tp.partition}")

    async def take(self, stream: Any, event: Event) -> None:
        """Have the event's frame processed; wait while as much is collected as may be."""
        await self._ready.wait()
        while self._processor.full and not self._closed:
            self._room.clear()
            await self._room.wait()
        if self._closed:
            return
        offset = event.message.offset
        if offset < self._processor.next:
            await stream.ack(event)  # committed before; Kafka's own offset only lags
            return
        try:
            offered = self._processor.offer(offset, event.message.value or b"")
        except Gap as gap:
            self._gap = gap
            await self._reread(gap)
            return
        if offered:
            self._gap, self._reread_at_s = None, -float("inf")
            self._events.append((stream, event))
            self._changed.set()

    async def close(self) -> None:
        """Let go: a flush under way ends, everything else is forgotten and will be read by the next owner."""
        self._closed = True
        for waited_for in (self._ready, self._room):
            waited_for.set()
        self._task.cancel()
        await asyncio.wait((self._task,))
        await self._processor.release()
        self._events.clear()

    async def _guarded(self) -> None:
        try:
            await self._run()
        except Exception as error:
            if not self._failed.done():
                self._failed.set_exception(error)

    async def _run(self) -> None:
        await self._until_it_works(self._processor.acquire)
        self._ready.set()
        await self._processor.publish()
        while not self._closed:  # it is cancelled too, which a library may lose
            self._changed.clear()
            due_s = self._processor.due_in_s(ticks=self._caught_up())
            if self._gap is not None:
                await self._reread(self._gap)
            if due_s == 0.0:
                await self._until_it_works(self._processor.flush)
                await self._acknowledge()
                self._room.set()
            if due_s == 0.0 or self._processor.publish_in_s() == 0.0:
                await self._processor.publish()
                continue
            moments_s = [IDLE_S, *(s for s in (due_s, self._processor.publish_in_s()) if s is not None)]
            with suppress(TimeoutError):
                async with asyncio.timeout(min(moments_s)):
                    await self._changed.wait()

    async def _until_it_works(self, work: Any) -> None:
        for pause_s in reconnect_pauses_s():
            try:
                await work()
                return
            except StreamsError:
                raise  # Fenced: only the group can say whose the partition is, so ask it again
            except KitError as error:
                _log.warning("store_unavailable", partition=self._tp.partition, error=str(error), pause_s=pause_s)
            except Exception:
                _log.exception("worker_fault", partition=self._tp.partition, pause_s=pause_s)
            await asyncio.sleep(pause_s)

    async def _acknowledge(self) -> None:
        while self._events and self._events[0][1].message.offset < self._processor.next:
            stream, event = self._events.popleft()
            await stream.ack(event)

    def _caught_up(self) -> bool:
        """Whether the log holds nothing that is not read. Raises LogReplaced."""
        end = self._log_end()
        if end is None:
            return False
        self._worker.metrics.log_end_offset.labels(str(self._tp.partition)).set(end)
        if end < self._processor.next:
            raise LogReplaced(
                f"partition {self._tp.partition}: the topic ends at offset {end}, the store has committed up to "
                f"{self._processor.next}. The topic was made anew, or the database belongs to another one"
            )
        return end <= self._processor.expected

    def _log_end(self) -> int | None:
        """As the last fetch saw it; None before the first."""
        try:
            end: int | None = self._app.consumer.highwater(self._tp)
        except Exception:  # aiokafka: not assigned (any more); the rebalance will tell us
            return None
        return end

    async def _reread(self, gap: Gap) -> None:
        """Have the log read again from where the store is, unless that was asked for a moment ago."""
        now_s = self._worker.clock.monotonic_s()
        if now_s - self._reread_at_s < REREAD_S:
            return
        self._reread_at_s = now_s
        earliest = (await self._app.consumer.earliest_offsets(self._tp)).get(self._tp, 0)
        if self._closed:
            return
        if earliest > self._processor.expected and not self._processor.waiting:
            self._processor.skip_to(earliest)  # deleted before it was read: said loudly, and counted
        wanted = self._processor.expected
        _log.warning("offset_gap", partition=self._tp.partition, wanted=wanted, got=gap.got, earliest=earliest)
        await self._app.consumer.seek(self._tp, wanted)


class KafkaWorker:
    """A member of the consumer group, until stopped; starts anew whenever Kafka or the group forces it to."""

    def __init__(self, source: KafkaSource, worker: Worker, *, retention_days: int = 0) -> None:
        """`retention_days`: raw readings older than that are dropped; 0: never."""
        self._source = source
        self._worker = worker
        self._retention_days = retention_days
        self._lanes: dict[int, PartitionWorker] = {}
        self._stopping = asyncio.Event()
        self._failed: asyncio.Future[None] | None = None

    @property
    def partitions(self) -> list[int]:
        """Those assigned now."""
        return sorted(self._lanes)

    async def run(self) -> None:
        """Work until `stop`."""
        upkeep = asyncio.create_task(maintain_regularly(self._worker, self._retention_days))
        try:
            while not self._stopping.is_set():
                for pause_s in reconnect_pauses_s():
                    steady = await self._once()
                    await self._pause(pause_s)
                    if steady or self._stopping.is_set():
                        break
        finally:
            upkeep.cancel()
            await asyncio.gather(upkeep, return_exceptions=True)

    def stop(self) -> None:
        """Leave the group; `run` returns when that is done."""
        self._stopping.set()

    async def _once(self) -> bool:
        """One life of a Faust app, to its end. Whether it was a long one: then the pauses begin small again."""
        loop = asyncio.get_running_loop()
        failed = self._failed = loop.create_future()
        failed.add_done_callback(_seen)
        app = make_app(self._source)
        app.agent(app.topic(self._source.topic, **_RAW), concurrency=1)(self._dispatch)
        # Faust's stubs want a receiver that takes anything by position.
        app.on_partitions_assigned.connect(self._assigned, weak=False)  # type: ignore[arg-type]  # as above
        app.on_partitions_revoked.connect(self._revoked, weak=False)  # type: ignore[arg-type]  # as above
        self._app = app
        waiting = [loop.create_task(self._stopping.wait()), failed]
        started_s = self._worker.clock.monotonic_s()
        try:
            app.finalize()
            await app.start()
            crashed = loop.create_task(app.wait_until_stopped())
            waiting.append(crashed)
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if failed.done():
                failed.result()
            if not self._stopping.is_set():
                raise Unavailable(f"Kafka: {app.crash_reason!r}")
        except Exception as error:
            _log.warning("worker_restarts", error=f"{type(error).__name__}: {error}")
        finally:
            for one in waiting:
                one.cancel()
            await self._end(app)
        return self._worker.clock.monotonic_s() - started_s > STEADY_S

    async def _end(self, app: faust.App) -> None:
        await asyncio.gather(*(lane.close() for lane in self._lanes.values()))
        self._lanes.clear()
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
        """The agent. Never raises: an exception would end it for good."""
        async for event in stream.noack().events():
            lane = self._lanes.get(event.message.partition)
            if lane is None:
                continue  # of an assignment that is over
            try:
                await lane.take(stream, event)
            except Exception as error:
                if self._failed is not None and not self._failed.done():
                    self._failed.set_exception(error)

    async def _assigned(self, _app: Any, assigned: set[TP], **_: Any) -> None:
        await self._let_go(set(self._lanes))
        for tp in sorted(assigned):
            if tp.topic == self._source.topic and self._failed is not None:
                self._lanes[tp.partition] = PartitionWorker(tp, self._worker, self._app, self._failed)
        _log.info("partitions_assigned", partitions=self.partitions)

    async def _revoked(self, _app: Any, revoked: set[TP], **_: Any) -> None:
        await self._let_go({tp.partition for tp in revoked if tp.topic == self._source.topic})

    async def _let_go(self, partitions: set[int]) -> None:
        lanes = [self._lanes.pop(partition) for partition in partitions if partition in self._lanes]
        await asyncio.gather(*(lane.close() for lane in lanes))


_RAW: Final[dict[str, Any]] = {
    "key_serializer": "raw",
    "value_serializer": "raw",
    "key_type": bytes,
    "value_type": bytes,
}


def make_app(source: KafkaSource) -> faust.App:
    """Faust without anything that this worker does not use."""
    for name in ("faust", "mode"):  # at info they log the start and stop of each of their thirty services
        logging.getLogger(name).setLevel(logging.WARNING)
    folder = source.data_dir / "faust"
    folder.mkdir(parents=True, exist_ok=True)
    servers = ";".join(f"aiokafka://{server.strip()}" for server in source.servers.split(","))
    return faust.App(
        source.group,
        broker=servers,
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
    )


def _seen(future: "asyncio.Future[None]") -> None:
    """Whoever stops does not look at it any more."""
    if not future.cancelled():
        future.exception()
