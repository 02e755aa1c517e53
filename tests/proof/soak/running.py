"""A soak: good and hostile clients on one platform, and what it used and lost."""

import asyncio
import json
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

import psycopg

from kit.database.embedded import running_url
from tests.proof import telemetry_invariants as invariants
from tests.proof.soak.good_clients import LAG, PREFIX, STATION, GoodClients
from tests.proof.soak.hostile_clients import Stolen
from tests.proof.usage import Usage, usage_of
from tests.voltstream.platform import Up, up, voltstream
from tests.waiting import eventually

CONNECTIONS_MAX: Final = 400  # of the platform; of one address half
_SAMPLES: Final = 60  # in all
_SETTLE_S: Final = 180  # against hanging
_GRACE_S: Final = 60.0
_CLOSED = "SELECT sum(stored)::bigint, (SELECT count(*) FROM telemetry.reading) FROM telemetry.ledger"
_REFUSED = f"SELECT station_id, reason FROM telemetry.quarantine WHERE station_id ^@ '{PREFIX}' LIMIT 5"


class Bound(NamedTuple):
    """What the last third may have, of the second's median, to be flat."""

    times: float
    more: float


FLAT: Final = {
    "rss_mb": Bound(1.1, 20),
    "descriptors": Bound(1.1, 20),
    "disk_mb_grown": Bound(1.5, 10),  # by what is stored: readings come evenly
    "single_p95_ms": Bound(1.5, 20),
    "batch_p95_ms": Bound(1.5, 20),
    "question_p95_ms": Bound(1.5, 20),
    "session_p95_ms": Bound(1.5, 20),
}
"""Bounds of what is measured, by name."""


@dataclass
class Soaked:
    """The result."""

    seconds: float
    seed: int
    measured: dict[str, list[float]]  # by thirds
    good: dict[str, dict[int, int]]  # answers by what was asked
    hostile: dict[str, dict[int, int]]
    ledger: dict[str, Any]
    acknowledged: int
    descriptors_max: int
    events: list[int]  # of live streams, by thirds
    violations: list[str] = field(default_factory=list)

    def not_flat(self) -> list[str]:
        """What rose. Waiting times may rise as those of a client that asks for nothing do: its machine is busy."""
        _, lag_before, lag = self.measured[f"{LAG}_p95_ms"]
        busier = max(lag / lag_before, 1.0)
        rose = []
        for name, bound in FLAT.items():
            _, second, last = self.measured[name]
            times = bound.times * (busier if name.endswith("_ms") else 1.0)
            if not last <= second * times + bound.more:  # or it is not a number
                rose.append(f"{name} rose from {second:.1f} to {last:.1f}")
        return rose

    def table(self) -> str:
        """As Markdown."""
        lines = ["| | first third | second | last |", "|---|---|---|---|"]
        lines += [f"| {name} | {' | '.join(f'{v:.1f}' for v in thirds)} |" for name, thirds in self.measured.items()]
        lines += ["", "| client | answers by status (0: the connection ended) |", "|---|---|"]
        hostile = {f"hostile: {name}": counts for name, counts in self.hostile.items()}
        for name, counts in {**self.good, **hostile}.items():
            lines.append(f"| {name} | {', '.join(f'{status}: {n}' for status, n in sorted(counts.items()))} |")
        lines += ["", f"{self.acknowledged} readings of good clients acknowledged; ledger {self.ledger}"]
        return "\n".join(lines)


