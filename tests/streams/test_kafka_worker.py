"""The Kafka worker against a real Kafka and a real PostgreSQL: joining, leaving, dying, being fenced, and groups that
assign too little. Several tests cover a trap of docs/faust-and-pika.md."""

import asyncio
import contextlib
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.cluster import ClusterMetadata
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread
from faust.types import TP

from kit.errors import Unavailable
from kit.log.consumer_group import GroupObserver
from kit.log.kafka import client_options, ensure_topic
from streams.worker.kafka_worker import KafkaSource, KafkaWorker
from tests.streams.conftest import PARTITIONS
from tests.streams.faust_process import make_worker
from tests.streams.frames_and_effects import charging, frame_of
from tests.waiting import eventually

pytestmark = pytest.mark.usefixtures("processes")

WITHIN_S = 60.0


@dataclass
class Rig:
    """A topic, a group, a database, and the frames sent so far."""

    kafka: str
    url: str
    topic: str
    folder: Path
    producer: AIOKafkaProducer
    sent: int = 0

    async def send(self, frames: int) -> None:
        """To every partition."""
        for number in range(self.sent, self.sent + frames):
            for partition in range(PARTITIONS):
                frame = frame_of(partition, number, charging(f"S{partition}", number), f"{partition:016x}")
                await self.producer.send_and_wait(self.topic, frame, partition=partition)
        self.sent += frames

    def ask(self, query: str) -> list[tuple[int, ...]]:
        with psycopg.connect(self.url) as connection:
            return connection.execute(query.encode()).fetchall()

    async def all_stored(self) -> None:
        """Wait until everything sent is committed, once."""
        done = [(self.sent,)] * PARTITIONS
        await eventually(lambda: self.ask("SELECT next FROM telemetry.stream_offset") == done, WITHIN_S)
        rows = self.sent * 10
        per_station = self.ask("SELECT count(*), count(DISTINCT seq) FROM telemetry.reading GROUP BY connector_key")
        assert per_station == [(rows, rows)] * PARTITIONS
        assert self.ask("SELECT stored, duplicate FROM telemetry.ledger") == [(rows, 0)] * PARTITIONS
        # Windows may stay in the state until a later flush.
        in_windows = "SELECT sum(readings) FROM telemetry.window_1m"
        await eventually(lambda: self.ask(in_windows) == [(rows * PARTITIONS,)], WITHIN_S)

    @contextlib.asynccontextmanager
    async def worker(self) -> AsyncIterator[KafkaWorker]:
        with ThreadPoolExecutor(2) as executor:
            worker = KafkaWorker(
                KafkaSource(self.kafka, self.topic, self.folder, self.topic), make_worker(self.url, executor)
            )
            running = asyncio.create_task(worker.run())
            try:
                yield worker
            finally:
                worker.stop()
                await running

    def process(self) -> "subprocess.Popen[bytes]":
        arguments = [self.url, self.kafka, self.topic, self.topic, str(self.folder / "second")]
        with (self.folder / "second.log").open("wb") as log:
            return subprocess.Popen([sys.executable, "-m", "tests.streams.faust_process", *arguments], stderr=log)


def complaint(worker: KafkaWorker) -> str:
    """The error of its readiness check; empty where it is ready."""
    try:
        worker.check_ready()
    except Unavailable as error:
        return str(error)
    return ""


@contextlib.asynccontextmanager
async def open_rig(kafka_url: str, telemetry_url: str, folder: Path) -> AsyncIterator[Rig]:
    """A topic of its own, and who writes to it."""
    topic = f"readings-{uuid4().hex[:8]}"
    await ensure_topic(kafka_url, topic, PARTITIONS)
    producer = AIOKafkaProducer(**client_options(kafka_url), enable_idempotence=True)
    await producer.start()
    yield Rig(kafka_url, telemetry_url, topic, folder, producer)
    await producer.stop()


@pytest.fixture
async def rig(kafka_url: str, telemetry_url: str, tmp_path: Path) -> AsyncIterator[Rig]:
    async with open_rig(kafka_url, telemetry_url, tmp_path) as made:
        yield made


