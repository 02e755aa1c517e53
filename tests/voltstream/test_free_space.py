"""Metrics of the disk of the data folder."""

import math
import shutil
from pathlib import Path

from prometheus_client import CollectorRegistry

from voltstream.runtime.free_space import watch_space


def test_what_is_free_is_shown_as_long_as_the_folder_is_there(tmp_path: Path) -> None:
    registry, folder = CollectorRegistry(), tmp_path / "data"
    watch_space(folder, registry)
    assert math.isnan(registry.get_sample_value("data_folder_free_bytes") or 0)
    folder.mkdir()
    assert registry.get_sample_value("data_folder_size_bytes") == shutil.disk_usage(folder).total
    assert 0 < (registry.get_sample_value("data_folder_free_bytes") or 0) <= shutil.disk_usage(folder).total
