"""Cluster: the distributed platform, each service in a process of its own, on the private servers."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pika
import redis
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import UnknownTopicOrPartitionError
from pika.exceptions import ChannelClosedByBroker
from prometheus_client.parser import text_string_to_metric_families

from deploy.servers import unused_port
from kit.log.kafka import partitions_of
from kit.messaging.bus import DIRECT
from kit.messaging.messages import DEAD_LETTER_QUEUE
from schemas.topics import (
    INVOICE_CREATED,
    READINGS_TOPIC,
    SESSION_COMPLETED,
    frames_queue,
    group_queue,
    routing_key,
)
from tests.private_servers import PrivateServers
from tests.proof.clocks import Clocks
from tests.proof.duplicate_delivery import EVENT_TYPES
from tests.proof.faults import CLOCK, FULL, LINK_KINDS, PAUSE
from tests.proof.links import Links
from tests.proof.processes import AT_ONCE, SupervisedService, is_ready, kept_alive, run_once
from tests.proof.recoveries import filled
from tests.proof.usage import family
from tests.waiting import eventually

PARTITIONS = 4
SERVICES = ("gateway 1", "gateway 2", "bridge", "relay", "api", "worker 1", "worker 2")
NO_MODULES: Mapping[str, str] = {}
_RECORDER_GROUP = "proof"  # a consumer group whose queues keep the events for `received`
_RECORDED = (SESSION_COMPLETED, INVOICE_CREATED)
_GROUPS = ("billing", "ingest", "pricing", "sessions")
# The less a gateway waits for a confirm, the more it refuses during an outage: more readings are sent twice.
_PUBLISH_TIMEOUT_S = 3
_START_S, _BACK_S, _ANSWER_S = 300, 120, 30  # against hanging
_QUORUM = {"x-queue-type": "quorum"}


class Cluster:
    """Services by name, as in SERVICES."""

    def __init__(
        self,
        database_url: str,
        environment: Mapping[str, str],
        servers: PrivateServers,
        folder: Path,
        stack: AsyncExitStack,
        links: Links | None = None,
        clocks: Clocks | None = None,
    ) -> None:
        """`links`: those by which the services reach the servers; `clocks`: those that they read."""
        self.database_url = database_url
        self.environment = environment
        self._links, self._clocks = links, clocks
        self._stack = stack
        self.servers = servers
        self.device_token = self.operator_token = ""
        self._folder = folder
        self._starting: dict[str, asyncio.Task[str]] = {}
        self._filled = ExitStack()  # disks
        self.services: dict[str, SupervisedService] = {}

    async def start(self, *names: str, modules: Mapping[str, str] = NO_MODULES) -> None:
        """Start and supervise these services, each with one port for all its restarts. They need not be ready yet.

        `modules`: the environment in which Python takes another version's.
        """
        for name in names:
            arguments = (name.split()[0], "--json", "--supervised", "--port", str(unused_port()))
            clocks = self._clocks.environment(name) if self._clocks else {}
            environment = {**self.environment, **clocks, **modules}
            self.services[name] = SupervisedService(name, arguments, environment, self._folder)
            await self._stack.enter_async_context(kept_alive([self.services[name]]))

    @property
    def gateways(self) -> list[str]:
        """Their URLs."""
        return [service.url for name, service in self.services.items() if name.startswith("gateway")]

    async def ready(self, names: Sequence[str] = ()) -> None:
        """Wait until these services (all) are ready."""
        async with httpx.AsyncClient(trust_env=False) as client:
            for name in names or self.services:
                service = self.services[name]
                try:
                    await eventually(partial(is_ready, client, service), within_s=_START_S)
                except AssertionError:
                    raise AssertionError(f"{name} is not ready: {await _readiness(client, service)}") from None

    async def query(self, path: str) -> dict[str, Any]:
        """An operator's query; empty if the API does not answer now."""
        headers = {"Authorization": f"Bearer {self.operator_token}"}
        async with httpx.AsyncClient(trust_env=False, headers=headers, timeout=_ANSWER_S) as client:
            try:
                answer = await client.get(f"{self.services['api'].url}{path}")
            except httpx.TransportError:
                return {}
        assert answer.status_code in (httpx.codes.OK, httpx.codes.SERVICE_UNAVAILABLE), answer.text
        return dict(answer.json()) if answer.status_code == httpx.codes.OK else {}

    async def gauge(self, name: str, metric: str) -> dict[int, float]:
        """A service's metric by partition; empty where it does not answer."""
        async with httpx.AsyncClient(trust_env=False) as client:
            try:
                answer = await client.get(f"{self.services[name].url}/metrics")
            except httpx.TransportError:
                return {}
        families = {family.name: family.samples for family in text_string_to_metric_families(answer.text)}
        return {int(sample.labels["partition"]): sample.value for sample in families.get(metric, [])}

    # -- faults -----------------------------------------------------------------------------------------------------

    async def inject_fault(self, component: str, kind: str) -> bool:
        """Disturb a service or a server as `tests.proof.faults` says. Whether it must be mended."""
        if kind.startswith(CLOCK):
            assert self._clocks is not None
            self._clocks.step(component, int(kind.removeprefix(CLOCK)))
            return False
        if kind in LINK_KINDS:
            assert self._links is not None
            await asyncio.to_thread(self._links.disturb, component, kind)
            return True
        if (service := self.services.get(component)) is not None:
            # It may still be starting after the last fault: that is tested too.
            number = signal.SIGSTOP if kind == PAUSE else signal.SIGKILL
            await eventually(lambda: service.signal(number), within_s=_BACK_S)
            return kind == PAUSE
        await self.wait_for_servers(component)
        if kind == FULL:  # of a disk that it has for itself
            await asyncio.to_thread(self._filled.enter_context, filled(getattr(self.servers, component).home))
        elif kind == PAUSE:
            self._signal_server(component, signal.SIGSTOP)
        else:
            server = getattr(self.servers, component)
            await asyncio.to_thread(server.kill if kind == "kill" else server.stop)
        return True

    async def mend(self, component: str, kind: str) -> None:
        """Undo a fault that must be."""
        if kind in LINK_KINDS:
            assert self._links is not None
            await asyncio.to_thread(self._links.mend)
        elif kind != PAUSE:
            self.make_room()
            self.start_server(component)
        elif component in self.services:
            self.services[component].signal(signal.SIGCONT)
        else:
            self._signal_server(component, signal.SIGCONT)

    def make_room(self) -> None:
        """On disks that are full."""
        self._filled.close()

    def set_clocks(self) -> None:
        """Let all of them be right."""
        if self._clocks is not None:
            self._clocks.reset()

    def _signal_server(self, component: str, number: signal.Signals) -> None:
        """All processes of a server."""
        pid_file: Path = getattr(self.servers, component).home / "pid"
        for pid in family(int(pid_file.read_text().split()[0])):
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def start_server(self, component: str) -> None:
        """Start a server again, in the background."""
        self._starting[component] = asyncio.create_task(asyncio.to_thread(getattr(self.servers, component).start))

    async def wait_for_servers(self, component: str = "") -> None:
        """Wait until this server (all of them) runs again."""
        for name in [component] if component else list(self._starting):
            if (task := self._starting.pop(name, None)) is not None:
                await task

    # -- events -----------------------------------------------------------------------------------------------------

    def received(self, event_type: str) -> list[dict[str, Any]]:
        """The payloads of all events of a type in _RECORDED since the last call."""
        found: list[dict[str, Any]] = []
        with _rabbit(self.environment["VOLTSTREAM_RABBITMQ_URL"]) as connection:
            channel = connection.channel()
            while True:
                method, _, body = channel.basic_get(group_queue(_RECORDER_GROUP, event_type), auto_ack=True)
                if method is None:
                    return found
                found.append(msgspec.json.decode(body)["payload"])

    def messages_waiting(self) -> int:
        """Number of messages in the queues of the services, not delivered yet."""
        waiting = 0
        with _rabbit(self.environment["VOLTSTREAM_RABBITMQ_URL"]) as connection:
            for queue in group_queues(_GROUPS):
                channel = connection.channel()
                with suppress(ChannelClosedByBroker):  # there is no such queue
                    waiting += channel.queue_declare(queue, passive=True).method.message_count
        return waiting

    async def prepare(self, modules: Mapping[str, str] = NO_MODULES) -> None:
        """Migrate, issue tokens."""
        await run_once({**self.environment, **modules}, "migrate")
        kinds = (("device", "--any-station"), ("operator",))
        issued = await asyncio.gather(*(run_once(self.environment, "token", "issue", "--kind", *k) for k in kinds))
        self.device_token, self.operator_token = (answer["token"] for answer in issued)

    def report(self) -> str:
        """Services that ended unexpectedly, and the last log lines of all."""
        unexpected = [line for service in self.services.values() for line in service.unexpected]
        tails = [f"--- {name}, {s.starts} starts\n{s.tail()}" for name, s in self.services.items()]
        return "\n".join([*unexpected, *tails])


