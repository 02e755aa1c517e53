"""Billing: 720 real sessions under a time-of-use tariff become 720 invoices, each once and exact.

The expected amounts are computed from the file without product code (expected_bills).
"""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from kit.database.embedded import running_url
from schemas.topics import INVOICE_CREATED
from tests.private_servers import PrivateServers
from tests.proof.billing_invariants import Bills, billed, counted, documents, invoiced_once, settled, violations
from tests.proof.bolite import READINGS_FILE, SESSIONS, Sessions, priced_sessions, split_late, write
from tests.proof.cluster import Cluster, running_cluster
from tests.proof.duplicate_delivery import every_event_twice
from tests.proof.expected_bills import Bill, bill
from tests.proof.platform_client import PlatformClient
from tests.proof.processes import AT_ONCE, SupervisedService, kept_alive
from tests.waiting import eventually

SERVICES = ("gateway", "bridge", "relay", "api", "worker 1", "worker 2")
KILLED = ("api", "api", "api", "relay", "relay", "worker 1", "worker 2")
"""What is killed, the writer of invoices most often; fewer times than a message is delivered at most."""

_START_S, _SETTLE_S = 120, 240  # against hanging
_IN_ORDER = ("--connections", "1")
_OUTAGE_S = 30
_MICRO = 10**6

Kills = Sequence[tuple[int, str]]
"""(number of CDRs, component that is killed then)"""

pytestmark = pytest.mark.skipif(not READINGS_FILE.exists(), reason="the Bolite data is not beside the checkout")


@pytest.fixture(scope="session")
def sessions() -> Sessions:
    """The input of the proofs."""
    return priced_sessions()


@pytest.fixture(scope="session")
def bills(sessions: Sessions) -> dict[str, Bill]:
    """The expected bills."""
    return {name: bill(readings) for name, readings in sessions.items()}


@asynccontextmanager
async def embedded(data_dir: Path, folder: Path) -> AsyncIterator[PlatformClient]:
    """`voltstream up` without any URL, with the tariff published."""
    environment = {"VOLTSTREAM_DATA_DIR": str(data_dir), **AT_ONCE}
    platform = SupervisedService("up", ("up", "--json", "--no-simulator", "--port", "0"), environment, folder)
    async with kept_alive([platform]):
        await eventually(platform.ready.is_set, within_s=_START_S)
        ready, url = platform.first_line, running_url(data_dir)
        assert url is not None
        client = PlatformClient(
            ready["api"], ready["api"], ready["device_token"], ready["operator_token"], environment, url
        )
        await client.publish()
        yield client
    assert not platform.unexpected


@asynccontextmanager
async def distributed(
    database_url: str, servers: PrivateServers, folder: Path
) -> AsyncIterator[tuple[PlatformClient, Cluster]]:
    """Each service in a process of its own, with the tariff published."""
    async with running_cluster(database_url, servers, folder, services=SERVICES) as cluster:
        gateway, api = cluster.services["gateway"].url, cluster.services["api"].url
        tokens = cluster.device_token, cluster.operator_token
        client = PlatformClient(gateway, api, *tokens, cluster.environment, database_url)
        await client.publish()
        yield client, cluster
        assert not [line for service in cluster.services.values() for line in service.unexpected]


async def test_embedded_every_session_is_invoiced_once_and_exactly(
    data_dir: Path, tmp_path: Path, sessions: Sessions, bills: Bills
) -> None:
    async with embedded(data_dir, tmp_path) as client:
        await replay_and_correct(client, tmp_path, sessions, bills)


async def test_distributed_every_session_is_invoiced_once_and_exactly(
    running_servers: PrivateServers, database_url: str, tmp_path: Path, sessions: Sessions, bills: Bills
) -> None:
    async with distributed(database_url, running_servers, tmp_path) as (client, cluster):
        await replay_and_correct(client, tmp_path, sessions, bills)
        assert wrong_events(cluster, database_url) == []


async def replay_and_correct(client: PlatformClient, folder: Path, sessions: Sessions, bills: Bills) -> None:
    """In order: one invoice per session and no other document. After late readings: corrected invoices for those."""
    first, late = split_late(sessions)
    write(folder / "first.csv", first.values())
    await client.replay(folder / "first.csv", *_IN_ORDER)
    at_first = {**bills, **{name: bill(first[name]) for name in late}}
    await billing_settles(client, at_first)
    assert counted(client.database_url, "billing.invoice") == SESSIONS
    for readings in late.values():
        await client.post(readings)
    await billing_settles(client, bills)
    moved = [name for name in late if billed(at_first[name].lines) != billed(bills[name].lines)]
    assert moved
    # Two for each; more if the readings of one came in several flushes; none if step_size hides the difference.
    assert counted(client.database_url, "billing.invoice") >= SESSIONS + 2 * len(moved)
    same = {name for name in bills if name not in moved}
    assert invoiced_once(client.database_url) >= same
    await recomputation_agrees(client, bills)


