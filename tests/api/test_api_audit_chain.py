"""The chain, its check and retention on a real PostgreSQL, and questions of many entries."""

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import psycopg
import pytest

from api.audit.sealing import Sealer, verify
from api.audit.store import EntryCursor, EntryFilter, entries_query
from kit.audit.chain import Mark
from tests.api.audit_app import NOW, Running, running_audit
from tests.waiting import eventually


@pytest.fixture
async def running(database_url: str) -> AsyncIterator[Running]:
    async with running_audit(database_url) as opened:
        yield opened


# -- The chain. -------------------------------------------------------------------------------------------------------


async def test_an_entry_waits_for_transactions_that_may_still_add_one_before_it(running: Running) -> None:
    other = Sealer(running.store, running.clock)
    before = await running.database.fetchval("SELECT count(*) FROM audit.entry")  # the tokens
    async with running.database.transaction() as slow:
        await running.add(1, slow)
        await running.add(2)
        assert (await running.audit.sealer.run(), await other.run()) == (0, 0)
        assert (await verify(running.database)).unsealed == before + 2
    await running.sealed()
    assert await other.run() == 0  # whose mark is an old one
    found = await verify(running.database)
    assert (found.entries, found.unsealed, found.faults) == (before + 3, 0, [])


async def test_two_writers_and_two_sealers_at_once(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.audit.sealing.BLOCK_ENTRIES_MAX", 7)
    done = asyncio.Event()

    async def write(seed: int) -> None:
        for number in range(30):
            async with running.database.transaction() as connection:
                await running.add(1 + (number + seed) % 3, connection)

    async def sealing() -> None:
        sealer = Sealer(running.store, running.clock)
        while not done.is_set():
            await sealer.run()

    sealers = [asyncio.create_task(sealing()) for _ in range(2)]
    await asyncio.gather(write(0), write(1))
    done.set()
    await asyncio.gather(*sealers)
    await running.sealed()
    found = await verify(running.database)
    total = await running.database.fetchval("SELECT count(*) FROM audit.entry")
    assert (found.entries, found.unsealed, found.faults) == (total, 0, [])
    assert found.blocks > 10


@pytest.mark.parametrize(
    ("tamper", "what"),
    [
        ("UPDATE audit.entry SET actor = 'operator/B' WHERE id = %s", "was changed"),
        ("UPDATE audit.entry SET after = '{\"number\": 9}' WHERE id = %s", "was changed"),
        ("DELETE FROM audit.entry WHERE id = %s", "was deleted"),
    ],
)
async def test_whoever_changes_a_sealed_entry_is_found(running: Running, tamper: str, what: str) -> None:
    await running.add(5)
    await running.sealed()
    await running.add(2)
    entry_id = running.as_owner("SELECT min(id) FROM audit.entry WHERE action = 'thing.changed'")[0][0]
    with psycopg.connect(running.url) as owner:
        owner.execute("ALTER TABLE audit.entry DISABLE TRIGGER entry_is_never_changed")
        owner.execute(tamper.encode(), (entry_id,))
    found = await verify(running.database)
    assert [(fault.entry_id, fault.what) for fault in found.faults] == [(entry_id, what)]
    assert found.unsealed == 2


async def test_no_role_changes_or_deletes_an_entry_and_its_owner_does_not_by_mistake(running: Running) -> None:
    await running.add(1)
    for statement in (
        "UPDATE audit.entry SET actor = ''", "DELETE FROM audit.entry", "TRUNCATE audit.entry",
        "INSERT INTO audit.entry (action) VALUES ('x')", "DELETE FROM audit.block", "UPDATE audit.block SET hash = ''",
    ):  # fmt: skip
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await running.database.execute(statement)
    with pytest.raises(psycopg.errors.RaiseException, match="are not changed"):
        running.as_owner("UPDATE audit.entry SET actor = ''")


async def test_entries_past_retention_are_deleted_by_whole_blocks_and_their_hashes_stay(running: Running) -> None:
    with psycopg.connect(running.url) as owner:  # in place of the test's tokens, entries of long ago
        owner.execute("ALTER TABLE audit.entry DISABLE TRIGGER entry_is_never_changed")
        owner.execute("TRUNCATE audit.entry")
        owner.execute(_OLD.encode(), ("2010-01-01", "2010-01-01"))
        owner.execute(_OLD.encode(), ("2010-01-01", "2010-01-02"))
        owner.execute("INSERT INTO audit.telemetry_minute VALUES ('2020-01-01', 'x', '{}', '{}', 1)")
    running.clock.set_wall(datetime(2010, 1, 3, tzinfo=UTC))
    await running.sealed()
    running.clock.set_wall(NOW)
    first = await running.store.head()
    await running.add(2)
    await running.sealed()
    assert await running.audit.retention.run() == 2
    assert await running.audit.retention.run() == 0
    assert running.as_owner("SELECT count(*) FROM audit.telemetry_minute") == [(0,)]
    newest, *others = await running.entries()
    assert (newest["action"], newest["entity"]) == ("audit.forgotten", "audit")
    assert newest["before"] == {"first_block": 1, "last_block": 1, "entries": 2}
    assert [entry["action"] for entry in others] == ["thing.changed"] * 2
    found = await verify(running.database)
    assert (found.forgotten_blocks, found.forgotten_entries, found.entries, found.faults) == (1, 2, 2, [])
    assert (found.forgotten_days_min or 0) > 5_000
    running.as_owner("UPDATE audit.block SET entries = 3 WHERE number = %s", first.number)
    assert [fault.what for fault in (await verify(running.database)).faults] == [
        "its header was changed", "retention deleted 2 entries up to it, and 3 were sealed"
    ]  # fmt: skip


async def test_nothing_young_is_deleted_whatever_the_process_says(running: Running) -> None:
    await running.add(1)
    await running.sealed()
    running.clock.set_wall(datetime(2100, 1, 1, tzinfo=UTC))
    assert await running.audit.retention.run() == 0
    with pytest.raises(asyncpg.RaiseError, match="last 360 days"):
        await running.store.forget(359, 1, 1)


_OLD = """
INSERT INTO audit.entry (at, recorded_at, action, actor, role, token, correlation_id, address, requests)
VALUES (%s, %s, 'request', 'operator/A', 'operator', 'stored', '', '', 1)
"""


async def test_a_sealer_that_is_killed_leaves_the_chain_whole(running: Running) -> None:
    script = f"""
import asyncio
from api.audit.sealing import Sealer
from api.audit import sealing
from api.audit.store import AuditStore, EntryCursor, EntryFilter, entries_query
from kit.clock import SystemClock
from kit.database.postgres import open_database
sealing.BLOCK_ENTRIES_MAX = 2
async def main():
    database = await open_database({running.url!r}, name="sealer", role="audit_service")
    sealer = Sealer(AuditStore(database), SystemClock())
    while True:
        await sealer.run()
asyncio.run(main())
"""
    await running.add(40)
    for _ in range(3):
        before = (await running.store.head()).number
        process = subprocess.Popen([sys.executable, "-c", script])  # noqa: ASYNC220  # our own words; killed below
        try:

            async def grown(before: int = before) -> bool:
                await running.add(3)
                return (await running.store.head()).number > before + 2

            await eventually(grown, within_s=60)
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
    await running.sealed()
    found = await verify(running.database)
    assert (found.faults, found.unsealed) == ([], 0)
    assert found.blocks > 9


# -- What the chain cannot excuse, on a real PostgreSQL. --------------------------------------------------------------


_UNLISTED = "UPDATE audit.block SET entry_ids = NULL, digests = NULL, forgotten_at = now()"


@pytest.mark.parametrize("where", ["true", "number = 1"])
async def test_entries_that_were_deleted_with_their_lists_are_found(running: Running, where: str) -> None:
    for _ in range(3):
        await running.add(2)
        await running.sealed()
    blocks = (await running.store.head()).number
    assert blocks > 2
    running.as_owner(f"DELETE FROM audit.entry WHERE id <= (SELECT max(last_id) FROM audit.block WHERE {where})")
    running.as_owner(f"{_UNLISTED} WHERE {where}")
    found = await verify(running.database)
    gone = blocks if where == "true" else 1
    assert [(fault.block, fault.what) for fault in found.faults] == [
        (number, "its entries were deleted, and retention has no record of it") for number in range(1, gone + 1)
    ]
    assert (found.forgotten_blocks, found.forgotten_days_min) == (gone, None)


async def test_an_entry_whose_id_was_never_given_is_found(running: Running) -> None:
    await running.add(2)
    await running.sealed()
    insert = """
    INSERT INTO audit.entry (id, at, action, actor, role, token, correlation_id, address, requests)
    OVERRIDING SYSTEM VALUE VALUES (%s, now(), 'request', 'operator/A', '', '', '', '', 1)
    """
    with pytest.raises(psycopg.errors.CheckViolation):
        running.as_owner(insert, -5)
    running.as_owner("ALTER TABLE audit.entry DROP CONSTRAINT entry_id_check")
    for entry_id in (-5, 0, 1_000_000):
        running.as_owner(insert, entry_id)
    found = await verify(running.database)
    assert [(fault.entry_id, fault.what) for fault in found.faults] == [
        (entry_id, "was added with an id that was never given") for entry_id in (-5, 0, 1_000_000)
    ]


async def test_the_first_entry_of_all_is_sealed(running: Running) -> None:
    with psycopg.connect(running.url) as owner:
        owner.execute("ALTER TABLE audit.entry DISABLE TRIGGER entry_is_never_changed")
        owner.execute("TRUNCATE audit.entry RESTART IDENTITY")
    await running.audit.sealer.run()  # there is none yet
    await running.add(1)
    await running.sealed()
    assert (await verify(running.database)).entries == 1


async def test_a_clock_that_steps_back_leaves_nothing_unsealed_and_no_fault(running: Running) -> None:
    for step_s in (0, -7 * 86_400, 3_600, -60):
        running.clock.set_wall(running.clock.now() + timedelta(seconds=step_s))
        await running.add(2)
        await running.sealed()
    found = await verify(running.database)
    assert (found.unsealed, found.faults) == (0, [])


@pytest.mark.parametrize(
    "arguments", [(None, 1, 1), (360, None, 1), (360, 1, None), (0, 1, 1), (-1, 1, 1), (360, 0, 1), (360, 1, -5)]
)
async def test_retention_refuses_what_says_nothing_and_deletes_nothing(
    running: Running, arguments: tuple[int | None, ...]
) -> None:
    await running.add(2)
    await running.sealed()
    running.as_owner("INSERT INTO audit.telemetry_minute VALUES ('2020-01-01', 'x', '{}', '{}', 1)")
    before = running.as_owner("SELECT count(*), (SELECT count(*) FROM audit.telemetry_minute) FROM audit.entry")
    with pytest.raises(asyncpg.RaiseError):
        await running.database.execute("SELECT audit.forget($1, $2, $3)", *arguments)
    after = running.as_owner("SELECT count(*), (SELECT count(*) FROM audit.telemetry_minute) FROM audit.entry")
    assert after == before


async def test_retention_deletes_in_steps_of_a_bounded_size(running: Running) -> None:
    running.as_owner("""
    INSERT INTO audit.telemetry_minute
    SELECT '2020-01-01'::timestamptz + n * interval '1 min', 'x', '{}', '{}', 1 FROM generate_series(1, 2500) AS n
    """)
    steps = [(await running.store.forget(3_653, 1, 90)).minutes for _ in range(4)]
    assert steps == [1_000, 1_000, 500, 0]


async def test_what_a_clock_of_long_ago_recorded_is_kept_as_long_as_what_was_sealed_with_it(running: Running) -> None:
    running.as_owner(_OLD, "2010-01-01", "2010-01-01")
    await running.sealed()
    assert await running.audit.retention.run() == 0
    assert (await verify(running.database)).faults == []


# -- Many entries. ----------------------------------------------------------------------------------------------------

_MANY = """
INSERT INTO audit.entry (at, action, actor, role, token, method, endpoint, status, correlation_id, address, requests,
                         entity)
SELECT '2026-01-01'::timestamptz + n * interval '7 s',
       CASE WHEN n %% 1000 = 0 THEN 'setting.changed' ELSE 'request' END,
       'operator/' || n %% 500, 'operator', 'stored', 'POST', '/api/v1/things/' || n %% 40,
       CASE WHEN n %% 1000 = 0 THEN NULL WHEN n %% 700 = 0 THEN 403 ELSE 200 END, 'c' || n, '192.0.2.1', 1,
       CASE WHEN n %% 1000 = 0 THEN 'setting/' || n %% 7 END
FROM generate_series(1, 120000) AS n
"""
_QUESTIONS: dict[str, EntryFilter] = {
    "all": EntryFilter(),
    "actor": EntryFilter(actor="operator/7"),
    "actor, who did nothing": EntryFilter(actor="operator/x"),
    "action": EntryFilter(action="setting.changed"),
    "endpoint": EntryFilter(endpoint="/api/v1/things/7"),
    "status": EntryFilter(status=403),
    "entity": EntryFilter(entity="setting/3"),
    "request": EntryFilter(correlation_id="c77777"),
    "time": EntryFilter(start=datetime(2026, 1, 3, tzinfo=UTC), end=datetime(2026, 1, 4, tzinfo=UTC)),
    "actor and time": EntryFilter(actor="operator/7", end=datetime(2026, 1, 3, tzinfo=UTC)),
    "actor and status": EntryFilter(actor="operator/7", status=200),
}


def _nodes(plan: dict[str, Any]) -> list[dict[str, Any]]:
    return [plan, *(node for inner in plan.get("Plans", ()) for node in _nodes(inner))]


async def test_no_question_reads_more_than_it_answers_of_many_entries(running: Running) -> None:
    """By the plan that PostgreSQL runs: by an index, with few rows that are read in vain."""
    running.as_owner(_MANY)
    with psycopg.connect(running.url, autocommit=True) as owner:
        owner.execute("VACUUM ANALYZE audit.entry")
    cursor = EntryCursor(int(datetime(2026, 1, 6, tzinfo=UTC).timestamp() * 1_000_000), 1)
    for name, wanted in _QUESTIONS.items():
        for after in (None, cursor):
            query, arguments = entries_query(wanted, after, 101)
            explained = await running.database.fetchval(f"EXPLAIN (ANALYZE, FORMAT JSON) {query}", *arguments)
            nodes = _nodes(json.loads(explained)[0]["Plan"])
            scans = [node for node in nodes if "Scan" in node["Node Type"]]
            assert all("Index" in one["Node Type"] or "Bitmap" in one["Node Type"] for one in scans), (name, explained)
            read = sum(one["Actual Rows"] + one.get("Rows Removed by Filter", 0) for one in scans)
            assert read <= 2_000, (name, read, explained)


async def test_a_mark_of_a_server_that_was_replaced_is_given_up(running: Running) -> None:
    """One that is restored from a dump begins again with small numbers of transactions."""
    await running.add(1)
    running.audit.sealer._mark = Mark(1, 2**40)
    assert await running.audit.sealer.run() == 0
    await running.sealed()