@asynccontextmanager
async def running_cluster(
    database_url: str,
    servers: PrivateServers,
    folder: Path,
    *,
    services: Sequence[str] = SERVICES,
    links: Links | None = None,
    clocks: Clocks | None = None,
    modules: Mapping[str, str] = NO_MODULES,
) -> AsyncIterator[Cluster]:
    """A cluster with these services ready, on empty brokers; stopped at the end. `modules`: see Cluster.start."""
    urls = server_urls(servers, database_url)
    environment = {
        **(urls if links is None else links.through(urls)),
        "VOLTSTREAM_PARTITIONS": str(PARTITIONS),
        "VOLTSTREAM_PUBLISH_TIMEOUT_S": str(_PUBLISH_TIMEOUT_S),
        "VOLTSTREAM_DATA_DIR": str(folder),
        **AT_ONCE,
    }
    await clear_brokers(servers)
    async with AsyncExitStack() as stack:
        cluster = Cluster(database_url, environment, servers, folder, stack, links, clocks)
        await cluster.prepare(modules)
        _record_events(servers.rabbitmq.url)
        await cluster.start(*services, modules=modules)
        stack.push_async_callback(cluster.wait_for_servers)
        stack.callback(cluster.make_room)
        try:
            await cluster.ready()
            yield cluster
        except BaseException:
            print(cluster.report())
            raise
        finally:
            await asyncio.gather(*(service.stop() for service in cluster.services.values()))