@pytest.fixture
def processes() -> Iterator[list["subprocess.Popen[bytes]"]]:
    """The processes that a test starts; killed after it."""
    started: list[subprocess.Popen[bytes]] = []
    yield started
    for process in started:
        process.kill()
        process.wait()


async def test_what_is_in_the_topic_is_stored_once_over_restarts(rig: Rig) -> None:
    await rig.send(3)
    async with rig.worker():
        await rig.all_stored()
        await rig.send(3)
        await rig.all_stored()
    await rig.send(2)
    async with rig.worker():
        await rig.all_stored()


async def test_over_tls_what_is_in_the_topic_is_stored_once(
    tls_url: Callable[[str], str], telemetry_url: str, tmp_path: Path
) -> None:
    async with open_rig(tls_url("kafka"), telemetry_url, tmp_path) as rig:
        await rig.send(3)
        async with rig.worker() as worker:
            await rig.all_stored()
            await eventually(lambda: complaint(worker) == "", WITHIN_S)


async def test_a_worker_makes_no_topic(rig: Rig) -> None:
    """Faust creates some by default."""
    await rig.send(1)
    async with rig.worker():
        await rig.all_stored()
    admin = AIOKafkaAdminClient(bootstrap_servers=rig.kafka)
    await admin.start()
    topics = await admin.list_topics()
    await admin.close()
    assert [topic for topic in topics if topic.startswith(rig.topic)] == [rig.topic]


async def test_a_second_worker_joins_and_dies_and_nothing_is_lost_or_twice(
    rig: Rig, processes: list["subprocess.Popen[bytes]"]
) -> None:
    async with rig.worker() as worker:
        await rig.send(2)
        await rig.all_stored()
        processes.append(rig.process())
        await eventually(lambda: 0 < len(worker.partitions) < PARTITIONS, WITHIN_S)
        await rig.send(5)
        await rig.all_stored()
        sending = asyncio.create_task(rig.send(20))
        processes[0].send_signal(signal.SIGKILL)
        await sending
        await eventually(lambda: len(worker.partitions) == PARTITIONS, WITHIN_S)
        await rig.all_stored()


async def test_a_worker_that_leaves_hands_over(rig: Rig, processes: list["subprocess.Popen[bytes]"]) -> None:
    processes.append(rig.process())
    async with rig.worker() as worker:
        await eventually(lambda: 0 < len(worker.partitions) < PARTITIONS, WITHIN_S)
        await rig.send(5)
        processes[0].send_signal(signal.SIGTERM)
        await rig.send(5)
        assert await asyncio.to_thread(processes[0].wait, WITHIN_S) == 0
        await rig.all_stored()


async def test_a_fenced_worker_releases_its_partitions_and_joins_again(rig: Rig) -> None:
    async with rig.worker() as worker:
        await rig.send(2)
        await rig.all_stored()
        with psycopg.connect(rig.url) as connection:  # as a worker does to which the group assigns it
            connection.execute("UPDATE telemetry.stream_offset SET epoch = epoch + 1 WHERE partition = 1")
        await rig.send(2)
        await rig.all_stored()
        # The group may still be putting itself in order after the one that left.
        await eventually(lambda: worker.partitions == list(range(PARTITIONS)), WITHIN_S)


@pytest.mark.parametrize(
    ("lost", "after"),
    [(False, 1), (True, 1), (False, 0)],
    ids=["at once", "though the first seek is lost", "though nothing comes after"],
)
async def test_offsets_that_kafka_has_ahead_of_the_store_are_read_again(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, lost: bool, after: int
) -> None:
    """A database restored from a backup: the group's offsets are ahead of it. Faust may lose a seek, and drop what is
    read after it; one event follows at most, so that no later one causes another seek."""
    await rig.send(4)
    async with rig.worker():
        await rig.all_stored()
    asked: set[TP] = set()
    seek = AIOKafkaConsumerThread.seek

    def seek_but_the_first(thread: AIOKafkaConsumerThread, tp: TP, offset: int) -> None:
        if tp in asked:
            seek(thread, tp, offset)
        asked.add(tp)

    if lost:
        monkeypatch.setattr(AIOKafkaConsumerThread, "seek", seek_but_the_first)
        monkeypatch.setattr("streams.worker.partition_worker.REREAD_S", 0.5)
    with psycopg.connect(rig.url) as connection:
        for table in ("reading", "window_1m", "session", "ledger_source", "partition_state", "outbox"):
            connection.execute(f"DELETE FROM telemetry.{table}".encode())
        connection.execute("UPDATE telemetry.stream_offset SET next = 0, commits = 0")
        connection.execute("UPDATE telemetry.ledger SET stored = 0")
    await rig.send(after)
    async with rig.worker():
        await rig.all_stored()
    assert bool(asked) is lost


