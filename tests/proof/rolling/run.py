"""One restart after the other, and what came of it."""

import signal
from dataclasses import dataclass
from functools import partial

import httpx
import psycopg

from tests.proof.processes import SupervisedService
from tests.proof.rolling.fronted import START_S, Fronted
from tests.proof.rolling.load import RequestsSeen, UsersLoad
from tests.waiting import eventually

_STORED = """
SELECT c.station_id, r.seq, count(*) FROM telemetry.reading r JOIN telemetry.connector c USING (connector_key)
WHERE c.station_id ^@ 'ROLL-' GROUP BY 1, 2
"""
_SETTLE_S = 180  # against hanging
_BEFORE = 20  # answers of each kind, before and after each restart


@dataclass
class Rolled:
    """The result."""

    restarts: int
    load: UsersLoad
    lost: int  # readings that were acknowledged and are not stored
    doubled: int
    ledger: dict[str, object]

    @property
    def failures(self) -> list[str]:
        """All that anybody saw that should not be."""
        load = self.load
        return [line for seen in (load.posts, load.questions, load.changes, load.streams) for line in seen.failed]

    def rows(self, what: str) -> list[str]:
        """As Markdown."""

        def row(name: str, seen: RequestsSeen) -> str:
            return f"| {what} | {name} | {seen.answered} | {len(seen.failed)} | {seen.longest_s:.2f} |"

        load = self.load
        return [
            row("readings, one a post", load.posts),
            row("questions (GET)", load.questions),
            row("POSTs that no proxy repeats", load.changes),
            row(f"live streams ({load.events} events; away for {load.stream_away_s:.2f} s at most)", load.streams),
        ]


async def rolled(platform: Fronted, rounds: int, *, stored: bool = True) -> Rolled:
    """Restart each of the answering processes in turn, so many times. `stored`: readings are, and are looked for."""
    load = UsersLoad(platform.front, platform.device_token, platform.operator_token)
    async with load.running():
        await _goes_on(load, stored)
        for _ in range(rounds):
            for service in platform.answering:
                starts = service.starts
                service.signal(signal.SIGTERM)
                await eventually(partial(_started_again, service, starts), START_S)
                await platform.counted(service)
                await _goes_on(load, stored)
    restarts = rounds * len(platform.answering)
    if not stored:
        return Rolled(restarts, load, 0, 0, {})
    ledger = await _closed(platform, len(load.acknowledged))
    with psycopg.connect(platform.database_url) as connection:
        rows = {(station, seq): times for station, seq, times in connection.execute(_STORED)}
    lost = len(load.acknowledged - rows.keys())
    return Rolled(restarts, load, lost, sum(times > 1 for times in rows.values()), ledger)


def _started_again(service: SupervisedService, starts: int) -> bool:
    return service.starts > starts


async def _goes_on(load: UsersLoad, stored: bool) -> None:
    """Until there were some more answers of each kind, and an event: a new one where readings are stored."""
    seen = (load.posts, load.questions, load.changes)
    goals, events = [one.answered + _BEFORE for one in seen], load.events + 1 if stored else 1

    def reached() -> bool:
        enough = all(one.answered >= goal for one, goal in zip(seen, goals, strict=True))
        return bool(sum(len(one.failed) for one in (*seen, load.streams))) or (enough and load.events >= events)

    await eventually(reached, START_S)


async def _closed(platform: Fronted, items: int) -> dict[str, object]:
    """The ledger, once all that was accepted is somewhere."""
    headers = {"Authorization": f"Bearer {platform.operator_token}"}
    transport = httpx.AsyncHTTPTransport(verify=platform.front.context)
    async with httpx.AsyncClient(
        base_url=platform.front.url, transport=transport, headers=headers, timeout=60
    ) as client:

        async def closed() -> dict[str, object]:
            answer = await client.get("/api/v1/telemetry/ledger")
            total: dict[str, object] = answer.json()["total"] if answer.status_code == httpx.codes.OK else {}
            accepted = total.get("accepted", 0)
            return total if total.get("closed") and isinstance(accepted, int) and accepted >= items else {}

        return await eventually(closed, _SETTLE_S)