def server_urls(servers: PrivateServers, database_url: str) -> dict[str, str]:
    """The settings that make a run a distributed one."""
    return {f"VOLTSTREAM_{name.upper()}": url for name, url in servers.settings(database_url).items()}


async def clear_brokers(servers: PrivateServers) -> None:
    """Empty the brokers and the live view of frames, events and counters of an earlier database."""
    with _rabbit(servers.rabbitmq.url) as connection:
        channel = connection.channel()
        for queue in (frames_queue(partition) for partition in range(PARTITIONS)):
            channel.queue_delete(queue)
            channel.queue_delete(f"{queue}_dead")
        for queue in (*group_queues((*_GROUPS, _RECORDER_GROUP)), DEAD_LETTER_QUEUE):
            channel.queue_delete(queue)
    admin = AIOKafkaAdminClient(bootstrap_servers=servers.kafka.url)
    await admin.start()
    try:
        with suppress(UnknownTopicOrPartitionError):
            await admin.delete_topics([READINGS_TOPIC])
    finally:
        await admin.close()

    async def topic_is_gone() -> bool:
        return await partitions_of(servers.kafka.url, READINGS_TOPIC) == 0

    await eventually(topic_is_gone, within_s=_BACK_S)
    with redis.Redis.from_url(servers.redis.url) as client:
        client.flushdb()


def group_queues(groups: Sequence[str]) -> list[str]:
    """The names of these groups' queues for every event; most do not exist."""
    return [group_queue(group, event_type) for group in groups for event_type in EVENT_TYPES]


def _record_events(rabbitmq_url: str) -> None:
    """Declare the recorder group's queues before the first event is published."""
    with _rabbit(rabbitmq_url) as connection:
        channel = connection.channel()
        channel.exchange_declare(DIRECT, "direct", durable=True)
        for event_type in _RECORDED:
            queue = group_queue(_RECORDER_GROUP, event_type)
            channel.queue_declare(queue, durable=True, arguments=_QUORUM)
            channel.queue_bind(queue, DIRECT, routing_key(event_type))


def _rabbit(url: str) -> Any:
    return pika.BlockingConnection(pika.URLParameters(url))


async def _readiness(client: httpx.AsyncClient, service: SupervisedService) -> str:
    """What it says of itself."""
    try:
        return (await client.get(f"{service.url}/ready")).text
    except httpx.TransportError as error:  # also where it was never ready, and has no URL
        return repr(error)
