"""What a rival has counted so far, read from outside: its output topic, its changelog, or its table."""

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Final, Protocol, Self

import asyncpg
import msgspec
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

Key = tuple[str, int, int]  # station, connector, minute
_POLL_MS: Final = 200
_MESSAGES_MAX: Final = 50_000
_TABLE: Final = "SELECT station_id, connector_id, minute, readings FROM window_1m"
_TABLE_EXISTS: Final = "SELECT to_regclass('window_1m') IS NOT NULL"


class Output(Protocol):
    """The windows that a rival has written."""

    counts: dict[Key, int]
    """Readings by window: the last value written counts."""
    written: int
    """Values written in all."""

    async def poll(self) -> bool:
        """Read what is new; whether there was anything."""
        ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class TopicOutput:
    """Windows in a Kafka topic."""

    def __init__(
        self, kafka: str, topic: str, partitions: int, decode: Callable[[ConsumerRecord], tuple[Key, int] | None]
    ) -> None:
        """`decode`: a message's window and count; None if it has none."""
        self.counts: dict[Key, int] = {}
        self.written = 0
        self._decode = decode
        self._partitions = [TopicPartition(topic, partition) for partition in range(partitions)]
        self._consumer = AIOKafkaConsumer(bootstrap_servers=kafka, auto_offset_reset="earliest")

    async def __aenter__(self) -> Self:
        await self._consumer.start()
        self._consumer.assign(self._partitions)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._consumer.stop()

    async def poll(self) -> bool:
        """Read what is new; whether there was anything."""
        batches = await self._consumer.getmany(timeout_ms=_POLL_MS, max_records=_MESSAGES_MAX)
        for messages in batches.values():
            for found in filter(None, map(self._decode, messages)):
                self.counts[found[0]] = found[1]
                self.written += 1
        return bool(batches)


class TableOutput:
    """Windows in the table of `by_hand`."""

    def __init__(self, database: str) -> None:
        self.counts: dict[Key, int] = {}
        self.written = 0
        self._database = database

    async def __aenter__(self) -> Self:
        self._connection = await asyncpg.connect(self._database)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._connection.close()

    async def poll(self) -> bool:
        """Read what is new; whether there was anything."""
        await asyncio.sleep(_POLL_MS / 1_000)  # or it would keep PostgreSQL busy
        if not await self._connection.fetchval(_TABLE_EXISTS):
            return False
        rows = await self._connection.fetch(_TABLE)
        counts = {(station, connector, minute): readings for station, connector, minute, readings in rows}
        changed = counts != self.counts
        self.counts = counts
        self.written = len(counts)
        return changed


class _Row(msgspec.Struct):
    station_id: str
    connector_id: int
    minute: int
    readings: int
    diff: int = 1  # Pathway takes a row back with -1 before it writes it anew


_row: Final = msgspec.json.Decoder(_Row).decode


def decode_row(message: ConsumerRecord) -> tuple[Key, int] | None:
    """The window of a rival that writes rows as JSON."""
    row = _row(message.value)
    return ((row.station_id, row.connector_id, row.minute), row.readings) if row.diff > 0 else None


def decode_faust_change(message: ConsumerRecord) -> tuple[Key, int] | None:
    """The window of a change of `stock_faust`'s table, if it is one of a number of readings."""
    name, (start_s, _) = msgspec.json.decode(message.key)
    station, connector, kind = name.split("/")
    if kind != "n" or message.value is None:
        return None
    return (station, int(connector), int(start_s) // 60), int(msgspec.json.decode(message.value))
