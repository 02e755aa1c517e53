"""The distributed platform, every service a process of its own, over the private servers."""

import asyncio
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
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
from kit.messaging.delivery import DEAD_LETTER_QUEUE
from schemas.topics import (
    INVOICE_CREATED,
    READINGS_TOPIC,
    SESSION_COMPLETED,
    frames_queue,
    group_queue,
    routing_key,
)
from tests.private_servers import PrivateServers
from tests.proof.doubled import EVENT_TYPES
from tests.proof.processes import Service, kept_alive, run_once
from tests.waiting import eventually

PARTITIONS = 4
SERVICES = ("gateway 1", "gateway 2", "bridge", "relay", "api", "worker 1", "worker 2")
_LISTENER = "proof"  # a consumer group that hears, and does nothing
_HEARD = (SESSION_COMPLETED, INVOICE_CREATED)
_GROUPS = ("billing", "ingest", "pricing", "sessions")
# A gateway that waits less long for a confirm refuses more during an outage: more readings come twice.
_PUBLISH_TIMEOUT_S = 3
_START_S, _BACK_S, _ANSWER_S = 120, 120, 30  # against hanging
_QUORUM = {"x-queue-type": "quorum"}


class Cluster:
    """Services by name, as in SERVICES."""

    def __init__(
        self, environment: Mapping[str, str], servers: PrivateServers, folder: Path, stack: AsyncExitStack
    ) -> None:
        self.environment = environment
        self._stack = stack
        self.database_url = environment["VOLTSTREAM_DATABASE_URL"]
        self.servers = servers
        self.device_token = self.operator_token = ""
        self._folder = folder
        self._starting: dict[str, asyncio.Task[str]] = {}
        self.services: dict[str, Service] = {}

    async def start(self, *names: str) -> None:
        """Have these services, kept alive from now on, each with the same port in every life. Not ready yet."""
        for name in names:
            arguments = (name.split()[0], "--json", "--supervised", "--port", str(unused_port()))
            self.services[name] = Service(name, arguments, self.environment, self._folder)
            await self._stack.enter_async_context(kept_alive([self.services[name]]))

    @property
    def gateways(self) -> list[str]:
        """Their URLs."""
        return [service.url for name, service in self.services.items() if name.startswith("gateway")]

    async def ready(self, names: Sequence[str] = ()) -> None:
        """Until these services (all) do their work."""
        async with httpx.AsyncClient(trust_env=False) as client:
            for name in names or self.services:
                await eventually(partial(_is_ready, client, self.services[name]), within_s=_START_S)

    async def asked(self, path: str) -> dict[str, Any]:
        """What operators are told; empty where the API does not answer now."""
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

    async def strike(self, component: str, kind: str) -> bool:
        """Kill a service or a server, or stop a server. Whether a server is now to be brought back."""
        if (service := self.services.get(component)) is not None:
            # It may be on its way up again from the last time: that is a moment like any other.
            await eventually(lambda: service.signal(signal.SIGKILL), within_s=_BACK_S)
            return False
        await self.back(component)
        server = getattr(self.servers, component)
        await asyncio.to_thread(server.kill if kind == "kill" else server.stop)
        return True

    def bring_back(self, component: str) -> None:
        """Begin to start a server again."""
        self._starting[component] = asyncio.create_task(asyncio.to_thread(getattr(self.servers, component).start))

    async def back(self, component: str = "") -> None:
        """Until this server (all of them) is back."""
        for name in [component] if component else list(self._starting):
            if (task := self._starting.pop(name, None)) is not None:
                await task

    # -- events -----------------------------------------------------------------------------------------------------

    def heard(self, event_type: str) -> list[dict[str, Any]]:
        """The payloads of all events of a type in _HEARD that arrived since the last call."""
        found: list[dict[str, Any]] = []
        with _rabbit(self.environment["VOLTSTREAM_RABBITMQ_URL"]) as connection:
            channel = connection.channel()
            while True:
                method, _, body = channel.basic_get(group_queue(_LISTENER, event_type), auto_ack=True)
                if method is None:
                    return found
                found.append(msgspec.json.decode(body)["payload"])

    def messages_waiting(self) -> int:
        """In the queues of the services, not handed to anybody yet."""
        waiting = 0
        with _rabbit(self.environment["VOLTSTREAM_RABBITMQ_URL"]) as connection:
            for queue in group_queues(_GROUPS):
                channel = connection.channel()
                with suppress(ChannelClosedByBroker):  # there is none of that name
                    waiting += channel.queue_declare(queue, passive=True).method.message_count
        return waiting

    async def prepare(self) -> None:
        """Migrate, issue tokens."""
        await run_once(self.environment, "migrate")
        kinds = ("device", "operator")
        issued = await asyncio.gather(*(run_once(self.environment, "token", "issue", "--kind", k) for k in kinds))
        self.device_token, self.operator_token = (answer["token"] for answer in issued)

    def report(self) -> str:
        """Who died by itself, and what everybody said last."""
        unexpected = [line for service in self.services.values() for line in service.unexpected]
        tails = [f"--- {name}, {s.starts} starts\n{s.tail()}" for name, s in self.services.items()]
        return "\n".join([*unexpected, *tails])


