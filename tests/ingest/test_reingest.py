"""Replays on a real PostgreSQL: whatever ends where, a reading counts once and no item is lost."""

import asyncio
from typing import Any
from unittest.mock import patch

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from ingest.reingest import service, store
from ingest.reingest.judgement import Quarantined, judge
from ingest.reingest.models import ReplayRequest
from kit.auth.token_store import Principal
from kit.errors import Overloaded, Unavailable
from kit.observability.logs import correlation_id
from kit.web.errors import Forbidden
from schemas.frame_rows import FAILED
from tests.ingest.quarantine_strategies import frame_of, quarantines
from tests.ingest.reingest_app import (
    ALL,
    OPERATOR,
    Stream,
    ask,
    drain,
    fill,
    make_tables,
    marked,
    reingesting,
    replayed,
)
from tests.ingest.wire_strategies import NOW_MS, RULES, as_json

GOOD = {"station_id": "CP1", "connector_id": 1, "ts": NOW_MS, "boot": 1}


EMPTY = {"from": str(NOW_MS), "to": str(NOW_MS)}


class Crashed(Exception):
    """The process ends here."""


@pytest.fixture
def url(database_url: str) -> str:
    """A database with an empty quarantine."""
    make_tables(database_url)
    return database_url


def rows_of(count: int, reason: str = "ts_future") -> list[Quarantined]:
    return [Quarantined(number, reason, as_json(GOOD | {"seq": number})) for number in range(1, count + 1)]


@st.composite
def attempts(draw: st.DrawFn) -> list[tuple[list[str], str, int]]:
    """For each: faults of its appends, where it crashes, how many replay at once."""
    faults = st.lists(st.sampled_from(["", "before", "after"]), max_size=3)
    return draw(
        st.lists(st.tuples(faults, st.sampled_from(["", "unmarked", "uncommitted"]), st.integers(1, 2)), max_size=3)
    )


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=quarantines(), plan=attempts())
def test_whatever_ends_where_a_reading_counts_once_and_no_item_is_lost(
    url: str, rows: list[Quarantined], plan: list[tuple[list[str], str, int]]
) -> None:
    fill(url, rows)
    expected = judge(rows, RULES)
    mark = store.mark

    async def replaying(stream: Stream) -> None:
        async with reingesting(url, stream) as reingest:
            for faults, crash, at_once in plan:

                async def marking(*arguments: Any, crash: str = crash) -> None:
                    if crash == "unmarked":
                        raise Crashed
                    await mark(*arguments)
                    if crash == "uncommitted":
                        raise Crashed

                stream.faults = list(faults)
                with patch.object(store, "mark", marking):
                    outcomes = await asyncio.gather(
                        *(ask(reingest, **ALL) for _ in range(at_once)), return_exceptions=True
                    )
                assert all(
                    not isinstance(one, BaseException) or isinstance(one, Crashed | Unavailable) for one in outcomes
                )
            stream.faults = []
            await drain(reingest)
            await drain(reingest)

    stream = Stream()
    asyncio.run(replaying(stream))
    again = {one.id for one in expected.replayed}
    assert marked(url) == again
    assert replayed(url) == sum(one.counted for one in expected.replayed)
    without_faults = Stream()
    fill(url, rows)

    async def once() -> None:
        async with reingesting(url, without_faults) as reingest:
            await asyncio.gather(drain(reingest), drain(reingest))

    asyncio.run(once())
    assert stream.stored == without_faults.stored
    assert without_faults.accepted == sum(one.counted for one in expected.replayed), "none of them twice"
    assert len(stream.stored) + stream.duplicate + len(stream.quarantined) == stream.accepted
    if not any(any(faults) or crash for faults, crash, _ in plan):
        assert stream.accepted == without_faults.accepted


async def test_an_item_says_when_by_whom_and_by_which_request_it_was_replayed(url: str) -> None:
    fill(url, rows_of(3))
    token = correlation_id.set("corr-7")
    try:
        async with reingesting(url, stream := Stream()) as reingest:
            answer = await ask(reingest, ids=[1, 3, 99])
    finally:
        correlation_id.reset(token)
    assert (answer.replayed, answer.readings, answer.not_waiting, answer.next) == (2, 2, [99], None)
    assert len(stream.stored) == 2
    with psycopg.connect(url) as connection:
        found = connection.execute(
            "SELECT id, replayed_by, replay_correlation_id FROM telemetry.quarantine WHERE replayed_at IS NOT NULL "
            "ORDER BY id"
        ).fetchall()
    assert found == [(1, OPERATOR.name, "corr-7"), (3, OPERATOR.name, "corr-7")]