async def test_events_delivered_twice_and_consumers_killed_change_no_document(
    running_servers: PrivateServers, database_url: str, tmp_path: Path, sessions: Sessions, bills: Bills, seed: int
) -> None:
    rng = random.Random(f"{seed} money")
    components = rng.sample(KILLED, len(KILLED))
    kills = list(zip(sorted(rng.sample(range(SESSIONS - 60), len(components))), components, strict=True))
    print(f"seed {seed}: killed at so many CDRs: {kills}")
    write(tmp_path / "shuffled.csv", sessions.values())
    disorder = ("--shuffle-s", "60", "--resend-pct", "5", "--seed", str(seed % 2**31))
    async with distributed(database_url, running_servers, tmp_path) as (client, cluster):
        with every_event_twice(running_servers.rabbitmq.url) as duplicator:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(client.replay(tmp_path / "shuffled.csv", *disorder))
                tasks.create_task(kill_components(cluster, kills))
            await cluster.ready()
            await eventually(lambda: settled(database_url, bills), within_s=_SETTLE_S)
        assert duplicator.events > SESSIONS
        print(f"{duplicator.events} events delivered twice, {counted(database_url, 'billing.invoice')} documents")
        await billing_settles(client, bills)
        await recomputation_agrees(client, bills)
        assert wrong_events(cluster, database_url) == []
        # Including the second deliveries of the last events: the api service finishes what it handles before it ends.
        await eventually(lambda: cluster.messages_waiting() == 0, within_s=_SETTLE_S)
        assert await cluster.services["api"].stop() == 0, cluster.services["api"].tail()
        assert violations(database_url, bills) == []


async def kill_components(cluster: Cluster, kills: Kills) -> None:
    """Kill each component once there are so many CDRs."""
    for cdrs, component in kills:
        await eventually(lambda: counted(cluster.database_url, "billing.cdr") >= cdrs, within_s=_SETTLE_S)  # noqa: B023  # within the turn
        await cluster.inject_fault(component, "kill")


async def test_a_broker_outage_delays_documents_and_changes_none(
    running_servers: PrivateServers,
    servers: PrivateServers,
    database_url: str,
    tmp_path: Path,
    sessions: Sessions,
    bills: Bills,
) -> None:
    readings = write(tmp_path / "all.csv", sessions.values())
    async with distributed(database_url, running_servers, tmp_path) as (client, cluster), asyncio.TaskGroup() as tasks:

        async def two_fifths_accepted() -> bool:
            """By acknowledged readings: workers lag behind, so all could be sent once this many are stored."""
            ledger = await cluster.query("/api/v1/telemetry/ledger")
            return bool(ledger) and ledger["total"]["accepted"] > readings * 2 // 5

        replay = tasks.create_task(client.replay(tmp_path / "all.csv", *_IN_ORDER))
        await eventually(two_fifths_accepted, within_s=_SETTLE_S)
        await cluster.inject_fault("rabbitmq", "stop")
        assert not replay.done()
        await client.publish(station_id="ELSEWHERE")  # services continue without the broker
        assert counted(database_url, "pricing.outbox") == 1
        down_s = time.monotonic()
        await eventually(lambda: time.monotonic() - down_s > _OUTAGE_S, within_s=2 * _OUTAGE_S)
        assert not replay.done()
        cluster.start_server("rabbitmq")
        await cluster.wait_for_servers()
        await replay
        await cluster.ready()
        await billing_settles(client, bills)
        assert counted(database_url, "billing.invoice") == SESSIONS
        await recomputation_agrees(client, bills)
        assert wrong_events(cluster, database_url) == []


async def billing_settles(client: PlatformClient, bills: Bills) -> None:
    """Wait until nothing is in flight; then all invariants of billing hold."""
    await eventually(lambda: settled(client.database_url, bills), within_s=_SETTLE_S)
    assert violations(client.database_url, bills) == []


async def recomputation_agrees(client: PlatformClient, bills: Bills) -> None:
    """What the product recomputes from the stored readings agrees, and so do its answers."""
    report = await client.reconcile()
    total = decimal(sum(one.incl_micros for one in bills.values()))
    assert report["totals"] == {"CNY": {"booked_incl_vat": total, "computed_incl_vat": total}}
    assert (report["charges"], report["outcomes"]["agrees"], report["drifts"]) == (len(bills), len(bills), [])
    assert await wrong_answers(client, bills) == []


async def wrong_answers(client: PlatformClient, bills: Bills) -> list[str]:
    """Sessions whose cost, or whose invoice, is not the expected bill in the API's answers."""
    uncredited = {
        one["session_id"]: one for one in await client.invoices() if one["kind"] == "invoice" and is_uncredited(one)
    }
    wrong = []
    for name, session in (await client.costs()).items():
        invoice = uncredited.pop(session["id"], {})
        answered = [session["cost_excl_vat"], session["cost_incl_vat"]]
        billed = [invoice.get("total_excl_vat"), invoice.get("total_incl_vat"), invoice.get("payable")]
        due = bills[name]
        money = [decimal(due.excl_micros), decimal(due.incl_micros)]
        if answered != money or billed != [*money, f"{due.payable_fen // 100}.{due.payable_fen % 100:02}"]:
            wrong.append(f"{name}: {answered}, {billed}, expected {money}")
    return [*wrong, *(f"an invoice without a session: {one}" for one in uncredited.values())]


def wrong_events(cluster: Cluster, database_url: str) -> list[str]:
    """Documents without an event, or with different figures in it. Delivery more than once is allowed."""
    published = {
        (one["invoice_id"], one["number"], one["total_incl_micros"]) for one in cluster.received(INVOICE_CREATED)
    }
    stored = documents(database_url)
    return [f"published and not stored, or the other way round: {one}" for one in published ^ stored]


def is_uncredited(invoice: Mapping[str, object]) -> bool:
    """Whether it has no credit note."""
    return invoice["status"] in ("open", "paid")


def decimal(micros: int) -> str:
    """An amount as the API writes it."""
    return f"{micros // _MICRO}.{micros % _MICRO:06}"
