"""The ledger's arithmetic, and the quarantine: what was refused can be found."""

import asyncio
import json
from base64 import b64decode
from typing import Any

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.telemetry.ledger import ledger_of
from api.telemetry.models import Ledger
from kit.errors import Unavailable
from tests.api.conftest import NOW, Api

COUNT = st.integers(0, 2**40)
PATH = "/api/v1/telemetry/ledger"


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[dict[str, Any]], list[dict[str, Any]], dict[str, bytes], dict[int, int]]:
    """What the tables and counters can look like: some of what each source sent has arrived and has an outcome."""
    entries, sources, counters, accepted = [], [], {}, {}
    for partition in draw(st.sets(st.integers(0, 7), max_size=4)):
        outcome = {"stored": 0, "duplicate": 0, "quarantined": 0}
        accepted[partition] = 0
        for name in draw(st.sets(st.sampled_from(["a1", "b2", "c3"]), max_size=3)):
            sent = draw(COUNT)
            reported, received = sent, draw(st.integers(0, sent))
            if draw(st.booleans()):  # the counter includes the last frames, the worker has not read them yet
                reported = draw(st.integers(received, sent))
                counters[f"{name}/{partition}"] = json.dumps({"items_total": sent}).encode()
            elif draw(st.booleans()):  # the counter is behind
                counters[f"{name}/{partition}"] = json.dumps({"items_total": draw(st.integers(0, sent))}).encode()
            if reported or draw(st.booleans()):
                sources.append({"partition": partition, "source": name, "items_total": reported})
            for kind in outcome:
                share = received if kind == "quarantined" else draw(st.integers(0, received))
                outcome[kind] += share
                received -= share
            accepted[partition] += sent
        in_windows = draw(st.one_of(st.just(outcome["stored"]), st.integers(0, outcome["stored"])))
        entries.append({"partition": partition, **outcome, "in_windows": in_windows})
    return entries, sources, counters, accepted


@given(histories())
def test_what_was_accepted_is_somewhere(
    history: tuple[list[dict[str, Any]], list[dict[str, Any]], dict[str, bytes], dict[int, int]],
) -> None:
    entries, sources, counters, accepted = history
    ledger = ledger_of(entries, sources, counters)
    assert {entry.partition: entry.accepted for entry in ledger.partitions} == accepted
    assert ledger.total.accepted == sum(accepted.values())
    for entry in (*ledger.partitions, ledger.total):
        assert entry.accepted == entry.stored + entry.duplicate + entry.quarantined + entry.in_flight
        assert entry.in_flight >= 0
        assert entry.in_windows <= entry.stored
        assert entry.closed == (entry.in_flight == 0 and entry.in_windows == entry.stored)


