"""Crashes: whatever is killed or stopped under load, every 202 is stored exactly once, and every figure follows from
the raw rows.

The faults are derived from the run's seed and printed where it fails; `--hypothesis-seed=N` strikes the same again,
though never at exactly the same moment.
"""

import random
import signal
import time
from collections.abc import Sequence
from pathlib import Path

from deploy.servers import unused_port
from kit.database.embedded import running_url
from tests.private_servers import PrivateServers
from tests.proof.cluster import Cluster, running_cluster
from tests.proof.faults import Fault, pause, plan, told
from tests.proof.laws import breaches, outstanding
from tests.proof.load import Promises
from tests.proof.processes import Service, kept_alive
from tests.proof.settling import SETTLE_S, broken_laws, load_for
from tests.waiting import eventually

_START_S = 120  # against hanging
_AFTERWARDS = 4_000  # readings answered after the last fault
_EMBEDDED_KILLS = 6


async def test_no_crash_loses_or_doubles_a_reading(
    running_servers: PrivateServers, servers: PrivateServers, database_url: str, tmp_path: Path, seed: int
) -> None:
    faults = plan(seed)
    print(f"seed {seed}\n{told(faults)}")
    async with running_cluster(database_url, servers, tmp_path) as cluster:
        await crashed(cluster, faults, seed)


async def crashed(cluster: Cluster, faults: Sequence[Fault], seed: int) -> None:
    """All faults under load, and what holds after them."""
    began_s = time.monotonic()
    async with load_for(cluster.gateways, cluster.device_token, seed).running() as promises:
        for fault in faults:
            await suffer(cluster, fault, promises)
            print(f"{time.monotonic() - began_s:.1f} s: {promises.items} acknowledged; {fault.component} {fault.kind}")
        await cluster.back()
        await cluster.ready()
        await promises.more(_AFTERWARDS)
    print(f"{promises.items} readings acknowledged, {promises.refusals} requests refused")
    broken = await broken_laws(cluster, promises)
    assert not broken, "\n".join(broken)


async def suffer(cluster: Cluster, fault: Fault, promises: Promises) -> None:
    """One fault. What was struck is on its way back at the end, not more."""
    await promises.more(fault.after)
    if await cluster.strike(fault.component, fault.kind):
        await promises.more_or_refused(fault.down)
        cluster.bring_back(fault.component)


async def test_no_crash_of_the_embedded_run_loses_or_doubles_a_reading(tmp_path: Path, seed: int) -> None:
    rng = random.Random(f"{seed} embedded")
    port, data_dir = unused_port(), tmp_path / "data"
    environment = {"VOLTSTREAM_DATA_DIR": str(data_dir), "VOLTSTREAM_PORT": str(port)}
    platform = Service("up", ("up", "--json", "--no-simulator"), environment, tmp_path)
    async with kept_alive([platform]):
        await eventually(platform.ready.is_set, within_s=_START_S)
        token = platform.first_line["device_token"]
        async with load_for([platform.url], token, seed).running() as promises:
            for _ in range(_EMBEDDED_KILLS):
                await promises.more(pause(rng))
                # It may be on its way up again from the last time: that is a moment like any other.
                await eventually(lambda: platform.signal(signal.SIGKILL), within_s=_START_S)
            await eventually(platform.ready.is_set, within_s=_START_S)
            await promises.more(_AFTERWARDS)
        print(f"seed {seed}: {promises.items} readings acknowledged, {promises.refusals} requests refused")
        assert platform.first_line["device_token"] == token

        def url() -> str:
            found = running_url(data_dir)
            assert found is not None, platform.tail()
            return found

        await eventually(lambda: outstanding(url()) == 0, within_s=SETTLE_S)
        broken = [*breaches(url(), promises, completed=None), *platform.unexpected]
        assert not broken, "\n".join([*broken, platform.tail()])
