"""Laws of group commit: every item is processed once, in batches without equal keys, and fails alone."""

import asyncio
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from kit.errors import Unavailable
from kit.messaging.group_commit import GroupCommit


@dataclass(frozen=True)
class Numbered:
    """An item."""

    number: int
    key: Hashable = None

    @classmethod
    def distinct(cls, count: int) -> list["Numbered"]:
        """Items with keys of their own."""
        return [cls(number, number) for number in range(count)]


class Work:
    """Records its batches. The first one waits until `released` is set."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.begun = asyncio.Event()
        self.released = asyncio.Event()
        self.failures: dict[int, Exception] = {}  # of batches with that number in them

    async def __call__(self, items: Sequence[Numbered]) -> None:
        self.batches.append([item.number for item in items])
        self.begun.set()
        await self.released.wait()
        for item in items:
            if item.number in self.failures:
                raise self.failures[item.number]


async def submitted(commit: GroupCommit[Numbered], work: Work, items: Sequence[Numbered]) -> list["asyncio.Task[None]"]:
    """The items as they wait: the first one is in the batch under way."""
    tasks = [asyncio.create_task(commit.submit(items[0]))]
    await work.begun.wait()
    tasks += [asyncio.create_task(commit.submit(item)) for item in items[1:]]
    await asyncio.sleep(0)
    return tasks


async def test_items_that_arrive_during_a_batch_are_the_next_batch() -> None:
    work = Work()
    tasks = await submitted(GroupCommit(work), work, Numbered.distinct(4))
    assert not any(task.done() for task in tasks)
    work.released.set()
    await asyncio.gather(*tasks)
    assert work.batches == [[0], [1, 2, 3]]


async def test_a_batch_has_no_more_items_than_allowed() -> None:
    work = Work()
    tasks = await submitted(GroupCommit(work, items_max=2), work, Numbered.distinct(6))
    work.released.set()
    await asyncio.gather(*tasks)
    assert work.batches == [[0], [1, 2], [3, 4], [5]]


async def test_items_with_equal_keys_are_processed_in_order_in_batches_of_their_own() -> None:
    work = Work()
    items = [Numbered(0, "x"), Numbered(1, "a"), Numbered(2, "a"), Numbered(3, "b"), Numbered(4, "a")]
    tasks = await submitted(GroupCommit(work), work, items)
    work.released.set()
    await asyncio.gather(*tasks)
    assert work.batches == [[0], [1, 3], [2], [4]]


async def test_where_a_batch_fails_each_item_is_tried_alone_and_only_the_failing_one_raises() -> None:
    work = Work()
    work.failures[2] = ValueError("two")
    tasks = await submitted(GroupCommit(work), work, Numbered.distinct(4))
    work.released.set()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert [repr(outcome) for outcome in outcomes] == ["None", "None", "ValueError('two')", "None"]
    assert work.batches == [[0], [1, 2, 3], [1], [2], [3]]


async def test_in_an_outage_the_whole_batch_raises_and_nothing_is_tried_alone() -> None:
    work = Work()
    work.failures[2] = Unavailable("the database is down")
    tasks = await submitted(GroupCommit(work), work, Numbered.distinct(4))
    work.released.set()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [type(None), Unavailable, Unavailable, Unavailable]
    assert len({id(outcome) for outcome in outcomes[1:]}) == 3, "a shared error collects the tracebacks of all"
    assert work.batches == [[0], [1, 2, 3]]


async def test_an_item_whose_caller_was_cancelled_while_it_waited_is_left_out() -> None:
    work = Work()
    tasks = await submitted(GroupCommit(work), work, Numbered.distinct(3))
    tasks[1].cancel()
    await asyncio.wait(tasks[1:2])
    work.released.set()
    await asyncio.gather(tasks[0], tasks[2])
    assert work.batches == [[0], [2]]


async def test_after_a_pause_the_next_item_is_a_batch_of_its_own() -> None:
    work = Work()
    work.released.set()
    commit: GroupCommit[Numbered] = GroupCommit(work)
    for item in Numbered.distinct(2):
        await commit.submit(item)
    assert work.batches == [[0], [1]]


async def test_a_caller_that_is_cancelled_during_its_batch_does_not_stop_the_next() -> None:
    work = Work()
    tasks = await submitted(GroupCommit(work), work, Numbered.distinct(2))
    tasks[0].cancel()
    await asyncio.wait(tasks[:1])
    work.released.set()
    await tasks[1]
    assert work.batches == [[0], [1]]
