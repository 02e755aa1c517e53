"""What failed is not gone: `voltstream events dlq`, and the event that tells of it."""

import json
import time
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import msgspec
import psycopg
import pytest

from kit.clock import ManualClock
from kit.database.embedded import running_url
from kit.messaging.bus import DIRECT, EVENT_ID, FailedMessage, Message
from schemas.events import Envelope, Event, EventFailed, EventMetadata
from tests.voltstream.platform import readings, up, voltstream
from tests.waiting import eventually
from voltstream.runtime.dead_letter_events import dead_letter_event_factory

pytestmark = pytest.mark.usefixtures("processes")

CORRELATION, TRACE = "6f0c2a4b", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def event(event_id: UUID, payload: dict[str, Any]) -> bytes:
    metadata = EventMetadata(
        event_id=event_id,
        timestamp="2026-01-01T00:00:00.000Z",
        source="test",
        correlation_id=CORRELATION,
        type="telemetry.generated.v1",
        version=1,
        traceparent=TRACE,
    )
    return msgspec.json.encode(Envelope(metadata, payload))


def read(notice: Message) -> Event[EventFailed]:
    return msgspec.json.Decoder(Event[EventFailed]).decode(notice.body)


def test_an_event_given_up_is_announced_with_its_type_its_trace_and_why() -> None:
    lost = uuid4()
    message = Message(DIRECT, "telemetry.generated", event(lost, {}), {EVENT_ID: str(lost)}, attempt=8)
    notice = dead_letter_event_factory(ManualClock())(
        FailedMessage("ingest_telemetry_generated", message, "Malformed: no")
    )
    failed = read(notice)
    assert (notice.exchange, notice.routing_key) == (DIRECT, "event.failed")
    assert failed.payload == EventFailed(
        queue="ingest_telemetry_generated",
        event_id=lost,
        event_type="telemetry.generated.v1",
        attempts=8,
        error="Malformed: no",
    )
    assert (failed.metadata.correlation_id, failed.metadata.traceparent) == (CORRELATION, TRACE)
    assert notice.headers == {EVENT_ID: str(failed.metadata.event_id)}


def test_announced_twice_it_is_the_same_event_and_another_failure_is_another_one() -> None:
    def notice_id(body: bytes, queue: str, **headers: str) -> UUID:
        return read(
            dead_letter_event_factory(ManualClock())(FailedMessage(queue, Message(DIRECT, "k", body, headers), "no"))
        ).metadata.event_id

    assert notice_id(b"it", "q") == notice_id(b"it", "q")
    others = [notice_id(b"it", "q"), notice_id(b"it", "p"), notice_id(b"more", "q"), notice_id(b"it", "q", replays="1")]
    assert len(set(others)) == 4


@pytest.mark.parametrize("body", [b"", b"{", b"[" * 100_000, b'{"metadata": {"type": "x"}}', b"\xff"])
def test_of_an_event_that_cannot_be_read_the_notice_has_what_is_known(body: bytes) -> None:
    failed = read(
        dead_letter_event_factory(ManualClock())(
            FailedMessage("q", Message(DIRECT, "shop.sold", body, {EVENT_ID: "7"}), "e" * 9_999)
        )
    )
    assert (failed.payload.event_id, failed.payload.event_type, len(failed.payload.error)) == (None, "shop.sold", 500)


def dlq(*arguments: str, **settings: str) -> list[dict[str, Any]]:
    done = voltstream("events", "dlq", *arguments, "--json", **settings)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def put_letters(url: str, *letters: tuple[str, bytes]) -> list[str]:
    """Into a database that `dlq list` has made ready."""
    ids = [str(uuid4()) for _ in letters]
    with psycopg.connect(url) as connection:
        for letter_id, (queue, body) in zip(ids, letters, strict=True):
            connection.execute(
                "INSERT INTO events.dead_letter (id, queue, event_id, exchange, routing_key, headers, body, error, "
                "attempts) VALUES (%s, %s, '7', %s, 'telemetry.generated', %s, %s, 'Malformed: no', 8)",
                (letter_id, queue, DIRECT, json.dumps({EVENT_ID: "7", "origin_exchange": DIRECT}), body),
            )
    return ids


