"""Laws of the in-process log's reading side."""

import asyncio

import pytest

from kit.errors import Unavailable
from kit.log.partitioned_log import InProcessLog


async def appended(log: InProcessLog, *records: bytes) -> list["asyncio.Task[None]"]:
    """Appends under way, in order."""
    tasks = [asyncio.create_task(log.append(0, record)) for record in records]
    await asyncio.sleep(0)
    return tasks


async def test_offsets_continue_at_the_position_of_the_store() -> None:
    log = InProcessLog()
    log.start(0, 41)
    tasks = await appended(log, b"a", b"b", b"c")
    assert await log.read(0, 2, 1) == [(41, b"a"), (42, b"b")]
    assert await log.read(0, 2, 1) == [(43, b"c")]
    log.ack(0, 44)
    await asyncio.gather(*tasks)


async def test_what_is_not_acknowledged_is_read_again_after_a_rewind() -> None:
    log = InProcessLog()
    log.start(0, 0)
    tasks = await appended(log, b"a", b"b")
    await log.read(0, 9, 1)
    log.ack(0, 1)
    log.rewind(0)
    assert await log.read(0, 9, 1) == [(1, b"b")]
    log.ack(0, 2)
    await asyncio.gather(*tasks)
    assert log.lag(0) == 0


async def test_a_restart_above_what_was_acknowledged_counts_as_an_acknowledgement() -> None:
    """The commit went through, and its answer was lost: the reader finds out when it looks at the store."""
    log = InProcessLog()
    log.start(0, 0)
    tasks = await appended(log, b"a", b"b")
    await log.read(0, 9, 1)
    log.start(0, 1)
    await tasks[0]
    assert not tasks[1].done()
    assert await log.read(0, 9, 1) == [(1, b"b")]
    log.ack(0, 2)
    await tasks[1]


async def test_a_store_that_lost_a_commit_is_an_error() -> None:
    log = InProcessLog()
    log.start(0, 0)
    (task,) = await appended(log, b"a")
    await log.read(0, 9, 1)
    log.ack(0, 1)
    await task
    with pytest.raises(ValueError, match="offset 0 asked for"):
        log.start(0, 0)


async def test_nothing_unread_can_be_acknowledged() -> None:
    log = InProcessLog(timeout_s=0.01)
    log.start(0, 0)
    tasks = await appended(log, b"a")
    with pytest.raises(ValueError, match="not read yet"):
        log.ack(0, 1)
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_failing_a_partition_raises_in_its_appends_and_keeps_its_records() -> None:
    log = InProcessLog()
    log.start(0, 0)
    (task,) = await appended(log, b"a")
    log.fail(0, RuntimeError("the database is away"))
    with pytest.raises(Unavailable, match="the database is away"):
        await task
    assert await log.read(0, 9, 1) == [(0, b"a")]


async def test_reading_waits_for_a_record_until_its_timeout() -> None:
    log = InProcessLog()
    log.start(0, 0)
    assert await log.read(0, 9, 0.001) == []
    reading = asyncio.create_task(log.read(0, 9, 60))
    await asyncio.sleep(0)
    tasks = await appended(log, b"a")
    assert await reading == [(0, b"a")]
    log.ack(0, 1)
    await asyncio.gather(*tasks)


async def test_closing_wakes_the_reader() -> None:
    log = InProcessLog()
    log.start(0, 0)
    reading = asyncio.create_task(log.read(0, 9, 60))
    await asyncio.sleep(0)
    await log.close()
    with pytest.raises(Unavailable):
        await reading


async def test_an_abandoned_log_fails_its_appends_at_once_and_is_closed_without_a_wait() -> None:
    log = InProcessLog(timeout_s=3_600)
    log.start(0, 0)
    (task,) = await appended(log, b"a")
    log.abandon(RuntimeError("the database is lost"))
    with pytest.raises(Unavailable, match="the database is lost"):
        await task
    with pytest.raises(Unavailable, match="closed"):
        await log.append(0, b"b")
    await log.close()
    assert log.uncommittable


async def test_a_closed_log_is_uncommittable_only_while_it_holds_records() -> None:
    log = InProcessLog(timeout_s=0.01)
    log.start(0, 0)
    (task,) = await appended(log, b"a")
    assert not log.uncommittable
    await log.close()
    assert log.uncommittable
    await log.read(0, 9, 1)
    log.ack(0, 1)
    assert not log.uncommittable
    await asyncio.gather(task, return_exceptions=True)
