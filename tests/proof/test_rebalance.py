"""Workers come and go under load: one joins, one hangs, one is paused and comes back too late, one leaves. No figure
changes, and a partition that stands still shows in the metrics."""

import signal
from pathlib import Path

import psycopg

from tests.private_servers import PrivateServers
from tests.proof.cluster import PARTITIONS, SERVICES, Cluster, running_cluster
from tests.proof.final_checks import final_violations, load_for
from tests.proof.load import DeliveryRecord
from tests.waiting import eventually

_ONE_WORKER = tuple(name for name in SERVICES if name not in ("worker 2", "gateway 2"))
_ALL_PARTITIONS = set(range(PARTITIONS))
_BETWEEN = 3_000  # readings acknowledged between two events
_STALLED_S = 3.0  # far above a flush, far below the timeouts that end the stall
# Against hanging. A paused worker may have locked its partition's row: the server ends its transaction after 30 s; a
# member without heartbeats is out of the group after 10.
_REBALANCED_S = 300


async def test_workers_that_come_and_go_and_hang_change_no_figure(
    running_servers: PrivateServers, servers: PrivateServers, database_url: str, tmp_path: Path, seed: int
) -> None:
    print(f"seed {seed}")
    async with running_cluster(database_url, servers, tmp_path, services=_ONE_WORKER) as cluster:
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
        ages_s = await progress_ages_s(cluster)
        old = {partition for partition, age_s in ages_s.items() if age_s > _STALLED_S}
        return set(ages_s) == _ALL_PARTITIONS and old == {stalled}

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
    # Taken over: the paused one can commit nothing any more.
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
    return await owned(cluster, worker) == _ALL_PARTITIONS


async def shared(cluster: Cluster) -> bool:
    """Whether each worker has some, none has one of the other's, and none is missing."""
    one, other = await owned(cluster, "worker 1"), await owned(cluster, "worker 2")
    return bool(one) and bool(other) and not one & other and one | other == _ALL_PARTITIONS


async def progress_ages_s(cluster: Cluster) -> dict[int, float]:
    """How long the oldest frame of each partition has been waiting, by its worker's metrics."""
    first, second = [await cluster.gauge(name, "streams_progress_age_seconds") for name in ("worker 1", "worker 2")]
    return first | second


async def _younger(cluster: Cluster, partition: int, age_s: float) -> bool:
    return (await progress_ages_s(cluster)).get(partition, age_s) < age_s


def epochs(cluster: Cluster) -> dict[int, int]:
    """The epoch of each partition: how many times it has been acquired."""
    with psycopg.connect(cluster.database_url) as connection:
        return dict(connection.execute("SELECT partition, epoch FROM telemetry.stream_offset").fetchall())