def soak(seconds: float, seed: int, folder: Path) -> Soaked:
    """Run it on a platform of its own."""
    with ExitStack() as stack:
        platform = stack.enter_context(
            up(
                folder / "data",
                "--no-simulator",
                connections_max=str(CONNECTIONS_MAX),
                connections_per_address_max=str(CONNECTIONS_MAX // 2),
            )
        )
        return asyncio.run(_soak(platform, folder / "data", seconds, seed))


async def _soak(platform: Up, data_dir: Path, seconds: float, seed: int) -> Soaked:
    stolen = Stolen(
        _issue(data_dir, "--kind", "device", "--station", "HOSTILE"),
        _issue(data_dir, "--kind", "device", "--any-station"),
        _issue(data_dir, "--kind", "operator"),
        _issue(data_dir, "--kind", "driver", "--subject", "HOSTILE"),
    )
    driver = _issue(data_dir, "--kind", "driver", "--subject", "D-1")
    tokens = platform.first_line["device_token"], platform.first_line["operator_token"], driver
    good = GoodClients(platform.api, *tokens, seed)
    station = {"station_id": STATION, "connectors": [{"connector_id": number} for number in range(1, 4)]}
    registered = platform.change("/api/v1/stations", station)
    assert registered.is_success, registered.text
    began_s = time.monotonic()
    async with good.running():
        attacks = asyncio.create_task(_attacks(platform.api, stolen, seconds, seed))
        usages = await _sampled(platform.process.pid, data_dir, seconds)
        hostile = await attacks
    url = running_url(data_dir)
    assert url is not None
    try:
        await eventually(lambda: platform.ledger()["closed"] and invariants.outstanding(url) == 0, within_s=_SETTLE_S)
    except AssertionError:
        good.problems.append(f"something is still in flight: {platform.ledger()}")
    return Soaked(
        seconds=seconds,
        seed=seed,
        measured=_measured(good, usages, began_s, seconds),
        good={kind: dict(counts) for kind, counts in good.answers.items()},
        hostile=hostile,
        ledger=platform.ledger(),
        acknowledged=len(good.record.acknowledged),
        descriptors_max=max(usage.descriptors for usage in usages),
        events=[len(part) for part in _thirds([(at, 0.0) for at in good.events], began_s, seconds)],
        violations=[*good.problems[:20], *_errors(hostile), *_stored(url, good)],
    )


def _issue(data_dir: Path, *arguments: str) -> str:
    issued = voltstream("token", "issue", *arguments, "--data-dir", str(data_dir), "--json")
    return str(json.loads(issued.stdout)["token"])


async def _attacks(url: str, tokens: Stolen, seconds: float, seed: int) -> dict[str, dict[int, int]]:
    """The answers of each attack by status."""
    command = ("-m", "tests.proof.soak.hostile_clients", url, "--seconds", str(seconds), "--seed", str(seed))
    process = await asyncio.create_subprocess_exec(
        sys.executable, *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(seconds + _GRACE_S):
            out, _ = await process.communicate(json.dumps(tokens._asdict()).encode())
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, "the hostile clients ended"
    return {attack: {int(status): n for status, n in counts.items()} for attack, counts in json.loads(out).items()}


async def _sampled(pid: int, folder: Path, seconds: float) -> list[Usage]:
    usages = []
    for _ in range(_SAMPLES):
        await asyncio.sleep(seconds / _SAMPLES)
        usages.append(await asyncio.to_thread(usage_of, pid, folder))
    return usages


def _measured(good: GoodClients, usages: Sequence[Usage], began_s: float, seconds: float) -> dict[str, list[float]]:
    third = _SAMPLES // 3
    parts = [usages[n * third : (n + 1) * third] for n in range(3)]
    found = {
        "rss_mb": [statistics.median(usage.rss_mb for usage in part) for part in parts],
        "descriptors": [statistics.median(usage.descriptors for usage in part) for part in parts],
        "disk_mb_grown": [part[-1].disk_mb - part[0].disk_mb for part in parts],
    }
    for kind, latencies in good.latencies_ms.items():
        found[f"{kind}_p95_ms"] = [_p95(part) for part in _thirds(latencies, began_s, seconds)]
    return found


def _thirds(timed: Sequence[tuple[float, float]], began_s: float, seconds: float) -> list[list[float]]:
    parts: list[list[float]] = [[], [], []]
    for at_s, value in timed:
        parts[min(int(3 * (at_s - began_s) / seconds), 2)].append(value)
    return parts


def _p95(values: Sequence[float]) -> float:
    return statistics.quantiles(values, n=20)[-1] if len(values) > 1 else float("nan")


def _errors(hostile: dict[str, dict[int, int]]) -> Iterator[str]:
    """Answers that blame us. 503 is documented: a bound is reached."""
    for attack, counts in hostile.items():
        for status, number in counts.items():
            if status >= 500 and status != 503:
                yield f"{attack}: {number} x {status}"


def _stored(url: str, good: GoodClients) -> Iterator[str]:
    """Violations of exactness: of what good clients sent, and of both ledgers with what hostile ones got in."""
    with _snapshot(url) as connection:
        yield from invariants.readings_are_those_sent(connection, good.record, PREFIX)
        refused = connection.execute(_REFUSED.encode()).fetchall()
        if refused:
            yield f"readings of good clients are in quarantine: {refused}"
        counted = connection.execute(_CLOSED.encode()).fetchone()
        if counted is None or counted[0] != counted[1]:
            yield f"stored by the ledger and rows: {counted}"
        for check in (
            invariants.windows_follow_from_readings,
            invariants.sessions_follow_from_readings,
            invariants.meters_rose_by_what_is_accounted_for,
            invariants.energy_ledger_follows_from_readings,
            invariants.device_sessions_have_one_row,
        ):
            yield from check(connection)


@contextmanager
def _snapshot(url: str) -> Iterator[invariants.Connection]:
    with psycopg.connect(url) as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        yield connection
