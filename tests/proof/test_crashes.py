"""Crashes: whatever is killed or stopped under load, every 202 is stored exactly once, and every figure follows from
the raw rows.

The faults are derived from the run's seed and printed where it fails; `--hypothesis-seed=N` repeats the same
faults, though never at exactly the same moment.
"""

import random
import signal
from pathlib import Path

from deploy.servers import unused_port
from kit.database.embedded import running_url
from tests.private_servers import PrivateServers
from tests.proof.cluster import running_cluster
from tests.proof.crashes import AFTERWARDS, run_faults
from tests.proof.faults import CLOCK, FULL, LINK_KINDS, PAUSE, PROCESSES, SERVERS, long_plan, pause, plan, plan_text
from tests.proof.final_checks import SETTLE_S, final_violations, load_for
from tests.proof.processes import SupervisedService, kept_alive
from tests.proof.telemetry_invariants import outstanding, violations
from tests.waiting import eventually

_START_S = 120  # against hanging
_EMBEDDED_KILLS = 6


async def test_no_crash_loses_or_doubles_a_reading(
    running_servers: PrivateServers, servers: PrivateServers, database_url: str, tmp_path: Path, seed: int
) -> None:
    faults = plan(seed)
    print(f"seed {seed}\n{plan_text(faults)}")
    async with running_cluster(database_url, servers, tmp_path) as cluster:
        record = await run_faults(cluster, faults, seed)
        violated = await final_violations(cluster, record)
    assert not violated, "\n".join(violated)


async def test_no_crash_of_the_embedded_run_loses_or_doubles_a_reading(
    tmp_path: Path, data_dir: Path, seed: int
) -> None:
    rng = random.Random(f"{seed} embedded")
    port = unused_port()
    environment = {"VOLTSTREAM_DATA_DIR": str(data_dir), "VOLTSTREAM_PORT": str(port)}
    platform = SupervisedService("up", ("up", "--json", "--no-simulator"), environment, tmp_path)
    async with kept_alive([platform]):
        await eventually(platform.ready.is_set, within_s=_START_S)
        token = platform.first_line["device_token"]
        async with load_for([platform.url], token, seed).running() as record:
            for _ in range(_EMBEDDED_KILLS):
                await record.more(pause(rng))
                # It may still be starting after the last fault: that is tested too.
                await eventually(lambda: platform.signal(signal.SIGKILL), within_s=_START_S)
            await eventually(platform.ready.is_set, within_s=_START_S)
            await record.more(AFTERWARDS)
        print(f"seed {seed}: {record.items} readings acknowledged, {record.refusals} requests refused")
        assert platform.first_line["device_token"] == token

        def url() -> str:
            found = running_url(data_dir)
            assert found is not None, platform.tail()
            return found

        await eventually(lambda: outstanding(url()) == 0, within_s=SETTLE_S)
        violated = [*violations(url(), record, completed=None), *platform.unexpected]
        assert not violated, "\n".join([*violated, platform.tail()])


def test_a_long_plan_has_every_kind_of_fault_and_is_the_same_for_a_seed(seed: int) -> None:
    faults = long_plan(seed, 1_000)
    assert faults == long_plan(seed, 1_000)
    kinds = {fault.kind.split()[0] for fault in faults}
    assert kinds == {"kill", "stop", PAUSE, CLOCK, FULL, *LINK_KINDS}
    assert {fault.component for fault in faults} == {*PROCESSES, *SERVERS, "api"}
    assert {fault.component for fault in faults if fault.kind in LINK_KINDS} == set(SERVERS)
