"""Laws of transports: at least once, the same content again, and only what was acknowledged is counted."""

import gzip
import json
from collections.abc import AsyncIterator, Callable

import pytest
import zstandard

from kit.clock import ManualClock
from kit.errors import Overloaded, Unavailable
from kit.messaging.bus import DIRECT, InProcessBus, Message
from kit.messaging.rabbit_bus import RabbitBus
from kit.retry import RetryPolicy
from schemas.topics import TELEMETRY_GENERATED, routing_key
from simulator.encode import Format, encode
from simulator.errors import Rejected
from simulator.transports import BusTransport, CallableTransport, Encoding, HttpTransport, compress
from tests.simulator.fleets import bursts, rows_of
from tests.simulator.http_sink import LOST, Sink, serving
from tests.waiting import eventually


class Naps:
    """A sleep that only moves the clock."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.taken_s: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.taken_s.append(seconds)
        self.clock.advance(seconds)


@pytest.fixture
def naps() -> Naps:
    return Naps()


@pytest.fixture
async def sink() -> AsyncIterator[Sink]:
    async with serving(Sink()) as running:
        yield running


@pytest.fixture
async def http(sink: Sink, naps: Naps) -> AsyncIterator[HttpTransport]:
    transport = HttpTransport(sink.url, "vsd_x", naps.clock, sleep=naps)
    yield transport
    await transport.close()


async def test_receipt_counts_what_the_platform_said(sink: Sink, http: HttpTransport) -> None:
    sink.quarantined = '[{"index":1,"reason":"absurd","detail":"…"}]'
    receipt = await http.send(b'[{"station_id":"A"},{"station_id":"B"}]', Format.JSON, 2)
    assert (receipt.accepted, receipt.quarantined[0].reason) == (2, "absurd")
    assert (http.tally.sent, http.tally.accepted, dict(http.tally.quarantined)) == (2, 2, {"absurd": 1})
    assert sink.headers[0]["authorization"] == "Bearer vsd_x"


async def test_the_same_content_is_sent_until_it_is_acknowledged(sink: Sink, http: HttpTransport) -> None:
    sink.script = [503, LOST, 500, 429, LOST, 202]
    await http.send(b"{}", Format.JSON, 1)
    assert sink.bodies == [b"{}"] * 6
    assert (http.tally.requests, http.tally.retried, http.tally.sent) == (1, 5, 1)


async def test_retry_after_is_honoured_and_bounded(sink: Sink, http: HttpTransport, naps: Naps) -> None:
    sink.script, sink.retry_after = [503], "7"
    await http.send(b"{}", Format.JSON, 1)
    sink.script, sink.retry_after = [503], "86400"
    await http.send(b"{}", Format.JSON, 1)
    assert naps.taken_s == [7.0, 30.0]


async def test_patience_ends(sink: Sink, http: HttpTransport, naps: Naps) -> None:
    sink.script = [503] * 1_000
    with pytest.raises(Unavailable, match="not within 120 s: 503: scripted"):
        await http.send(b"{}", Format.JSON, 1)
    assert sum(naps.taken_s) <= 120
    assert http.tally.sent == 0


@pytest.mark.parametrize("status", [400, 401, 403, 413, 415, 422])
async def test_a_refusal_is_not_tried_again(sink: Sink, http: HttpTransport, status: int) -> None:
    sink.script = [status]
    with pytest.raises(Rejected, match=f"{status}: scripted"):
        await http.send(b"{}", Format.JSON, 1)
    assert len(sink.bodies) == 1


async def test_nobody_there_is_unavailable(naps: Naps, unused_port: int) -> None:
    transport = HttpTransport(f"http://127.0.0.1:{unused_port}", "", naps.clock, sleep=naps)
    with pytest.raises(Unavailable, match=rf"not within 10 s: http://127\.0\.0\.1:{unused_port}"):
        await transport.send(b"{}", Format.JSON, 1)
    await transport.close()


async def test_a_host_that_answered_once_is_given_its_time(sink: Sink, http: HttpTransport, naps: Naps) -> None:
    sink.script = [202, *[LOST] * 1_000]
    await http.send(b"{}", Format.JSON, 1)
    with pytest.raises(Unavailable, match="not within 120 s"):
        await http.send(b"{}", Format.JSON, 1)


@pytest.mark.parametrize("encoding", list(Encoding))
async def test_compressed_bodies_are_what_they_say(sink: Sink, naps: Naps, encoding: Encoding) -> None:
    transport = HttpTransport(sink.url, "", naps.clock, encoding=encoding, sleep=naps)
    await transport.send(b"[1,2]", Format.JSON, 2)
    await transport.close()
    inflate: dict[Encoding, Callable[[bytes], bytes]] = {
        Encoding.GZIP: gzip.decompress,
        Encoding.ZSTD: zstandard.ZstdDecompressor().decompress,
        Encoding.IDENTITY: bytes,
    }
    assert inflate[encoding](sink.bodies[0]) == b"[1,2]"
    assert sink.headers[0].get("content-encoding", "identity") == encoding
    assert compress(b"x" * 100, encoding) == compress(b"x" * 100, encoding)


async def test_connections_are_kept_alive(sink: Sink, http: HttpTransport) -> None:
    for _ in range(5):
        await http.send(b"{}", Format.JSON, 1)
    assert sink.connections == 1


async def test_callable_is_tried_again_while_it_is_overloaded(naps: Naps) -> None:
    answers = iter([Overloaded("full", 3), Unavailable("away"), None])
    seen: list[tuple[bytes, str]] = []

    async def deliver(body: bytes, content_type: str) -> bytes:
        seen.append((body, content_type))
        if (error := next(answers)) is not None:
            raise error
        return b'{"accepted":1,"quarantined":[]}'

    transport = CallableTransport(deliver, naps.clock, sleep=naps)
    assert (await transport.send(b"{}", Format.JSON, 1)).accepted == 1
    assert seen == [(b"{}", "application/json")] * 3
    assert naps.taken_s[0] == 3
    assert transport.tally.retried == 2


def check_event(message: Message, readings: bytes) -> None:
    event = json.loads(message.body)
    assert event["metadata"]["type"] == TELEMETRY_GENERATED
    assert event["metadata"]["eventId"] == message.headers["event_id"]
    assert event["payload"] == {"readings": json.loads(readings)}


async def test_event_carries_the_readings_as_they_would_be_posted(naps: Naps, seed: int) -> None:
    bus, seen = InProcessBus(RetryPolicy()), []

    async def take(message: Message) -> None:
        seen.append(message)

    await bus.subscribe("test_generated", DIRECT, routing_key(TELEMETRY_GENERATED), take)
    transport = BusTransport(bus, naps.clock, sleep=naps)
    body = encode(rows_of(bursts(seed, hours=0.1)), Format.JSON)
    await transport.send(body, Format.JSON, 5)
    with pytest.raises(ValueError, match="JSON"):
        await transport.send(body, Format.ARROW, 5)
    await bus.close()
    check_event(seen[0], body)
    assert transport.tally.accepted == 5


async def test_events_reach_a_queue_of_a_real_broker(rabbitmq_url: str, naps: Naps, seed: int) -> None:
    bus, seen = RabbitBus(rabbitmq_url, RetryPolicy(), name="simulator test"), []

    async def take(message: Message) -> None:
        seen.append(message)

    bus.start()
    await bus.wait_ready(30)
    try:
        queue = f"test_simulator_{seed}"
        await bus.subscribe(queue, DIRECT, routing_key(TELEMETRY_GENERATED), take)
        body = encode(rows_of(bursts(seed, hours=0.1)), Format.JSON)
        transport = BusTransport(bus, naps.clock, sleep=naps)
        for _ in range(3):
            await transport.send(body, Format.JSON, 5)
        await eventually(lambda: len(seen) == 3)
    finally:
        await bus.close()
    for message in seen:
        check_event(message, body)
