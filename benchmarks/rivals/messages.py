"""What the rivals read: one JSON message a reading, as a program without frames would have it."""

from collections import Counter
from collections.abc import Iterator
from typing import Final

import msgspec
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

PARTITIONS: Final = 4
CONNECTORS: Final = 1_000
START_S: Final = 1_790_000_000
CLOSING_S: Final = 3_600  # after the last reading: a reading of each connector that closes all windows before it
_BATCH_BYTES: Final = 512 << 10


async def create_topics(kafka: str, *topics: str, partitions: int = PARTITIONS) -> None:
    """Create these topics, empty."""
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    await admin.create_topics([NewTopic(name, partitions, 1) for name in topics])
    await admin.close()


async def fill(kafka: str, topic: str, readings: int, *, closing: bool = False) -> None:
    """Create the topic with so many readings, a connector's in one partition, one a second.

    `closing`: and then one more of every connector, CLOSING_S later.
    """
    await create_topics(kafka, topic)
    producer = AIOKafkaProducer(bootstrap_servers=kafka, max_batch_size=_BATCH_BYTES)
    await producer.start()
    for partition in range(PARTITIONS):
        batch = producer.create_batch()
        for key, value in messages(readings, partition, closing=closing):
            if batch.append(key=key, value=value, timestamp=None) is None:
                await producer.send_batch(batch, topic, partition=partition)
                batch = producer.create_batch()
                batch.append(key=key, value=value, timestamp=None)
        await producer.send_batch(batch, topic, partition=partition)
    await producer.stop()


def truth(readings: int) -> dict[tuple[str, int, int], int]:
    """Readings by station, connector and minute, without those that close windows."""
    whole, rest = divmod(readings, CONNECTORS)
    windows: dict[tuple[str, int, int], int] = {}
    for slot in range(CONNECTORS):
        minutes = Counter((START_S + second) // 60 for second in range(whole + (slot < rest)))
        windows |= {(_station(slot), 1, minute): count for minute, count in minutes.items()}
    return windows


def messages(readings: int, partition: int, *, closing: bool) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of a partition, in order."""
    for number in range(partition, readings, PARTITIONS):
        yield message(number % CONNECTORS, number // CONNECTORS)
    if closing:
        for slot in range(partition, CONNECTORS, PARTITIONS):
            yield message(slot, readings // CONNECTORS + CLOSING_S)


def message(slot: int, second: int) -> tuple[bytes, bytes]:
    """Key and value of a connector's reading. The key is the connector, so that windows need no repartitioning."""
    station = _station(slot)
    reading = {
        "station_id": station, "connector_id": 1, "session_id": f"S-{slot:06d}", "seq": second, "ts": START_S + second,
        "energy_wh": second * 3.055, "power_w": 11_000.0, "voltage_v": 230.0, "current_a": 16.0, "status": "Charging",
    }  # fmt: skip
    return f"{station}/1".encode(), msgspec.json.encode(reading)


def _station(slot: int) -> str:
    return f"CS-{slot:05d}"
