"""What the rivals read: one JSON message a reading, as a program without frames would have it."""

from typing import Final

import msgspec
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

PARTITIONS: Final = 4
CONNECTORS: Final = 1_000
START_S: Final = 1_790_000_000
_BATCH_BYTES: Final = 512 << 10


async def fill(kafka: str, topic: str, readings: int, *more_topics: str) -> None:
    """Create the topic with so many readings, a connector's in one partition, one a second; and the others, empty."""
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    await admin.create_topics([NewTopic(name, PARTITIONS, 1) for name in (topic, *more_topics)])
    await admin.close()
    producer = AIOKafkaProducer(bootstrap_servers=kafka, max_batch_size=_BATCH_BYTES)
    await producer.start()
    for partition in range(PARTITIONS):
        batch = producer.create_batch()
        for number in range(partition, readings, PARTITIONS):
            key, value = message(number)
            if batch.append(key=key, value=value, timestamp=None) is None:
                await producer.send_batch(batch, topic, partition=partition)
                batch = producer.create_batch()
                batch.append(key=key, value=value, timestamp=None)
        await producer.send_batch(batch, topic, partition=partition)
    await producer.stop()


def message(number: int) -> tuple[bytes, bytes]:
    """Key and value of the reading of this number."""
    slot, second = number % CONNECTORS, number // CONNECTORS
    station = f"CS-{slot:05d}"
    reading = {
        "station_id": station, "connector_id": 1, "session_id": f"S-{slot:06d}", "seq": second, "ts": START_S + second,
        "energy_wh": second * 3.055, "power_w": 11_000.0, "voltage_v": 230.0, "current_a": 16.0, "status": "Charging",
    }  # fmt: skip
    return station.encode(), msgspec.json.encode(reading)