def fill(url: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute("INSERT INTO telemetry.ledger VALUES (0, 90, 5, 5, now(), 90), (1, 7, 0, 0, now(), 7)")
        connection.execute("INSERT INTO telemetry.ledger_source VALUES (0, 'aa', 60, 60), (0, 'bb', 40, 40)")
        connection.execute("INSERT INTO telemetry.ledger_source VALUES (1, 'aa', 7, 7)")


async def test_the_ledger_is_closed_when_everything_arrived(api: Api) -> None:
    assert (await api.get(PATH)).json()["total"]["closed"]
    fill(api.database_url)
    answer = (await api.get(PATH)).json()
    Ledger.model_validate(answer)
    assert answer["total"] == {
        "accepted": 107,
        "stored": 97,
        "duplicate": 5,
        "quarantined": 5,
        "replayed": 0,
        "in_windows": 97,
        "in_flight": 0,
        "closed": True,
    }
    assert [entry["partition"] for entry in answer["partitions"]] == [0, 1]


async def test_the_ledger_is_open_while_windows_lack_readings(api: Api) -> None:
    fill(api.database_url)
    with psycopg.connect(api.database_url) as connection:
        connection.execute("UPDATE telemetry.ledger SET in_windows = 89 WHERE partition = 0")
    answer = (await api.get(PATH)).json()
    assert (answer["total"]["in_windows"], answer["total"]["in_flight"], answer["total"]["closed"]) == (96, 0, False)
    assert [entry["closed"] for entry in answer["partitions"]] == [False, True]


async def test_what_a_gateway_counted_and_no_worker_saw_is_in_flight(api: Api) -> None:
    fill(api.database_url)
    await api.live.put("ledger", {"aa/0": b'{"items_total":63}', "bb/0": b'{"items_total":12}'})
    await api.live.put("ledger", {"cc/2": b'{"items_total":4}'})
    answer = (await api.get(PATH)).json()
    assert [(entry["in_flight"], entry["closed"]) for entry in answer["partitions"]] == [
        (3, False),
        (0, True),
        (4, False),
    ]
    assert answer["total"]["in_flight"] == 7


async def test_the_ledger_is_of_one_moment_while_workers_commit(api: Api) -> None:
    fill(api.database_url)

    def commit() -> None:
        with psycopg.connect(api.database_url, autocommit=True) as connection:
            for _ in range(500):
                with connection.transaction():
                    connection.execute(
                        "UPDATE telemetry.ledger SET stored = stored + 1, in_windows = in_windows + 1 WHERE "
                        "partition = 0"
                    )
                    connection.execute(
                        "UPDATE telemetry.ledger_source SET items_total = items_total + 1, "
                        "items_received = items_received + 1 WHERE partition = 0 AND source = 'aa'"
                    )

    committing = asyncio.create_task(asyncio.to_thread(commit))
    while not committing.done():
        assert (await api.get(PATH)).json()["total"]["closed"]
    await committing
    assert (await api.get(PATH)).json()["total"]["accepted"] == 607


async def test_without_the_live_counters_there_is_no_ledger(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    async def away(topic: str) -> dict[str, bytes]:
        raise Unavailable("away")

    monkeypatch.setattr(api.live, "all", away)
    assert (await api.get(PATH, 503)).headers["retry-after"]


def refuse(url: str, items: list[tuple[str, str | None, bytes]]) -> None:
    with psycopg.connect(url) as connection:
        for reason, station_id, raw in items:
            connection.execute(
                "INSERT INTO telemetry.quarantine (partition, received_at, station_id, reason, detail, raw) "
                "VALUES (0, %s, %s, %s, 'so', %s)",
                (NOW, station_id, reason, raw),
            )


QUARANTINE = "/api/v1/telemetry/quarantine"


async def test_every_refused_item_is_found_as_it_came(api: Api) -> None:
    raws = [b'{"station_id": "\xc3\xa4"}', b"\xff\x00\x01", b"", b"nul \x00 in text"]
    refuse(api.database_url, [("malformed", None, raw) for raw in raws])
    items = (await api.get(QUARANTINE)).json()["items"]
    found = [
        b64decode(item["raw"]) if item["raw_encoding"] == "base64" else item["raw"].encode() for item in reversed(items)
    ]
    assert found == raws
    assert [item["raw_encoding"] for item in reversed(items)] == ["utf-8", "base64", "utf-8", "utf-8"]


async def test_quarantine_pages_put_together_are_the_whole_under_inserts(api: Api) -> None:
    refuse(api.database_url, [("absurd" if n % 2 else "future", f"ST-{n % 3}", b"%d" % n) for n in range(25)])
    seen, answer = [], (await api.get(QUARANTINE, limit=7)).json()
    while True:
        seen += [int(item["raw"]) for item in answer["items"]]
        refuse(api.database_url, [("future", None, b"99")])
        if not answer["next"]:
            break
        answer = (await api.get(answer["next"])).json()
    assert seen == list(reversed(range(25)))


async def test_the_quarantine_is_filtered_by_reason_and_station(api: Api) -> None:
    refuse(api.database_url, [("absurd" if n % 2 else "future", f"ST-{n % 3}", b"%d" % n) for n in range(12)])
    by_reason = (await api.get(QUARANTINE, reason="absurd")).json()["items"]
    assert [int(item["raw"]) for item in by_reason] == [11, 9, 7, 5, 3, 1]
    both = (await api.get(QUARANTINE, reason="absurd", station_id="st-0")).json()["items"]
    assert [int(item["raw"]) for item in both] == [9, 3]
    first = (await api.get(QUARANTINE, reason="absurd", limit=4)).json()
    assert [int(item["raw"]) for item in (await api.get(first["next"])).json()["items"]] == [3, 1]
