"""Workers come and go under load: one joins, one hangs, one is paused and comes back too late, one leaves. No figure
moves, and what stands still is seen."""

import signal
from pathlib import Path

import psycopg

from tests.private_servers import PrivateServers
from tests.proof.cluster import PARTITIONS, SERVICES, Cluster, running_cluster
from tests.proof.final_checks import final_violations, load_for
from tests.proof.load import DeliveryRecord
from tests.waiting import eventually

_ALONE = tuple(name for name in SERVICES if name not in ("worker 2", "gateway 2"))
_EVERY = set(range(PARTITIONS))
_BETWEEN = 3_000  # readings acknowledged between two events
_STALLED_S = 3.0  # far above a flush, far below the time-outs that would end the stall
# Against hanging. A paused worker may hold its partition's row: the server ends its transaction after 30 s; a member
# that says nothing is out of the group after 10.
_REBALANCED_S = 300


async def test_workers_that_come_and_go_and_hang_change_no_figure(
    running_servers: PrivateServers, servers: PrivateServers, database_url: str, tmp_path: Path, seed: int
) -> None:
    print(f"seed {seed}")
    async with running_cluster(database_url, servers, tmp_path, services=_ALONE) as cluster:
        async with load_for(cluster.gateways, cluster.device_token, seed).running() as promises:
            await a_second_worker_joins(cluster, promises)
            await a_stalled_partition_is_seen(cluster, promises)
            await a_paused_worker_comes_back(cluster, promises)
            await a_worker_leaves(cluster, promises)
        print(f"{promises.items} readings acknowledged, {promises.refusals} requests refused")
        broken = await final_violations(cluster, promises)
        assert not broken, "\n".join(broken)


async def a_second_worker_joins(cluster: Cluster, promises: DeliveryRecord) -> None:
    await eventually(lambda: owns_every(cluster, "worker 1"), within_s=_REBALANCED_S)
    await promises.more(_BETWEEN)
    await cluster.start("worker 2")
    await cluster.ready(["worker 2"])
    await eventually(lambda: shared(cluster), within_s=_REBALANCED_S)
    await promises.more(_BETWEEN)


async def a_stalled_partition_is_seen(cluster: Cluster, promises: DeliveryRecord) -> None:
    stalled = 1

    async def alone() -> bool:
        """Whether it is old, and all others are not."""
        told = await ages(cluster)
        old = {partition for partition, age_s in told.items() if age_s > _STALLED_S}
        return set(told) == _EVERY and old == {stalled}

    with psycopg.connect(cluster.database_url) as connection:
        connection.execute("SELECT FROM telemetry.stream_offset WHERE partition = %s FOR UPDATE", (stalled,))
        await eventually(alone, within_s=_REBALANCED_S)
    await eventually(lambda: _younger(cluster, stalled, _STALLED_S), within_s=_REBALANCED_S)
    await promises.more(_BETWEEN)


async def a_paused_worker_comes_back(cluster: Cluster, promises: DeliveryRecord) -> None:
    before = epochs(cluster)
    lost = await owned(cluster, "worker 1")
    assert cluster.services["worker 1"].signal(signal.SIGSTOP)
    await eventually(lambda: owns_every(cluster, "worker 2"), within_s=_REBALANCED_S)
    # Taken over means: nothing of the paused one can be committed any more.
    await eventually(lambda: all(epochs(cluster)[p] > before[p] for p in lost), within_s=_REBALANCED_S)
    await promises.more(_BETWEEN)
    assert cluster.services["worker 1"].signal(signal.SIGCONT)
    await eventually(lambda: shared(cluster), within_s=_REBALANCED_S)
    await promises.more(_BETWEEN)


async def a_worker_leaves(cluster: Cluster, promises: DeliveryRecord) -> None:
    assert await cluster.services["worker 1"].stop() == 0, cluster.services["worker 1"].tail()
    await eventually(lambda: owns_every(cluster, "worker 2"), within_s=_REBALANCED_S)
    await promises.more(_BETWEEN)


async def owned(cluster: Cluster, worker: str) -> set[int]:
    """The partitions that a worker works on."""
    return set(await cluster.gauge(worker, "streams_progress_age_seconds"))


async def owns_every(cluster: Cluster, worker: str) -> bool:
    """Whether it works on all."""
    return await owned(cluster, worker) == _EVERY


async def shared(cluster: Cluster) -> bool:
    """Whether both workers have some, none has what the other has, and none is missing."""
    one, other = await owned(cluster, "worker 1"), await owned(cluster, "worker 2")
    return bool(one) and bool(other) and not one & other and one | other == _EVERY


async def ages(cluster: Cluster) -> dict[int, float]:
    """How long the oldest frame of each partition has been waiting, as its worker says."""
    names = ("worker 1", "worker 2")
    told = [await cluster.gauge(name, "streams_progress_age_seconds") for name in names]
    return told[0] | told[1]


async def _younger(cluster: Cluster, partition: int, age_s: float) -> bool:
    return (await ages(cluster)).get(partition, age_s) < age_s


def epochs(cluster: Cluster) -> dict[int, int]:
    """By how many assignments each partition has gone."""
    with psycopg.connect(cluster.database_url) as connection:
        return dict(connection.execute("SELECT partition, epoch FROM telemetry.stream_offset").fetchall())
