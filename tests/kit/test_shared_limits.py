"""Requests of a token to several processes, summed on Redis: its bound is one for all, and nobody waits for Redis."""

import asyncio
import uuid
from collections.abc import AsyncIterator

import pytest
from prometheus_client import CollectorRegistry

from kit.auth.scopes import Kind
from kit.auth.token_store import Principal
from kit.clock import ManualClock
from kit.web.limits.refusals import Refusals
from kit.web.limits.requests import RequestLimits
from kit.web.limits.settings import RequestLimitSettings
from kit.web.limits.shared import SharedRequestCounts
from kit.web.problem import Problem
from tests.private_servers import PrivateServers

BOUND = 10


class Process:
    """The limits of one process."""

    def __init__(self, url: str, prefix: str, clock: ManualClock) -> None:
        self.limits = RequestLimits(clock.monotonic_s, Refusals(CollectorRegistry(), clock.monotonic_s))
        self.limits.follow(lambda: RequestLimitSettings(requests_per_minute_max=BOUND))
        self.shared = self.limits.shared = SharedRequestCounts(url, prefix, clock)

    def send(self, requests: int, who: Principal) -> int:
        """How many of them are taken."""
        return sum(self._taken(who) for _ in range(requests))

    def _taken(self, who: Principal) -> bool:
        try:
            self.limits.spend(who)
        except Problem as problem:
            assert 1 <= int(problem.headers["Retry-After"]) <= 60  # noqa: PT017  # others are refusals, too
            return False
        return True


@pytest.fixture
async def processes(redis_url: str) -> AsyncIterator[tuple[ManualClock, list[Process]]]:
    """Three of them, and their clock at the beginning of a minute."""
    clock, prefix = ManualClock(), f"requests:{uuid.uuid4()}:"
    running = [Process(redis_url, prefix, clock) for _ in range(3)]
    yield clock, running
    for process in running:
        await process.shared.close()


def token(kind: Kind = "operator") -> Principal:
    return Principal(kind, uuid.uuid4(), None)


async def test_the_bound_of_a_token_is_one_for_all_processes(processes: tuple[ManualClock, list[Process]]) -> None:
    clock, (first, second, third) = processes
    busy, quiet = token(), token()
    assert [process.send(4, busy) for process in (first, second, third)] == [4, 4, 4]
    for process in (first, second, third):
        await process.shared.synchronise()
    assert third.send(1, busy) == 0  # it was the last to ask, and knows
    assert first.send(1, busy) == 1
    await first.shared.synchronise()
    assert first.send(100, busy) == 0
    assert [process.send(3, quiet) for process in (first, second, third)] == [3, 3, 3]
    clock.advance(60)
    assert first.send(4, busy) == third.send(4, busy) == 4


async def test_what_a_process_refused_is_not_summed(processes: tuple[ManualClock, list[Process]]) -> None:
    """Else a client that does not heed its 429 would go on being refused for what it never got."""
    clock, (first, *_) = processes
    who = token()
    clock.advance(59)
    assert first.send(BOUND, who) == BOUND
    await first.shared.synchronise()
    clock.advance(1)
    assert first.send(100, who) == 0  # this process has none left
    await first.shared.synchronise()
    clock.advance(12)
    assert first.send(100, who) == 2
    await first.shared.synchronise()
    clock.advance(6)
    assert first.send(1, who) == 1
    first.limits.give_back(who)
    assert first.shared._counted[who.token_id][0] == 0


async def test_devices_are_counted_by_each_gateway_alone(processes: tuple[ManualClock, list[Process]]) -> None:
    _, (first, *_) = processes
    assert first.send(100, token("device")) == 100
    assert not first.shared._counted


async def test_while_redis_is_away_each_process_counts_for_itself(
    servers: PrivateServers, processes: tuple[ManualClock, list[Process]]
) -> None:
    clock, (first, second, _) = processes
    who = token()
    assert first.send(1, who) == 1
    await first.shared.synchronise()
    await asyncio.to_thread(servers.redis.kill)
    assert first.send(BOUND + 5, who) == BOUND - 1
    await first.shared.synchronise()
    assert second.send(BOUND + 5, who) == BOUND
    await second.shared.synchronise()
    await asyncio.to_thread(servers.redis.start)
    clock.advance(60)
    assert first.send(BOUND, who) == BOUND
    await first.shared.synchronise()
    assert second.send(1, who) == 1
    await second.shared.synchronise()
    assert second.send(1, who) == 0
