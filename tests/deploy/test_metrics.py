"""docs/metrics.md is what the code says, and what a running platform shows."""

import os
import time
from pathlib import Path
from typing import Final

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.voltstream.platform import ENOUGH_S, Up, readings, up
from tests.waiting import eventually
from voltstream.metrics_catalogue import PAGE, declared_metrics, page

# Of the bridge, which is not in the embedded run; of a command.
_ELSEWHERE: Final = ("bridge_", "billing_reconcile_")
_OF_PROMETHEUS_CLIENT: Final = ("process_", "python_")


def test_the_page_is_what_the_code_says() -> None:
    assert PAGE.read_text() == page(), "run `python -m voltstream.metrics_catalogue`"


def test_a_name_is_declared_once() -> None:
    names = [one.name for one in declared_metrics()]
    assert sorted(set(names)) == names


@pytest.mark.usefixtures("processes")
async def test_a_running_platform_shows_what_is_declared(data_dir: Path) -> None:
    station = f"METRIC-{os.urandom(4).hex()}".upper()
    with up(data_dir, "--stations", "3") as platform:
        assert platform.post(readings(station, 20, int(time.time() * 1_000) - 60_000)).status_code == 202
        await eventually(lambda: "streams_energy_accounted_wh_total{" in platform.text("/metrics"), ENOUGH_S)
        await eventually(lambda: "ledger_readings{" in platform.text("/metrics"), ENOUGH_S)
        shown = _shown(platform)
        assert platform.stop()[0] == 0
    declared = {one.name: one for one in declared_metrics() if not one.name.startswith(_ELSEWHERE)}
    assert shown.keys() == declared.keys()
    for name, (type_, labels) in shown.items():
        assert (name, type_) == (name, declared[name].type)
        assert (name, labels) == (name, labels & {*declared[name].labels, "le"})


def _shown(platform: Up) -> dict[str, tuple[str, set[str]]]:
    """Type and labels of each family, without the moments at which series began."""
    families = text_string_to_metric_families(platform.text("/metrics"))
    return {
        family.name: (family.type, {label for sample in family.samples for label in sample.labels})
        for family in families
        if not family.name.startswith(_OF_PROMETHEUS_CLIENT) and not family.name.endswith("_created")
    }
