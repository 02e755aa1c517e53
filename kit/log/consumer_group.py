"""A Kafka consumer group as its coordinator knows it: the members and their assigned partitions."""

from dataclasses import dataclass
from typing import Any, Final

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.coordinator.protocol import ConsumerProtocol
from aiokafka.errors import KafkaError, for_code

from kit.errors import Unavailable
from kit.log.kafka import address_of, client_options, describe_partitions
from kit.secrets.urls import without_secrets

REQUEST_TIMEOUT_MS: Final = 5_000  # two small requests; a slower node is asked again at the next look
_SETTLED: Final = frozenset({"Stable", "Empty", "Dead"})  # the other states of a classic group are of a rebalance


@dataclass(frozen=True, slots=True)
class Member:
    """A member, identified by its client id."""

    client_id: str
    partitions: frozenset[int]


@dataclass(frozen=True, slots=True)
class GroupView:
    """A group that is not rebalancing, and one topic."""

    partitions: frozenset[int]  # of the topic; empty where Kafka does not know it
    members: tuple[Member, ...]

    @property
    def unassigned(self) -> list[int]:
        """The partitions that are assigned to no member."""
        return sorted(self.partitions.difference(*(member.partitions for member in self.members)))

    def member(self, client_id: str) -> Member | None:
        """The member of that client id."""
        return next((member for member in self.members if member.client_id == client_id), None)


class GroupObserver:
    """Requests the view of one group and one topic, over its own connection."""

    def __init__(self, kafka_url: str, group: str, topic: str) -> None:
        """Connects at the first question."""
        self._kafka_url = kafka_url
        self._group = group
        self._topic = topic
        self._admin: AIOKafkaAdminClient | None = None

    async def look(self) -> GroupView | None:
        """The group now; None while it is rebalancing. Raises Unavailable: ask again."""
        try:
            if self._admin is None:
                self._admin = AIOKafkaAdminClient(
                    **client_options(self._kafka_url), request_timeout_ms=REQUEST_TIMEOUT_MS
                )
                await self._admin.start()
            partitions = await describe_partitions(self._admin, self._topic)
            (answer,) = await self._admin.describe_consumer_groups([self._group])
            (described,) = answer.to_object()["groups"]
            if described["error_code"] != 0:
                raise for_code(described["error_code"])(f"group {self._group}")
        except (KafkaError, TimeoutError, OSError) as error:
            await self.close()  # the coordinator may be another broker by now
            said = without_secrets(repr(error), self._kafka_url)
            raise Unavailable(f"Kafka at {address_of(self._kafka_url)}: {said}") from error
        if described["state"] not in _SETTLED:
            return None
        return GroupView(partitions, tuple(self._member(one) for one in described["members"]))

    async def close(self) -> None:
        """Disconnect."""
        admin, self._admin = self._admin, None
        if admin is not None:
            await admin.close()

    def _member(self, described: dict[str, Any]) -> Member:
        encoded = described["member_assignment"]
        assigned = ConsumerProtocol.ASSIGNMENT.decode(encoded).partitions() if encoded else []
        return Member(described["client_id"], frozenset(tp.partition for tp in assigned if tp.topic == self._topic))
