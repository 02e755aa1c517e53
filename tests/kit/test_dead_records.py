"""Dead records of the log are found and put back."""

import asyncio
from uuid import uuid4

import pytest
from pika import BlockingConnection, URLParameters

from kit.errors import Unavailable
from kit.log.dead_records import count_dead, put_back
from kit.log.rabbit_writer import RabbitLogWriter
from tests.waiting import eventually


async def test_dead_records_are_counted_and_put_back_in_their_order(rabbitmq_url: str) -> None:
    name = uuid4().hex[:12]
    queues = [f"t_{name}_{partition}" for partition in range(2)]
    assert await asyncio.to_thread(count_dead, rabbitmq_url, queues) == [0, 0]  # no queue yet
    assert await asyncio.to_thread(put_back, rabbitmq_url, queues[0]) == 0
    writer = RabbitLogWriter(rabbitmq_url, 2, queues.__getitem__)
    writer.start()
    sent = [b"%d" % number for number in range(5)]
    for record in sent:
        await writer.append(1, record)
    await writer.close()

    def taken(*, kill: bool) -> list[bytes]:
        with BlockingConnection(URLParameters(rabbitmq_url)) as connection:
            channel, found = connection.channel(), []
            for method, _, body in channel.consume(queues[1], inactivity_timeout=30):
                assert method is not None, "nothing comes"
                found.append(body)
                if kill:
                    channel.basic_reject(method.delivery_tag, requeue=False)
                if len(found) == len(sent):
                    break
            channel.cancel()
            return found

    assert await asyncio.to_thread(taken, kill=True) == sent

    async def all_dead() -> bool:
        return await asyncio.to_thread(count_dead, rabbitmq_url, queues) == [0, 5]

    await eventually(all_dead, 30)
    assert await asyncio.to_thread(put_back, rabbitmq_url, queues[1]) == 5
    assert await asyncio.to_thread(count_dead, rabbitmq_url, queues) == [0, 0]
    assert await asyncio.to_thread(taken, kill=False) == sent


async def test_a_server_that_is_away_is_unavailable_and_its_password_is_not_shown(unused_port: int) -> None:
    with pytest.raises(Unavailable) as raised:
        await asyncio.to_thread(count_dead, f"amqp://guest:hunter2@127.0.0.1:{unused_port}/%2F", ["q"])
    assert "hunter2" not in str(raised.value)