@pytest.mark.parametrize("known", [0, 2], ids=["none", "two"])
@pytest.mark.parametrize("workers", [1, 2])
async def test_partitions_that_the_leader_does_not_see_are_assigned_after_all(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, known: int, workers: int
) -> None:
    """As after a restart of Kafka: the first consumer of each worker sees none, or not all, of the partitions."""
    blind: list[ClusterMetadata] = []
    partitions_for_topic = ClusterMetadata.partitions_for_topic

    def seen(cluster: ClusterMetadata, topic: str) -> set[int] | None:
        in_faust = threading.current_thread() is not threading.main_thread()
        if in_faust and cluster not in blind and len(blind) < workers:
            blind.append(cluster)
        partitions: set[int] | None = partitions_for_topic(cluster, topic)
        if cluster not in blind or partitions is None:
            return partitions
        return set(range(known)) or None

    monkeypatch.setattr(ClusterMetadata, "partitions_for_topic", seen)
    await rig.send(2)
    async with contextlib.AsyncExitStack() as stack:
        members = [await stack.enter_async_context(rig.worker()) for _ in range(workers)]
        silent = set(members)

        def all_complained() -> bool:
            silent.difference_update([member for member in silent if "assigned to no worker" in complaint(member)])
            return not silent

        await eventually(all_complained, WITHIN_S)
        await rig.all_stored()
        await eventually(lambda: not any(complaint(member) for member in members), WITHIN_S)
        assert sorted(p for member in members for p in member.partitions) == list(range(PARTITIONS))
    assert len(blind) == workers


async def test_a_topic_that_is_made_after_its_worker_is_assigned(rig: Rig) -> None:
    missing = replace(rig, topic=f"{rig.topic}-later")
    async with missing.worker() as worker:
        await eventually(lambda: "does not know the topic" in complaint(worker), WITHIN_S)
        await ensure_topic(rig.kafka, missing.topic, PARTITIONS)
        await missing.send(1)
        await missing.all_stored()
        await eventually(lambda: not complaint(worker), WITHIN_S)


async def test_a_worker_too_many_says_so_and_takes_over_however_long_it_had_no_partition(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """aiokafka leaves the group after a time without a poll and joins again only after one, and Faust polls only for
    the partitions that it has."""
    monkeypatch.setattr("streams.worker.kafka_worker.POLL_PAUSE_S_MAX", 3.0)
    one_too_many = "no partition is assigned: Kafka is away, or there are more workers than partitions"
    single = replace(rig, topic=f"{rig.topic}-single")
    await ensure_topic(rig.kafka, single.topic, 1)
    observer = GroupObserver(rig.kafka, single.topic, single.topic)

    async def one_has_left() -> bool:
        view = await observer.look()
        return view is not None and len(view.members) == 1

    stacks = [contextlib.AsyncExitStack(), contextlib.AsyncExitStack()]
    async with stacks[0], stacks[1]:
        workers = [await stack.enter_async_context(single.worker()) for stack in stacks]
        await eventually(lambda: sorted(map(complaint, workers)) == ["", one_too_many], WITHIN_S)
        await eventually(one_has_left, WITHIN_S)
        await eventually(lambda: any(worker.partitions for worker in workers), WITHIN_S)
        holder = [worker.partitions for worker in workers].index([0])
        await stacks[holder].aclose()
        await eventually(lambda: workers[1 - holder].partitions == [0], WITHIN_S)
    await observer.close()