async def test_two_replays_at_once_take_each_item_once(url: str) -> None:
    fill(url, rows_of(8))
    async with reingesting(url, stream := Stream()) as reingest:
        answers = await asyncio.gather(drain(reingest, **ALL, limit=3), drain(reingest, **ALL, limit=3))
    assert sum(one.replayed for some in answers for one in some) == 8
    assert (stream.accepted, stream.duplicate, replayed(url)) == (8, 0, 8)


async def test_ids_that_do_not_wait_are_named(url: str) -> None:
    fill(url, rows_of(3))
    async with reingesting(url, Stream()) as reingest:
        answers = await drain(reingest, ids=[1, 3, 99])
        assert [one for answer in answers for one in answer.not_waiting] == [99]
        again = await ask(reingest, ids=[1, 3])
    assert (again.replayed, again.not_waiting, again.next) == (0, [1, 3], None)


async def test_conditions_hold_together_and_a_dry_run_changes_nothing(url: str) -> None:
    fill(url, [*rows_of(4), *(row._replace(id=row.id + 4, reason="malformed") for row in rows_of(4))])
    async with reingesting(url, stream := Stream()) as reingest:
        for wanted, expected in (
            ({"reason": "malformed"}, 4),
            ({"station_id": "s2"}, 1),
            ({"station_id": "S2", "reason": "malformed"}, 0),
            ({"from": str(NOW_MS), "to": str(NOW_MS + 1)}, 8),
            ({"to": str(NOW_MS)}, 0),
            ({"ids": [1, 2, 5], "reason": "ts_future"}, 2),
            (ALL, 8),
        ):
            answer = await ask(reingest, **wanted, dry_run=True)
            assert (answer.dry_run, answer.replayed) == (True, expected), wanted
    assert (stream.accepted, marked(url)) == (0, set())


