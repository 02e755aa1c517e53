"""Money: 720 real sessions under a time-of-use tariff become 720 invoices, none twice, each what its readings come to.

What they come to is computed by hand (money_by_hand), from the file and with nothing of the product.
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
from tests.proof.bolite import READINGS_FILE, SESSIONS, Sessions, held_back, priced_sessions, write
from tests.proof.books import Bills, billed, breaches, counted, documents, invoiced_once, settled
from tests.proof.cluster import Cluster, running_cluster
from tests.proof.doubled import every_event_twice
from tests.proof.money_by_hand import Bill, bill
from tests.proof.processes import Service, kept_alive
from tests.proof.site import Site
from tests.waiting import eventually

SERVICES = ("gateway", "bridge", "relay", "api", "worker 1", "worker 2")
MORTAL = ("api", "api", "api", "relay", "relay", "worker 1", "worker 2")
"""What is killed, the one that writes the books most often; less often than a message may be handed over in vain."""

_START_S, _SETTLE_S = 120, 240  # against hanging
_IN_ORDER = ("--connections", "1")
_OUTAGE_S = 30
_MICRO = 10**6

Deaths = Sequence[tuple[int, str]]
"""(so many CDRs, who is killed then)"""

pytestmark = pytest.mark.skipif(not READINGS_FILE.exists(), reason="the Bolite data is not beside the checkout")


@pytest.fixture(scope="session")
def sessions() -> Sessions:
    """The input."""
    return priced_sessions()


@pytest.fixture(scope="session")
def bills(sessions: Sessions) -> dict[str, Bill]:
    """What must come out."""
    return {name: bill(readings) for name, readings in sessions.items()}


@asynccontextmanager
async def embedded(data_dir: Path, folder: Path) -> AsyncIterator[Site]:
    """`voltstream up` without any URL, with the tariff published."""
    environment = {"VOLTSTREAM_DATA_DIR": str(data_dir)}
    platform = Service("up", ("up", "--json", "--no-simulator", "--port", "0"), environment, folder)
    async with kept_alive([platform]):
        await eventually(platform.ready.is_set, within_s=_START_S)
        said, url = platform.first_line, running_url(data_dir)
        assert url is not None
        site = Site(said["api"], said["api"], said["device_token"], said["operator_token"], environment, url)
        await site.publish()
        yield site
    assert not platform.unexpected


@asynccontextmanager
async def distributed(database_url: str, servers: PrivateServers, folder: Path) -> AsyncIterator[tuple[Site, Cluster]]:
    """Every service a process of its own, with the tariff published."""
    async with running_cluster(database_url, servers, folder, services=SERVICES) as cluster:
        gateway, api = cluster.services["gateway"].url, cluster.services["api"].url
        tokens = cluster.device_token, cluster.operator_token
        site = Site(gateway, api, *tokens, cluster.environment, database_url)
        await site.publish()
        yield site, cluster
        assert not [line for service in cluster.services.values() for line in service.unexpected]


async def test_embedded_every_session_is_invoiced_once_for_what_its_readings_come_to(
    data_dir: Path, tmp_path: Path, sessions: Sessions, bills: Bills
) -> None:
    async with embedded(data_dir, tmp_path) as site:
        await replayed_and_corrected(site, tmp_path, sessions, bills)


async def test_distributed_every_session_is_invoiced_once_for_what_its_readings_come_to(
    running_servers: PrivateServers, database_url: str, tmp_path: Path, sessions: Sessions, bills: Bills
) -> None:
    async with distributed(database_url, running_servers, tmp_path) as (site, cluster):
        await replayed_and_corrected(site, tmp_path, sessions, bills)
        assert broken_news(cluster, database_url) == []


async def replayed_and_corrected(site: Site, folder: Path, sessions: Sessions, bills: Bills) -> None:
    """In order: an invoice a session, and no other document. Then readings that were held back: new ones for those."""
    first, late = held_back(sessions)
    write(folder / "first.csv", first.values())
    await site.replay(folder / "first.csv", *_IN_ORDER)
    at_first = {**bills, **{name: bill(first[name]) for name in late}}
    await books_close(site, at_first)
    assert counted(site.database_url, "billing.invoice") == SESSIONS
    for readings in late.values():
        await site.post(readings)
    await books_close(site, bills)
    moved = [name for name in late if billed(at_first[name].lines) != billed(bills[name].lines)]
    assert moved
    # Two for each; more where the readings of one came in several flushes. None where step_size hides the difference.
    assert counted(site.database_url, "billing.invoice") >= SESSIONS + 2 * len(moved)
    same = {name for name in bills if name not in moved}
    assert invoiced_once(site.database_url) >= same
    await nothing_else_follows(site, bills)


async def test_events_delivered_twice_and_consumers_killed_change_no_document(
    running_servers: PrivateServers, database_url: str, tmp_path: Path, sessions: Sessions, bills: Bills, seed: int
) -> None:
    rng = random.Random(f"{seed} money")
    doomed = rng.sample(MORTAL, len(MORTAL))
    deaths = list(zip(sorted(rng.sample(range(SESSIONS - 60), len(doomed))), doomed, strict=True))
    print(f"seed {seed}: killed at so many CDRs: {deaths}")
    write(tmp_path / "shuffled.csv", sessions.values())
    disorder = ("--shuffle-s", "60", "--resend-pct", "5", "--seed", str(seed % 2**31))
    async with distributed(database_url, running_servers, tmp_path) as (site, cluster):
        with every_event_twice(running_servers.rabbitmq.url) as doubler:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(site.replay(tmp_path / "shuffled.csv", *disorder))
                tasks.create_task(killed(cluster, deaths))
            await cluster.ready()
            await eventually(lambda: settled(database_url, bills), within_s=_SETTLE_S)
        assert doubler.events > SESSIONS
        print(f"{doubler.events} events delivered twice, {counted(database_url, 'billing.invoice')} documents")
        await books_close(site, bills)
        await nothing_else_follows(site, bills)
        assert broken_news(cluster, database_url) == []
        # The second deliveries of the last events too: what the api service has in hand, it handles before it ends.
        await eventually(lambda: cluster.messages_waiting() == 0, within_s=_SETTLE_S)
        assert await cluster.services["api"].stop() == 0, cluster.services["api"].tail()
        assert breaches(database_url, bills) == []


async def killed(cluster: Cluster, deaths: Deaths) -> None:
    """Each once there are so many CDRs."""
    for cdrs, component in deaths:
        await eventually(lambda: counted(cluster.database_url, "billing.cdr") >= cdrs, within_s=_SETTLE_S)  # noqa: B023  # within the turn
        await cluster.strike(component, "kill")


async def test_a_broker_down_in_the_middle_delays_documents_and_changes_none(
    running_servers: PrivateServers,
    servers: PrivateServers,
    database_url: str,
    tmp_path: Path,
    sessions: Sessions,
    bills: Bills,
) -> None:
    readings = write(tmp_path / "all.csv", sessions.values())
    async with distributed(database_url, running_servers, tmp_path) as (site, cluster), asyncio.TaskGroup() as tasks:

        async def in_the_middle() -> bool:
            """By what is acknowledged: when so much is stored, all may be sent, for workers lag behind."""
            ledger = await cluster.asked("/api/v1/telemetry/ledger")
            return bool(ledger) and ledger["total"]["accepted"] > readings * 2 // 5

        replay = tasks.create_task(site.replay(tmp_path / "all.csv", *_IN_ORDER))
        await eventually(in_the_middle, within_s=_SETTLE_S)
        await cluster.strike("rabbitmq", "stop")
        assert not replay.done()
        await site.publish(station_id="ELSEWHERE")  # business goes on
        assert counted(database_url, "pricing.outbox") == 1
        down_s = time.monotonic()
        await eventually(lambda: time.monotonic() - down_s > _OUTAGE_S, within_s=2 * _OUTAGE_S)
        assert not replay.done()
        cluster.bring_back("rabbitmq")
        await cluster.back()
        await replay
        await cluster.ready()
        await books_close(site, bills)
        assert counted(database_url, "billing.invoice") == SESSIONS
        await nothing_else_follows(site, bills)
        assert broken_news(cluster, database_url) == []


async def books_close(site: Site, bills: Bills) -> None:
    """Once nothing is under way, the laws of the books hold."""
    await eventually(lambda: settled(site.database_url, bills), within_s=_SETTLE_S)
    assert breaches(site.database_url, bills) == []


async def nothing_else_follows(site: Site, bills: Bills) -> None:
    """What the product computes again from the stored readings agrees, and so does what everybody is told."""
    report = await site.reconciled()
    total = decimal(sum(one.incl_micros for one in bills.values()))
    assert report["totals"] == {"CNY": {"booked_incl_vat": total, "computed_incl_vat": total}}
    assert (report["charges"], report["outcomes"]["agrees"], report["drifts"]) == (len(bills), len(bills), [])
    assert await broken_answers(site, bills) == []


async def broken_answers(site: Site, bills: Bills) -> list[str]:
    """Sessions whose cost, as operators and drivers are told, is not the bill, or not what finance asks for."""
    asked = {one["session_id"]: one for one in await site.invoices() if one["kind"] == "invoice" and is_standing(one)}
    wrong = []
    for name, session in (await site.costs()).items():
        invoice = asked.pop(session["id"], {})
        told = [session["cost_excl_vat"], session["cost_incl_vat"]]
        billed = [invoice.get("total_excl_vat"), invoice.get("total_incl_vat"), invoice.get("payable")]
        due = bills[name]
        money = [decimal(due.excl_micros), decimal(due.incl_micros)]
        if told != money or billed != [*money, f"{due.payable_fen // 100}.{due.payable_fen % 100:02}"]:
            wrong.append(f"{name}: {told}, {billed}, by hand {money}")
    return [*wrong, *(f"an invoice of no session: {one}" for one in asked.values())]


def broken_news(cluster: Cluster, database_url: str) -> list[str]:
    """Documents that were not told, or told otherwise than they are. Delivered more than once is no breach."""
    told = {(one["invoice_id"], one["number"], one["total_incl_micros"]) for one in cluster.heard(INVOICE_CREATED)}
    kept = documents(database_url)
    return [f"told and not kept, or the other way round: {one}" for one in told ^ kept]


def is_standing(invoice: Mapping[str, object]) -> bool:
    """Nothing credits it."""
    return invoice["status"] in ("open", "paid")


def decimal(micros: int) -> str:
    """As amounts are written."""
    return f"{micros // _MICRO}.{micros % _MICRO:06}"
