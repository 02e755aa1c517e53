"""Game day: the version before and this one side by side under load: an upgrade, process by process, and a roll-back.

Workers of both take over each other's partitions. Nothing is refused, and nothing acknowledged is lost or counts twice.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import pytest

from tests.private_servers import PrivateServers
from tests.proof.cluster import PARTITIONS, Cluster, running_cluster
from tests.proof.final_checks import final_violations, load_for
from tests.proof.load import DeliveryRecord
from tests.proof.platform_client import PlatformClient
from tests.proof.processes import run_once
from tests.proof.test_rebalance import owned
from tests.version_before import environment_of, unpacked
from tests.waiting import eventually

pytestmark = pytest.mark.slow

_BETWEEN = 3_000  # readings acknowledged between two events
_OLD = ("gateway 1", "bridge", "relay", "api", "worker 1", "worker 2")
_NEW = ("gateway 3", "bridge 3", "relay 3", "api 3", "worker 3", "worker 4")
_BACK = ("gateway 5", "bridge 5", "relay 5", "api", "worker 5", "worker 6")
_REBALANCED_S = 300  # against hanging


async def test_an_upgrade_and_a_roll_back_refuse_no_reading_and_change_no_figure(
    running_servers: PrivateServers, servers: PrivateServers, database_url: str, tmp_path: Path, seed: int
) -> None:
    print(f"seed {seed}")
    before = environment_of(unpacked(tmp_path / "before"))
    async with running_cluster(database_url, servers, tmp_path, services=_OLD, modules=before) as cluster:
        tokens = cluster.device_token, cluster.operator_token
        api = cluster.services["api"].url
        await PlatformClient(cluster.gateways[0], api, *tokens, cluster.environment, database_url).publish()
        gateways = list(cluster.gateways)  # as a balancer has them: taken out before they stop
        async with load_for(gateways, cluster.device_token, seed).running() as record:
            await record.more(_BETWEEN)
            await run_once(cluster.environment, "migrate")
            await record.more(_BETWEEN)  # the version before on the tables of this one
            await _exchange(cluster, gateways, record, _OLD, _NEW, {})
            await _exchange(cluster, gateways, record, _NEW, _BACK, before)
        broken = await final_violations(cluster, record)
        print(f"{record.items} readings acknowledged, {record.refusals} requests refused")
        assert not broken, "\n".join(broken)
        assert record.refusals == 0


async def _exchange(
    cluster: Cluster,
    gateways: list[str],
    record: DeliveryRecord,
    leave: tuple[str, ...],
    come: tuple[str, ...],
    modules: Mapping[str, str],
) -> None:
    """One kind of process after the other: the new one beside the old one, load, the old one leaves, load."""
    for old, new in zip(leave, come, strict=True):
        if new in cluster.services:
            await cluster.services[new].stop()
        await cluster.start(new, modules=modules)
        await cluster.ready([new])
        if new.startswith("worker"):
            await eventually(partial(_has_a_share, cluster, new), within_s=_REBALANCED_S)
        if new.startswith("gateway"):
            gateways.append(cluster.services[new].url)
        await record.more(_BETWEEN)
        if old.startswith("gateway"):
            gateways.remove(cluster.services[old].url)
            await record.more(_BETWEEN)  # what was sent to it is answered
        if old != new:
            assert await cluster.services[old].stop() == 0, cluster.services[old].tail()
        await record.more(_BETWEEN)


async def _has_a_share(cluster: Cluster, name: str) -> bool:
    return 0 < len(await owned(cluster, name)) < PARTITIONS
