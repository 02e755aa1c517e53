"""The crash proof at length: `python -m tests.proof.crashes --faults 1000 --seed 1`.

In parts, each with a plan of its own on an empty database: faults under load, then all invariants of telemetry, and
every charge of every session derived again from the stored readings. A line of JSON for each part.
"""

import argparse
import asyncio
import json
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import psycopg

from deploy.servers import run_folder
from tests.private_servers import PrivateServers, fresh_database
from tests.proof.billing_invariants import counted
from tests.proof.clocks import Clocks
from tests.proof.cluster import Cluster, running_cluster
from tests.proof.faults import Fault, long_plan, plan_text
from tests.proof.final_checks import SETTLE_S, final_violations, load_for
from tests.proof.links import Links
from tests.proof.load import DeliveryRecord
from tests.proof.platform_client import PlatformClient
from tests.proof.recoveries import disk_at
from tests.waiting import eventually

AFTERWARDS = 4_000  # readings answered after the last fault
_PART: Final = 40  # faults on one database
_DISK_BYTES: Final = 8 << 30  # of PostgreSQL, whose log alone may grow to 4 GiB
_PERIOD: Final = {"from": "2020-01-01T00:00:00Z", "to": "2100-01-01T00:00:00Z"}
_UNBILLED: Final = (
    "SELECT count(*) FROM telemetry.session s WHERE s.ended_at IS NOT NULL AND NOT EXISTS (SELECT FROM billing.cdr c"
    " WHERE c.subject_id = s.id AND c.current AND c.revision = s.revision)"
)


async def run_faults(cluster: Cluster, faults: Sequence[Fault], seed: int) -> DeliveryRecord:
    """Inject all faults under load, and wait until all is back."""
    began_s = time.monotonic()
    async with load_for(cluster.gateways, cluster.device_token, seed).running() as record:
        for fault in faults:
            await _inject(cluster, fault, record)
            print(f"{time.monotonic() - began_s:.1f} s: {record.items} acknowledged; {fault.component} {fault.kind}")
        cluster.set_clocks()
        await cluster.wait_for_servers()
        await cluster.ready()
        await record.more(AFTERWARDS)
    print(f"{record.items} readings acknowledged, {record.refusals} requests refused")
    return record


async def _inject(cluster: Cluster, fault: Fault, record: DeliveryRecord) -> None:
    """Inject one fault. At the end the component is restarting, not necessarily ready."""
    await record.more(fault.after)
    if await cluster.inject_fault(fault.component, fault.kind):
        await record.more_or_refused(fault.down)
        await cluster.mend(fault.component, fault.kind)


async def invoices_agree(client: PlatformClient) -> dict[str, Any]:
    """The report of the recomputation of every charge, once each completed session has one."""
    await eventually(lambda: _unbilled(client.database_url) == 0, within_s=SETTLE_S)
    return await client.reconcile(_PERIOD)


def _unbilled(url: str) -> int:
    with psycopg.connect(url) as connection:
        row = connection.execute(_UNBILLED).fetchone()
    assert row is not None
    return int(row[0])


async def run_part(servers: PrivateServers, links: Links, seed: int, count: int) -> dict[str, Any]:
    """One part: what was injected and found."""
    faults = long_plan(seed, count)
    print(f"seed {seed}\n{plan_text(faults)}")
    began_s = time.monotonic()
    with (
        tempfile.TemporaryDirectory(prefix="voltstream-crashes-") as folder,
        fresh_database(servers.url_of(servers.postgres)) as url,
    ):
        clocks = Clocks(Path(folder))
        async with running_cluster(url, servers, Path(folder), links=links, clocks=clocks) as cluster:
            api = cluster.services["api"].url
            tokens = cluster.device_token, cluster.operator_token
            client = PlatformClient(cluster.gateways[0], api, *tokens, cluster.environment, url)
            await client.publish()
            record = await run_faults(cluster, faults, seed)
            violated = await final_violations(cluster, record)
            report = await invoices_agree(client)
            documents = counted(url, "billing.invoice")
    return {
        "seed": seed,
        "faults": len(faults),
        "kinds": Counter(f"{fault.component.split()[0]} {fault.kind.split()[0]}" for fault in faults),
        "readings": len(record.acknowledged),
        "refused": record.refusals,
        "charges": report["outcomes"],
        "documents": documents,
        "seconds": round(time.monotonic() - began_s),
        "violations": [*violated, *(str(drift) for drift in report["drifts"])],
    }


def main() -> None:
    """Run the parts; the exit code is 1 where anything is violated."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--faults", type=int, default=1_000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    servers, failed = PrivateServers(), False
    links = Links(servers, run_folder() / "toxiproxy")
    disk = ExitStack()
    try:
        servers.postgres.home.mkdir(parents=True)
        disk.enter_context(disk_at(servers.postgres.home, _DISK_BYTES))
        servers.start_all()
        links.start()
        left, seed = arguments.faults, arguments.seed
        while left > 0:
            count = min(left, _PART)
            try:
                part = asyncio.run(run_part(servers, links, seed, count))
            except (AssertionError, ExceptionGroup) as error:  # what hangs; the next part may say more
                traceback.print_exception(error)
                part = {"seed": seed, "faults": count, "violations": [repr(error)]}
            print(json.dumps(part), flush=True)  # a script
            failed |= bool(part["violations"])
            left, seed = left - count, seed + 1
            links.mend()
            servers.mend()
    finally:
        links.destroy()
        servers.postgres.kill()
        disk.close()
        servers.destroy()
    sys.exit(failed)


if __name__ == "__main__":
    main()