async def test_one_request_has_a_bound_in_items_and_in_bytes_and_next_goes_on(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(url, rows_of(10))
    monkeypatch.setattr(service, "BYTES_MAX", 1)
    async with reingesting(url, Stream()) as reingest:
        assert [one.replayed for one in await drain(reingest, **ALL, limit=4)] == [1] * 10
        fill(url, rows_of(10))
        monkeypatch.undo()
        assert [one.replayed for one in await drain(reingest, **ALL, limit=4)] == [4, 4, 2]


async def test_what_is_refused_again_is_said_and_stays(url: str) -> None:
    fill(url, [Quarantined(1, "malformed", b"{"), *rows_of(2)[1:]])
    async with reingesting(url, Stream()) as reingest:
        (answer,) = await drain(reingest)
    assert [(one.id, one.reason) for one in answer.refused] == [(1, "malformed")]
    assert marked(url) == {2}


async def test_a_token_of_some_stations_replays_what_is_theirs_and_nothing_of_others(url: str) -> None:
    """Row 1 is known to be S1's, and what it says is of CP1; a frame is of nobody, though all of it may be CP1's."""
    own = as_json(GOOD | {"station_id": "S2"})
    frame = frame_of([GOOD | {"station_id": "S2", "seq": 7}, GOOD | {"seq": 8}])
    fill(url, [*rows_of(1), Quarantined(2, "ts_future", own), Quarantined(3, FAILED, frame)])
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("UPDATE telemetry.quarantine SET station_id = NULL WHERE id = 3")
    bound = Principal("operator", OPERATOR.token_id, frozenset({"S1", "S2"}))
    async with reingesting(url, stream := Stream()) as reingest:
        for wanted in (ALL, {"ids": [1, 2, 3]}, {"station_id": "s2"}):
            answer = await ask(reingest, bound, **wanted, dry_run=True)
            assert answer.replayed == 1
        answer = await ask(reingest, bound, ids=[1, 2, 3])
        rest = await ask(reingest, bound, ids=[1, 2, 3], cursor=answer.next)
        assert (answer.replayed, rest.replayed, rest.not_waiting, rest.next) == (1, 0, [3], None)
        assert [(one.id, one.reason) for one in answer.refused] == [(1, "station_forbidden")]
        with pytest.raises(Forbidden, match="not for station S9"):
            await ask(reingest, bound, station_id="S9")
        with pytest.raises(Forbidden, match="no station at all"):
            await ask(reingest, Principal("operator", OPERATOR.token_id, frozenset()), **ALL)
    assert (marked(url), stream.accepted, len(stream.stored)) == ({2}, 1, 1)


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=quarantines(), at_once=st.integers(1, 4))
def test_a_replay_ends_though_all_that_it_takes_is_set_apart_again(
    url: str, rows: list[Quarantined], at_once: int
) -> None:
    fill(url, rows)
    added: list[int] = []

    class SetApart(Stream):
        async def append(self, partition: int, record: bytes) -> None:
            before = self.accepted
            await super().append(partition, record)
            with psycopg.connect(url) as connection:
                for _ in range(self.accepted - before):
                    connection.execute(
                        "INSERT INTO telemetry.quarantine (id, partition, received_at, reason, detail, raw) OVERRIDING "
                        "SYSTEM VALUE SELECT max(id) + 1, 0, now(), 'unclaimed', '', %s FROM telemetry.quarantine",
                        (as_json(GOOD),),
                    )
                    added.append(1)

    async def replaying() -> int:
        requests = 0
        cursor: str | None = None
        async with reingesting(url, SetApart()) as reingest:
            while requests <= len(rows):
                answer = await ask(reingest, **ALL, limit=at_once, cursor=cursor)
                requests, cursor = requests + 1, answer.next
                if cursor is None:
                    break
        return requests

    assert asyncio.run(replaying()) <= max(1, -(-len(rows) // at_once))
    assert marked(url) == {one.id for one in judge(rows, RULES).replayed}, "what came back is for the next replay"


def test_a_dry_run_writes_and_locks_nothing(url: str) -> None:
    fill(url, rows_of(3))
    with psycopg.connect(url) as holder:
        holder.execute("SELECT FROM telemetry.quarantine WHERE id < 3 FOR UPDATE")
        with psycopg.connect(url) as connection:
            connection.execute("SET TRANSACTION READ ONLY")
            found = connection.execute(
                "SELECT id FROM telemetry.items_to_replay(NULL, NULL, NULL, NULL, NULL, 0, 9, 9, 9000, false)"
            ).fetchall()
            assert found == [(1,), (2,), (3,)]


async def test_a_log_that_is_away_marks_nothing_and_more_than_two_at_once_wait(url: str) -> None:
    fill(url, [Quarantined(1, FAILED, frame_of([GOOD, GOOD | {"seq": 2}]))])
    async with reingesting(url, stream := Stream(["before"])) as reingest:
        with pytest.raises(Unavailable):
            await ask(reingest, **ALL)
        assert marked(url) == set()
        outcomes = await asyncio.gather(*(ask(reingest, **ALL) for _ in range(4)), return_exceptions=True)
        assert sum(isinstance(one, Overloaded) for one in outcomes) == 2
    assert (len(stream.stored), replayed(url)) == (2, 2)


async def test_retention_and_the_ledgers_writer_do_not_wait_for_a_replay(url: str) -> None:
    """While readings of a replay are not durable the worker has to commit: nothing that it locks may be locked."""
    fill(url, rows_of(2))

    class Committing(Stream):
        async def append(self, partition: int, record: bytes) -> None:
            with psycopg.connect(url, options="-c lock_timeout=1000") as connection:
                connection.execute("UPDATE telemetry.ledger SET stored = stored + 1")
                connection.execute(
                    "INSERT INTO telemetry.quarantine (id, partition, received_at, reason, detail, raw) "
                    "OVERRIDING SYSTEM VALUE SELECT max(id) + 1, 0, now(), '', '', '' FROM telemetry.quarantine"
                )
            await super().append(partition, record)

    async with reingesting(url, stream := Committing()) as reingest:
        await ask(reingest, ids=[1, 2])
    assert len(stream.stored) == 2


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({}, "say which"),
        ({"dry_run": True}, "say which"),
        (EMPTY, "before"),
        ({"ids": []}, "at least 1"),
    ],
)
def test_a_request_says_which(body: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        ReplayRequest.model_validate(body)


def test_an_item_that_does_not_wait_cannot_be_marked(url: str) -> None:
    fill(url, rows_of(1))
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SELECT telemetry.mark_replayed('{1}', '{1}', 'x', 'y')")
        with pytest.raises(psycopg.errors.RaiseException, match="of 1 items 0 waited"):
            connection.execute("SELECT telemetry.mark_replayed('{1}', '{1}', 'x', 'y')")
    assert replayed(url) == 1