def test_letters_are_listed_shown_and_replayed_from_the_command_line(database_url: str) -> None:
    assert dlq("list", database_url=database_url) == []
    good, bad = put_letters(database_url, ("q", event(UUID(int=7), {"a": 1})), ("p", b"\xff{"))
    listed = {letter["id"]: letter for letter in dlq("list", database_url=database_url)}
    assert {key: letter["event_type"] for key, letter in listed.items()} == {
        good: "telemetry.generated.v1",
        bad: "telemetry.generated",
    }
    (shown,) = dlq("show", good, database_url=database_url)
    assert (shown["event"]["payload"], shown["error"], shown["state"]) == ({"a": 1}, "Malformed: no", "dead")
    assert dlq("show", bad, database_url=database_url)[0]["event"] == "\\xff{"
    assert [letter["id"] for letter in dlq("list", "--queue", "p", database_url=database_url)] == [bad]
    assert [letter["replayed"] for letter in dlq("replay", "--id", good, database_url=database_url)] == [good]
    again = voltstream("events", "dlq", "replay", "--id", good, database_url=database_url)
    assert (again.returncode, good in again.stderr) == (2, True)
    assert dlq("show", good, database_url=database_url)[0]["state"] == "replaying"
    assert [letter["replayed"] for letter in dlq("replay", "--queue", "p", database_url=database_url)] == [bad]
    table = voltstream("events", "dlq", "list", database_url=database_url)
    assert good in table.stdout
    assert good in voltstream("events", "dlq", "show", good, database_url=database_url).stdout


@pytest.mark.parametrize("arguments", [("replay",), ("show", "x"), ("replay", "--id", "x"), ("show", str(uuid4()))])
def test_what_is_asked_wrongly_is_told_how_to_ask(database_url: str, arguments: tuple[str, ...]) -> None:
    refused = voltstream("events", "dlq", *arguments, database_url=database_url)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.count("\n") == 1


@pytest.mark.parametrize("command", ["list", "replay"])
def test_a_queue_that_no_service_has_is_refused_with_the_nearest(database_url: str, command: str) -> None:
    known = voltstream("events", "dlq", command, "--queue", "billing_session_completed", database_url=database_url)
    assert known.returncode == 0
    unknown = voltstream("events", "dlq", command, "--queue", "billing_session_complete", database_url=database_url)
    assert unknown.returncode == 2
    assert "did you mean billing_session_completed?" in unknown.stderr


async def test_a_letter_replayed_while_the_platform_runs_is_handled_once(data_dir: Path) -> None:
    sent = readings("DE*VLT*E1", 50, int((time.time() - 60) * 1_000))
    with up(data_dir, "--no-simulator") as platform:
        settings = {"data_dir": str(data_dir)}
        assert dlq("list", **settings) == []
        url = running_url(data_dir) or ""
        (letter,) = put_letters(url, ("ingest_telemetry_generated", event(uuid4(), {"readings": sent})))
        assert [one["replayed"] for one in dlq("replay", "--id", letter, **settings)] == [letter]
        await eventually(lambda: platform.ledger()["stored"] == 50, 30)
        await eventually(lambda: dlq("list", **settings) == [], 30)
        assert [one["state"] for one in dlq("list", "--all", **settings)] == ["replayed"]
        assert platform.ledger()["accepted"] == 50


async def test_what_nobody_can_handle_is_kept_over_a_restart_and_told(data_dir: Path) -> None:
    settings = {"data_dir": str(data_dir)}
    lost = uuid4()
    with up(data_dir, "--no-simulator") as platform:
        with psycopg.connect(running_url(data_dir) or "") as connection:
            connection.execute(
                "INSERT INTO telemetry.outbox (event_id, exchange, routing_key, body) "
                "VALUES (%s, %s, 'session.completed', 'no event')",
                (lost, DIRECT),
            )
        listed = await eventually(lambda: dlq("list", **settings), 60)
        assert {letter["event_id"] for letter in listed} == {str(lost)}
        assert all(letter["queue"].endswith("_session_completed") for letter in listed)
        platform.stop()
    with up(data_dir, "--no-simulator"):
        kept = dlq("list", **settings)
    assert {letter["id"] for letter in kept} >= {letter["id"] for letter in listed}
    assert all(letter["state"] == "dead" for letter in kept)
