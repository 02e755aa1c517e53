"""Game day: a platform under load is backed up, and later put back to that moment while its gateways go on.

The other services are stopped for it. What was acknowledged meanwhile is read from Kafka again: nothing is lost, and
nothing counts twice.
"""

import asyncio
import time
from functools import partial
from pathlib import Path

import psycopg
import pytest

from kit.clock import SystemClock
from schemas.topics import SESSION_COMPLETED
from tests.private_servers import PrivateServers
from tests.proof.cluster import SERVICES, Cluster, running_cluster
from tests.proof.final_checks import final_violations, load_for
from tests.proof.platform_client import PlatformClient
from tests.waiting import eventually
from voltstream.backups.manifest import Manifest
from voltstream.backups.restoring import Restored, RestorePlan, restore_backup
from voltstream.backups.store import named_url
from voltstream.backups.taking import BackupPlan, take_backup
from voltstream.backups.verification import VerificationPlan, run_checks
from voltstream.errors import BackupFailed

pytestmark = pytest.mark.slow

_SETTLE_S = 120  # against hanging: events of the last sessions are handled
_STOPPED = ("relay", "api", "worker 1", "worker 2")  # gateways and the bridge go on
_BETWEEN = 3_000  # readings acknowledged between two events


async def test_a_platform_is_put_back_under_load_and_nothing_acknowledged_is_lost_or_counts_twice(
    running_servers: PrivateServers, servers: PrivateServers, database_url: str, tmp_path: Path, seed: int
) -> None:
    print(f"seed {seed}")
    left: list[str] = []
    try:
        async with running_cluster(database_url, servers, tmp_path, services=SERVICES) as cluster:
            await _publish_tariff(cluster)
            async with load_for(cluster.gateways, cluster.device_token, seed).running() as record:
                await record.more(_BETWEEN)
                manifest = await asyncio.to_thread(_back_up, cluster, tmp_path / "backup")
                await record.more(_BETWEEN)
                # A copy of that moment, as a drill has it.
                copy = named_url(database_url, f"{database_url.rpartition('/')[2][:30]}_copy")
                await asyncio.to_thread(_restore, copy, tmp_path / "backup", replace=False)
                left.append(copy.rpartition("/")[2])
                assert not await asyncio.to_thread(_faults, copy), "as of the backup"
                before, began_s = record.items, time.monotonic()
                with pytest.raises(BackupFailed, match=r"services work on .*Stop them"):
                    await asyncio.to_thread(_restore, database_url, tmp_path / "backup", replace=True)
                for name in _STOPPED:
                    await cluster.services[name].stop()
                bus = cluster.environment["VOLTSTREAM_RABBITMQ_URL"]
                restored = await asyncio.to_thread(_restore, database_url, tmp_path / "backup", replace=True, bus=bus)
                cluster.received(SESSION_COMPLETED)  # of the database that was, told to others: not of this one
                await cluster.start(*_STOPPED)
                await cluster.ready(_STOPPED)
                took_s = time.monotonic() - began_s
                assert restored.kept_as is not None
                left.append(restored.kept_as)
                during = record.items - before
                await record.more(_BETWEEN)
            broken = await final_violations(cluster, record)
            print(
                f"backup: {sum(manifest.rows.values())} rows; restore: {took_s:.1f} s, {during} readings acknowledged "
                f"meanwhile; {record.items} in all, {record.refusals} requests refused"
            )
            assert not broken, "\n".join(broken)
            found: list[str] = []
            try:
                await eventually(partial(_no_faults, database_url, found), within_s=_SETTLE_S)
            except AssertionError:
                raise AssertionError("\n".join(found[:20])) from None
            with psycopg.connect(database_url) as connection:
                row = connection.execute("SELECT count(*) FROM billing.invoice").fetchone()
            print(f"{row} invoices")
            assert row is not None
            assert row[0] > 0
    finally:
        with psycopg.connect(named_url(database_url, "postgres"), autocommit=True) as connection:
            for name in left:
                connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)'.encode())


async def _publish_tariff(cluster: Cluster) -> None:
    gateway, api = cluster.gateways[0], cluster.services["api"].url
    tokens = cluster.device_token, cluster.operator_token
    await PlatformClient(gateway, api, *tokens, cluster.environment, cluster.database_url).publish()


async def _no_faults(url: str, found: list[str]) -> bool:
    found[:] = await asyncio.to_thread(_faults, url)
    return not found


def _back_up(cluster: Cluster, target: Path) -> Manifest:
    return take_backup(BackupPlan(cluster.database_url, target, None, False, 2), lambda *_: None)


def _restore(url: str, source: Path, *, replace: bool, bus: str | None = None) -> Restored:
    return restore_backup(RestorePlan(source, url, replace, None, 2, bus_url=bus), lambda *_: None)


def _faults(url: str) -> list[str]:
    checks = run_checks(VerificationPlan(url, None, 0, SystemClock()), lambda *_: None)
    return [f"{check.name}: {fault}" for check in checks for fault in check.faults]