@asynccontextmanager
async def running_cluster(
    database_url: str, servers: PrivateServers, folder: Path, *, services: Sequence[str] = SERVICES
) -> AsyncIterator[Cluster]:
    """These services up and ready, on brokers that know nothing yet; stopped in good order in the end."""
    environment = {
        "VOLTSTREAM_DATABASE_URL": database_url,
        "VOLTSTREAM_RABBITMQ_URL": servers.rabbitmq.url,
        "VOLTSTREAM_KAFKA_URL": servers.kafka.url,
        "VOLTSTREAM_REDIS_URL": servers.redis.url,
        "VOLTSTREAM_PARTITIONS": str(PARTITIONS),
        "VOLTSTREAM_PUBLISH_TIMEOUT_S": str(_PUBLISH_TIMEOUT_S),
        "VOLTSTREAM_DATA_DIR": str(folder),
    }
    await forget_telemetry(servers)
    async with AsyncExitStack() as stack:
        cluster = Cluster(environment, servers, folder, stack)
        await cluster.prepare()
        _listen(servers.rabbitmq.url)
        await cluster.start(*services)
        stack.push_async_callback(cluster.back)
        try:
            await cluster.ready()
            yield cluster
        except BaseException:
            print(cluster.report())
            raise
        finally:
            await asyncio.gather(*(service.stop() for service in cluster.services.values()))


async def forget_telemetry(servers: PrivateServers) -> None:
    """Leave the brokers and the live view as new: frames, events and counters of a former database are none of ours."""
    with _rabbit(servers.rabbitmq.url) as connection:
        channel = connection.channel()
        for queue in (frames_queue(partition) for partition in range(PARTITIONS)):
            channel.queue_delete(queue)
            channel.queue_delete(f"{queue}_dead")
        for queue in (*group_queues((*_GROUPS, _LISTENER)), DEAD_LETTER_QUEUE):
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
    """Of every event; most are not there."""
    return [group_queue(group, event_type) for group in groups for event_type in EVENT_TYPES]


def _listen(rabbitmq_url: str) -> None:
    """Have a consumer group's queues for what is to be heard, before the first is published."""
    with _rabbit(rabbitmq_url) as connection:
        channel = connection.channel()
        channel.exchange_declare(DIRECT, "direct", durable=True)
        for event_type in _HEARD:
            queue = group_queue(_LISTENER, event_type)
            channel.queue_declare(queue, durable=True, arguments=_QUORUM)
            channel.queue_bind(queue, DIRECT, routing_key(event_type))


def _rabbit(url: str) -> Any:
    return pika.BlockingConnection(pika.URLParameters(url))


async def _is_ready(client: httpx.AsyncClient, service: Service) -> bool:
    if not service.ready.is_set():
        return False
    try:
        return (await client.get(f"{service.url}/ready")).status_code == httpx.codes.OK
    except httpx.TransportError:
        return False
